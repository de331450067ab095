"""Cells are given the depth or width at which they cost what another cell costs."""

from pathlib import Path

import pytest

from architectures.frozen import SettingError
from harness.outputs.folder import study_file
from harness.outputs.records import StudyRecord
from harness.planning import matching
from harness.planning.budgets import converted
from harness.planning.matching import match_notes
from harness.planning.plan import Plan, plan, write_study
from harness.runs.assemble import counted_cost, counted_flops, load_data
from harness.study import Budget, Cell, Study, Variant, matched

FLOPS, PARAMETERS = matched("flops", to="split"), matched("parameters", to="split")


def planned(study: Study, outputs: Path, *cells: Cell, text_layers: int = 1) -> Plan:
    split = Cell(variant=Variant("split_bert", text_layers=text_layers), label="split")
    return plan(
        study.model_copy(update={"cells": (split, *cells), "control": "split", "seeds": (0,)}),
        outputs,
    )


def test_depth_is_solved_by_hand_counted_parameters(tiny: Study, outputs: Path) -> None:
    """Three layers of which two fuse: a deep fusion over one text layer needs two as well."""
    cell = Cell(
        variant=Variant("full_text_deep_fusion", text_layers=1), label="deep", matched=PARAMETERS
    )
    its = planned(tiny, outputs, cell)
    match = its.matched["deep"]
    assert (match.fields, match.settings, match.ratio) == ({"fusion_layers": 2}, {}, 1.0)
    assert its.rows[1].spec.train.config["fusion_layers"] == 2
    assert its.rows[1].cell.name == "deep"
    assert match_notes(its.matched) == [
        "cell deep: fusion_layers = 2: 1.000 times the parameters of split"
    ]


@pytest.mark.slow
def test_width_is_solved_where_depth_is_set(tiny: Study, outputs: Path) -> None:
    """Each of three layers has 2 x 16 weights and a bias a column more; one fusion layer less."""
    fields = {"text_layers": 1, "fusion_layers": 1}
    cell = Cell(variant=Variant("full_text_deep_fusion", **fields), label="x", matched=PARAMETERS)
    its = planned(tiny, outputs, cell)
    match = its.matched["x"]
    assert match.fields == {} and list(match.settings) == ["backbone.text_mlp"]
    corpus = load_data(its.rows[0].spec, outputs)
    other, own = (counted_cost(row.spec, corpus).parameters for row in its.rows)
    assert match.ratio == own / other and abs(match.ratio - 1) <= 0.02
    fixed = cell.model_copy(update={"matched": None})
    before = counted_cost(planned(tiny, outputs, fixed).rows[1].spec, corpus).parameters
    wider = match.settings["backbone.text_mlp"] - 32
    assert own - before == wider * 2 * (2 * 16 + 1)  # two layers; up, its bias, and down


@pytest.mark.slow
def test_flops_are_the_ledgers_and_are_solved_once(
    tiny: Study, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = Cell(variant=Variant("co_attention"), matched=FLOPS)
    its = planned(tiny, outputs, cell)
    name = "co_attention (training FLOPs a sample of split)"
    match = its.matched[name]
    corpus = load_data(its.rows[0].spec, outputs)
    other, own = (counted_flops(row.spec, corpus) for row in its.rows)
    assert match.ratio == own / other and abs(match.ratio - 1) <= 0.02
    write_study(its, outputs)
    assert StudyRecord.read(study_file(outputs, tiny.name)).matched == its.matched
    monkeypatch.setattr(matching, "counted_flops", None)  # a rerun counts nothing
    again = planned(tiny, outputs, cell)
    assert again.matched == its.matched
    assert [r.spec.train_key() for r in again.rows] == [r.spec.train_key() for r in its.rows]


@pytest.mark.slow
def test_a_budget_in_flops_is_matched_and_spent_where_the_other_is_frozen(
    tiny: Study, outputs: Path
) -> None:
    """What a sample of the other costs depends on its steps, and these on the budget."""
    split = Cell(
        variant=Variant("split_bert", text_layers=1),
        settings={"freeze.image": {"until": 0.5}},
        label="split",
    )
    cell = Cell(variant=Variant("full_text_deep_fusion"), label="deep", matched=FLOPS)
    fields = {"cells": (split, cell), "control": "split", "seeds": (0,)}
    its = plan(tiny.model_copy(update={**fields, "budget": Budget(flops=2e9)}), outputs)
    rows = converted(its, outputs).rows
    corpus = load_data(rows[0].spec, outputs)
    other, own = (counted_flops(row.spec, corpus) for row in rows)
    assert own / other == pytest.approx(its.matched["deep"].ratio, rel=0.01)
    for row, sample in zip(rows, (other, own), strict=True):
        assert 8 * sample * (row.spec.train.budget.steps or 0) == pytest.approx(2e9, rel=0.05)


def test_what_cannot_be_matched_is_said(tiny: Study, outputs: Path) -> None:
    with pytest.raises(SettingError, match=r"cell to match 'dual_encoder .*' to 'splt'; did you"):
        planned(
            tiny,
            outputs,
            Cell(variant=Variant("dual_encoder"), matched=matched("flops", to="splt")),
        )
    cell = Cell(
        variant=Variant("dual_encoder", text_layers=1),
        settings={"backbone.text_mlp": 32, "backbone.image_mlp": 64},
        label="x",
        matched=PARAMETERS,
    )
    with pytest.raises(SettingError, match="cannot be matched to 'split'"):
        planned(tiny, outputs, cell)
