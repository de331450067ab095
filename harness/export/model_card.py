"""The model card of an exported run says what it is, what it learned from, what it cost, how well
it does, in Markdown. Nothing is computed here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypedDict

from pydantic import JsonValue

from architectures import exported, registry
from architectures.downstream.record import TaskRecord
from harness.export.learnt import Learnt
from harness.export.task_card import predict_lines, task_lines
from harness.outputs.folder import RunFolder
from harness.outputs.records import Certificate, LedgerRecord
from harness.training.data.corpus import Corpus
from harness.training.loop.freezing import frozen_in_words
from harness.training.settings.data import Pictures, Scenes
from harness.training.settings.spec import RunSpec
from harness.words import count

FITS = {
    "squash": "stretched to a square",
    "crop": "cut to the square in the centre",
    "pad": "put on a white square",
}
IMAGE_SOURCES = ("vision_weights", "whole_weights")
"""Endings of settings that name the source of an image tower."""


class Answers(TypedDict):
    """The cell of a study that a run answers."""

    study: str
    cell: str
    seed: int


class About(TypedDict):
    """Where weights come from, for their configuration."""

    run: str
    seed: int
    answers: list[Answers]
    versions: dict[str, str]
    digests: dict[str, str]
    started_from: dict[str, str]
    pixels_folded: dict[str, str]
    caption_tokens: int
    """Tokens that captions were cut to in training."""
    finetuned_for: str
    """Title of the task; empty: none."""
    learnt: dict[str, str]
    """Title of a task that the run has learnt -> its name."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CardFacts:
    """What a card is written from."""

    run: RunFolder
    spec: RunSpec
    corpus: Corpus
    longest: int
    """Tokens that a text is cut to: captions as in training, a task's texts where places end."""
    about: About
    """What the configuration says of run, versions and digests."""
    absent: Mapping[str, str]
    """Tower without a folder -> why."""
    own_file: bool
    """Whether the folder holds the design's own source."""
    license_: str
    """SPDX identifier that the weights are given away under; empty: none was stated."""
    task: Learnt | None
    """What the model was fine-tuned for; None: the trained design."""
    record: TaskRecord | None
    """What the task added to the design."""


def card(facts: CardFacts) -> str:
    """Writes the whole card."""
    spec = facts.spec
    front = ["library_name: fuselab", "tags:", "- vision-language", f"- {spec.train.design}"]
    front += [f"license: {facts.license_}"] if facts.license_ else []
    head = "\n".join(["---", *front, "---", ""])
    changed = _changed(spec)
    title = " ".join([spec.train.design, *(f"{field}={value}" for field, value in changed.items())])
    title += f", fine-tuned for {facts.task.settings.title}" if facts.task else ""
    parts = {
        "Load": _load(facts),
        **({"Task": task_lines(facts.task, facts.record)} if facts.task else {}),
        "Design": _design(facts, changed),
        "Trained on": _data(spec.asked.data, facts.corpus),
        "Budget and ledger": _ledger(facts),
        "Scores": _scores(facts.run, facts.task),
        "Licence": _licence(facts),
        "Where it comes from": _origin(facts),
        "In this folder": _folders(facts),
    }
    body = [f"# {title}", registry.entry(spec.train.design).summary, *_answers(facts)]
    for name, lines in parts.items():
        body += [f"## {name}", "\n".join(lines)]
    return head + "\n" + "\n\n".join(body) + "\n"


def _changed(spec: RunSpec) -> dict[str, JsonValue]:
    """Returns the design's fields that are not the defaults, weights to start from aside."""
    plain = registry.config(spec.train.design, {}).model_dump(mode="json")
    fields = {k: v for k, v in spec.config.items() if not k.endswith("_weights")}
    return {k: v for k, v in fields.items() if v != plain.get(k, v)}


def _answers(facts: CardFacts) -> Iterator[str]:
    named = [f"{a['study']}, cell {a['cell']}, seed {a['seed']}" for a in facts.about["answers"]]
    if named:
        yield f"Answers of study {'; '.join(named)}. Trained by fuselab."


def _load(facts: CardFacts) -> Iterator[str]:
    backbone = facts.spec.backbone
    yield "```python"
    if facts.own_file:
        yield "from architectures import registry"
        yield f'registry.load_file("FOLDER/{exported.DESIGN_FILE}")  # runs it: read it first'
    yield "from architectures import exported"
    if facts.record:
        yield 'model = exported.load("FOLDER")'
        yield "design = model.design"
    else:
        yield 'design = exported.load("FOLDER")'
    yield "image, text = design.encode_image(pixels), design.encode_text(ids, is_real)"
    yield "```"
    yield ""
    size, length = backbone.image_size, facts.longest
    yield (
        f"`pixels`: (B, {backbone.image_channels}, {size}, {size}), from -1 to 1 (mean and "
        f"deviation 0.5). `ids` and `is_real`: (B, L), at most {length} tokens: `input_ids` and "
        '`attention_mask.bool()` of `transformers.AutoTokenizer.from_pretrained("FOLDER")` with '
        "`padding=True, truncation=True`. Pictures and texts as they are:"
    )
    yield ""
    yield from predict_lines(facts.record, facts.spec.train.objectives.active())


def _design(facts: CardFacts, changed: Mapping[str, JsonValue]) -> Iterator[str]:
    spec, backbone = facts.spec, facts.spec.backbone
    layers = Certificate.read(facts.run.certificate).facts
    yield (
        f"- layers: {layers.text_layers} of text alone, {layers.fusion_layers} of fusion, "
        f"{layers.image_layers} of the image alone"
    )
    yield f"- heads: {', '.join(spec.train.objectives.active())}"
    for tower, when in frozen_in_words(spec.train).items():
        yield f"- {tower} tower frozen {when}, before any fine-tuning"
    if layers.itc_reads:
        yield f"- ITC reads {layers.itc_reads}"
    yield (
        f"- backbone: {backbone.scale} ({backbone.vision}, {backbone.image_width} wide, "
        f"{backbone.image_size} px in patches of {backbone.patch_size}; {backbone.text}, "
        f"{backbone.text_width} wide; parameterisation {backbone.parameterisation})"
    )
    if spec.train.final.kind != "last":
        yield f"- the final weights, exported here, are {spec.train.final.in_words}"
    yield f"- fields that are not the defaults: {changed or 'none'}; all are in config.json"
    start = facts.about["started_from"]
    named = ", ".join(f"{setting} = {value}" for setting, value in start.items())
    yield f"- started from {f'{named}: their licence counts too' if named else 'random weights'}"
    yield from _pixels(facts, [setting for setting in start if setting.endswith(IMAGE_SOURCES)])
    for what, why in spec.asked.not_applicable.items():
        yield f"- {what} not applicable, because {why}"


def _pixels(facts: CardFacts, sources: list[str]) -> Iterator[str]:
    """Says what pixels the sources of image towers were fed, where there are any."""
    folded = facts.about["pixels_folded"]
    for setting in sources:
        fed = folded.get(setting, "not known, since it is not here as it was at the start")
        yield (
            f"- pixels that {setting} was trained on: {fed}; the difference to ours is folded into "
            "the patch embedding"
        )


def _data(data: Scenes | Pictures, corpus: Corpus) -> Iterator[str]:
    sizes = ", ".join(f"{len(getattr(corpus, name))} {name}" for name in ("train", "val", "test"))
    if isinstance(data, Scenes):
        yield f"- scenes: coloured shapes that fuselab draws itself, seed {data.seed}"
        yield "- licence: nobody's pictures or words are in them"
    else:
        files = {"train": data.train, "validation": data.val, "test": data.test}
        named = [f"{_source(where)} ({split})" for split, where in files.items() if where]
        yield f"- pictures: {', '.join(named)}, {FITS[data.fit]}"
        yield (
            "- licence: fuselab was told none; ask the source before these weights are passed on"
        )
    yield f"- pictures in the splits: {sizes}"
    yield from (f"- {note}" for note in corpus.notes)


def _source(where: str) -> str:
    """Names a hub dataset whole and a path by its last part: where it lay is nobody's."""
    return where if where.startswith("hub:") else Path(where).name


def _ledger(facts: CardFacts) -> Iterator[str]:
    spent = dataclasses.asdict(LedgerRecord.read(facts.run.ledger).spent)
    device = facts.spec.train.numerics.device
    budget = facts.spec.train.budget.model_dump(exclude_none=True)
    ((unit, amount),) = budget.items()
    yield from _table(
        ("spent", "amount"),
        [
            (f"budget: {unit}", f"{amount:,}"),
            *((name, f"{spent[name]:,}") for name in ("steps", "samples", "text_tokens")),
            *((name, count(spent[name])) for name in ("parameters", "flops")),
            ("train_seconds", f"{spent['train_seconds']:.1f}"),
            ("device_seconds", f"{spent['device_seconds']:.1f} on {device}"),
            ("peak_mib", f"{spent['peak_mib']:.0f}"),
        ],
    )


def _scores(run: RunFolder, task: Learnt | None) -> Iterator[str]:
    rows: list[tuple[str, ...]] = []
    records = [its for its in run.score_records() if not task or its.finetuning == task.key]
    if task:
        yield "Those of the design before its fine-tuning are not these weights', and left out.\n"
    for record in records:
        if record.protocol:
            yield f"- {record.task}: {record.protocol}, unless a score's name says another way\n"
        for level in record.levels:
            right = f"{level.successes} of {level.items}"
            share = 100 * level.successes / level.items
            chance = f"{100 * level.chance:.1f} %"
            rows.append((f"{record.task}/{level.name}", f"{share:.1f} % ({right})", chance))
        rows += [(f"{record.task}/{s.name}", f"{s.value:.2f}", "") for s in record.scores]
    if not rows:
        yield "None."
        return
    yield from _table(("score", "level", "chance"), rows)
    yield ""
    yield "One run of one seed: what it says of the design is in the study's report, not here."


def _licence(facts: CardFacts) -> Iterator[str]:
    if facts.license_:
        yield f"{facts.license_}, as stated at the export."
    else:
        yield "No licence was stated at the export: ask who made this folder before using it."


def _origin(facts: CardFacts) -> Iterator[str]:
    about, digests = facts.about, facts.about["digests"]
    yield f"- run {about['run']}, seed {about['seed']}"
    yield f"- batches fed (pairing digest): {digests['batches']}"
    yield f"- data: {digests['data']}"
    yield f"- training code: {digests['code']}; at the export: {digests['code_of_export']}"
    yield f"- versions: {', '.join(f'{k} {v}' for k, v in about['versions'].items())}"


def _folders(facts: CardFacts) -> Iterator[str]:
    spec = facts.spec
    whole = "the task's model" if facts.record else "the whole design"
    yield f"- `{exported.WEIGHTS}`, `{exported.CONFIG}`: {whole}, by role"
    yield "- `tokenizer.json`, `tokenizer_config.json`: for transformers.AutoTokenizer"
    if facts.own_file:
        yield f"- `{exported.DESIGN_FILE}`: the design's own source"
    openers = {
        exported.IMAGE: '`timm.create_model("local-dir:FOLDER/image_tower", pretrained=True)`',
        exported.TEXT: '`transformers.AutoModel.from_pretrained("FOLDER/text_encoder")`',
    }
    for tower, opener in openers.items():
        if tower in facts.absent:
            yield f"- no `{tower}/`: {facts.absent[tower]}"
        else:
            yield f"- `{tower}/`: {opener}"
    if exported.TEXT in facts.absent:
        return
    if spec.backbone.text in ("bert", "roberta"):
        yield (
            "  - read `last_hidden_state`; the pooler is no part of the design and was not "
            "trained, its matrix is the identity"
        )
    first = spec.backbone.text_kind.first_position
    if first and facts.corpus.tokenizer.pad_id != first - 1:
        yield (
            f"  - give it `position_ids` from {first} on: it takes id {first - 1} for padding, "
            f"but the tokenizer pads with {facts.corpus.tokenizer.pad_id}"
        )


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"
