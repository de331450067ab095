"""Every config, study and run description has one base class: frozen, keyword-only settings.

Unknown names fail with the nearest known one, nested fields are reached by a dotted path, and the
documentation of a field is the string that stands under it.
"""

from __future__ import annotations

import difflib
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Self, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from architectures.problems import problem_in_words


class SettingError(ValueError):
    """A setting is unknown or has a value that cannot be used; the message says what to do."""


def nearest(name: str, names: Iterable[str], what: str) -> SettingError:
    """Returns the error for an unknown name: the nearest known one and the whole list.

    >>> print(nearest("split_bret", ["dual_encoder", "split_bert"], "design"))
    unknown design 'split_bret'; did you mean 'split_bert'? Known: dual_encoder, split_bert
    """
    ordered = sorted(names)
    close = difflib.get_close_matches(name, ordered, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return SettingError(f"unknown {what} {name!r}; {hint}Known: {', '.join(ordered) or 'none'}")


class Frozen(BaseModel):
    """A record is frozen: equal by value, hashable where its fields are, JSON in and out."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, ser_json_inf_nan="constants"
    )

    def __init__(self, /, **values: Any) -> None:
        """Checks the values. Raises `SettingError` in words where one does not fit."""
        if not type(self).__pydantic_complete__:  # its types stand where it is called from
            type(self).model_rebuild(raise_errors=False, _parent_namespace_depth=3)
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise SettingError(readable(error, f"{type(self).__name__}.")) from None

    # Records inside a record are checked by pydantic itself, which then knows the whole path.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @model_validator(mode="before")
    @classmethod
    def _no_unknown_names(cls, values: object) -> object:
        if isinstance(values, dict):
            for name in values:
                if name not in cls.model_fields:
                    raise nearest(str(name), cls.model_fields, f"field of {cls.__name__}")
        return values

    def changed_fields(self) -> dict[str, Any]:
        """Returns fields that differ from their defaults, in records within too, as plain JSON
        values.

        What a record is known by: a field that is added later, at a default that means what was
        done before it existed, changes nothing here. Whoever changes a default raises the declared
        version that stands beside this in a key. Tags (a `Literal` of one value, which say what
        kind of record it is) always stay.

        >>> class Inner(Frozen):
        ...     low: int = 0
        >>> class Outer(Frozen):
        ...     inner: Inner = Inner()
        ...     name: str
        >>> Outer(name="a", inner=Inner(low=1)).changed_fields(), Outer(name="a").changed_fields()
        ({'inner': {'low': 1}, 'name': 'a'}, {'name': 'a'})
        """
        changed = {}
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            tag = get_origin(field.annotation) is Literal and len(get_args(field.annotation)) == 1
            if tag or field.is_required() or value != field.get_default(call_default_factory=True):
                changed[name] = _plain(value)
        return changed

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Returns a copy with some fields changed, which are checked as if written so. Raises
        `SettingError`."""
        if not update:
            return super().model_copy(deep=deep)
        written = {name: getattr(self, name) for name in self.model_fields_set}
        return checked(type(self), {**written, **update})

    def with_field(self, path: str, value: object) -> Self:
        """Returns a copy with one field changed, named by a dotted path, checked as if written so.

        >>> # study.with_field("optimizer.learning_rate", 3e-4)
        >>> # study.with_field("tasks.vqa.finetune.batch_size", 32)
        """
        return self.with_fields({path: value})

    def with_fields(self, changes: Mapping[str, Any], under: str = "") -> Self:
        """Returns a copy with several changed, which need only fit together: a queue and what it
        needs."""
        values = {name: getattr(self, name) for name in type(self).model_fields}
        inside: dict[str, dict[str, Any]] = {}
        for path, value in changes.items():
            head, _, rest = path.partition(".")
            if head not in values:
                raise nearest(f"{under}{head}", [f"{under}{name}" for name in values], "field")
            if rest:
                inside.setdefault(head, {})[rest] = value
            else:
                values[head] = value
        for head, its in inside.items():
            inner = values[head]
            if isinstance(inner, dict | str) and head in changes:  # a record that is written beside
                inner = getattr(checked(type(self), values, under), head)
            if isinstance(inner, Frozen):
                values[head] = inner.with_fields(its, f"{under}{head}.")
            elif isinstance(inner, tuple) and all(hasattr(record, "title") for record in inner):
                values[head] = _with_titled(inner, its, f"{under}{head}.")
            elif isinstance(inner, dict):
                values[head] = {**inner, **its}
            else:
                path = f"{under}{head}.{next(iter(its))}"
                what = f"is null: set {under}{head} as a whole too, as {under}{head}={{}}"
                plain = "holds a plain value, it has no fields"
                raise SettingError(f"{path}: {under}{head} {what if inner is None else plain}")
        return checked(type(self), values, under)


def _with_titled(
    records: tuple[Any, ...], changes: Mapping[str, Any], under: str
) -> tuple[Any, ...]:
    """Returns records of which some have fields changed: a path begins with a record's title."""
    by_title: dict[str, dict[str, Any]] = {record.title: {} for record in records}
    for path, value in changes.items():
        title, _, field = path.partition(".")
        if title not in by_title or not field:
            raise nearest(f"{under}{path}", [f"{under}{name}.FIELD" for name in by_title], "field")
        by_title[title][field] = value
    return tuple(
        record.with_fields(by_title[record.title], f"{under}{record.title}.") for record in records
    )


def _plain(value: object) -> Any:
    """Returns JSON's own values, every record within by its changed fields."""
    if isinstance(value, Frozen):
        return value.changed_fields()
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(inner) for inner in value]
    return value


F = TypeVar("F", bound=Frozen)


def checked(kind: type[F], values: Mapping[str, Any], under: str = "") -> F:
    """Makes a record of these values. Raises `SettingError` in words where they do not fit, with
    the path of each field; `under`: where the record stands, as `objectives.itc.`."""
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        raise SettingError(readable(error, under)) from None


def readable(error: ValidationError, under: str = "") -> str:
    """Says pydantic's report as one line per problem: where, what, and what was given.

    `under`: what comes before every path.
    """
    lines = []
    for problem in error.errors(include_url=False):
        path = under + ".".join(str(part) for part in problem["loc"])
        words = problem_in_words(problem)
        where = f"{path.rstrip('.') or error.title}: "
        itself = not problem["loc"] and words.startswith("unknown field of ")
        lines.append(words if itself else where + words)
    return "; ".join(dict.fromkeys(lines))


def path_named(name: str | Path) -> Path:
    """Returns the path that a user named, `~` written out. Raises `SettingError` where it is
    none."""
    try:
        if "\0" in str(name):
            raise ValueError("it holds a null byte")
        path = Path(name).expanduser()
        path.exists()
    except (ValueError, RuntimeError, OSError) as error:  # no such user, too long
        reason = error.strerror if isinstance(error, OSError) else error
        raise SettingError(f"{str(name)[:200]!r} is no path that can be used: {reason}") from None
    return path


def place_of(error: BaseException, file: Path) -> str:
    """Finds the last place in a file that an error passed through, as `file:line`."""
    if isinstance(error, SyntaxError) and error.filename == str(file):
        return f"{file}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(file)]
    return f"{file}:{lines[-1]}" if lines else str(file)
