"""Study files are found by name on a shelf (a folder), or by the path of the user's own file."""

from __future__ import annotations

import ast
from pathlib import Path

from architectures.frozen import SettingError, nearest, path_named
from architectures.registry import load_file
from harness.study import Study


def names(shelf: Path) -> dict[str, str]:
    """Returns study -> first line of its docstring; read as text, nothing is imported."""
    questions = {}
    for file in sorted(shelf.glob("*.py")):
        if file.name != "__init__.py":
            docstring = ast.get_docstring(ast.parse(file.read_text())) or ""
            questions[file.stem] = docstring.partition("\n")[0]
    return questions


def load(name: str, shelf: Path) -> Study:
    """Loads the study; `file` is the path of the user's own file, empty where it comes with
    fuselab.

    Raises `SettingError`: an unknown name with the nearest, a file that raises with its own line.
    """
    if name.endswith(".py") or "/" in name:
        path = path_named(name).resolve()
        if not path.is_file():
            raise SettingError(f"study file {name}: there is no such file")
        return _study_in(path).model_copy(update={"file": str(path)})
    if name not in (known_names := names(shelf)):
        raise nearest(name, known_names, "study")
    return _study_in(shelf / f"{name}.py")


def _study_in(path: Path) -> Study:
    study = getattr(load_file(path), "STUDY", None)
    if not isinstance(study, Study):
        raise SettingError(f"{path}: it must define STUDY = Study(...)")
    return study
