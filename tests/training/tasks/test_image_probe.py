"""The task image_probe: towers that know, that know nothing, every design, what is read."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from architectures import registry
from architectures.contract import FusionDesign
from harness.training.data.corpus import Corpus
from harness.training.data.items.item_sets import item_sets
from harness.training.scoring.contract import TaskScores
from harness.training.settings.objectives import Objectives
from harness.training.settings.tasks import ImageProbe
from harness.training.tasks.image_probe import features_of, names, score, why_not
from tests.training.tasks.conftest import BACKBONE

CPU = torch.device("cpu")
TASK = ImageProbe(train_items=96, items=24)
OURS = [n for n in registry.names() if registry.find(n).__module__.startswith("architectures.")]

Build = Callable[..., FusionDesign]


def value_of(scores: TaskScores, name: str) -> float:
    return next(score.value for score in scores.scores if score.name == name)


def says(two_objects: Corpus, small: Build, vector_of: Callable[[str], list[float]]) -> TaskScores:
    """Scores a design whose class token is a vector of the right label."""
    sets = item_sets(two_objects, TASK)
    design = small("dual_encoder", two_objects.tokenizer.vocabulary, ("itc",))
    labels = {
        items.images_PHWC[row].tobytes(): label
        for items in (sets.train, sets.test)
        for row, label in zip(items.picture_NI[:, 0], items.labels, strict=True)
    }
    whole = design.encode_image

    def encode_image(image_BCHW: torch.Tensor):  # type: ignore[no-untyped-def]
        states = whole(image_BCHW)
        pixels = ((image_BCHW + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
        vectors = torch.tensor([vector_of(labels[image.tobytes()]) for image in pixels])
        return replace(states, distinct_UPD=vectors[:, None].expand(-1, 5, -1))

    design.encode_image = encode_image  # type: ignore[method-assign]
    return score(design, two_objects, TASK, CPU)


def test_a_tower_that_knows_scores_100_and_a_constant_one_chance(
    two_objects: Corpus, small: Build
) -> None:
    sets = item_sets(two_objects, TASK)
    kinds = sorted({*sets.train.labels, *sets.test.labels})
    perfect = says(two_objects, small, lambda label: [float(label == kind) for kind in kinds])
    unseen = np.mean([label not in sets.train.labels for label in sets.test.labels])
    assert value_of(perfect, "accuracy") == pytest.approx(100 * (1 - unseen))
    constant = says(two_objects, small, lambda _: [1.0, 2.0])
    most = max(set(sets.train.labels), key=sets.train.labels.count)
    chance = np.mean([label == most for label in sets.test.labels])
    assert value_of(constant, "accuracy") == pytest.approx(100 * chance)
    level = constant.levels[0]
    assert level.successes <= level.items * level.chance  # no more than the majority
    assert perfect.predictions["right"].shape == (24,)


@pytest.mark.parametrize("name", OURS)
def test_every_design_has_a_score_or_a_reason(name: str, two_objects: Corpus, small: Build) -> None:
    facts = registry.find(name).facts(registry.config(name, {}), BACKBONE)
    if why_not(facts, Objectives(), TASK):
        assert facts.image_layers == 0
        return
    objectives = tuple(n for n in ("itc", "itm", "mlm") if not facts.why_not(n))
    design = small(name, two_objects.tokenizer.vocabulary, objectives)
    scores = score(design, two_objects, TASK, CPU)
    assert {s.name for s in scores.scores} == set(names(TASK, two_objects.data))
    assert score(design, two_objects, TASK, CPU).scores == scores.scores
    items = item_sets(two_objects, TASK).test
    images_BCHW = torch.tensor(items.images_PHWC).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.no_grad():
        states = design.encode_image(images_BCHW)
    wanted = {
        "pooled": states.pooled_BD.flatten(1),
        "class_token": states.distinct_UPD[:, 0],
        "mean": states.distinct_UPD[:, 1:].mean(1),
    }
    for reads, feature in wanted.items():
        task = TASK.with_fields({"reads": reads})
        got = torch.from_numpy(features_of(design, items, task, CPU))
        rows = items.picture_NI[:, 0]
        torch.testing.assert_close(got, feature[rows], atol=1e-5, rtol=1e-4)
