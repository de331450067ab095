"""Says how initial weights and learning rates of a cell go by width, where its backbone says so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from architectures import build
from architectures.weights.widths import times_of
from harness.training.data.corpus import Corpus
from harness.training.settings.spec import RunSpec

if TYPE_CHECKING:
    from harness.planning.plan import Plan


def width_notes(planned: Plan, corpora: Mapping[str, Corpus]) -> list[str]:
    """Returns a line for each cell under `mup`: by how much its matrices differ from nano's."""
    specs = {
        row.cell.name: row.spec
        for row in planned.rows
        if row.spec.backbone.parameterisation == "mup"
    }
    return [_line(cell, spec, corpora[cell]) for cell, spec in specs.items()]


def _line(cell: str, spec: RunSpec, corpus: Corpus) -> str:
    import torch

    train, words = spec.train, corpus.tokenizer.vocabulary
    with torch.device("meta"):
        active = train.objectives.active()
        design = build.construct(train.design, spec.config, spec.backbone, words, active)
    begin = (
        f"cell {cell}: parameterisation mup, init_std {spec.backbone.init_std:g} at nano's widths"
    )
    if not (times := sorted(set(times_of(design).values()))):
        return f"{begin}, which are its own: it trains as under standard"
    listed = ", ".join(f"{each:g}" for each in times)
    return f"{begin}; matrices with {listed} times the inputs learn as much more slowly"
