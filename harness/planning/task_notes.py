"""Says what runs learn after training, of how many items, and what the tokenizer loses there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from architectures import registry
from harness.training.data.corpus import Corpus
from harness.training.data.items.answers import answer_list
from harness.training.data.items.item_sets import item_sets
from harness.training.data.items.items import ItemSets, also_learnt
from harness.training.data.items.listed import ItemTask
from harness.training.data.items.tokens import token_facts
from harness.training.loop.budget import steps_of
from harness.training.settings.task import FineTune, Learnt
from harness.training.settings.tasks import VQA, TaskSpec

if TYPE_CHECKING:
    from harness.planning.plan import Plan


def task_notes(planned: Plan, corpora: Mapping[str, Corpus]) -> list[str]:
    """Returns a line for each task that is learnt, and what a reader of its scores should know."""
    lines: dict[str, None] = {}
    for row in planned.rows:
        corpus, backbone, name = corpora[row.cell.name], row.spec.backbone, row.spec.train.design
        facts = registry.find(name).facts(registry.config(name, row.config), backbone)
        for task in row.spec.asked.tasks:
            if task.learning:
                most = backbone.longest_text - facts.places_taken
                its = _lines(task, task.learning, corpus, most)
                lines |= dict.fromkeys(its)
            if isinstance(task, ItemTask):
                lines |= dict.fromkeys(_memorised(task, item_sets(corpus, task)))
    return list(lines)


def _lines(task: TaskSpec, finetune: FineTune, corpus: Corpus, most: int) -> list[str]:
    steps = steps_of(finetune.budget, finetune.batch_size)
    budget = f"the task {task.title} is learnt by every design alike, in {steps:,} steps of "
    if not isinstance(task, Learnt):
        return [f"{budget}{finetune.batch_size} training captions, and then scored"]
    sets = item_sets(corpus, task)
    first = (
        f"{budget}{finetune.batch_size} of {len(sets.train):,} items; {len(sets.test):,} are scored"
    )
    lines = [first]
    for what, texts in _read(task, sets).items():
        facts = token_facts(corpus.tokenizer, texts, most)
        lines += [f"{task.title}{what}: {note}" for note in facts.notes]
    return lines


def _memorised(task: ItemTask, sets: ItemSets) -> Iterator[str]:
    """Yields a line where scored items were learnt by heart."""
    count, items = also_learnt(sets), sets.test
    parts = [("pictures", items.picture_NI.shape[1]), ("text", len(items.texts))]
    alike = " and ".join(part for part, there in parts if there)
    if count:
        yield (
            f"{task.title}: {count:,} of the {len(items):,} items that are scored stand in "
            f"training too, {alike} alike: they say what was memorised; leave them out of one"
        )


def _read(task: Learnt, sets: ItemSets) -> dict[str, tuple[str, ...]]:
    """Returns the texts that a design reads, and, of a decoder, the answers that it spells."""
    texts = {"": (*sets.train.texts, *sets.test.texts)}
    if isinstance(task, VQA) and task.form == "decoder":
        texts[", answers"] = answer_list(sets.train, task.answers)
    return texts
