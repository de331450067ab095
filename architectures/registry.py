"""Find designs by name, and design them.

Listing reads source files and imports none of them, so it takes milliseconds and no torch; finding
and building import the one file that is asked for. A user's own file joins by `load_file`, an
installed package by entry points of the group `fuselab.designs`, each of which names a module.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import sys
import traceback
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from architectures.frozen import SettingError, nearest, readable

if TYPE_CHECKING:
    from architectures.contract import DesignConfig, FusionDesign

DESIGNS = Path(__file__).parent / "designs"
GROUP = "fuselab.designs"
"""Entry points of installed packages that hold designs: any name, and a module."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """What is known of a design without importing it."""

    name: str
    family: str
    """Stem of the file: a family is a file."""
    summary: str
    """First line of the class's documentation."""
    version: str
    cls: str
    """Name of the class."""
    module: str
    """What to import."""
    file: Path
    line: int


_own: dict[str, Entry] = {}


def names() -> dict[str, Entry]:
    """Every design by name: the built-in ones in the order of their names, then those of installed
    packages, then the user's own.
    """
    return {**_built_in(), **_installed(tuple(sys.path)), **_own}


def _built_in() -> dict[str, Entry]:
    package = "architectures.designs"
    found = [e for f in DESIGNS.glob("*.py") for e in _read(f, f"{package}.{f.stem}")]
    return {entry.name: entry for entry in sorted(found, key=lambda entry: entry.name)}


@functools.lru_cache(maxsize=1)
def _installed(path: tuple[str, ...]) -> dict[str, Entry]:
    """Designs of installed packages, as the import path stands. One that cannot be read is left
    out with a warning: another's package must not stop a study that does without it.
    """
    taken, found = _built_in(), dict[str, Entry]()
    for point in importlib.metadata.entry_points(group=GROUP):
        said = f"entry point {point.name} = {point.value!r} of {GROUP}"
        try:
            spec = importlib.util.find_spec(point.module)
            if spec is None or spec.origin is None:
                raise ImportError(f"there is no module {point.module}")
            entries = _read(Path(spec.origin), point.module)
        except Exception as error:  # the package around it is imported, and may do anything
            warnings.warn(f"{said}: {type(error).__name__}: {error}", stacklevel=3)
            continue
        wrong = [f"design {e.name!r} has no `version`" for e in entries if not e.version]
        wrong += [f"the name {e.name!r} is taken" for e in entries if e.name in {**taken, **found}]
        if wrong or not entries:
            warnings.warn(f"{said}: {'; '.join(wrong) or 'it holds no design'}", stacklevel=3)
        else:
            found.update({e.name: e for e in entries})
    return found


def outside() -> list[Path]:
    """Files of designs that installed packages bring."""
    return sorted({entry.file for entry in _installed(tuple(sys.path)).values()})


def entry(name: str) -> Entry:
    """The entry of a design. Raises `SettingError` with the nearest name."""
    known = names()
    if name not in known:
        raise nearest(name, known, "design")
    return known[name]


def version(name: str) -> str:
    """The declared version of a design, without importing it."""
    return entry(name).version


def find(name: str) -> type[FusionDesign]:
    """The class of a design. Raises `SettingError` with the nearest name."""
    found = entry(name)
    return getattr(importlib.import_module(found.module), found.cls)


def config(name: str, fields: Mapping[str, Any]) -> DesignConfig:
    """A design's configuration with some fields changed.

    Raises `SettingError` that names the design, the field and what was given.
    """
    try:
        return find(name).Config(**fields)
    except ValidationError as error:
        raise SettingError(f"{name}: {readable(error)}") from None


def load_file(path: str | Path) -> ModuleType:
    """Runs a user's own file and registers the designs it defines; the module is returned.

    A file that was loaded before and has not changed is not run again. Raises `SettingError` with
    the file and line of what went wrong.
    """
    file = Path(path).expanduser().resolve()
    if not file.is_file():
        raise SettingError(f"{file}: no such file")
    text = file.read_bytes()
    key = f"fuselab_own_{hashlib.blake2b(str(file).encode() + text, digest_size=8).hexdigest()}"
    if key in sys.modules:
        return sys.modules[key]
    entries = _checked(file, key)
    spec = importlib.util.spec_from_file_location(key, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[key] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[key]
        raise SettingError(f"{_line(file, error)}: {type(error).__name__}: {error}") from error
    for stale in [name for name, known in _own.items() if known.file == file]:
        del _own[stale]
    _own.update({found.name: found for found in entries})
    return module


def _checked(file: Path, module: str) -> list[Entry]:
    """The entries of a user's file, whose names must be free."""
    try:
        entries = _read(file, module)
    except SyntaxError as error:
        raise SettingError(f"{file}:{error.lineno}: {error.msg}") from None
    taken = names()
    for found in entries:
        other = taken.get(found.name)
        if other is not None and other.file != file:
            raise SettingError(
                f"{file}:{found.line}: the name {found.name!r} is taken by {other.file.name}; "
                "give the design another name"
            )
        if not found.version:
            raise SettingError(f"{file}:{found.line}: design {found.name!r} has no `version`")
    return entries


def _line(file: Path, error: Exception) -> str:
    """The last place in a user's file that an error passed through."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(file)]
    return f"{file}:{lines[-1]}" if lines else str(file)


def _read(file: Path, module: str) -> list[Entry]:
    """The designs a file defines: classes with a `name` that is a string."""
    return _parsed(file, module, file.read_bytes())


@functools.lru_cache(maxsize=256)  # a plan asks for a design several times a cell
def _parsed(file: Path, module: str, text: bytes) -> list[Entry]:
    tree = ast.parse(text, filename=str(file))
    found = []
    for node in tree.body:
        if not isinstance(node, ast.ClassDef):
            continue
        constants = _constants(node)
        if "name" not in constants or "Config" not in constants:
            continue
        summary = (ast.get_docstring(node) or "").partition("\n")[0]
        found.append(
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
    return found


def _constants(node: ast.ClassDef) -> dict[str, str]:
    """Class attributes and what was assigned: the string itself, or its source."""
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
