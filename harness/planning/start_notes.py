"""Says what the runs of a plan start from besides random weights, and what that costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from architectures import build
from architectures.weights import checkpoints
from architectures.weights.remarks import remarks
from harness.training.data.corpus import Corpus
from harness.training.settings.spec import RunSpec
from harness.training.settings.warm_start import ALIGNED_AS
from harness.warm_start.keys import (
    ALIGNED,
    TEXT_STAGE,
    Learnt,
    key,
    learnt,
    line,
    stage_folder,
    text_stage,
)

if TYPE_CHECKING:
    from harness.planning.plan import Plan


def notes(planned: Plan, corpora: Mapping[str, Corpus], outputs: Path) -> list[str]:
    """Says what the runs of a plan start from and what that cost, or will cost."""
    cells = {row.cell.name: row.spec for row in planned.rows if row.spec.train.warm_start}
    towers: dict[str, list[str]] = {}
    stages: dict[str, list[str]] = {}
    for cell, spec in cells.items():
        towers.setdefault(key(spec), []).append(cell)
        if stage := text_stage(spec):
            stages.setdefault(stage_folder(spec, stage), []).append(cell)

    def parts(name: str, cell: str, cost: Callable[..., Mapping[str, Learnt]]) -> str:
        costs_before = learnt(outputs / "warm_start" / name)
        costs = costs_before or cost(cells[cell], corpora[cell])
        when = "made before the runs" if costs_before else "to be made before the first run"
        return f"{when}: " + "; ".join(line(part, spent) for part, spent in costs.items())

    lines = []
    for name, own in towers.items():
        who = "all designs" if len(own) == len(planned.study.cells) else ", ".join(own)
        lines.append(
            f"{who} start from weights trained on the training data, "
            + parts(name, own[0], expected)
        )
    for name, own in stages.items():
        lines.append(
            f"text parts of {', '.join(own)} start from training on captions alone over the frozen "
            f"ViT instead of from BERT, {parts(name, own[0], expected_stage)}"
        )
    for row in planned.rows:
        lines += remarks(row.spec.backbone, row.spec.config)
    checkpoints.forget()
    return list(dict.fromkeys(lines))


def expected(spec: RunSpec, corpus: Corpus) -> dict[str, Learnt]:
    """Says what each model of the warm start will cost, before any is made."""
    import torch

    from harness.training.one_modality.courses import Aligned, Course, Distilled, Words, flops_of
    from harness.training.one_modality.models import MaskedWords
    from harness.training.one_modality.pretraining import Pretraining

    course = Pretraining(spec.train, corpus)
    batch, recipe = course.batches.at(0), course.recipe
    with torch.device("meta"):
        bert = MaskedWords(spec.backbone, corpus.tokenizer.vocabulary)
        courses: dict[str, tuple[Course, int]] = {
            "bert": (Words(bert), recipe.bert_samples),
            "distilbert": (Distilled(bert), recipe.distil_samples),
            "vit": (course.vit_course(), recipe.vit_samples),
        }
        if recipe.align_samples:
            words = corpus.tokenizer.vocabulary
            both = build.construct(ALIGNED_AS, {}, spec.backbone, words, ("itc",))
            courses[ALIGNED] = (Aligned(both), recipe.align_samples)
    return {
        name: course.cost(flops_of(what, batch), samples)
        for name, (what, samples) in courses.items()
    }


def expected_stage(spec: RunSpec, corpus: Corpus) -> dict[str, Learnt]:
    """Says what the text stage of a spec will cost, before it is made."""
    import torch

    from harness.training.one_modality.courses import TextAlone, flops_of
    from harness.training.one_modality.pretraining import Pretraining

    course, stage, words = (
        Pretraining(spec.train, corpus),
        text_stage(spec),
        corpus.tokenizer.vocabulary,
    )
    assert stage is not None
    with torch.device("meta"):
        model = build.construct(spec.train.design, stage.fields, spec.backbone, words, ("mlm",))
    flops = flops_of(TextAlone(model, stage.trains), course.batches.at(0))
    return {TEXT_STAGE: course.cost(flops, course.recipe.text_stage_samples)}
