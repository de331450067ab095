"""These commands give a run away, free space in the outputs folder, and open MLflow's page."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from architectures.frozen import path_named
from harness.commands.options import (
    OUTPUTS,
    Outputs,
    Tracking,
    app,
    lab_of,
    name_of,
    plain_errors,
)
from harness.scheduling.progress import working


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
    task: Annotated[
        str,
        typer.Option(
            "--task",
            metavar="TITLE",
            help="A task that the run has learnt: its model instead of the trained design.",
        ),
    ] = "",
    outputs: Outputs = OUTPUTS,
) -> None:
    """Write a finished run to a folder: weights, tokenizer, model card, towers by themselves."""
    with plain_errors():
        with working(f"writing {folder}"):
            from harness.export.export import export as exported

            absent = exported(path_named(outputs).resolve(), run, folder, license_, task)
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

    with plain_errors():
        with working(f"cleaning {outputs}"):
            freed = cleaned(outputs, weights=weights, cache=cache)
        for what, mib in freed.items():
            typer.echo(f"{what}: {mib:.1f} MiB freed")


@app.command()
def publish(
    study: Annotated[
        str, typer.Argument(help="A study's name or file; empty: every study here.")
    ] = "",
    tracking: Tracking = None,
    outputs: Outputs = OUTPUTS,
) -> None:
    """Bring the tracking store up to date with the run folders; build it again where it is lost."""
    with plain_errors():
        study = name_of(study) if study else ""
        with working(f"publishing {study or 'every study'}"):
            names = lab_of(outputs, tracking).publish(study)
        for name in names:
            typer.echo(f"published {name}")


@app.command()
def ui(
    port: Annotated[
        int, typer.Option(min=1, max=65535, help="Port of MLflow's page on the loopback address.")
    ] = 5000,
    status_port: Annotated[
        int, typer.Option(min=1, max=65535, help="Port of the page of how far studies are.")
    ] = 5001,
    tracking: Tracking = None,
    outputs: Outputs = OUTPUTS,
) -> None:
    """Open MLflow's page on the store, and a page of how far studies are; on this machine only."""
    with plain_errors():
        import signal
        import subprocess
        import threading

        from harness.results.store import UI_ENVIRONMENT, opened, ui_command
        from harness.scheduling.served import LOOPBACK, StatusServer, check_port

        store = lab_of(outputs, tracking)
        with working("opening the store"):  # says at once what is wrong
            opened(store.outputs, store.store, create=False)
        with StatusServer(store.outputs, status_port) as server:
            check_port(port)  # MLflow says it among twenty lines, half a minute later
            threading.Thread(target=server.serve_forever, daemon=True).start()
            typer.echo(f"how far studies are: http://{LOOPBACK}:{status_port}")
            typer.echo(f"MLflow: http://{LOOPBACK}:{port}   (Ctrl-C ends both)")
            sys.stdout.flush()
            command = ui_command(store.outputs, port, tracking)
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that MLflow ends too
            mlflow = subprocess.Popen(command, env={**os.environ, **UI_ENVIRONMENT})
            try:
                code = mlflow.wait()
            except KeyboardInterrupt:  # which MLflow gets too
                code = mlflow.wait()
            finally:
                mlflow.terminate()
                server.shutdown()
    raise typer.Exit(code)
