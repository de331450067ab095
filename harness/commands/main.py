"""The command line, and the composition root: the one file that joins studies, harness and reports.

Every heavy import stands inside a command, so that `--help` answers at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from architectures.frozen import SettingError

if TYPE_CHECKING:
    from harness.lab import Lab
    from harness.study import Study

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="fuselab: which vision-language fusion design, and am I sure?",
)

STUDIES = Path(__file__).parents[2] / "studies"

StudyName = Annotated[str, typer.Argument(help="A study's name, or the path of your own file.")]
Outputs = Annotated[
    Path,
    typer.Option(help="Where runs, data cache, tracking and reports go.", envvar="FUSELAB_OUTPUTS"),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change a field, as `budget.samples=4000`; may be repeated."),
]
Tracking = Annotated[
    str | None, typer.Option(help="An MLflow tracking URI; default: sqlite in the outputs folder.")
]
Address = Annotated[
    str | None, typer.Option(help="Address of a Ray cluster; default: a Ray on this machine.")
]
Local = Annotated[bool, typer.Option("--local", help="One run after another here, without Ray.")]
GpuShare = Annotated[float, typer.Option(help="Part of a GPU that one run takes on cuda.")]
OUTPUTS = Path("outputs")


@contextlib.contextmanager
def _plain_errors() -> Iterator[None]:
    """What a user can mend is said in a line, without a traceback."""
    from pydantic import ValidationError

    from architectures.frozen import readable
    from harness.outputs.folder import Locked, TrackingError

    try:
        yield
    except ValidationError as error:
        _fail(readable(error))
    except (SettingError, OSError, TrackingError, Locked) as error:
        _fail(str(error))


def _fail(message: str) -> None:
    typer.secho(f"fuselab: {message}", fg=typer.colors.RED, err=True)
    raise typer.Exit(2)


def _study(name: str, changes: list[str] | None) -> tuple[Study, str]:
    from harness.planning.shelf import load

    study, file = load(name, STUDIES)
    return study.with_fields(dict(_changes(changes))), file


def _changes(changes: list[str] | None) -> Iterator[tuple[str, Any]]:
    """Field and value of every `--set`."""
    for change in changes or []:
        path, equals, text = change.partition("=")
        if not equals:
            raise SettingError(f"--set {change}: write it as field=value")
        yield path, _value(text)


def _value(text: str) -> Any:
    """JSON where it is JSON (numbers, lists, true), else the words themselves."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _lab(outputs: Path, tracking: str | None) -> Lab:
    from harness.lab import Lab

    return Lab(outputs, tracking)


@app.command()
def designs(
    name: Annotated[str, typer.Argument(help="Show one design: fields, slots, cost.")] = "",
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change a field of the design, as `text_layers=3`; repeatable."),
    ] = None,
    cost: Annotated[bool, typer.Option("--cost", help="Parameters and FLOPs of each.")] = False,
    scale: Annotated[str, typer.Option(help="Backbone that costs are counted for.")] = "nano",
    file: Annotated[Path | None, typer.Option(help="Your own file with designs.")] = None,
    draw: Annotated[
        Path | None,
        typer.Option(help="Write its picture, .svg or .png; of all designs a page, .md."),
    ] = None,
) -> None:
    """List the fusion designs, show one, or draw them."""
    with _plain_errors():
        from architectures import registry
        from harness.commands import show_designs as show

        if file:
            registry.load_file(file)
        fields = dict(_changes(set_))
        if fields and not name:
            raise SettingError("--set changes a field of one design: name the design too")
        if draw:
            _draw(draw, name, fields, scale)
        elif name and cost:
            show.costs([(name, each) for each in ([{}, fields] if fields else [{}])], scale)
        elif name:
            show.design(name, fields, scale)
        elif cost:
            show.costs([(each, {}) for each in registry.names()], scale)
        else:
            show.designs()


def _draw(target: Path, name: str, fields: dict[str, Any], scale: str) -> None:
    """Write the picture of a design, or a page of all."""
    if name and target.suffix.lower() not in (".svg", ".png"):
        raise SettingError(f"--draw {target}: a picture ends in .svg or .png")
    if not name and target.suffix.lower() != ".md":
        raise SettingError(
            f"--draw {target}: a page of all designs ends in .md; for a picture name the design"
        )
    from harness.commands.show_designs import graphs
    from harness.outputs.folder import atomic_file
    from reports.catalogue import files

    for path, content in files(target, graphs(name, fields, scale), scale).items():
        with atomic_file(path) as part:
            part.write_bytes(content)
        typer.echo(f"wrote {path}")


@app.command()
def studies() -> None:
    """List the studies that come with fuselab."""
    from harness.commands import show
    from harness.planning.shelf import names

    show.pairs("study", "question", names(STUDIES))


@app.command()
def plan(
    study: StudyName,
    set_: Set = None,
    tuned: Annotated[bool, typer.Option("--tuned", help="With the tuned settings.")] = False,
    outputs: Outputs = OUTPUTS,
) -> None:
    """Show what would run and what it would cost, before anything runs."""
    with _plain_errors():
        from harness.commands import show
        from harness.planning.plan import estimates

        asked, file = _study(study, set_)
        lab = _lab(outputs, None)
        planned = lab.plan(asked, design_file=file, tuned=tuned)
        show.plan(planned, estimates(planned, lab.outputs), lab.outputs)
        show.lines(lab.starts(planned))


@app.command()
def run(
    study: StudyName,
    set_: Set = None,
    local: Local = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Also start failed and diverged runs again.")
    ] = False,
    only: Annotated[str, typer.Option(help="Cells whose name fits a pattern, as `6+6`.")] = "",
    tuned: Annotated[bool, typer.Option("--tuned", help="With the settings tuning chose.")] = False,
    address: Address = None,
    gpu_share: GpuShare = 1.0,
    tracking: Tracking = None,
    outputs: Outputs = OUTPUTS,
) -> None:
    """Run a study. The same command again skips what is done and goes on with the rest."""
    with _plain_errors():
        from harness.commands import show

        asked, file = _study(study, set_)
        lab = _lab(outputs, tracking)
        states = lab.run(
            asked,
            design_file=file,
            tuned=tuned,
            only=only,
            local=local,
            retry_failed=retry_failed,
            address=address,
            gpu_share=gpu_share,
        )
        show.states(states, study, lab.notes(asked.name))
    if any(state != "done" for state in states.values()):
        raise typer.Exit(1)


@app.command()
def tune(
    study: StudyName,
    set_: Set = None,
    local: Local = False,
    address: Address = None,
    gpu_share: GpuShare = 1.0,
    tracking: Tracking = None,
    outputs: Outputs = OUTPUTS,
) -> None:
    """Tune every cell equally: same trials, same draws; `run --tuned` uses the choice."""
    with _plain_errors():
        from harness.commands import show

        asked, file = _study(study, set_)
        result = _lab(outputs, tracking).tune(
            asked, design_file=file, local=local, address=address, gpu_share=gpu_share
        )
        show.tuning(result)


@app.command("warm-start")
def warm_start(
    study: StudyName,
    to: Annotated[
        Path | None, typer.Option("--to", help="Also copy them to this new folder.")
    ] = None,
    set_: Set = None,
    outputs: Outputs = OUTPUTS,
) -> None:
    """Make what a study's runs start from: BERT, DistilBERT and ViT of its own training data, and
    the text stage of a design that has one.
    """
    with _plain_errors():
        from harness.commands import show
        from harness.warm_start.make import copied

        asked, file = _study(study, set_)
        made = _lab(outputs, None).warm_start(asked, design_file=file)
        for folder in made:
            show.warm_start(folder)
            if to:
                typer.echo(copied(folder, to / folder.name if len(made) > 1 else to))


@app.command()
def status(study: StudyName, outputs: Outputs = OUTPUTS) -> None:
    """Show how far every run of a study is."""
    with _plain_errors():
        from harness.commands import show
        from harness.results.tables import load

        show.status(load(outputs, _name(study)), outputs)


@app.command()
def report(
    study: StudyName,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit 1 where runs are not paired as they should be.")
    ] = False,
    require_learned: Annotated[
        bool, typer.Option("--require-learned", help="Exit 1 where a fusion run is at chance.")
    ] = False,
    from_tracking: Annotated[
        bool, typer.Option("--from-tracking", help="Read the tracking store, not the run folders.")
    ] = False,
    tracking: Tracking = None,
    outputs: Outputs = OUTPUTS,
) -> None:
    """Write the report of a study: page, figures and tables; and print the answer."""
    with _plain_errors():
        from harness.commands import show
        from reports.build import build

        lab = _lab(outputs, tracking)
        name = _name(study)
        results = lab.results(name, from_tracking=from_tracking)
        made = build(results, lab.outputs / "reports" / name, tuning=lab.tuning(name))
        show.report(made, levels=require_learned)
        lab.log_report(name, made.folder)
    if (strict and not made.pairing_ok) or (require_learned and not made.learned_ok):
        raise typer.Exit(1)


@app.command()
def export(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            help="A run's folder name or its beginning, or STUDY/CELL/SEED, as `demo/6+6/0`.",
        ),
    ],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new or empty folder.")],
    license_: Annotated[
        str,
        typer.Option(
            "--license",
            metavar="NAME",
            help="Licence for the model card, an SPDX identifier, as `apache-2.0`.",
        ),
    ] = "",
    outputs: Outputs = OUTPUTS,
) -> None:
    """Write a finished run to a folder: weights, tokenizer, model card, towers by themselves."""
    with _plain_errors():
        from harness.export.export import export as exported

        absent = exported(outputs.expanduser().resolve(), run, folder, license_)
        typer.echo(f"{folder}: read its README.md")
        for tower, why in absent.items():
            typer.echo(f"no {tower}: {why}")


@app.command()
def clean(
    weights: Annotated[
        bool, typer.Option("--weights", help="Also final weights; new tasks then need retraining.")
    ] = False,
    cache: Annotated[
        bool, typer.Option("--cache", help="Also decoded data; decoded again when needed.")
    ] = False,
    outputs: Outputs = OUTPUTS,
) -> None:
    """Free space: checkpoints of runs that have ended; results, curves and reports always stay."""
    from harness.outputs.cleaning import clean as cleaned

    with _plain_errors():
        for what, mib in cleaned(outputs, weights=weights, cache=cache).items():
            typer.echo(f"{what}: {mib:.1f} MiB freed")


@app.command()
def ui(
    port: Annotated[int, typer.Option(help="Port on the loopback address.")] = 5000,
    tracking: Tracking = None,
    outputs: Outputs = OUTPUTS,
) -> None:
    """Open MLflow's page on the study's store, bound to the loopback address."""
    with _plain_errors():
        from harness.results.to_mlflow import ui_command

        os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true")
        command = ui_command(outputs.resolve(), port, tracking)
        typer.echo(f"http://127.0.0.1:{port}   (Ctrl-C ends it)")
        sys.stdout.flush()
        os.execvp(command[0], command)


def _name(study: str) -> str:
    """The name of a study given by name or by file."""
    return _study(study, None)[0].name if study.endswith(".py") else study
