"""Tasks that are learnt first: every design on every task that it can, exact rules for what is
scored, and one loop whose batches are the same for all.
"""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from architectures import registry
from architectures.contract import FusionDesign
from architectures.downstream.classifier import Classifier
from architectures.frozen import SettingError
from harness.training.data.corpus import Corpus
from harness.training.data.items.as_split import as_split
from harness.training.data.items.item_sets import item_sets
from harness.training.loop import lessons
from harness.training.loop.loop import Loop
from harness.training.objectives.labels import expected_worth
from harness.training.scoring import registry as tasks
from harness.training.scoring.contract import TaskScores
from harness.training.settings.loop import Budget, Measure
from harness.training.settings.objectives import ITM, Objectives
from harness.training.settings.run import TrainSettings
from harness.training.settings.spec import TrainSpec
from harness.training.settings.task import FineTune
from harness.training.settings.tasks import NLVR2, VQA, Entailment, Grounding, Sentences
from harness.training.tasks import grounding
from tests.training.tasks.conftest import BACKBONE

CPU = torch.device("cpu")
USUAL = ("split_bert", "co_attention", "query_bottleneck", "dual_encoder")
OURS = [n for n in registry.names() if registry.find(n).__module__.startswith("architectures.")]
QUICK = FineTune(budget=Budget(steps=2), batch_size=8, measure=Measure(points=2, items=8))
SIZES = {"train_items": 72, "items": 36, "finetune": QUICK, "floors": False}
TASKS = {
    "entailment": Entailment(**SIZES),
    "vqa": VQA(**SIZES),
    "vqa decoder": VQA(form="decoder", rank=4, **SIZES),
    "nlvr2": NLVR2(**SIZES),
    "nlvr2 duplicated": NLVR2(form="duplicated", **SIZES),
    "sentences": Sentences(**SIZES),
}
TRAIN = TrainSpec(**dict(TrainSettings(backbone=BACKBONE)), design="split_bert", data="", seed=3)

Build = Callable[..., FusionDesign]


def value_of(scores: TaskScores, name: str) -> float:
    return next(score.value for score in scores.scores if score.name == name)


def learnt(design: FusionDesign, corpus: Corpus, task: str) -> Loop:
    loop = tasks.find(TASKS[task].name).loop(design, corpus, TASKS[task], TRAIN)
    measured = [measurement.values for measurement in loop.train(bool)]
    assert len(measured) == 3 and {"train/task_loss", "val/task_accuracy"} <= measured[-1].keys()
    return loop


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(
    "name",
    [name if name in USUAL else pytest.param(name, marks=pytest.mark.slow) for name in OURS],
)
def test_every_design_learns_what_it_can(
    name: str, task: str, two_objects: Corpus, small: Build
) -> None:
    module, settings = tasks.find(TASKS[task].name), TASKS[task]
    facts = registry.find(name).facts(registry.config(name, {}), BACKBONE)
    design = small(name, two_objects.tokenizer.vocabulary, ())
    if reason := module.why_not(facts, Objectives(), settings):
        assert "decoder" in task or "duplicated" in task or not facts.text_layers
        with pytest.raises(SettingError, match=reason[:20]):
            module.loop(design, two_objects, settings, TRAIN)
        return
    before = {role: value.clone() for role, value in design.state_dict().items()}
    loop = learnt(design, two_objects, task)
    assert all(torch.equal(before[role], value) for role, value in design.state_dict().items())
    scores = module.score(loop.final().eval(), two_objects, settings, CPU)
    assert {score.name for score in scores.scores} == set(module.names(settings, two_objects.data))
    assert 0 <= value_of(scores, "accuracy") <= 100
    assert {len(rows) for rows in scores.predictions.values()} == {scores.levels[0].items}
    assert loop.chain == chain_of(two_objects, task), "batches hang on the design"


def chain_of(corpus: Corpus, task: str) -> str:
    """The digest of the batches that split_bert is fed."""
    if task not in CHAINS:
        settings = TASKS[task]
        design = registry_design(corpus)
        loop = tasks.find(settings.name).loop(design, corpus, settings, TRAIN)
        CHAINS[task] = ""
        for step in range(2):
            CHAINS[task] = loop.batches.after(CHAINS[task], loop.batches.at(step))
    return CHAINS[task]


CHAINS: dict[str, str] = {}


def registry_design(corpus: Corpus) -> FusionDesign:
    from architectures import build

    return build.construct("split_bert", {}, BACKBONE, corpus.tokenizer.vocabulary, ())


@pytest.mark.parametrize("task", ["entailment", "nlvr2", "sentences", "vqa"])
def test_a_perfect_model_earns_all_and_a_constant_one_the_mean(
    task: str, two_objects: Corpus, small: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = TASKS[task].with_fields({"floors": True, "train_items": 720})
    module = tasks.find(settings.name)
    design = small("split_bert", two_objects.tokenizer.vocabulary, ())
    model = module.loop(design, two_objects, settings, TRAIN).final()
    sets = item_sets(two_objects, settings)

    def perfect(model, batch, packed=False):
        if "worth" in batch.right:
            return batch.right["worth"]
        return torch.nn.functional.one_hot(batch.right["label"], len(sets.labels)).float()

    monkeypatch.setattr(lessons, "logits_of", perfect)
    scores = module.score(model, two_objects, settings, CPU)
    assert value_of(scores, "accuracy") == 100
    levels = {level.name: level for level in scores.levels}
    assert levels["accuracy"].successes == levels["accuracy"].items
    floors = [value_of(scores, name) for name in ("majority", "text_only", "picture_only")]
    assert levels["accuracy_blind_floor"].chance == pytest.approx(max(floors) / 100)
    monkeypatch.setattr(lessons, "logits_of", lambda *_, **__: perfect(*_, **__) * 0 + 7)
    constant = value_of(module.score(model, two_objects, settings, CPU), "accuracy")
    if task != "vqa":  # labels are balanced: equal logits earn exactly chance
        assert constant == pytest.approx(100 / len(sets.labels))
    assert constant <= floors[0] + 1e-9
    monkeypatch.setattr(lessons, "logits_of", lambda *_, **__: perfect(*_, **__) * np.nan)
    assert value_of(module.score(model, two_objects, settings, CPU), "accuracy") == 0


def test_a_softened_target_has_a_twin_that_is_resumed(two_objects: Corpus, small: Build) -> None:
    settings = TASKS["entailment"].with_fields(
        {"finetune.distil": 0.4, "finetune.budget.steps": 4, "finetune.momentum": 0.5}
    )
    design = small("split_bert", two_objects.tokenizer.vocabulary, ())

    def begun() -> Loop:
        return tasks.find("entailment").loop(design, two_objects, settings, TRAIN)

    whole, first = begun(), begun()
    list(whole.train(bool))
    for _ in range(3):
        first.one_step()
    kept = first.snapshot()
    assert {"model", "twin"} <= kept.keys()
    second = begun()
    second.restore(kept)
    list(second.train(bool))
    assert second.chain == whole.chain
    for name in ("model", "twin"):
        one, other = (dict(loop.parts())[name].state_dict() for loop in (whole, second))
        assert all(torch.equal(one[role], other[role]) for role in one)
    assert not torch.equal(
        dict(whole.parts())["twin"].state_dict()["model.head.outer.weight"],
        whole.final().state_dict()["head.outer.weight"],
    )


def test_heads_are_drawn_alike_for_all_designs(two_objects: Corpus, small: Build) -> None:
    heads = [
        tasks.find("entailment")
        .loop(
            small(name, two_objects.tokenizer.vocabulary, ()), two_objects,
            TASKS["entailment"], TRAIN,
        )
        .final()
        for name in ("split_bert", "full_text_deep_fusion")
    ]  # fmt: skip
    one, other = (model.head.state_dict() for model in heads if isinstance(model, Classifier))
    assert all(torch.equal(one[role], other[role]) for role in one)


def test_a_batch_that_is_too_large_is_refused(two_objects: Corpus) -> None:
    facts = registry.find("split_bert").facts(registry.config("split_bert", {}), BACKBONE)
    for settings in TASKS.values():
        large = settings.with_field("finetune.batch_size", 73)
        with pytest.raises(SettingError, match=r"finetune.batch_size 73 .* 72 training items"):
            tasks.find(large.name).refuse(facts, Objectives(), two_objects, large)


def test_ties_earn_their_mean() -> None:
    logits_BK = torch.tensor([[1.0, 1.0, 0.0], [0.0, 2.0, 1.0]])
    worth_BK = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.3, 1.0]])
    assert expected_worth(logits_BK, worth_BK).tolist() == pytest.approx([0.5, 0.3])


@pytest.mark.parametrize("name", ["split_bert", "dual_encoder"])
def test_expressions_are_learnt_by_itc_and_itm(
    name: str, two_objects: Corpus, small: Build
) -> None:
    task = Grounding(items=40, train_items=200, finetune=QUICK)
    served = ("itc", "itm") if name == "split_bert" else ("itc",)
    design = small(name, two_objects.tokenizer.vocabulary, served)
    objectives = Objectives(itm=ITM(weight=float("itm" in served)))
    train = TRAIN.model_copy(update={"objectives": objectives})
    loop = grounding.loop(design, two_objects, task, train)
    values = [measurement.values for measurement in loop.train(bool)][-1]
    assert {f"val/{o}_loss" for o in served} <= values.keys() and "val/mlm_loss" not in values
    scores = grounding.score(loop.final().eval(), two_objects, task, CPU)
    assert 0 <= value_of(scores, "proposals") <= 100


def test_a_split_of_expressions_has_every_text_of_its_picture(two_objects: Corpus) -> None:
    items = item_sets(two_objects, Grounding(items=60, train_items=200, finetune=QUICK)).train
    split = as_split(items, "train", two_objects.tokenizer, 24)
    assert len(split) == len(np.unique(items.picture_NI)) and split.count_N.sum() <= len(items)
    for row, text in list(zip(items.picture_NI[:, 0], items.texts, strict=True))[:50]:
        place = next(i for i, c in enumerate(split.captions) if text in c and np.array_equal(
            split.images_NHWC[i], items.images_PHWC[row]))  # fmt: skip
        choice = split.captions[place].index(text)
        ids = split.ids(np.array([place]), np.array([choice]))[0]
        assert two_objects.tokenizer.decode(ids) == text


def test_what_a_design_froze_is_not_learnt(two_objects: Corpus, small: Build) -> None:
    design = small("split_bert", two_objects.tokenizer.vocabulary, ())
    design.image.requires_grad_(False)
    model = learnt(design, two_objects, "entailment").final()
    assert isinstance(model, Classifier)
    learnt_weights, weights = model.design.state_dict(), design.state_dict()
    same = {role for role in weights if torch.equal(weights[role], learnt_weights[role])}
    assert {role for role in weights if role.startswith("image.")} <= same < set(weights)
