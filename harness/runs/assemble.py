"""Turns a RunSpec into the parts of its run: corpus, batches, design, counted cost, graph."""

from __future__ import annotations

import bisect
import functools
import json
from collections.abc import Callable
from pathlib import Path

import torch
from pydantic import JsonValue

from architectures import build, registry
from architectures.backbone import Backbone
from architectures.contract import FusionDesign
from architectures.freezing import Tower
from architectures.frozen import SettingError
from architectures.views import cost, graph
from architectures.weights.weight_files import content
from harness.training.data.batches import Batches, words_to_hide
from harness.training.data.corpus import Corpus, load_corpus
from harness.training.loop.budget import steps_of
from harness.training.loop.flops import image_flops, mean_flops, training_flops
from harness.training.loop.freezing import why_not_kept
from harness.training.randomness import stream
from harness.training.settings.objectives import Objectives
from harness.training.settings.spec import RunSpec
from harness.warm_start import make as warm_start


def load_data(spec: RunSpec, outputs: Path) -> Corpus:
    """Loads the corpus of a run from the shared cache."""
    backbone = spec.backbone
    return load_corpus(
        spec.asked.data,
        backbone.image_size,
        outputs / "cache",
        backbone.image_channels,
        swaps=spec.train.objectives.itm.swap_share > 0,
    )


def training_batches(spec: RunSpec, corpus: Corpus) -> Batches:
    """Returns the batches of a run: a function of data and seed, never of the design."""
    return Batches(
        corpus.train,
        corpus.tokenizer,
        spec.train.batch_size,
        spec.train.seed,
        spec.train.objectives.mlm,
        corpus.augment,
        swap_share=spec.train.objectives.itm.swap_share,
        prefix=spec.train.objectives.lm.prefix,
    )


def build_design(spec: RunSpec, vocabulary: int, start: Path | None = None) -> FusionDesign:
    """Builds the design of a spec with its initial weights, drawn by seed and role; `start`: the
    folder of its warm start.
    """
    if spec.asked.design_file:
        registry.load_file(Path(spec.asked.design_file))
    for digest, source in spec.asked.sources.items():
        if content(source) != digest:
            raise SettingError(f"the weights {source!r} have changed since the run was planned")
    backbone, config = warm_start.applied(spec, start)
    return build.design(
        spec.train.design,
        config,
        backbone,
        vocabulary,
        draw=lambda role: stream(spec.train.seed, "initial weights", role),
        objectives=spec.train.objectives.active(),
    )


def counted_cost(spec: RunSpec, corpus: Corpus) -> cost.Cost:
    """Counts parameters and FLOPs of a run's design, with the heads of its objectives."""
    words = corpus.tokenizer
    parts = (spec.train.design, json.dumps(spec.config), spec.backbone, words.vocabulary)
    return _cost(*parts, words.length, spec.train.objectives.active())


def counted_flops(spec: RunSpec, corpus: Corpus) -> float:
    """Counts FLOPs of a training sample, forward and backward, all objectives, teacher included;
    where towers are frozen, as a mean over the run.
    """
    train = spec.train
    if not train.freeze.changed_fields():
        return _flops(*_sizes(spec, corpus), (), kept=False)
    mean = _mean_flops(spec, corpus)
    if train.budget.flops is None:
        return mean(steps_of(train.budget, train.batch_size))
    return mean(_affordable(mean, train.budget.flops / train.batch_size))


def kept_pictures(spec: RunSpec, corpus: Corpus) -> Callable[[int], int]:
    """Returns a function of the steps of a run: how many different pictures it keeps the states of
    while its image tower is frozen."""
    train, words = spec.train, corpus.tokenizer.vocabulary
    with torch.device("meta"):
        design = build.construct(train.design, spec.config, spec.backbone, words, ())
    image, batches = train.freeze.image, training_batches(spec, corpus)
    kept = (train.freeze, train.numerics, corpus.augment, len(corpus.train))
    if image is None or why_not_kept(design, *kept):
        return lambda _: 0
    return lambda steps: batches.different(len(image.steps(steps)))


def _mean_flops(spec: RunSpec, corpus: Corpus) -> Callable[[int], float]:
    """Returns a function of the steps of a run in which towers are frozen: FLOPs of a sample."""
    sizes, kept = _sizes(spec, corpus), kept_pictures(spec, corpus)

    def mean(steps: int) -> float:
        pictures = kept(steps)
        return mean_flops(
            lambda frozen, there: _flops(*sizes, frozen, kept=there),
            spec.train.freeze,
            steps=steps,
            rows=spec.train.batch_size,
            kept=pictures,
            image=_image_flops(*sizes[:4]) if pictures else 0.0,
        )

    return mean


def _affordable(mean: Callable[[int], float], flops: float) -> int:
    """Returns the steps that come closest to spending so many FLOPs for each row of a batch.
    `mean`: of a sample, which depends on the steps: a schedule is in shares of them, and a picture
    that comes again costs less."""

    def spent(steps: int) -> float:
        return steps * mean(steps)

    most = 1
    while spent(most) < flops:
        most *= 2
    enough = bisect.bisect_left(range(1, most), flops, key=spent) + 1
    return min((max(enough - 1, 1), enough), key=lambda steps: abs(spent(steps) - flops))


_Sizes = tuple[str, str, Backbone, int, int, Objectives, int, float, float]


def _sizes(spec: RunSpec, corpus: Corpus) -> _Sizes:
    """Returns what a training sample's FLOPs depend on: the first arguments of `_flops`."""
    words, train = corpus.tokenizer, spec.train
    design = (train.design, json.dumps(spec.config), spec.backbone, words.vocabulary)
    batch = (train.batch_size, words_to_hide(corpus.train, words), corpus.train.swapped_share)
    return *design, words.length, train.objectives, *batch


# Counting and tracing take a second or two of torch's meta device: once per design and process.
@functools.lru_cache(maxsize=64)
def _cost(
    name: str, config: str, backbone: Backbone, words: int, length: int, active: tuple[str, ...]
) -> cost.Cost:
    fields = json.loads(config)
    return cost.cost(name, fields, backbone, words, text_tokens=length, objectives=active)


@functools.lru_cache(maxsize=64)
def _flops(
    name: str,
    config: str,
    backbone: Backbone,
    vocabulary: int,
    length: int,
    objectives: Objectives,
    rows: int,
    words: float,
    swapped: float,
    frozen: tuple[Tower, ...],
    *,
    kept: bool,
) -> float:
    with torch.device("meta"):
        design = build.construct(
            name, json.loads(config), backbone, vocabulary, objectives.active()
        )
    return training_flops(
        design,
        objectives,
        text_tokens=length,
        rows=rows,
        words=words,
        swapped=swapped,
        frozen=frozen,
        kept=kept,
    )


@functools.lru_cache(maxsize=64)
def _image_flops(name: str, config: str, backbone: Backbone, vocabulary: int) -> float:
    with torch.device("meta"):
        return image_flops(build.construct(name, json.loads(config), backbone, vocabulary, ()))


@functools.lru_cache(maxsize=64)
def graph_of(name: str, config: str, backbone: Backbone, words: int) -> dict[str, JsonValue]:
    return graph.graph(name, json.loads(config), backbone, words)
