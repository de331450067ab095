"""Says what of each cell does not learn, when, and whether the states of its pictures are kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from architectures import build
from architectures.freezing import tower_parts
from harness.runs.assemble import counted_flops
from harness.training.data.corpus import Corpus
from harness.training.loop.freezing import bytes_a_picture, frozen_in_words, why_not_kept
from harness.training.settings.loop import Freeze
from harness.training.settings.spec import RunSpec

if TYPE_CHECKING:
    from harness.planning.plan import Plan


def freeze_notes(planned: Plan, corpora: Mapping[str, Corpus]) -> list[str]:
    """Returns a line for each tower that a cell freezes, one on what that leaves of its training
    FLOPs, and one on the pictures' states."""
    specs = {row.cell.name: row.spec for row in planned.rows if row.spec.train.freeze != Freeze()}
    return [line for cell, spec in specs.items() for line in _lines(cell, spec, corpora[cell])]


def _lines(cell: str, spec: RunSpec, corpus: Corpus) -> Iterator[str]:
    import torch

    train = spec.train
    with torch.device("meta"):
        words = corpus.tokenizer.vocabulary
        design = build.construct(train.design, spec.config, spec.backbone, words, ())
    weights = dict(design.named_parameters())
    for tower, when in frozen_in_words(train).items():
        count = sum(weights[role].numel() for role in tower_parts(design, tower).roles(design))
        yield f"cell {cell}: the {tower} tower is frozen {when}, {count:,} parameters"
    learning = train.model_copy(update={"freeze": Freeze()})
    whole = counted_flops(spec.model_copy(update={"train": learning}), corpus)
    share = counted_flops(spec, corpus) / whole
    yield f"cell {cell}: it takes {share:.0%} of the training FLOPs that it would if all learned"
    if train.freeze.image is not None:
        pictures = len(corpus.train)
        reason = why_not_kept(design, train.freeze, train.numerics, corpus.augment, pictures)
        mib = bytes_a_picture(design) * pictures / 2**20
        yield (
            f"cell {cell}: frozen states of pictures are computed at every step, because {reason}"
            if reason
            else f"cell {cell}: frozen states of pictures are computed once, at most {mib:,.1f} MiB"
        )
