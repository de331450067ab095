"""A study under `mup`: planned, refused where weights are published, run, said in words."""

from pathlib import Path

import pytest

from architectures.frozen import SettingError
from harness.outputs.folder import RunFolder
from harness.planning.plan import plan
from harness.planning.prepare import prepared
from harness.planning.width_notes import width_notes
from harness.runs.run import execute
from harness.study import Cell, Study, Variant, WarmStart
from harness.warm_start.make import refuse_copies

MUP = {"backbone.parameterisation": "mup"}
WIDER = MUP | {"backbone.text_width": 128, "backbone.image_width": 128, "backbone.text_mlp": 512}


def of_cells(tiny: Study, *cells: Cell, **changed: object) -> Study:
    update = {"cells": cells, "control": cells[0].name, "seeds": (0,), **changed}
    return tiny.model_copy(update=update)


def test_only_a_cell_that_asks_for_it_has_another_key(tiny: Study, tmp_path: Path) -> None:
    split = Variant("split_bert", text_layers=1)
    standard = {"backbone.parameterisation": "standard"}
    study = of_cells(
        tiny,
        Cell(variant=split, label="as before"),
        Cell(variant=split, label="standard", settings=standard),
        Cell(variant=split, label="mup", settings=MUP),
    )
    before, same, other = (spec.train_key() for spec in all_specs(study, tmp_path))
    assert before == same != other


def all_specs(study: Study, outputs: Path):
    return [row.spec for row in plan(study, outputs).rows]


def test_a_scale_by_name_takes_it_beside(tiny: Study) -> None:
    """Two `--set` of one command."""
    backbone = tiny.with_fields({"backbone": "tiny"} | MUP).backbone
    assert (backbone.scale, backbone.image_width, backbone.parameterisation) == ("tiny", 192, "mup")
    assert backbone.init_std == 0.08
    with pytest.raises(SettingError, match="name holds a plain value"):
        tiny.with_fields({"name": "a", "name.b": "c"})


@pytest.mark.parametrize(
    ("cell", "named"),
    [
        ({"backbone.vision_weights": "hub"}, "backbone.vision_weights names 'hub'"),
        ({"backbone.text_weights": "a_bert"}, "backbone.text_weights names 'a_bert'"),
        ({}, "whole_weights names 'ALBEF.pth'"),
    ],
)
def test_published_weights_are_refused(
    tiny: Study, tmp_path: Path, cell: dict[str, str], named: str
) -> None:
    fields = {} if cell else {"whole_weights": "ALBEF.pth"}
    variant = Variant("split_bert", text_layers=1, fields=fields)
    study = of_cells(tiny, Cell(variant=variant, label="x", settings=MUP | cell))
    with pytest.raises(SettingError) as refused:
        plan(study, tmp_path)
    assert named in str(refused.value)
    assert "set backbone.parameterisation to standard" in str(refused.value)


def test_the_plan_says_what_it_does(tiny: Study, outputs: Path) -> None:
    split = Variant("split_bert", text_layers=1)
    nano = MUP | {"backbone": "nano"}
    study = of_cells(
        tiny,
        Cell(variant=split, label="standard"),
        Cell(variant=split, label="wide", settings=WIDER),
        Cell(variant=split, label="nano", settings=nano),
    )
    planned = plan(study, outputs)
    wide, narrow = width_notes(planned, prepared(planned, outputs))
    assert wide == (
        "cell wide: parameterisation mup, init_std 0.08 at nano's widths; matrices with 2 times "
        "the inputs learn as much more slowly"
    )
    assert narrow.endswith("which are its own: it trains as under standard")


def test_the_cell_with_parts_that_are_not_at_nanos_widths_is_named(
    tiny: Study, tmp_path: Path
) -> None:
    """Before any data are open."""
    widths = MUP | {"backbone.text_width": 128}
    merged = Cell(variant=Variant("single_stream"), label="apart", settings=widths)
    with pytest.raises(SettingError, match=r"cell 'apart': .*make backbone.image_width and text_w"):
        plan(of_cells(tiny, merged), tmp_path)


def test_towers_made_by_it_are_not_given_away(tiny: Study, tmp_path: Path) -> None:
    split = Variant("split_bert", text_layers=1)
    mup, standard = (
        of_cells(tiny, Cell(variant=split, settings=its), warm_start=WarmStart())
        for its in (MUP, {})
    )
    refuse_copies(plan(standard, tmp_path).specs)
    with pytest.raises(SettingError, match="leave --to out"):
        refuse_copies(plan(mup, tmp_path).specs)


@pytest.mark.slow
def test_a_run_from_towers_made_by_it_ends(tiny: Study, outputs: Path) -> None:
    recipe = WarmStart(
        bert_samples=16, distil_samples=8, vit_samples=16, align_samples=16, batch_size=8
    )
    cell = Cell(variant=Variant("split_bert", text_layers=1), label="wide", settings=WIDER)
    study = of_cells(tiny, cell, warm_start=recipe)
    (spec,) = plan(study, outputs).specs
    assert execute(spec, outputs) == "done"
    assert RunFolder(outputs, spec.train_key()).weights.exists()
    assert len(list((outputs / "warm_start").glob("*/vit.safetensors"))) == 2  # and aligned ones
