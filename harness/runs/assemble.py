"""Turns a RunSpec into the parts of its run: corpus, batches, design, counted cost, graph."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import torch
from pydantic import JsonValue

from architectures import build, registry
from architectures.backbone import Backbone
from architectures.contract import FusionDesign
from architectures.frozen import SettingError
from architectures.views import cost, graph
from architectures.weights.weight_files import content
from harness.training.data.batches import Batches, words_to_hide
from harness.training.data.corpus import Corpus, load_corpus
from harness.training.loop.budget import steps_of
from harness.training.loop.flops import mean_flops
from harness.training.loop.freezing import why_not_kept
from harness.training.randomness import stream
from harness.training.settings.loop import Freeze
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
    words = corpus.tokenizer
    parts = (spec.train.design, json.dumps(spec.config), spec.backbone, words.vocabulary)
    hidden = words_to_hide(corpus.train, words)
    rows, swapped = spec.train.batch_size, corpus.train.swapped_share
    steps = steps_of(spec.train.budget, rows) if spec.train.freeze.changed_fields() else 1
    kept = kept_pictures(spec, corpus)
    sizes = (rows, hidden, swapped, spec.train.freeze, steps, kept)
    return _flops(*parts, words.length, spec.train.objectives, *sizes)


def kept_pictures(spec: RunSpec, corpus: Corpus) -> int:
    """Counts the different pictures whose states a run keeps while its image tower is frozen."""
    train, words = spec.train, corpus.tokenizer.vocabulary
    if train.freeze.image is None:
        return 0
    with torch.device("meta"):
        design = build.construct(train.design, spec.config, spec.backbone, words, ())
    kept = (train.freeze, train.numerics, corpus.augment, len(corpus.train))
    if why_not_kept(design, *kept):
        return 0
    steps = steps_of(train.budget, train.batch_size)
    return training_batches(spec, corpus).different(len(train.freeze.image.steps(steps)))


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
    freeze: Freeze,
    steps: int,
    kept: int,
) -> float:
    with torch.device("meta"):
        design = build.construct(
            name, json.loads(config), backbone, vocabulary, objectives.active()
        )
    sizes = {"text_tokens": length, "rows": rows}
    return mean_flops(
        design, objectives, freeze, steps=steps, kept=kept, words=words, swapped=swapped, **sizes
    )


@functools.lru_cache(maxsize=64)
def graph_of(name: str, config: str, backbone: Backbone, words: int) -> dict[str, JsonValue]:
    return graph.graph(name, json.loads(config), backbone, words)
