"""What a study says wrong is known before anything is spent, with the nearest right name."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from architectures.frozen import SettingError
from architectures.weights.digests import digest_of
from harness.commands import show
from harness.commands.show import console
from harness.lab import Lab
from harness.outputs.folder import RunFolder
from harness.planning.checks import check, left_over, same_runs
from harness.planning.endpoints import in_words
from harness.planning.plan import plan, write_study
from harness.planning.prepare import prepared
from harness.runs.kept import read_checkpoint, read_weights, write_checkpoint, write_weights
from harness.runs.scoring import _reason
from harness.study import Budget, Cell, Pictures, Retrieval, Scenes, Study, Text, WarmStart, scale
from harness.training.settings.graded_scenes import graded_scenes
from harness.training.settings.loop import Measure
from harness.training.settings.tasks import Pairs, Words
from harness.training.tasks import retrieval
from tests.training.data.conftest import png

SPAN = {"low": 0.1, "high": 0.9}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"primary": "retrieval/mean_recal"}, "did you mean 'retrieval/mean_recall'"),
        ({"primary": "validation/itx_loss"}, r"score \(setting primary\) 'validation/itx_loss'"),
        ({"axis": "text_layer"}, "did you mean 'text_layers'"),
        ({"tuning.score": "val/los"}, "did you mean 'val/loss'"),
        ({"tuning.score": "val/itm_loss"}, "val/itc_loss"),  # the floor has no ITM
        ({"tuning.space": {}}, "tuning.space"),
        ({"tuning.space": {"objectives.itc.weight": SPAN}}, "which val/loss is made with"),
        ({"tuning.space": {"objectives.mlm.share": SPAN}}, "tunes objectives.mlm.share, which"),
        ({"equal_within": float("inf")}, "equal_within"),
    ],
)
def test_a_name_that_nothing_answers(
    tiny: Study, outputs: Path, changes: dict[str, object], message: str
) -> None:
    for ask in (Lab(outputs).plan, Lab(outputs).run):
        with pytest.raises(SettingError, match=message):
            ask(tiny.with_fields(changes))
    assert not (outputs / "runs").exists()


RECALL = {"score": "retrieval/mean_recall", "equal_within": 1.0}
LOSS = {"score": "validation/itm_loss", "equal_within": 0.1}


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (
            {"score": "validation/itm_los"},
            r"score \(setting endpoints\.1\.score\) 'validation/itm_los'; did you mean "
            "'validation/itm_loss'",
        ),
        ({"better": "higher"}, r"endpoints\.1\.better is 'higher', but of .*itm_loss lower is"),
        ({"better": "up"}, r"endpoints\.1\.better: must be 'higher' or 'lower'"),
        ({"equal_within": 0}, r"endpoints\.1\.equal_within: must be greater than 0"),
        ({"score": "retrieval/mean_recall"}, "endpoints: the same score twice: .*mean_recall"),
        ({"scores": 1}, "unknown field of Endpoint 'scores'; did you mean 'score'"),
    ],
)
def test_an_endpoint_that_nothing_answers(
    tiny: Study, outputs: Path, second: dict[str, object], message: str
) -> None:
    with pytest.raises(SettingError, match=message):
        Lab(outputs).plan(tiny.with_fields({"endpoints": [RECALL, LOSS | second]}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"endpoints": [{"score": "a/b"}]}, r"endpoints\.0\.equal_within: is needed"),
        (
            {"endpoints": [RECALL | {"score": f"a/{i}"} for i in range(6)]},
            "endpoints: must have at most 5 items",
        ),
        (
            {"endpoints": [RECALL], "primary": "validation/itm_loss"},
            "primary is for a study without endpoints: leave it out",
        ),
        ({"endpoints": [RECALL], "equal_within": 2.0}, "equal_within is for a study without"),
        ({"endpoint_order": "random"}, "endpoint_order: must be 'equals' or 'ordered'"),
    ],
)
def test_endpoints_that_do_not_fit(tiny: Study, changes: dict[str, object], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        tiny.with_fields(changes)


def test_every_endpoint_is_a_score_that_tuning_did_not_see(tiny: Study, outputs: Path) -> None:
    study = tiny.with_fields({"endpoints": [RECALL, LOSS | {"better": "lower"}]})
    Lab(outputs).plan(study)
    with pytest.raises(SettingError, match=r"endpoints\.1 'validation/itm_loss' is measured on"):
        check(plan(study, outputs), tuned=True)
    changed = study.with_field("endpoints.validation/itm_loss.equal_within", 0.2)
    assert [endpoint.equal_within for endpoint in changed.judged] == [1.0, 0.2]


def test_the_plan_says_what_each_endpoint_can_show(tiny: Study) -> None:
    (alone,) = in_words(tiny)
    assert "2 seeds find with 80 % chance" in alone and "(a default, not declared)" in alone
    orders = {}
    for order in ("equals", "ordered"):
        *each, both = in_words(
            tiny.with_fields({"endpoints": [RECALL, LOSS], "endpoint_order": order})
        )
        assert (
            both == f"Verdicts are about 2 endpoints ({order}), which share an error rate of 0.05."
        )
        assert "within 0.1 count as equal (declared)" in each[1]
        orders[order] = each[0].split(" residual")[0]
    found = [
        float(said.rpartition(" ")[2]) for said in (alone.split(" residual")[0], *orders.values())
    ]
    assert found[0] == found[2] < found[1]  # of one contrast, all of alpha is the first endpoint's


@pytest.mark.parametrize(
    "primary",
    ["steps_until/pairs_count", "steps_until/words_size", "pairs/count_margin", "words/size",
     "pairs/caption_blind_floor", "pairs/statement"],
)  # fmt: skip
def test_a_score_that_these_scenes_cannot_have(primary: str, tiny: Study, outputs: Path) -> None:
    scenes = graded_scenes("binding").with_fields({"train": 48, "val": 24, "test": 24})
    study = tiny.with_fields(
        {"data": scenes, "tasks": (Pairs(count=6), Words()), "measure": Measure(pairs=6, words=6)}
    )
    with pytest.raises(SettingError, match=rf"score \(setting primary\) '{primary}'"):
        Lab(outputs).plan(study.with_field("primary", primary))
    arrival = {"primary": "steps_until/pairs_relation_itc", "equal_within": 2.0}
    Lab(outputs).plan(study.with_fields(arrival))


def test_a_score_that_groups_of_one_picture_cannot_have(
    tiny: Study, outputs: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_bytes(png(0))
    line = '{"group": "x", "images": ["a.png"], "captions": ["a", "b"], "match": [[1, 0]]}\n'
    (tmp_path / "groups.jsonl").write_text(line)
    study = tiny.with_field("tasks", (Pairs(groups=str(tmp_path)),))
    with pytest.raises(SettingError, match=r"score \(setting primary\) 'pairs/group_match'"):
        Lab(outputs).plan(study.with_field("primary", "pairs/group_match"))
    Lab(outputs).plan(study.with_field("primary", "pairs/caption_blind_floor"))


def test_a_loss_may_be_primary_and_an_axis_a_setting(tiny: Study, outputs: Path) -> None:
    changes = {"primary": "validation/itc_loss", "axis": "config.text_layers"}
    Lab(outputs).plan(tiny.with_fields({**changes, "equal_within": 0.1}))


def test_the_margin_of_a_loss_is_declared(tiny: Study, outputs: Path) -> None:
    """One nat would call nearly everything equal; one percent is a default that can be shown."""
    for primary in ("validation/itc_loss", "mean_over_training/itm_loss"):
        with pytest.raises(SettingError, match="equal_within is not declared, and its default of"):
            Lab(outputs).plan(tiny.with_field("primary", primary))
    Lab(outputs).plan(tiny.with_field("primary", "validation/itm_accuracy"))


def test_what_tuning_minimised_is_not_reported(tiny: Study, outputs: Path) -> None:
    study = tiny.with_field("primary", "validation/itc_loss")
    with pytest.raises(SettingError, match="not tuned"):
        Lab(outputs).plan(study, tuned=True)


def test_a_warm_start_has_a_seed_of_its_own(tiny: Study) -> None:
    with pytest.raises(SettingError, match=r"warm_start\.seed 1 is also a seed of runs"):
        tiny.with_field("warm_start", WarmStart(seed=1))


def test_a_word_that_run_does_not_know_is_said_at_once(tiny: Study, outputs: Path) -> None:
    with pytest.raises(SettingError, match="unknown field of How 'locals'; did you mean 'local'"):
        Lab(outputs).run(tiny, locals=True)
    with pytest.raises(SettingError, match="gpu_share"):
        Lab(outputs).run(tiny, gpu_share=0.0)


def test_two_names_of_one_run_are_said(tiny: Study, outputs: Path) -> None:
    twin = Cell(variant=tiny.cells[0].variant, label="twin")
    study = tiny.model_copy(update={"cells": (*tiny.cells, twin)})
    (line,) = same_runs(plan(study, outputs))
    assert line == "k1 and twin are the same run under 2 names: it is made once"


def test_a_score_that_would_take_too_long_is_refused_by_the_plan(
    tiny: Study, outputs: Path
) -> None:
    study = tiny.with_fields({"objectives.itc.weight": 0.0, "tasks": (Retrieval(every_pair=9),)})
    study = study.with_field("cells", tiny.cells[:1])
    with pytest.raises(SettingError, match=r"cell .k1.: retrieval without ITC scores every .* 9"):
        prepared(Lab(outputs).plan(study), outputs)


def test_a_task_that_raises_is_said_with_file_and_line() -> None:
    with pytest.raises(AttributeError) as caught:
        retrieval.refuse(None, None, None, Retrieval())  # type: ignore[arg-type]
    reason = _reason(caught.value, retrieval.__file__)
    assert re.match(r"AttributeError in .*/tasks/retrieval\.py:\d+: ", reason)
    assert _reason(SettingError("raise it"), retrieval.__file__) == "raise it"


def test_the_next_command_can_be_pasted() -> None:
    with console.capture() as capture:
        words = ["my study.py", "--outputs", "a b"]
        show.states({"x": "done"}, words, ["--tracking", "x y"], [], {})
        show.states({"x": "failed"}, words, [], [], {})
    shown = capture.get()
    assert "fuselab report 'my study.py' --outputs 'a b' --tracking 'x y'" in shown
    assert "fuselab status 'my study.py' --outputs 'a b';" in shown


def test_a_record_made_in_python_is_checked_in_words() -> None:
    for make in (
        lambda: Budget(step=3),  # type: ignore[call-arg]
        lambda: scale("nano").model_copy(update={"dropout": 7}),
        lambda: scale("nano").model_copy(update={"dropot": 0.1}),
    ):
        with pytest.raises(SettingError, match=r"^unknown field|^dropout: must be less than 1"):
            make()
    short = Text().model_copy(update={"max_tokens": 9})
    assert Pictures(train="x", text=short).text == Text(max_tokens=9, vocabulary=4096)


def test_runs_of_other_settings_are_said_with_their_place(tiny: Study, outputs: Path) -> None:
    before = plan(tiny, outputs)
    write_study(before, outputs)
    begun = RunFolder(outputs, before.rows[0].spec.train_key())
    begun.path.mkdir(parents=True)
    after = plan(tiny.with_field("budget.steps", 7), outputs)
    (line,) = left_over(after, outputs)
    assert line.startswith("1 runs of tiny under other settings") and begun.key in line
    assert str(outputs / "runs") in line and left_over(before, outputs) == []


def test_the_data_key_forgets_the_test_split_and_the_score_key_does_not(
    tiny: Study, outputs: Path
) -> None:
    one = plan(tiny, outputs).rows[0].spec
    other = plan(tiny.with_field("data", Scenes(train=96, val=24, test=25)), outputs).rows[0].spec
    (task,) = one.asked.tasks
    assert one.train_key() == other.train_key() and one.score_key(task) != other.score_key(task)


def flipped(path: Path, value: bytes) -> None:
    """Changes one byte of a number in a file."""
    whole = bytearray(path.read_bytes())
    place = whole.index(value)
    whole[place] ^= 1
    path.write_bytes(bytes(whole))


def test_a_flipped_byte_is_noticed(outputs: Path) -> None:
    folder = RunFolder(outputs, "a" * 16)
    numbers = torch.arange(64, dtype=torch.float32) * 1.2345
    write_weights(folder, {"layer.weight": numbers})
    write_checkpoint(folder, {"step": 3, "chain": "abcdef", "state": [{"mean": numbers}]})
    assert torch.equal(read_weights(folder)["layer.weight"], numbers)
    for path, read, place in (
        (folder.weights, read_weights, numbers[7:9].numpy().tobytes()),
        (folder.checkpoint, read_checkpoint, numbers[7:9].numpy().tobytes()),
        (folder.checkpoint, read_checkpoint, b"abcdef"),
    ):
        whole = path.read_bytes()
        flipped(path, place)
        with pytest.raises(ValueError, match=f"{path.name} is not what was written to it; delete"):
            read(folder)
        path.write_bytes(whole)
        read(folder)


def test_a_checkpoint_holds_what_was_given(outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(outputs, "a" * 16)
    folder.path.mkdir(parents=True)
    monkeypatch.setattr("harness.runs.kept.SMALL", 32)
    state = {
        0: {"step": torch.tensor(3.0), "mean": torch.randn(2, 3), "large": torch.randn(5, 7).T},
        1: {"finite": torch.tensor(True), "none": torch.empty(0, 4), "ids": torch.arange(4)},
    }
    snapshot = {"step": 3, "optimizer": {"state": state, "betas": (0.9, 0.98), "names": ["a"]}}
    write_checkpoint(folder, snapshot)
    got = read_checkpoint(folder)
    torch.testing.assert_close(got["optimizer"]["state"], state, rtol=0, atol=0)
    assert got["optimizer"]["betas"] == (0.9, 0.98) and got["optimizer"]["names"] == ["a"]


def test_a_checkpoint_of_before_is_gone_on_with_and_examined(outputs: Path) -> None:
    """As it was written before small tensors were put together."""
    folder = RunFolder(outputs, "a" * 16)
    folder.path.mkdir(parents=True)
    numbers = torch.arange(64, dtype=torch.float32) * 1.2345
    digest = digest_of({"/optimizer/state/0/mean": numbers})
    snapshot = {"step": 3, "optimizer": {"state": [{"mean": numbers}]}}
    for sealed in ({}, {"digest": digest}):
        torch.save({**snapshot, **sealed}, folder.checkpoint)
        assert torch.equal(read_checkpoint(folder)["optimizer"]["state"][0]["mean"], numbers)
    flipped(folder.checkpoint, numbers[7:9].numpy().tobytes())
    with pytest.raises(ValueError, match=r"checkpoint.pt is not what was written to it; delete"):
        read_checkpoint(folder)


@pytest.mark.parametrize("content", ["text", [1], {"snapshot": 1}, {"snapshot": {}, "digest": "x"}])
def test_a_file_that_is_no_checkpoint_is_said(outputs: Path, content: object) -> None:
    folder = RunFolder(outputs, "a" * 16)
    folder.path.mkdir(parents=True)
    torch.save(content, folder.checkpoint)
    with pytest.raises(ValueError, match=r"checkpoint.pt .*; delete it to start this run again"):
        read_checkpoint(folder)


@pytest.mark.parametrize("read", [read_checkpoint, read_weights])
def test_a_damaged_file_is_said_wherever_the_damage_is(
    outputs: Path, read: Callable[[RunFolder], object]
) -> None:
    """Each byte of what tells what a file holds, and of its end; and the file cut short."""
    folder = RunFolder(outputs, "a" * 16)
    write_weights(folder, {"layer.weight": torch.ones(3), "layer.bias": torch.ones(2)})
    write_checkpoint(folder, {"step": 3, "chain": "abcdef", "state": [{"mean": torch.ones(3)}]})
    path = folder.checkpoint if read is read_checkpoint else folder.weights
    whole, before = path.read_bytes(), read(folder)
    damaged = [whole[:length] for length in (0, 1, 30, len(whole) // 2, len(whole) - 1)]
    for place in range(whole.index(b".pkl"), len(whole), 3):
        damaged.append(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
    for content in damaged:
        path.write_bytes(content)
        try:
            assert str(read(folder)) == str(before)  # what nobody reads may change
        except ValueError as error:
            assert str(path) in str(error) and "; delete " in str(error)
