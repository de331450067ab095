"""`fuselab designs` lists the fusion designs, shows one and draws them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from pydantic import JsonValue

from architectures.frozen import SettingError
from harness.commands.options import (
    app,
    changes_of,
    plain_errors,
)
from harness.scheduling.progress import working


@app.command()
def designs(
    name: Annotated[str, typer.Argument(help="Show one design: fields, what it serves.")] = "",
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change a field of the design, as `text_layers=3`; repeatable."),
    ] = None,
    cost: Annotated[
        bool, typer.Option("--cost", help="Parameters and FLOPs; of one, slots too.")
    ] = False,
    scale: Annotated[str, typer.Option(help="Backbone that costs are counted for.")] = "nano",
    file: Annotated[Path | None, typer.Option(help="Your own file with designs.")] = None,
    draw: Annotated[
        Path | None,
        typer.Option(help="Write its picture, .svg or .png; of all designs a page, .md."),
    ] = None,
) -> None:
    """List the fusion designs, show one, or draw them."""
    with plain_errors():
        from architectures import registry
        from harness.commands import show_designs as show

        if file:
            show.check(registry.load_file(file), scale)
        fields = dict(changes_of(set_))
        if fields and not name:
            raise SettingError("--set changes a field of one design: name the design too")
        if name and cost:
            show.costs([(name, each) for each in ([{}, fields] if fields else [{}])], scale)
            show.parts(name, fields, scale)
        elif cost:
            show.costs([(each, {}) for each in registry.names()], scale)
        elif name and not draw:
            show.design(name, fields, scale)
        elif not draw:
            show.designs()
        if draw:
            _draw(draw, name, fields, scale)


def _draw(target: Path, name: str, fields: dict[str, JsonValue], scale: str) -> None:
    """Write the picture of a design, or a page of all."""
    if name and target.suffix.lower() not in (".svg", ".png"):
        raise SettingError(f"--draw {target}: a picture ends in .svg or .png")
    if not name and target.suffix.lower() != ".md":
        raise SettingError(
            f"--draw {target}: a page of all designs ends in .md; for a picture name the design"
        )
    from harness.commands.show_designs import graphs
    from harness.outputs.files import atomic_file

    with working(f"drawing {name or 'every design'}"):
        from reports.diagrams.catalogue import files

        drawn = files(target, graphs(name, fields, scale), scale)
    for path, content in drawn.items():
        with atomic_file(path) as part:
            part.write_bytes(content)
        typer.echo(f"wrote {path}")
