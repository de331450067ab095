"""What a model card says of the task that a model was fine-tuned for, and how to ask the model."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from architectures.downstream.record import TaskRecord
from harness.export.learnt import Learnt
from harness.outputs.records import LedgerRecord

SHOWN = 12
"""Labels or answers that a card lists; all are in config.json."""
MATCH = 'predictor.match(["a.jpg"], ["a dog on a beach"])'
QUESTIONS = {
    "entailment": 'predictor.label(["a.jpg"], ["it rains"])',
    "vqa": 'predictor.answer(["a.jpg"], ["what is red?"], k=3)',
    "nlvr2": 'predictor.label([("a.jpg", "b.jpg")], ["both show dogs"])',
    "sentences": 'predictor.label(None, ["it rains"])',
}
"""Name of a task -> how its model is asked."""


def predict_lines(record: TaskRecord | None, heads: Collection[str]) -> Iterator[str]:
    """Yields how new pictures are asked about, by a task's model or by a design with its heads."""
    yield "```python"
    yield "from harness.export.predict import Predictor"
    yield 'predictor = Predictor.open("FOLDER")'
    yield QUESTIONS.get(record.name, MATCH) if record else MATCH
    if "lm" in heads and not record:
        yield 'predictor.caption(["a.jpg"])'
    yield "```"


def task_lines(task: Learnt, record: TaskRecord | None) -> Iterator[str]:
    """Yields what the model says, and what its fine-tuning cost."""
    settings = task.settings
    named = f"{settings.title} (a {settings.name} task)"
    yield f"- fine-tuned for {settings.title if settings.title == settings.name else named}"
    if record:
        what = "answers that it ranks" if record.form == "decoder" else "labels that it gives"
        listed = ", ".join(record.labels[:SHOWN])
        more = f" and {len(record.labels) - SHOWN:,} more" if len(record.labels) > SHOWN else ""
        yield f"- {len(record.labels):,} {what}: {listed}{more}"
        yield f"- an item has {record.images} pictures and {record.texts} texts; form {record.form}"
    else:
        yield "- nothing was added to the design: it has the heads that it was trained with"
    spent = LedgerRecord.read(task.folder.ledger).spent
    yield (
        f"- fine-tuning: {spent.steps:,} steps, {spent.samples:,} samples, "
        f"{spent.device_seconds:.1f} device_seconds, besides the budget below"
    )
