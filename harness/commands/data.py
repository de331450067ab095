"""`fuselab data` counts what a study trains on, and draws a page of it to look at."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import JsonValue

from architectures.frozen import SettingError, nearest
from harness.commands.options import (
    OUTPUTS,
    STUDIES,
    Outputs,
    Set,
    app,
    changes_of,
    plain_errors,
    study_of,
)

if TYPE_CHECKING:
    from architectures.backbone import Backbone
    from harness.study import Pictures, Scenes
    from harness.training.data.corpus import Corpus

ROWS = 12
"""Rows on the page."""


@app.command()
def data(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A study's name or file, `scenes` or `scenes:DIFFICULTY`, or a file or folder of "
            "your own.",
        ),
    ],
    set_: Set = None,
    page: Annotated[
        Path | None,
        typer.Option(help="Where the page is drawn, .png or .svg; default: data/NAME.png there."),
    ] = None,
    floors: Annotated[
        bool, typer.Option(help="Measure on scenes what text or picture alone give away.")
    ] = True,
    outputs: Outputs = OUTPUTS,
) -> None:
    """Show what a study trains on: counts, lengths, groups, floors, and a page of twelve rows."""
    with plain_errors():
        if page and page.suffix.lower() not in (".png", ".svg"):
            raise SettingError(f"--page {page}: a picture ends in .png or .svg")
        from harness.commands import show_data
        from harness.scheduling.progress import Screen
        from harness.training.data.corpus import load_corpus
        from harness.training.data.facts import facts_of

        outputs = outputs.expanduser().resolve()
        sources = _sources(source, dict(changes_of(set_)))
        screen = Screen()
        for place, (name, (settings, backbone)) in enumerate(sources.items()):
            screen.note("opening the data; they are decoded where the cache does not have them")
            size, channels = backbone.image_size, backbone.image_channels
            corpus = load_corpus(settings, size, outputs / "cache", channels)
            show_data.facts(name if len(sources) > 1 else "", facts_of(corpus), corpus.notes)
            if floors:
                show_data.floors(corpus, screen.note)
            target = page or outputs / "data" / f"{_file_name(source)}.png"
            if place:
                target = target.with_stem(f"{target.stem}-{place + 1}")
            _draw(
                target, corpus, f"{source}: {len(corpus.train):,} pictures to train on, {size} px"
            )


def _sources(
    source: str, changes: dict[str, JsonValue]
) -> dict[str, tuple[Scenes | Pictures, Backbone]]:
    """Gives the cells that share them, in words -> data settings and the backbone that says in what
    size they are decoded.
    """
    from harness.planning.shelf import names
    from harness.training.settings.data import Pictures
    from harness.training.settings.graded_scenes import graded_scenes
    from harness.training.settings.run import RunSettings

    alone: Scenes | Pictures | None = None
    if source.partition(":")[0] == "scenes":
        alone = graded_scenes(source.partition(":")[2] or "one")
    elif not source.endswith(".py") and source not in (studies := names(STUDIES)):
        if not _is_place(source):
            raise nearest(source, [*studies, "scenes"], "source")
        alone = Pictures.model_validate(_splits(source))
    if alone:
        its = RunSettings(data=alone).with_fields(changes)
        return {source: (its.data, its.backbone)}
    study = study_of(source, []).with_fields(changes)
    cells: dict[tuple[str, int, int], list[str]] = {}
    settings = {cell.name: study.settings_of(cell) for cell in study.cells}
    for name, its in settings.items():
        pixels = (its.backbone.image_size, its.backbone.image_channels)
        cells.setdefault((its.data.model_dump_json(), *pixels), []).append(name)
    return {
        ", ".join(alike): (settings[alike[0]].data, settings[alike[0]].backbone)
        for alike in cells.values()
    }


def _is_place(source: str) -> bool:
    """Says whether a source is a path, a pattern of paths or a hub dataset."""
    return (
        source.startswith("hub:")
        or any(mark in source for mark in "*?[/")
        or source.endswith(".parquet")
        or Path(source).expanduser().exists()
    )


def _splits(source: str) -> dict[str, str]:
    """Names the files of each split: of a folder of parquet files those that begin with its name,
    else all to train on.
    """
    folder = Path(source).expanduser()
    if source.startswith("hub:") or not folder.is_dir() or not any(folder.glob("*.parquet")):
        return {"train": source}
    named = {name: f"{name}*.parquet" for name in ("train", "val", "test")}
    there = {name: str(folder / files) for name, files in named.items() if any(folder.glob(files))}
    return there if "train" in there else {"train": str(folder / "*.parquet")}


def _file_name(source: str) -> str:
    """Turns a source into the name of a file."""
    path = Path(source)
    stem = path.stem if path.suffix in (".py", ".parquet", ".json") else path.name
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in stem) or "data"


def _draw(target: Path, corpus: Corpus, title: str) -> None:
    from harness.outputs.files import atomic_file
    from harness.training.data.facts import rows_to_look_at
    from reports.sheet import SheetRow, drawn

    split = corpus.train
    rows = [
        SheetRow(
            image_HWC=split.images_NHWC[row],
            captions=split.captions[row],
            heading=f"row {row}, group {split.group_N[row] % 16**6:06x}: "
            f"{int((split.group_N == split.group_N[row]).sum())} of {split.name}",
        )
        for row in rows_to_look_at(split, ROWS)
    ]
    content = drawn(rows, title, "png" if target.suffix.lower() == ".png" else "svg")
    with atomic_file(target) as part:
        part.write_bytes(content)
    typer.echo(f"wrote {target}")
