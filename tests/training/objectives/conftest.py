"""A backbone that costs milliseconds, a corpus with pictures that say the same, ALBEF in small."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from architectures import build, registry
from architectures.backbone import Backbone
from architectures.contract import FusionDesign
from harness.planning.plan import applicable
from harness.training.data.batches import Batches, validation_batches
from harness.training.data.corpus import Corpus, load_corpus
from harness.training.loop.trainer import Trainer
from harness.training.randomness import stream
from harness.training.settings.data import Scenes, Text
from harness.training.settings.loop import Budget, Measure, Optimizer
from harness.training.settings.objectives import ALBEF_OBJECTIVES, Objectives
from harness.training.settings.spec import TrainSpec

SMALL = Backbone(
    vision="vit_tiny_patch16_224", image_size=16, patch_size=8, image_width=16, image_layers=1,
    image_heads=2, text_width=16, text_layers=7, text_heads=2, text_mlp=32, max_positions=16,
    dropout=0.1, init_std=0.2, itc_width=8,
)  # fmt: skip
DATA = Scenes(train=40, val=8, test=8, captions=2, text=Text(vocabulary=200, max_tokens=16))
FULL = ALBEF_OBJECTIVES.with_fields({"itc.queue": 8, "lm.weight": 1.0, "lm.prefix": 0.5})
"""ALBEF's, with a queue of 8, and LM."""
BATCH = 5


def for_design(name: str, objectives: Objectives = FULL) -> Objectives:
    """Those that a design can serve."""
    found = registry.find(name)
    return applicable(objectives, found.facts(found.Config(), SMALL))[0]


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return load_corpus(DATA, SMALL.image_size, tmp_path_factory.mktemp("cache"))


@pytest.fixture
def make(corpus: Corpus) -> Callable[..., FusionDesign]:
    """`make(name, objectives, **changes of the backbone)`, in training mode."""

    def built(name: str, objectives: Objectives = FULL, **sizes: Any) -> FusionDesign:
        return build.design(
            name, {}, Backbone(**{**dict(SMALL), **sizes}), corpus.tokenizer.vocabulary,
            draw=lambda role: stream(0, "init", role), objectives=objectives.active(),
        )  # fmt: skip

    return built


@pytest.fixture
def batches(corpus: Corpus) -> Batches:
    return Batches(corpus.train, corpus.tokenizer, BATCH, 0, FULL.mlm, prefix=FULL.lm.prefix)


@pytest.fixture
def trainer(corpus: Corpus, make: Callable[..., FusionDesign]) -> Callable[..., Trainer]:
    """`trainer(name, objectives, steps=6, gap=0, **fields of the optimizer)`; `gap`: training
    pictures that are measured too.
    """

    def built(
        name: str, objectives: Objectives, *, steps: int = 6, gap: int = 0, **rates: Any
    ) -> Trainer:
        spec = TrainSpec(
            design=name, backbone=SMALL, data="", objectives=objectives,
            optimizer=Optimizer(**rates), budget=Budget(steps=steps), batch_size=BATCH, seed=0,
            measure=Measure(points=2),
        )  # fmt: skip

        def fixed(split: Any, items: int) -> Sequence[Any]:
            return validation_batches(split, corpus.tokenizer, items, BATCH, objectives.mlm)

        return Trainer(
            spec,
            make(name, objectives),
            Batches(
                corpus.train,
                corpus.tokenizer,
                BATCH,
                0,
                objectives.mlm,
                prefix=objectives.lm.prefix,
            ),
            fixed(corpus.val, 8),
            fixed(corpus.train, gap),
        )

    return built


every_design = pytest.mark.parametrize("name", list(registry.names()))
some_designs = pytest.mark.parametrize(
    "name",
    [
        name
        if name in ("split_bert", "merged_attention")
        else pytest.param(name, marks=pytest.mark.slow)
        for name in registry.names()
    ],
)
"""Two designs by default, all of them among the slow tests."""
