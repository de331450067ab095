"""All commands share the application, options, and errors said in a line."""

from __future__ import annotations

import contextlib
import json
import re
import webbrowser
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import JsonValue

from architectures.frozen import SettingError, path_named
from harness.words import visible

if TYPE_CHECKING:
    from harness.lab import Lab
    from harness.results.tables import Results
    from harness.study import Study
    from reports.analysis import Answer


app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="fuselab: which vision-language fusion design, and am I sure?",
)

STUDIES = Path(__file__).parents[2] / "studies"

StudyName = Annotated[str, typer.Argument(help="A study's name, or the path of your own file.")]


def _usable(folder: str) -> Path:
    """Returns an outputs folder, or the working copy of outputs at a URL."""
    from harness.outputs.copies import is_url, opened
    from harness.scheduling.progress import working

    try:
        if is_url(folder):
            with working(f"opening {folder}"):
                return opened(folder)
        path = path_named(folder)
    except (SettingError, OSError) as error:
        raise typer.BadParameter(str(error)) from None
    above = next(place for place in (path, *path.absolute().parents) if place.exists())
    if not above.is_dir():
        raise typer.BadParameter(f"{above} is no folder")
    return path


Outputs = Annotated[
    Path,
    typer.Option(
        help="Where runs, data cache, tracking and reports go: a folder, or a URL, as "
        "`s3://bucket/outputs`.",
        envvar="FUSELAB_OUTPUTS",
        parser=_usable,
        metavar="FOLDER",
    ),
]

Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change a field, as `budget.samples=4000`; may be repeated."),
]

Tracking = Annotated[
    str | None,
    typer.Option(
        help="An MLflow tracking URI; default: sqlite in the outputs folder, or "
        "in this machine's cache where outputs are at a URL."
    ),
]

Address = Annotated[
    str | None, typer.Option(help="Address of a Ray cluster; default: a Ray on this machine.")
]

Local = Annotated[bool, typer.Option("--local", help="One run after another here, without Ray.")]

GpuShare = Annotated[float, typer.Option(help="Part of a GPU that one run takes on cuda.")]

Open = Annotated[bool, typer.Option("--open", help="Show the page in a browser.")]

OUTPUTS = Path("outputs")


@contextlib.contextmanager
def plain_errors() -> Iterator[None]:
    """Says in a line, without a traceback, what a user can mend."""
    from pydantic import ValidationError

    from architectures.frozen import readable
    from harness.outputs.files import Locked, TrackingError
    from harness.outputs.records import DamagedFile

    try:
        yield
    except ValidationError as error:
        fail(readable(error))
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except (SettingError, TrackingError, Locked, DamagedFile) as error:
        fail(str(error))


def fail(message: str) -> None:
    typer.secho(f"fuselab: {visible(message)}", fg=typer.colors.RED, err=True)
    raise typer.Exit(2)


def study_of(name: str, changes: list[str] | None) -> Study:
    """Returns the study of a name or file, with the fields of `--set` changed."""
    from harness.planning.shelf import load

    return load(name, STUDIES).with_fields(dict(changes_of(changes)))


def changes_of(changes: list[str] | None) -> Iterator[tuple[str, JsonValue]]:
    """Returns field and value of every `--set`."""
    for change in changes or []:
        path, equals, text = change.partition("=")
        if not equals:
            raise SettingError(f"--set {change}: write it as field=value")
        yield path, _value(text)


def _value(text: str) -> JsonValue:
    """Reads JSON where it is JSON (numbers, lists, true), else gives the words themselves."""
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        return text


def lab_of(outputs: Path, tracking: str | None) -> Lab:
    from harness.lab import Lab

    return Lab(outputs, tracking)


def note_read(results: Results, answered: Sequence[Answer] = ()) -> int:
    """Notes that a study's verdicts are shown, by whatever command: seeds added for them are
    another look. Returns how many seeds they rest on; where it cannot be noted, a line says so.

    `answered`: the answers of the study where they are known already.
    """
    from reports.analysis import answers, note

    answered = answered or answers(results)
    try:
        note(results, answered)
    except OSError as error:
        name = results.study.name
        line = f"that {name} was read cannot be noted: {error.filename}: {error.strerror}"
        typer.secho(visible(line), fg=typer.colors.YELLOW, err=True)
    return max(one.seeds for one in answered)


def name_of(study: str) -> str:
    """Returns the name of a study given by name or by file. Raises `SettingError` where it is
    neither: it names folders, and none beside those of the outputs."""
    if study.endswith(".py"):
        return study_of(study, None).name
    if not re.fullmatch(r"[A-Za-z0-9_\-]+", study):
        raise SettingError(
            f"{study!r} is no name of a study (letters, digits, _ and -), and no .py"
        )
    return study


def opened(page: Path) -> None:
    """Shows a page in the user's browser; without one says where the page is."""
    if not webbrowser.open(page.resolve().as_uri()):
        typer.secho(f"no browser here: open {page}", fg=typer.colors.YELLOW, err=True)
