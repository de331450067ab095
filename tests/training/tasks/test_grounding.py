"""The task grounding: perfect, constant and word-blind maps, every design, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from architectures import registry
from architectures.contract import FusionDesign
from architectures.downstream import gradcam
from architectures.frozen import SettingError
from harness.training.data.corpus import Corpus
from harness.training.data.items.item_floors import item_floors
from harness.training.data.items.item_sets import item_sets
from harness.training.data.items.items import Box, Items
from harness.training.scoring import pointing
from harness.training.scoring.contract import TaskScores
from harness.training.settings.objectives import ITC, ITM, Objectives
from harness.training.settings.tasks import Grounding
from harness.training.tasks.grounding import SHOWN, names, refuse, score, scores_of, why_not
from tests.training.data.conftest import png
from tests.training.tasks.conftest import BACKBONE

CPU = torch.device("cpu")
TASK = Grounding(items=12)
OURS = [n for n in registry.names() if registry.find(n).__module__.startswith("architectures.")]
SIDE = 16

Build = Callable[..., FusionDesign]


def value_of(scores: TaskScores, name: str) -> float:
    return next(score.value for score in scores.scores if score.name == name)


def facts_of(name: str):  # type: ignore[no-untyped-def]
    return registry.find(name).facts(registry.config(name, {}), BACKBONE)


@pytest.fixture(scope="module")
def items() -> Items:
    """Two things in each picture, of which one is meant: boxes of whole pixels."""
    draw = np.random.default_rng(3)
    proposals: list[tuple[Box, ...]] = []
    for _ in range(40):
        left, right = (int(n) for n in draw.integers(2, 7, size=2))
        top = int(draw.integers(0, 8))
        boxes = ((0, top, left, top + 4), (9, top, 9 + right, top + 7))
        proposals.append(tuple(tuple(edge / SIDE for edge in box) for box in boxes))  # type: ignore[misc]
    meant = draw.integers(2, size=40)
    return Items(
        images_PHWC=np.zeros((40, SIDE, SIDE, 3), dtype=np.uint8),
        picture_NI=np.arange(40)[:, None],
        texts=tuple(f"thing {number}" for number in range(40)),
        box=tuple(boxes[m] for boxes, m in zip(proposals, meant, strict=True)),
        proposals=tuple(proposals),
    )


def maps_in(items: Items, boxes: tuple[Box, ...]) -> np.ndarray:
    """Maps, one value a pixel, that are 1 inside a box."""
    return np.array([pointing.inside(box, SIDE).astype(np.float64) for box in boxes])


def test_a_perfect_map_scores_100_and_a_constant_one_chance(items: Items) -> None:
    perfect_NSS = maps_in(items, items.box)
    constant_NSS = np.full_like(perfect_NSS, 0.7)
    scores = scores_of(items, perfect_NSS, constant_NSS, "by hand", {})
    assert value_of(scores, "pointing") == value_of(scores, "proposals") == 100
    shares = [pointing.inside(box, SIDE).mean() for box in items.box]
    assert value_of(scores, "pointing_other_words") == pytest.approx(100 * np.mean(shares))
    assert value_of(scores, "proposals_other_words") == pytest.approx(50)
    levels = {level.name: level for level in scores.levels}
    assert levels["pointing"].chance == pytest.approx(np.mean(shares))
    assert levels["proposals"].chance == pytest.approx(0.5)
    for map_NSS in (constant_NSS, np.zeros_like(perfect_NSS)):
        constant = scores_of(items, map_NSS, perfect_NSS, "by hand", {})
        for level in constant.levels[::2]:
            assert value_of(constant, level.name) == pytest.approx(100 * level.chance)
            assert level.successes <= level.items * level.chance + 1e-9
            assert "not evidence" in constant.scores[-1].protocol


def test_a_map_that_ignores_the_words_scores_its_own_floor(items: Items) -> None:
    """It finds the larger thing whatever is said: 100 % of where that is meant."""
    larger = tuple(max(boxes, key=pointing.area) for boxes in items.proposals)
    blind_NSS = maps_in(items, larger)
    scores = scores_of(items, blind_NSS, blind_NSS, "by hand", {"text_only": 0.5})
    meant = np.mean([box == large for box, large in zip(items.box, larger, strict=True)])
    for rule in ("pointing", "proposals"):
        assert value_of(scores, rule) == pytest.approx(100 * meant)
        assert value_of(scores, f"{rule}_other_words") == value_of(scores, rule)
        assert "not evidence" in next(
            s.protocol for s in scores.scores if s.name == f"{rule}_blind_floor"
        )
    assert value_of(scores, "proposals_largest") == pytest.approx(100 * meant)
    assert value_of(scores, "proposals_text_only") == 50


def test_the_middle_of_the_picture_is_a_floor(items: Items) -> None:
    middle = tuple(((0.4, 0.4, 0.6, 0.6) if n % 4 else (0, 0, 0.2, 0.2)) for n in range(40))
    at_middle = Items(
        images_PHWC=items.images_PHWC, picture_NI=items.picture_NI, texts=items.texts, box=middle
    )
    map_NSS = maps_in(items, ((0.0, 0.8, 0.2, 1.0),) * 40)
    scores = scores_of(at_middle, map_NSS, map_NSS, "by hand", {})
    assert value_of(scores, "pointing_centre") == 75 and value_of(scores, "pointing") == 0
    assert {s.name for s in scores.scores} == {
        "pointing", "pointing_centre", "pointing_other_words", "pointing_blind_floor"
    }  # fmt: skip  # without proposals


def test_predictions_hold_every_item_and_some_whole(items: Items) -> None:
    map_NSS = maps_in(items, items.box)
    kept = scores_of(items, map_NSS, map_NSS, "by hand", {}).predictions
    for name in ("pointing", "point_x", "point_y", "proposals", "overlap"):
        assert kept[name].shape == (40,), name
    for number, box in enumerate(items.box):
        assert box[0] <= kept["point_x"][number] <= box[2]
        assert box[1] <= kept["point_y"][number] <= box[3]
    assert (kept["overlap"] == 1).all() and len(kept["shown_item"]) == SHOWN
    for place, row in enumerate(kept["shown_item"]):
        assert np.array_equal(kept["shown_map"][place], map_NSS[row])
        assert kept["shown_box"][place] == pytest.approx(items.box[row])
        assert kept["shown_text"][place] == items.texts[row]
    assert kept["shown_image"].shape == (SHOWN, SIDE, SIDE, 3)


@pytest.mark.parametrize("name", OURS)
def test_every_design_has_a_score_or_a_reason(name: str, two_objects: Corpus, small: Build) -> None:
    facts = facts_of(name)
    objectives = tuple(n for n in ("itc", "itm", "mlm") if not facts.why_not(n))
    if why_not(facts, Objectives(), TASK):
        assert gradcam.way(facts, objectives, "itm") is None
        return
    refuse(facts, Objectives(), two_objects, TASK)
    design = small(name, two_objects.tokenizer.vocabulary, objectives)
    scores = score(design, two_objects, TASK, CPU)
    by = "ITM" if gradcam.why_not(facts, objectives, "itm") == "" else "ITC"
    assert scores.protocol.startswith(f"Grad-CAM by {by} on ")
    assert {s.name for s in scores.scores} == set(names(TASK, two_objects.data))
    assert all(np.isfinite(s.value) and 0 <= s.value <= 100 for s in scores.scores)
    chance = next(level.chance for level in scores.levels if level.name == "proposals")
    assert chance == pytest.approx(0.5)  # two things in every picture
    again = score(design, two_objects, TASK, CPU)
    assert again.scores == scores.scores


def test_the_other_way_is_taken_where_the_wanted_one_is_off(
    two_objects: Corpus, small: Build
) -> None:
    itc = small("split_bert", two_objects.tokenizer.vocabulary, ("itc", "mlm"))
    assert "by ITC on image.vit.blocks.1" in score(itc, two_objects, TASK, CPU).protocol
    both = small("split_bert", two_objects.tokenizer.vocabulary, ("itc", "itm"))
    by_itc = TASK.with_fields({"by": "itc", "layer": 0})
    assert "by ITC on image.vit.blocks.0" in score(both, two_objects, by_itc, CPU).protocol


def test_what_has_no_map_says_why() -> None:
    off = Objectives(itc=ITC(weight=0))
    assert "queries" in why_not(facts_of("query_bottleneck"), off, TASK)
    assert "ITC is off" in why_not(facts_of("dual_encoder"), off, TASK)
    neither = Objectives(itc=ITC(weight=0), itm=ITM(weight=0))
    assert "(ITM is off)" in why_not(facts_of("split_bert"), neither, TASK)
    assert not why_not(facts_of("single_stream"), off, TASK)


def test_a_layer_that_is_not_there_is_refused_before_training(two_objects: Corpus) -> None:
    with pytest.raises(SettingError, match=r"layer is 12, .* at most"):
        refuse(facts_of("split_bert"), Objectives(), two_objects, TASK.with_fields({"layer": 12}))


def test_floors_are_trained_on_scenes(two_objects: Corpus, small: Build) -> None:
    sets = item_sets(two_objects, TASK)
    assert len(sets.train) and all(sets.train.proposals)
    floors = item_floors(sets, two_objects.cache)
    design = small("split_bert", two_objects.tokenizer.vocabulary, ("itm",))
    scores = score(design, two_objects, TASK, CPU)
    assert floors and value_of(scores, "proposals_text_only") == 100 * floors.text_only
    assert value_of(scores, "proposals_picture_only") == 100 * floors.picture_only


def test_a_folder_is_scored_with_the_floors_that_it_allows(
    two_objects: Corpus, small: Build, tmp_path: Path
) -> None:
    (tmp_path / "one.png").write_bytes(png(size=(40, 20)))
    line = {"image": "one.png", "expression": "the red circle", "box": [0, 0, 20, 10]}
    boxes = [[0, 0, 20, 10], [20, 10, 40, 20], [0, 0, 40, 20], [1, 0, 20, 10]]
    lines = [line | {"proposals": boxes}, line | {"expression": "a ring"}]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines))
    task = Grounding(source=str(tmp_path))
    refuse(facts_of("split_bert"), Objectives(), two_objects, task)
    design = small("split_bert", two_objects.tokenizer.vocabulary, ("itm",))
    scores = score(design, two_objects, task, CPU)
    assert not {"proposals_text_only", "proposals_picture_only"} & {s.name for s in scores.scores}
    levels = {level.name: level for level in scores.levels}
    assert levels["pointing"].items == 2 and levels["pointing"].chance == 0.25
    assert levels["proposals"].items == 1  # the other has none to choose from
    assert levels["proposals"].chance == 0.5  # two of the four overlap by half
