"""Frozen, keyword-only settings: the one base class of every config, study and run description.

Unknown names fail with the nearest known one, nested fields are reached by a dotted path, and the
documentation of a field is the string that stands under it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, Literal, Self, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator


class SettingError(ValueError):
    """A setting is unknown or has a value that cannot be used; the message says what to do."""


def nearest(name: str, names: Iterable[str], what: str) -> SettingError:
    """The error for an unknown name: the nearest known one and the whole list.

    >>> print(nearest("split_bret", ["dual_encoder", "split_bert"], "design"))
    unknown design 'split_bret'; did you mean 'split_bert'? Known: dual_encoder, split_bert
    """
    ordered = sorted(names)
    close = difflib.get_close_matches(name, ordered, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return SettingError(f"unknown {what} {name!r}; {hint}Known: {', '.join(ordered) or 'none'}")


class Frozen(BaseModel):
    """A frozen record. Equal by value, hashable where its fields are, JSON in and out."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, ser_json_inf_nan="constants"
    )

    @model_validator(mode="before")
    @classmethod
    def _no_unknown_names(cls, values: object) -> object:
        if isinstance(values, dict):
            for name in values:
                if name not in cls.model_fields:
                    raise nearest(str(name), cls.model_fields, f"field of {cls.__name__}")
        return values

    def changed_fields(self) -> dict[str, Any]:
        """The fields that differ from their defaults, in records within too, as plain JSON values.

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

    def with_field(self, path: str, value: object) -> Self:
        """A copy with one field changed, named by a dotted path, validated as if written so.

        >>> # study.with_field("optimizer.learning_rate", 3e-4)
        """
        return self.with_fields({path: value})

    def with_fields(self, changes: Mapping[str, Any], under: str = "") -> Self:
        """The same with several, which need only fit together: a queue and what it needs."""
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
            if isinstance(inner, Frozen):
                values[head] = inner.with_fields(its, f"{under}{head}.")
            elif isinstance(inner, dict):
                values[head] = {**inner, **its}
            else:
                path = f"{under}{head}.{next(iter(its))}"
                raise SettingError(f"{path}: {head} holds a plain value, it has no fields")
        return checked(type(self), values, under)


def _plain(value: object) -> Any:
    """JSON's own values, every record within by its changed fields."""
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
        return kind(**values)
    except ValidationError as error:
        raise SettingError(readable(error, under)) from None


def readable(error: ValidationError, under: str = "") -> str:
    """Says pydantic's report as one line per problem: where, what, and what was given.

    `under`: what comes before every path.
    """
    lines = []
    for problem in error.errors(include_url=False):
        path = under + ".".join(str(part) for part in problem["loc"])
        where = path.rstrip(".") or error.title
        message = problem["msg"].removeprefix("Value error, ")
        value = problem.get("input")
        if problem["type"] == "union_tag_not_found":
            kinds = problem["ctx"]["discriminator"].strip("'")
            message = f"it needs a {kinds!r}, to tell which of several it is"
        shown = f" (given: {value!r})" if isinstance(value, str | int | float | bool) else ""
        lines.append(f"{where}: {message}{shown}")
    return "; ".join(lines)
