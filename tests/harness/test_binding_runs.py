"""Pairs, words and their curves in real runs: scores, keys, arrival, and what is refused."""

import json
from pathlib import Path

import pytest

from architectures.frozen import SettingError
from harness.outputs.folder import RunFolder
from harness.outputs.measured import MeasuredLine
from harness.outputs.records import ScoresRecord
from harness.planning.checks import scores_of
from harness.planning.plan import plan
from harness.planning.prepare import prepared
from harness.runs.along import write_along
from harness.runs.run import execute
from harness.study import Measure, Pairs, Retrieval, Scenes, Study, Text, Words
from tests.training.data.conftest import png

DATA = Scenes(train=96, val=24, test=24, objects=(2, 2), text=Text(max_tokens=20))


@pytest.fixture
def binding(tiny: Study) -> Study:
    return tiny.with_fields(
        {
            "data": DATA,
            "tasks": (Pairs(count=12), Words(items=20)),
            "primary": "pairs/group_match",
            "measure": Measure(points=3, items=24, pairs=8, words=10),
        }
    )


def folder_of_groups(at: Path) -> str:
    at.mkdir()
    for name, seed in (("a.png", 0), ("b.png", 1)):
        (at / name).write_bytes(png(seed))
    line = {"group": 1, "images": ["a.png", "b.png"], "captions": ["red ring", "blue ring"],
            "match": [[1, 0], [0, 1]]}  # fmt: skip
    (at / "groups.jsonl").write_text(json.dumps(line))
    return str(at)


def test_a_run_is_scored_and_its_curves_arrive(binding: Study, outputs: Path) -> None:
    spec = plan(binding, outputs).specs[0]
    assert execute(spec, outputs) == "done"
    folder = RunFolder(outputs, spec.train_key())
    of_pairs = ScoresRecord.read(folder.score_file("pairs"))
    assert of_pairs.protocol == "every pair by ITM" and not of_pairs.failure
    assert {level.name: level.chance for level in of_pairs.levels}["group_match"] == 0.5
    assert ScoresRecord.read(folder.score_file("words")).scores[-1].name == "mean"
    lines = folder.metric_lines()
    assert all({"pairs/all", "pairs/all_itc", "words/colour"} <= set(line.values) for line in lines)
    arrived = ScoresRecord.read(folder.score_file("steps_until")).scores
    assert {score.name for score in arrived} >= {"pairs_all", "words_direction"}
    assert {score.unit for score in arrived} == {"steps"}
    assert not any(score.higher_is_better for score in arrived)


def test_measuring_changes_no_weight(binding: Study, outputs: Path) -> None:
    """Curves are read in between steps: the batches and the last validation stay the same."""
    off = binding.with_fields({"measure.pairs": 0, "measure.words": 0, "tasks": ()})
    off = off.with_fields({"primary": "validation/mlm_loss"})
    records = []
    for study in (binding, off):
        spec = plan(study, outputs).specs[0]
        execute(spec, outputs)
        folder = RunFolder(outputs, spec.train_key())
        records.append(
            (ScoresRecord.read(folder.score_file("validation")), folder.metric_lines()[-1].chain)
        )
    assert records[0] == records[1]
    assert not folder.score_file("steps_until").exists()


def test_the_steps_until_a_curve_arrives(binding: Study, outputs: Path) -> None:
    spec = plan(binding, outputs).specs[0]
    folder = RunFolder(outputs, spec.train_key())
    folder.path.mkdir(parents=True)
    curves = {"pairs/colour": (0.5, 0.8, 0.7, 0.9), "pairs/relation": (0.5, 0.5, 0.6, 0.74)}
    for place, step in enumerate((0, 2, 4, 6)):
        values = {name: its[place] for name, its in curves.items()} | {"val/loss": 1.0}
        folder.append_metrics(
            MeasuredLine(step=step, samples=8 * step, seconds=0, time=0, values=values)
        )
    write_along(folder, spec.train)
    scores = ScoresRecord.read(folder.score_file("steps_until")).scores
    assert {s.name: (s.value, s.protocol) for s in scores} == {
        "pairs_colour": (2, "first measured at 0.75 or more"),
        "pairs_relation": (8, "never"),
    }


def test_the_mean_over_training_leaves_out_the_start(binding: Study, outputs: Path) -> None:
    """Losses in nats, accuracies in percent; nothing but validation, and not the sum of losses."""
    spec = plan(binding, outputs).specs[0]
    folder = RunFolder(outputs, spec.train_key())
    folder.path.mkdir(parents=True)
    for place, step in enumerate((0, 2, 4)):
        values = {"val/itm_loss": (9.0, 0.5, 0.3)[place], "val/itm_accuracy": 0.5 + 0.2 * place}
        values |= {"val/loss": 3.0, "train/itm_loss": 1.0, "val_final/itm_loss": 2.0}
        folder.append_metrics(
            MeasuredLine(step=step, samples=8 * step, seconds=0, time=0, values=values)
        )
    write_along(folder, spec.train)
    scores = ScoresRecord.read(folder.score_file("mean_over_training")).scores
    means = {score.name: (pytest.approx(score.value), score.unit) for score in scores}
    assert means == {"itm_loss": (0.4, "nats"), "itm_accuracy": (80.0, "percent")}
    assert [score.higher_is_better for score in scores] == [False, True]
    assert {score.protocol for score in scores} == {"mean of 2 measurements"}


def test_a_study_may_ask_for_these_scores(binding: Study, outputs: Path) -> None:
    names = scores_of(plan(binding, outputs))
    asked = ("pairs/relation_margin_itm", "pairs/mcnemar_p", "words/direction",
             "steps_until/pairs_colour", "steps_until/words_direction")  # fmt: skip
    assert {"mean_over_training/itm_loss", *asked} <= names
    assert "steps_until/words_place" not in names
    quiet = binding.with_fields({"measure.pairs": 0, "measure.words": 0})
    assert not [name for name in scores_of(plan(quiet, outputs)) if name.startswith("steps_until")]


def test_groups_are_known_by_their_content(binding: Study, outputs: Path, tmp_path: Path) -> None:
    def score_key(where: str, **more: object) -> str:
        task = Pairs(groups=where, **more)  # type: ignore[arg-type]
        spec = plan(binding.with_fields({"tasks": (task,)}), outputs).specs[0]
        assert spec.train_key() == plan(binding, outputs).specs[0].train_key()
        return spec.score_key(spec.asked.tasks[0])

    one, other = (folder_of_groups(tmp_path / name) for name in ("one", "other"))
    assert score_key(one) == score_key(other)
    assert score_key(one, label="again") == score_key(other)
    assert score_key(one, fit="pad") != score_key(one)
    (tmp_path / "other" / "a.png").write_bytes(png(7))
    assert score_key(one) != score_key(other)


def test_groups_that_changed_since_the_plan_are_no_score(
    binding: Study, outputs: Path, tmp_path: Path
) -> None:
    where = folder_of_groups(tmp_path / "groups")
    spec = plan(binding.with_fields({"tasks": (Pairs(groups=where),)}), outputs).specs[0]
    (tmp_path / "groups" / "a.png").write_bytes(png(7))
    assert execute(spec, outputs) == "failed"
    message = RunFolder(outputs, spec.train_key()).status().message
    assert f"the folder {where} has changed since the run was planned" in message


def test_bad_groups_are_said_while_planning(binding: Study, outputs: Path, tmp_path: Path) -> None:
    where = folder_of_groups(tmp_path / "groups")
    asked = binding.with_fields({"tasks": (Pairs(groups=where),)})
    (tmp_path / "groups" / "b.png").write_bytes(b"none")
    with pytest.raises(SettingError, match=r"(?s)cell 'k1': .*'images': 'b.png' is not a picture"):
        prepared(plan(asked, outputs), outputs)
    (tmp_path / "groups" / "b.png").unlink()
    with pytest.raises(SettingError, match=r"(?s)cell 'k1': .*line 1, field 'images': 'b.png': No"):
        plan(asked, outputs)


def test_what_a_task_refuses_is_said_while_planning(tiny: Study, outputs: Path) -> None:
    task = Retrieval(every_pair=5)
    alone = {"cells": tiny.cells[:1], "tasks": (task,), "objectives.itc.weight": 0.0}
    with pytest.raises(SettingError, match=r"cell 'k1': retrieval without ITC scores every"):
        prepared(plan(tiny.with_fields(alone), outputs), outputs)
