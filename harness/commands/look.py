"""`fuselab look` shows what a trained design says of a picture: heat map, words, captions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from architectures.frozen import SettingError, path_named
from harness.commands.options import OUTPUTS, Outputs, app, plain_errors
from harness.scheduling.progress import working

if TYPE_CHECKING:
    import numpy as np

    from architectures.downstream.gradcam import By
    from harness.export.opened import Opened
    from harness.training.objectives.said import Match
    from reports.heat_maps import HeatMap

CAPTIONS = 5
"""Captions that are shown."""


@app.command()
def look(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            help="A finished run (its folder name or the beginning of it, or STUDY/CELL/SEED), or "
            "a folder that `fuselab export` wrote.",
        ),
    ],
    image: Annotated[
        str,
        typer.Argument(
            metavar="IMAGE",
            help="A picture, or a row of a split, as `test:12`. Left out: the items that the "
            "run's grounding kept.",
        ),
    ] = "",
    say: Annotated[
        str, typer.Option("--say", help='What is said of it, as "a red circle"; [MASK] asks.')
    ] = "",
    out: Annotated[
        Path | None,
        typer.Option(help="Where the heat map is drawn, .png or .svg; default: looks/RUN.png."),
    ] = None,
    by: Annotated[
        Literal["itm", "itc"], typer.Option(help="Whose score the heat map explains.")
    ] = "itm",
    layer: Annotated[
        int | None, typer.Option(help="Which layer's heat map, from 0; default: as published.")
    ] = None,
    outputs: Outputs = OUTPUTS,
) -> None:
    """Show what a trained design says of a picture: where it looks, masked words, captions."""
    with plain_errors():
        if out and out.suffix.lower() not in (".png", ".svg"):
            raise SettingError(f"--out {out}: a picture ends in .png or .svg")
        if say and not image:
            raise SettingError(
                '--say: of which picture? Name it, fuselab look RUN --say "..." IMAGE'
            )
        say = say.strip()
        outputs = path_named(outputs).resolve()
        if not image:
            _kept(outputs, run, out)
            return
        with working(f"opening {run}"):
            from harness.export.opened import opened

            subject = opened(outputs, run)
            pixels_HWC = subject.picture(image)
        if say:
            way = _way(subject, by, layer)
            _check(subject, say)
            _said(subject, pixels_HWC, say)
            _drawn(subject, pixels_HWC, say, way, layer, out or _place(outputs, subject.name))
        _caption(subject, pixels_HWC)
        _captions(subject, pixels_HWC)


def _place(outputs: Path, name: str) -> Path:
    return outputs / "looks" / f"{name}.png"


def _check(subject: Opened, say: str) -> None:
    """Raises `SettingError` for a sentence that would be cut, notes words that are unknown."""
    from harness.training.objectives.said import unknown_words

    tokenizer, most = subject.tokenizer, subject.design.longest_text
    ids = tokenizer.backend.encode(say).ids
    if len(ids) > most:
        raise SettingError(
            f"--say has {len(ids)} tokens, {subject.name} reads at most {most}: use fewer words"
        )
    if not set(ids) - {*tokenizer.special_ids} | {tokenizer.mask_id} & set(ids):
        raise SettingError(f"--say {say!r}: {subject.name} knows none of these words")
    if unknown := unknown_words(subject.tokenizer, say):
        words = ", ".join(map(repr, unknown))
        typer.echo(f"Note: {words} cannot be spelled by its tokenizer, and is read as [UNK].")


def _said(subject: Opened, pixels_HWC: np.ndarray, say: str) -> None:
    """Prints how well the sentence fits, and the words that are put in place of masked ones."""
    from harness.commands.show import lines, table
    from harness.training.objectives import said

    design = subject.design
    facts = design.facts(design.config, design.backbone)
    (match,) = said.matches(design, subject.tokenizer, pixels_HWC, [say])
    typer.echo(f"{say!r}: {_match(match)}")
    if match.match is None:
        lines([f"no match probability, because {_why(facts.why_not('itm'), 'ITM')}"])
    if "mlm" not in design.heads:
        lines([f"no masked words, because {_why(facts.why_not('mlm'), 'MLM')}"])
        return
    words = said.filled(design, subject.tokenizer, pixels_HWC, say)
    rows = [(f.word, *(f"{word} {100 * odds:.0f} %" for word, odds in f.guesses)) for f in words]
    table(("masked", "likeliest", "second", "third"), rows)


def _why(why: str, objective: str) -> str:
    return why or f"it was trained without {objective}"


def _match(match: Match) -> str:
    parts = [] if match.match is None else [f"matches with probability {match.match:.3f}"]
    parts += [] if match.cosine is None else [f"cosine {match.cosine:.3f}"]
    return ", ".join(parts) or "nothing compares it with a picture"


def _way(subject: Opened, by: By, layer: int | None) -> By | None:
    """Returns the way in which the design has a heat map. Raises `SettingError` where it has not
    that layer.
    """
    from architectures.downstream import gradcam

    design = subject.design
    facts = design.facts(design.config, design.backbone)
    way = gradcam.way(facts, list(design.heads), by)
    if way is not None:
        gradcam.layer_of(design, way, layer)
    return way


def _drawn(
    subject: Opened,
    pixels_HWC: np.ndarray,
    say: str,
    way: By | None,
    layer: int | None,
    target: Path,
) -> None:
    """Draws the heat map beside the plain picture, or says why there is none."""
    from architectures.downstream import gradcam
    from harness.commands.show import lines
    from harness.training.objectives.maps import map_of
    from reports.heat_maps import HeatMap

    design = subject.design
    if way is None:
        facts, heads = design.facts(design.config, design.backbone), list(design.heads)
        lines([f"no heat map, because {gradcam.why_neither(facts, heads)}"])
        return
    map_hw = map_of(design, subject.tokenizer, pixels_HWC, say, by=way, layer=layer)
    where = gradcam.layer_of(design, way, layer)
    if not map_hw.any():
        lines([f"the heat map is empty: nothing that {where} reads speaks for these words"])
    title = f"{subject.name}: Grad-CAM by {way.upper()} on {where}"
    _write(target, [HeatMap(image_HWC=pixels_HWC, map_hw=map_hw, text=say)], title)


def _caption(subject: Opened, pixels_HWC: np.ndarray) -> None:
    """Prints the caption that the design says word after word, or why it says none."""
    from harness.commands.show import lines
    from harness.training.objectives import said

    design = subject.design
    if "lm" in design.heads:
        typer.echo(f"It says: {said.caption(design, subject.tokenizer, pixels_HWC)!r}")
        return
    facts = design.facts(design.config, design.backbone)
    lines([f"no caption of its own, because {_why(facts.why_not('lm'), 'LM')}"])


def _captions(subject: Opened, pixels_HWC: np.ndarray) -> None:
    """Prints the captions of the test split that fit the picture best."""
    from harness.commands.show import lines, table
    from harness.training.objectives import said

    design = subject.design
    if subject.corpus is None:
        lines([f"no captions: {subject.name} is an exported folder, which holds no data"])
        return
    if not {"itc", "itm"} & set(design.heads):
        lines(["no captions: it was trained without ITC and without ITM"])
        return
    captions = list(dict.fromkeys(c for own in subject.corpus.test.captions for c in own))
    best = said.best_captions(design, subject.tokenizer, pixels_HWC, captions, CAPTIONS)
    how = "by ITC" if "itc" in design.heads else "by ITM"
    if {"itc", "itm"} <= set(design.heads):
        how = f"the first {said.RANKED} by ITC, ranked again by ITM"
    typer.echo(f"Of {len(captions)} different captions of test these fit best ({how}):")
    rows = [
        (
            "-" if each.match is None else f"{each.match:.3f}",
            "-" if each.cosine is None else f"{each.cosine:.3f}",
            each.text,
        )
        for each in best
    ]
    table(("match", "cosine", "caption"), rows, words={"caption"})


def _kept(outputs: Path, name: str, out: Path | None) -> None:
    """Draws the items that the run's grounding kept, without the model; of several such tasks a
    file each.
    """
    from harness.outputs.find import find_run
    from harness.outputs.records import ScoresRecord
    from reports.heat_maps import kept

    run = find_run(outputs, name)
    items: dict[str, list[HeatMap]] = {}
    for file in run.score_files():
        items[file.stem] = kept(run.predictions(file.stem))
    items = {task: rows for task, rows in items.items() if rows}
    target = out or _place(outputs, run.key)
    for task, rows in items.items():
        protocol = ScoresRecord.read(run.score_file(task)).protocol
        place = target if len(items) == 1 else target.with_stem(f"{target.stem}-{task}")
        _write(place, rows, f"{run.key}: {task}, {protocol}")
    if items:
        return
    raise SettingError(
        f"run {run.key} has no scores of grounding, whose items could be drawn; name an IMAGE"
    )


def _write(target: Path, rows: list[HeatMap], title: str) -> None:
    from harness.outputs.files import atomic_file
    from reports.heat_maps import drawn

    content = drawn(rows, title, "png" if target.suffix.lower() == ".png" else "svg")
    with atomic_file(target) as part:
        part.write_bytes(content)
    typer.echo(f"wrote {target}")
