"""The registry finds designs by name.

Listing reads the source files and imports none of them, so it takes milliseconds and no torch;
`find` imports the one file that holds the design. A user's own file joins by `load_file`, an
installed package by entry points of the group `fuselab.designs`, each of which names a module.
"""

from __future__ import annotations

import ast
import atexit
import contextlib
import dataclasses
import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import shutil
import sys
import tempfile
import warnings
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from architectures.frozen import SettingError, checked, nearest, path_named, place_of

if TYPE_CHECKING:
    from architectures.contract import DesignConfig, FusionDesign

DESIGNS = Path(__file__).parent / "designs"
GROUP = "fuselab.designs"
"""Entry points of installed packages that hold designs: any name, and a module."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """An entry is what the source file of a design tells without being imported."""

    name: str
    family: str
    """Stem of the file: a family is a file."""
    summary: str
    """First line of the class's documentation."""
    version: str
    cls: str
    """Name of the class."""
    module: str
    """Name of the module that holds it."""
    file: Path
    line: int


_own: dict[str, Entry] = {}
_copies: dict[Path, Path] = {}
"""A user's own file on another machine -> its copy here."""


def names() -> dict[str, Entry]:
    """Returns every design by name: built-in ones by alphabet, then those of installed packages,
    then the user's own.
    """
    return {**_built_in(), **_installed(tuple(sys.path)), **_own}


def _built_in() -> dict[str, Entry]:
    package = "architectures.designs"
    entries = [e for f in DESIGNS.glob("*.py") for e in _read(f, f"{package}.{f.stem}")]
    return {entry.name: entry for entry in sorted(entries, key=lambda entry: entry.name)}


@functools.lru_cache(maxsize=1)
def _installed(path: tuple[str, ...]) -> dict[str, Entry]:
    """Returns the designs of installed packages for an import path.

    A package that cannot be read is left out with a warning, since it must not stop a study that
    does without it.
    """
    taken, free = _built_in(), dict[str, Entry]()
    for point in importlib.metadata.entry_points(group=GROUP):
        where = f"entry point {point.name} = {point.value!r} of {GROUP}"
        try:
            spec = importlib.util.find_spec(point.module)
            if spec is None or spec.origin is None:
                raise ImportError(f"there is no module {point.module}")
            entries = _read(Path(spec.origin), point.module)
        except Exception as error:  # the package around it is imported, and may do anything
            warnings.warn(f"{where}: {type(error).__name__}: {error}", stacklevel=3)
            continue
        wrong = [f"design {e.name!r} has no `version`" for e in entries if not e.version]
        wrong += [f"the name {e.name!r} is taken" for e in entries if e.name in {**taken, **free}]
        if wrong or not entries:
            warnings.warn(f"{where}: {'; '.join(wrong) or 'it holds no design'}", stacklevel=3)
        else:
            free.update({e.name: e for e in entries})
    return free


def outside() -> list[Path]:
    """Returns the files of the designs that installed packages bring."""
    return sorted({entry.file for entry in _installed(tuple(sys.path)).values()})


def entry(name: str) -> Entry:
    """Returns the entry of a design. Raises `SettingError` with the nearest name."""
    entries = names()
    if name not in entries:
        raise nearest(name, entries, "design")
    return entries[name]


def own_place(*names: str) -> str:
    """Returns the user's own file that defines the first of these designs that has one; nothing
    where all are ours or of installed packages."""
    return next((str(_own[name].file) for name in names if name in _own), "")


def version(name: str) -> str:
    """Returns the declared version of a design, without importing it."""
    return entry(name).version


def find(name: str) -> type[FusionDesign]:
    """Imports and returns the class of a design. Raises `SettingError` with the nearest name."""
    record = entry(name)
    return getattr(importlib.import_module(record.module), record.cls)


def config(name: str, fields: Mapping[str, object]) -> DesignConfig:
    """Returns the configuration of a design with some fields changed.

    Raises `SettingError` that names the design, the field and its value.
    """
    try:
        return checked(find(name).Config, fields)
    except SettingError as error:
        raise SettingError(f"{name}: {error}") from None


@contextlib.contextmanager
def blamed(name: str) -> Iterator[None]:
    """Says with file and line what a design that is not built in raises. Raises `SettingError`."""
    try:
        yield
    except SettingError:
        raise
    except Exception as error:
        record = entry(name)
        if record.file.parent == DESIGNS:
            raise
        where = place_of(error, record.file)
        raise SettingError(f"{where}: design {name!r}: {_reason(error)}") from error


def own_file(path: str | Path) -> Path:
    """Returns where a user's own file is read from: a copy that was brought along, or itself."""
    file = path_named(path).resolve()
    return _copies.get(file, file)


def bring(path: str | Path, text: bytes) -> None:
    """Makes a user's own file readable under its name on a machine that lacks it, or has another
    there by now, for as long as this process lives.
    """
    file, present = path_named(path).resolve(), own_file(path)
    if present.is_file() and present.read_bytes() == text:
        return
    if file not in _copies:
        folder = tempfile.mkdtemp(prefix="fuselab-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        _copies[file] = Path(folder, file.name)
    _copies[file].write_bytes(text)


def load_file(path: str | Path) -> ModuleType:
    """Runs a user's own file, registers the designs it defines, and returns the module.

    A file that was loaded before and has not changed is not run again. Raises `SettingError` with
    the file and line of what went wrong.
    """
    file = own_file(path)
    if not file.is_file():
        raise SettingError(f"{file}: no such file")
    if file.suffix != ".py":
        raise SettingError(f"{file} is no Python file; its name must end in .py")
    text = file.read_bytes()
    key = f"fuselab_own_{hashlib.blake2b(str(file).encode() + text, digest_size=8).hexdigest()}"
    if key in sys.modules:
        return sys.modules[key]
    places = (file, path_named(path).resolve())
    entries = _checked(file, key, places)
    spec = importlib.util.spec_from_file_location(key, file)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[key] = module
    try:
        # Not by its loader, which would take old bytecode where a text changed within a second.
        exec(compile(text, file, "exec"), vars(module))
        _check_whole(module)
    except (Exception, SystemExit) as error:
        del sys.modules[key]
        raise SettingError(f"{place_of(error, file)}: {_reason(error)}") from error
    for stale in [name for name, entry in _own.items() if entry.file in places]:
        del _own[stale]
    _own.update({entry.name: entry for entry in entries})
    return module


def _check_whole(module: ModuleType) -> None:
    """Raises `SettingError` for a design that inherits its `Config`: listing would not find it."""
    for cls in vars(module).values():
        own = vars(cls) if isinstance(cls, type) and cls.__module__ == module.__name__ else {}
        if "name" in own and "Config" not in own and hasattr(cls, "Config"):
            raise SettingError(
                f"design {own['name']!r} inherits `Config`: write it out, and `version`, since "
                "designs are found without being imported"
            )


def _reason(error: BaseException) -> str:
    """Returns what an error says, its kind first where it is not one of ours."""
    return str(error) if isinstance(error, SettingError) else f"{type(error).__name__}: {error}"


def _checked(file: Path, module: str, places: Collection[Path]) -> list[Entry]:
    """Returns the entries of a user's file, which may have been read from `places` before. Raises
    `SettingError` where a name is taken.
    """
    try:
        entries = _read(file, module)
    except SyntaxError as error:
        line = f":{error.lineno}" if error.lineno else ""
        raise SettingError(f"{file}{line}: {error.msg}") from None
    taken = names()
    for entry in entries:
        other = taken.get(entry.name)
        if other is not None and other.file not in places:
            raise SettingError(
                f"{file}:{entry.line}: the name {entry.name!r} is taken by {other.file.name}; "
                "give the design another name"
            )
        if not entry.version:
            raise SettingError(f"{file}:{entry.line}: design {entry.name!r} has no `version`")
    return entries


def _read(file: Path, module: str) -> list[Entry]:
    """Returns the designs that a file defines: classes with a `name` and a `Config`."""
    return _parsed(file, module, file.read_bytes())


@functools.lru_cache(maxsize=256)  # a plan asks for a design several times a cell
def _parsed(file: Path, module: str, text: bytes) -> list[Entry]:
    tree = ast.parse(text, filename=str(file))
    entries = []
    for node in tree.body:
        if not isinstance(node, ast.ClassDef):
            continue
        constants = _constants(node)
        if "name" not in constants or "Config" not in constants:
            continue
        summary = (ast.get_docstring(node) or "").partition("\n")[0]
        entries.append(
            Entry(
                name=constants["name"],
                family=file.stem,
                summary=summary,
                version=constants.get("version", ""),
                cls=node.name,
                module=module,
                file=file,
                line=node.lineno,
            )
        )
    return entries


def _constants(node: ast.ClassDef) -> dict[str, str]:
    """Returns class attribute -> what it is assigned: a string itself, anything else as source."""
    values: dict[str, str] = {}
    target: ast.expr
    for item in node.body:
        if isinstance(item, ast.AnnAssign):
            target, value = item.target, item.value
        elif isinstance(item, ast.Assign):
            target, value = item.targets[0], item.value
        else:
            continue
        if not isinstance(target, ast.Name) or value is None:
            continue
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            values[target.id] = value.value
        else:
            values[target.id] = ast.unparse(value)
    return values
