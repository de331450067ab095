"""The task pairs: tables against loops, protocols of every design, floors, and what is refused."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from architectures import registry
from architectures.contract import FusionDesign
from architectures.frozen import SettingError
from harness.training.data.corpus import Corpus, load_corpus
from harness.training.data.group_sets import groups_of
from harness.training.data.transforms import normalised
from harness.training.scoring.contract import TaskScores
from harness.training.settings.data import Pictures, Scenes
from harness.training.settings.graded_scenes import graded_scenes
from harness.training.settings.objectives import ITC, ITM, Objectives
from harness.training.settings.tasks import Pairs
from harness.training.tasks.pairs import names, refuse, score, why_not
from tests.training.data.conftest import png
from tests.training.tasks.conftest import BACKBONE

CPU = torch.device("cpu")
TASK = Pairs(count=40)
OURS = [n for n in registry.names() if registry.find(n).__module__.startswith("architectures.")]

Build = Callable[..., FusionDesign]


def value_of(scores: TaskScores, name: str) -> float:
    return next(score.value for score in scores.scores if score.name == name)


def served(name: str) -> tuple[str, ...]:
    """The objectives of a design with its default config."""
    facts = registry.find(name).facts(registry.config(name, {}), BACKBONE)
    return tuple(n for n in ("itc", "itm", "mlm") if not facts.why_not(n))


@pytest.mark.parametrize("name", OURS)
def test_every_design_has_a_protocol_or_a_reason(
    name: str, two_objects: Corpus, small: Build
) -> None:
    objectives = served(name)
    facts = registry.find(name).facts(registry.config(name, {}), BACKBONE)
    if why_not(facts, Objectives(), Pairs()):
        assert not {"itc", "itm"} & set(objectives)
        return
    design = small(name, two_objects.tokenizer.vocabulary, objectives)
    scores = score(design, two_objects, TASK, CPU)
    own = "every pair by ITM" if "itm" in objectives else "ITC alone"
    assert scores.protocol == own == scores.scores[0].protocol
    assert {s.name for s in scores.scores} <= set(names(TASK, two_objects.data))
    assert {s.protocol for s in scores.scores if s.name.endswith("_itc")} <= {"ITC alone"}
    both = {"itc", "itm"} <= set(objectives)
    assert both == ("mcnemar_p" in {s.name for s in scores.scores})
    assert all(math.isfinite(s.value) for s in scores.scores)


@torch.no_grad()
def test_the_scores_are_those_of_a_loop_over_pairs(two_objects: Corpus, small: Build) -> None:
    """Also where a piece ends within the groups: 40 are more than are read at once."""
    words = two_objects.tokenizer
    design = small("split_bert", words.vocabulary, ("itc", "itm"))
    torch.nn.init.normal_(design.heads["itm"].weight, generator=torch.Generator().manual_seed(0))
    scores = score(design, two_objects, TASK, CPU)
    groups = groups_of(two_objects, TASK)
    margins, texts = {"itc": [], "itm": []}, {"itc": [], "itm": []}
    for group in groups.groups:
        image_BCHW = torch.from_numpy(groups.images_PHWC[list(group.pictures)]).permute(0, 3, 1, 2)
        image = design.encode_image(normalised(image_BCHW))
        ids, real = words.encode(group.captions)
        text = design.encode_text(ids, real)
        features = design.heads["itc"](image.pooled_BD, text.pooled_BD)
        cosine = features[0] @ features[1].T
        logit = torch.stack(
            [
                design.heads["itm"](design.fuse(image.take(torch.tensor([i, i])), text).pooled_BD)
                for i in (0, 1)
            ]
        )[..., 1]
        for name, table in (("itc", cosine), ("itm", logit)):
            (a, b), (c, d) = table.tolist()
            margins[name].append(a + d - b - c)
            texts[name].append(a > b and d > c)
    for name in ("itc", "itm"):
        found = scores.predictions[f"margin_{name}"]
        np.testing.assert_allclose(found, margins[name], rtol=0, atol=2e-5)
        assert np.abs(found).max() > 1e-3
        assert scores.predictions[f"text_score_{name}"].tolist() == texts[name]
        assert value_of(scores, f"text_score_{name}") == 100 * np.mean(texts[name])
    assert value_of(scores, "text_score") == value_of(scores, "text_score_itm")
    differ = scores.predictions["group_match_itm"] > scores.predictions["group_match_itc"]
    assert value_of(scores, "itm_only") == 100 * differ.mean()


def test_tags_are_scored_apart_and_chance_stands_beside(two_objects: Corpus, small: Build) -> None:
    design = small("split_bert", two_objects.tokenizer.vocabulary, ("itc", "itm"))
    task = Pairs(count=40, tags=("colour", "relation"))
    scores = score(design, two_objects, task, CPU)
    matched = scores.predictions["group_match_itm"]
    is_colour = np.array([g.tag == "colour" for g in groups_of(two_objects, task).groups])
    assert is_colour.sum() == 20
    assert value_of(scores, "colour_group_match") == 100 * matched[is_colour].mean()
    assert value_of(scores, "relation_group_match_itm") == 100 * matched[~is_colour].mean()
    chances = {level.name: (level.items, round(level.chance, 4)) for level in scores.levels}
    assert chances["group_match"] == (40, 0.5)
    assert chances["text_score"] == chances["picture_score"] == (40, 0.25)
    assert chances["group_score"] == (40, 0.1667) and chances["caption"] == (80, 0.5)
    assert chances["colour_group_match"] == (20, 0.5) and "colour_text_score" not in chances
    assert {score.name for score in scores.scores} <= set(names(task, two_objects.data))
    (level,) = [level for level in scores.levels if level.name == "relation_group_match"]
    assert level.successes == math.floor(matched[~is_colour].sum())


def test_a_study_may_name_the_scores_that_scenes_or_a_folder_have(tmp_path: Path) -> None:
    scenes = graded_scenes("binding")
    every = names(Pairs(), scenes)
    assert {"colour_group_match", "margin_itc", "shape_caption_itm", "mcnemar_p"} <= set(every)
    assert not [n for n in every if n.startswith(("size", "count", "place")) or "blind" in n]
    assert "statement" not in every
    assert "relation_margin" not in names(Pairs(tags=("colour",)), scenes)
    assert "relation_margin" not in names(Pairs(count=2), scenes)
    two: dict[str, object] = {"group": "two", "images": ["0.png", "1.png"], "tag": "Adjective-Noun",
           "captions": ["a b", "b a"], "match": [[1, 0], [0, 1]]}  # fmt: skip
    task = Pairs(groups=folder_of([*one_sided(2), two], tmp_path))
    every = names(task, scenes)
    assert {"adjective_noun_margin_itc", "caption_blind_floor", "swap_caption"} <= set(every)
    assert not {"swap_margin", "swap_group_match", "statement", "colour_margin"} & set(every)
    apart = names(task.with_fields({"tags": ("swap",), "floors": False}), scenes)
    with pytest.raises(SettingError, match=r"unknown tag .*'swop'; did you mean 'swap'\?"):
        names(task.with_field("tags", ("swop",)), scenes)
    assert "group_match" not in apart and "caption" in apart and "caption_blind_floor" not in apart


@pytest.mark.parametrize("objectives", [("itc",), ("itm",), ("itc", "itm")])
def test_a_design_without_an_opinion_earns_chance(
    objectives: tuple[str, ...], two_objects: Corpus, small: Build
) -> None:
    design = small("split_bert", two_objects.tokenizer.vocabulary, objectives)
    for name, parameter in design.heads.named_parameters():
        torch.nn.init.constant_(parameter, float(name.endswith("bias")))
    scores = score(design, two_objects, TASK, CPU)
    expected = {
        "group_match": 50,
        "text_score": 25,
        "picture_score": 25,
        "group_score": 100 / 6,
        "margin": 0,
    }
    for name, value in expected.items():
        assert value_of(scores, name) == pytest.approx(value, rel=1e-12)
    for level in scores.levels:
        assert level.successes == math.floor(level.items * level.chance + 1e-6)


@torch.no_grad()
def test_a_design_that_does_not_look_has_no_margin(two_objects: Corpus, small: Build) -> None:
    design = small("split_bert", two_objects.tokenizer.vocabulary, ("itc", "itm"))
    torch.nn.init.normal_(design.heads["itm"].weight, generator=torch.Generator().manual_seed(0))
    groups = groups_of(two_objects, TASK)
    seen = score(design, two_objects, TASK, CPU)
    grey = replace(groups, images_PHWC=np.full_like(groups.images_PHWC, 128))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("harness.training.tasks.pairs.groups_of", lambda *_: grey)
        blind = score(design, two_objects, TASK, CPU)
    for name in ("itc", "itm"):
        assert np.abs(blind.predictions[f"margin_{name}"]).max() < 1e-5
        assert np.abs(seen.predictions[f"margin_{name}"]).max() > 1e-3
    assert value_of(blind, "text_score_itm") < 25


def folder_of(lines: list[dict[str, object]], tmp_path: Path, pictures: int = 6) -> str:
    for seed in range(pictures):
        (tmp_path / f"{seed}.png").write_bytes(png(seed, (16, 16)))
    (tmp_path / "groups.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(tmp_path)


def one_sided(count: int) -> list[dict[str, object]]:
    """Right captions say `blue`, wrong ones `red`: words alone tell them apart."""
    return [
        {
            "group": str(n),
            "images": [f"{n % 6}.png"],
            "captions": [f"blue square and {n} circle", f"red square and {n} circle"],
            "match": [[1, 0]],
            "tag": ("swap", "replace")[n % 2],
        }
        for n in range(count)
    ]


def test_a_set_that_words_give_away_is_no_evidence(
    two_objects: Corpus, small: Build, tmp_path: Path
) -> None:
    task = Pairs(groups=folder_of(one_sided(48), tmp_path))
    design = small("split_bert", two_objects.tokenizer.vocabulary, ("itc", "itm"))
    scores = score(design, two_objects, task, CPU)
    assert value_of(scores, "caption_words_alone") == 100
    assert value_of(scores, "caption_blind_floor") == 100
    (floor,) = [s for s in scores.scores if s.name == "caption_blind_floor"]
    assert floor.protocol == "blind: the score is not evidence of binding"
    (level,) = [level for level in scores.levels if level.name == "caption_blind_floor"]
    (own,) = [level for level in scores.levels if level.name == "caption"]
    assert level.chance == 1.0 and (level.successes, level.items) == (own.successes, own.items)
    assert own.chance == 0.5 and own.items == 48
    assert {s.name for s in scores.scores} <= set(names(task, two_objects.data))
    unlit = score(design, two_objects, task.with_field("floors", False), CPU)
    assert not [s for s in unlit.scores if "blind" in s.name]


def test_the_mean_picture_floor_is_the_same_design_on_one_picture(
    two_objects: Corpus, small: Build, tmp_path: Path
) -> None:
    """Where all pictures are one, the mean picture is that one and the floor is the score."""
    lines = [{**line, "images": ["0.png"]} for line in one_sided(24)]
    task = Pairs(groups=folder_of(lines, tmp_path))
    design = small("split_bert", two_objects.tokenizer.vocabulary, ("itc",))
    scores = score(design, two_objects, task, CPU)
    assert value_of(scores, "caption_mean_picture") == value_of(scores, "caption")


def test_statements_have_floors_too(two_objects: Corpus, small: Build, tmp_path: Path) -> None:
    lines = [
        {**line, "captions": [line["captions"][n % 2]], "match": [[int(n % 2 == 0)]]}  # type: ignore[index]
        for n, line in enumerate(one_sided(30))
    ]
    task = Pairs(groups=folder_of(lines, tmp_path))
    design = small("split_bert", two_objects.tokenizer.vocabulary, ("itm",))
    scores = score(design, two_objects, task, CPU)
    assert value_of(scores, "statement_words_alone") == 100
    assert [level.chance for level in scores.levels if level.name == "statement"] == [0.5]
    assert {s.name for s in scores.scores if "caption" in s.name} == set()


def test_tags_that_leave_statements_of_one_kind_are_refused(
    two_objects: Corpus, tmp_path: Path
) -> None:
    lines = [
        {**line, "captions": [line["captions"][n % 2]], "match": [[int(n % 2 == 0)]],  # type: ignore[index]
         "tag": ("right", "wrong")[n % 2]}
        for n, line in enumerate(one_sided(6))
    ]  # fmt: skip
    folder = folder_of(lines, tmp_path)
    for only, other in (("right", "wrong"), ("wrong", "right")):
        task = Pairs(groups=folder, tags=(only,))
        message = f"tags {only} every group of one caption is {only}.*a tag that has {other} ones"
        with pytest.raises(SettingError, match=message):
            groups_of(two_objects, task)
        with pytest.raises(SettingError, match=message):
            names(task, two_objects.data)
    assert len(groups_of(two_objects, Pairs(groups=folder, tags=("right", "wrong")))) == 6


def test_a_few_swap_groups_are_kept_whole(two_objects: Corpus, small: Build) -> None:
    design = small("split_bert", two_objects.tokenizer.vocabulary, ("itc", "itm"))
    task = Pairs(count=30)
    kept, groups = score(design, two_objects, task, CPU).predictions, groups_of(two_objects, task)
    assert kept["shown_group"].tolist() == [0, 10, 19, 29]
    for place, row in enumerate(kept["shown_group"]):
        group = groups.groups[row]
        assert tuple(kept["shown_captions"][place]) == group.captions
        shown = groups.images_PHWC[list(group.pictures)]
        assert np.array_equal(kept["shown_pictures"][place], shown)
        scores_KL = kept["shown_scores"][place]
        right = min(np.diag(scores_KL)) > max(np.diag(scores_KL[:, ::-1]))
        assert kept["group_score_itm"][row] == right


def test_captions_longer_than_those_of_training_are_not_cut(
    two_objects: Corpus, small: Build, tmp_path: Path
) -> None:
    """They differ in their last word alone, beyond the longest training caption."""
    start = "red circle left of " * 4
    lines = [{**line, "captions": [start + "blue", start + "red"]} for line in one_sided(6)]
    assert two_objects.tokenizer.length < len(start.split()) + 3 < BACKBONE.max_positions
    task = Pairs(groups=folder_of(lines, tmp_path), floors=False)
    design = small("split_bert", two_objects.tokenizer.vocabulary, ("itc",))
    assert set(score(design, two_objects, task, CPU).predictions["caption_itc"]) <= {0.0, 1.0}
    beyond = [{**line, "captions": [start * 2 + "blue", start * 2 + "red"]} for line in lines]
    task = Pairs(groups=folder_of(beyond, tmp_path), floors=False)
    assert set(score(design, two_objects, task, CPU).predictions["caption_itc"]) == {0.5}


def test_what_cannot_be_scored_is_refused_before_training(
    two_objects: Corpus, tmp_path: Path
) -> None:
    facts = registry.find("split_bert").facts(registry.config("split_bert", {}), BACKBONE)
    folder = folder_of(one_sided(4), tmp_path)
    for task, message in (
        (Pairs(groups=folder, tags=("swop",)), r"unknown tag .*'swop'; did you mean 'swap'\?"),
        (Pairs(groups=str(tmp_path / "none")), "groups.jsonl cannot be read"),
    ):
        with pytest.raises(SettingError, match=message):
            refuse(facts, Objectives(), two_objects, task)
    refuse(facts, Objectives(), two_objects, Pairs(groups=folder, tags=("swap",)))
    pictures = replace(two_objects, data=Pictures(train="x"))
    with pytest.raises(SettingError, match="only scenes have swap groups; name a folder"):
        refuse(facts, Objectives(), pictures, Pairs())


def test_a_run_without_itc_and_itm_is_not_scored() -> None:
    facts = registry.find("split_bert").facts(registry.config("split_bert", {}), BACKBONE)
    neither = Objectives(itc=ITC(weight=0), itm=ITM(weight=0))
    assert why_not(facts, neither, Pairs()) == "pairs compares by ITC or ITM, and neither is on"
    assert why_not(facts, Objectives(itc=ITC(weight=0)), Pairs()) == ""
    alone = registry.find("dual_encoder").facts(registry.config("dual_encoder", {}), BACKBONE)
    assert why_not(alone, Objectives(), Pairs()) == ""
    assert why_not(alone, Objectives(itc=ITC(weight=0)), Pairs())


def test_groups_have_the_size_and_channels_of_the_corpus(tmp_path: Path) -> None:
    grey = load_corpus(Scenes(train=8, val=4, test=4), 24, tmp_path / "cache", channels=1)
    task = Pairs(groups=folder_of(one_sided(4), tmp_path))
    assert groups_of(grey, task).images_PHWC.shape == (4, 24, 24, 1)
