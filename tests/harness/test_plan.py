"""A plan is checked before anything runs."""

from pathlib import Path

import pytest

from architectures.frozen import SettingError
from harness.outputs.folder import study_file
from harness.outputs.records import StudyRecord, TuningSpent
from harness.outputs.tuning_records import CellChoice
from harness.planning.plan import plan, write_study
from harness.planning.prepare import prepared
from harness.planning.price import estimates
from harness.study import Cell, Endpoint, Study, Variant


def with_variant(study: Study, variant: Variant) -> Study:
    cell = Cell(variant=variant, label="x")
    return study.model_copy(update={"cells": (cell,), "control": "x"})


def test_every_cell_and_seed_is_a_run_seed_by_seed(tiny: Study, outputs: Path) -> None:
    planned = plan(tiny, outputs)
    assert [(r.cell.name, r.seed) for r in planned.rows][:3] == [("k1", 0), ("k1", 1), ("k2", 0)]
    assert [spec.train.seed for spec in planned.specs] == [0, 0, 0, 1, 1, 1]


def test_what_a_design_cannot_serve_is_said_and_off(tiny: Study, outputs: Path) -> None:
    floor = plan(tiny, outputs).rows[-1]
    assert floor.spec.train.objectives.active() == ("itc",)
    assert set(floor.spec.asked.not_applicable) == {"itm", "mlm"}


def test_defaults_written_out_are_the_same_run(tiny: Study, outputs: Path) -> None:
    bare = tiny.with_field("backbone.text_layers", 8)
    one = plan(with_variant(bare, Variant("split_bert")), outputs)
    other = plan(with_variant(bare, Variant("split_bert", text_layers=6)), outputs)
    assert one.specs[0].train_key() == other.specs[0].train_key()


@pytest.mark.parametrize(
    ("variant", "said"),
    [
        (Variant("split_bret"), "did you mean 'split_bert'"),
        (Variant("split_bert", text_layer=1), "did you mean 'text_layers'"),
        (Variant("split_bert", text_layers=4), "take 0 to 3"),
        (Variant("split_bert", text_layers=-1), "greater than or equal to 0"),
    ],
)
def test_a_cell_that_cannot_be_built_is_named(
    tiny: Study, outputs: Path, variant: Variant, said: str
) -> None:
    with pytest.raises(SettingError, match=said) as caught:
        plan(with_variant(tiny, variant), outputs)
    assert "cell 'x'" in str(caught.value)


def test_no_objective_left(tiny: Study, outputs: Path) -> None:
    bare = with_variant(tiny, Variant("dual_encoder")).with_field("objectives.itc.weight", 0)
    with pytest.raises(SettingError, match="no objective applies"):
        plan(bare, outputs)


def test_a_queue_of_tokens_is_refused(tiny: Study, outputs: Path) -> None:
    late = with_variant(tiny, Variant("dual_encoder", similarity="late_sum"))
    assert plan(late, outputs)
    queue = {"objectives.itc.candidates": "teacher", "objectives.itc.queue": 8}
    with pytest.raises(SettingError, match=r"itc\.queue is 8, .*set objectives.itc.queue to 0"):
        plan(late.with_fields(queue), outputs)


def test_a_batch_larger_than_the_data(tiny: Study, outputs: Path) -> None:
    planned = plan(tiny.with_field("batch_size", 97), outputs)
    with pytest.raises(SettingError, match="96 pictures"):
        prepared(planned, outputs)


def test_captions_longer_than_the_position_table(tiny: Study, outputs: Path) -> None:
    with pytest.raises(SettingError, match="max_positions"):
        plan(tiny.with_field("data.text.max_tokens", 65), outputs)


def test_estimates_measure_a_step_of_every_cell(tiny: Study, outputs: Path) -> None:
    planned = plan(tiny, outputs)
    found = estimates(planned, prepared(planned, outputs))
    assert [e.cell for e in found] == ["k1", "k2", "dual_encoder"]
    assert found[0].flops_per_sample > found[1].flops_per_sample > found[2].flops_per_sample
    assert all(e.seconds > 0 and e.parameters > 0 and e.measured_rows == 8 for e in found)
    assert not (outputs / "runs").exists()


def test_the_study_is_written_down(tiny: Study, outputs: Path) -> None:
    planned = plan(tiny, outputs)
    returned = write_study(planned, outputs, ["dull data"])
    written = StudyRecord.read(study_file(outputs, "tiny"))
    assert written == returned and written.notes == ("dull data",)
    assert Study.model_validate(written.settings) == tiny
    same = ("name", "question", "control", "primary", "alpha", "looks", "axis")
    assert all(getattr(written, name) == getattr(tiny, name) for name in same)
    assert (written.equal_within, written.margin_declared) == (1.0, False)
    assert (written.seeds, written.budget_unit) == (tiny.seeds, "steps")
    assert [row.run for row in written.rows] == [r.spec.train_key() for r in planned.rows]
    first = written.rows[0]
    assert (first.cell, first.seed, first.design) == ("k1", 0, "split_bert")
    assert first.config["text_layers"] == 1 and first.config["pooler"] is False  # a default


def test_endpoints_are_written_down_and_change_no_run(tiny: Study, outputs: Path) -> None:
    endpoints = (
        Endpoint(score="retrieval/mean_recall", equal_within=2.0, better="higher"),
        Endpoint(score="validation/itm_loss", equal_within=0.1),
    )
    asked = {"endpoints": endpoints, "endpoint_order": "ordered"}
    planned = plan(tiny.with_fields(asked), outputs)
    assert [row.spec for row in planned.rows] == [row.spec for row in plan(tiny, outputs).rows]
    write_study(planned, outputs)
    written = StudyRecord.read(study_file(outputs, "tiny"))
    assert (written.judged, written.endpoint_order) == (endpoints, "ordered")
    assert (written.primary, written.equal_within) == ("retrieval/mean_recall", 2.0)
    assert written.margin_declared and Study.model_validate(written.settings).judged == endpoints
    write_study(plan(tiny, outputs), outputs)
    alone = StudyRecord.read(study_file(outputs, "tiny"))
    assert alone.endpoints == () and alone.judged == tiny.judged


def test_tuned_settings_are_put_over_the_studys_own(tiny: Study, outputs: Path) -> None:
    cells = [cell.name for cell in tiny.cells]
    chosen = {"optimizer.learning_rate": 0.5}
    choice = CellChoice(trials=4, done=4, device_seconds=2.5, score=1.0, chosen=chosen)
    tuning = dict.fromkeys(cells, choice)
    planned = plan(tiny, outputs, tuning=tuning)
    assert {spec.train.optimizer.learning_rate for spec in planned.specs} == {0.5}
    row = write_study(planned, outputs).rows[0]
    assert row.tuning == TuningSpent(trials=4, device_seconds=2.5)
    untuned = write_study(plan(tiny, outputs), outputs).rows[0]
    assert untuned.tuning == TuningSpent(trials=0, device_seconds=0)
