"""BERT and ViT learn ITC together before the runs: what moves, what stays, who starts from it."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from architectures.frozen import SettingError
from architectures.weights.from_transformers import text_tensors
from harness.outputs.files import read_json
from harness.planning import prepare, start_notes
from harness.planning.plan import plan
from harness.planning.prepare import prepared
from harness.runs.assemble import build_design, load_data
from harness.study import Cell, Study, Variant
from harness.training.one_modality.pretraining import Pretraining
from harness.training.settings import versions
from harness.training.settings.loop import Optimizer
from harness.training.settings.spec import RunSpec
from harness.training.settings.warm_start import WarmStart
from harness.warm_start import keys
from harness.warm_start import make as warm_start
from tests.harness.test_warm_start import CELLS, files

APART = WarmStart(
    bert_samples=16, distil_samples=16, vit_samples=16, text_stage_samples=0, batch_size=8,
    optimizer=Optimizer(learning_rate=5e-3),
)  # fmt: skip
RECIPE = APART.model_copy(update={"align_samples": 1280})


def study_with(tiny: Study, recipe: WarmStart = RECIPE) -> Study:
    changed = {"cells": CELLS, "control": "split", "seeds": (0,), "warm_start": recipe}
    return tiny.model_copy(update=changed)


@pytest.fixture(scope="module")
def finished() -> dict[str, Any]:
    """What the first test made, for those that only read."""
    return {}


@pytest.fixture
def made(
    tiny: Study, shared_cache: Path, finished: dict[str, Any], tmp_path_factory: Any
) -> tuple[RunSpec, Path, Path]:
    """A spec, the folder of the towers before alignment and that after it."""
    if not finished:
        outputs = tmp_path_factory.mktemp("aligned") / "outputs"
        outputs.mkdir()
        (outputs / "cache").symlink_to(shared_cache)
        planned = plan(study_with(tiny), outputs)
        (folder,) = prepare.make_all(planned, prepared(planned, outputs), outputs)
        spec = planned.rows[0].spec
        apart = folder.with_name(keys.key(keys.before_alignment(spec)))
        finished["made"] = (spec, apart, folder)
    return finished["made"]


def outputs_of(folder: Path) -> Path:
    return folder.parents[1]


def weights(folder: Path) -> dict[str, Tensor]:
    vit = load_file(folder / "vit.safetensors")
    return text_tensors(str(folder / "bert")) | {f"vit.{name}": x for name, x in vit.items()}


def test_towers_move_and_nothing_else(made: tuple[RunSpec, Path, Path]) -> None:
    _, apart, folder = made
    before, after = weights(apart), weights(folder)
    assert before.keys() == after.keys()
    stayed = {name for name, value in before.items() if torch.equal(value, after[name])}
    assert {name for name in after if name.startswith("heads.mlm")} == stayed  # words are tied
    assert "embeddings.word.weight" not in stayed and "vit.norm.weight" not in stayed
    (one, other) = (files(each / "distilbert") for each in (apart, folder))
    assert one == other


def test_the_two_come_to_agree(made: tuple[RunSpec, Path, Path]) -> None:
    told = read_json(made[2] / "ledger.json")["made"]
    assert set(told) == {"bert", "distilbert", "vit", "aligned"}
    aligned = told["aligned"]
    assert aligned["samples"] == 1280 and aligned["last_loss"] < aligned["first_loss"] - 0.3
    assert aligned["accuracy"] > 2 * aligned["chance"] > 0.2
    assert 0 <= aligned["words_accuracy"] <= 1


def test_every_design_starts_from_them(tiny: Study, made: tuple[RunSpec, Path, Path]) -> None:
    _, _, folder = made
    outputs = outputs_of(folder)
    held = weights(folder)
    for row in plan(study_with(tiny), outputs).rows:
        words = load_data(row.spec, outputs).tokenizer.vocabulary
        own = build_design(row.spec, words, folder).state_dict()
        named = {name.replace("image.vit.", "vit."): value for name, value in own.items()}
        both = named.keys() & held.keys()
        assert {"embeddings.word.weight", "vit.norm.weight"} <= both, row.cell.name
        assert all(torch.equal(named[name], held[name]) for name in both), row.cell.name


def test_it_is_made_once_over_towers_that_are_there(
    tiny: Study, made: tuple[RunSpec, Path, Path], outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, apart, folder = made
    (outputs / "warm_start").mkdir()
    (outputs / "warm_start" / apart.name).symlink_to(apart)
    monkeypatch.setattr(warm_start, "_fill", lambda *_: pytest.fail("made again"))
    short, corpus = spec.with_field("train.warm_start.align_samples", 16), load_data(spec, outputs)
    made_now = warm_start.made(short, corpus, outputs)
    assert made_now is not None and made_now.name not in (folder.name, apart.name)
    first = files(made_now)
    shutil.rmtree(made_now)
    torch.manual_seed(7)
    assert warm_start.made(short, corpus, outputs) == made_now and files(made_now) == first
    monkeypatch.setattr(warm_start, "_fill_aligned", lambda *_: pytest.fail("made again"))
    assert warm_start.made(short, corpus, outputs) == made_now


def test_a_stop_leaves_nothing_half_written(
    made: tuple[RunSpec, Path, Path], outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: Any) -> None:
        raise KeyboardInterrupt

    spec, apart, _ = made
    spec = spec.with_field("train.warm_start.align_samples", 16)
    (outputs / "warm_start").mkdir()
    (outputs / "warm_start" / apart.name).symlink_to(apart)
    monkeypatch.setattr(warm_start, "_save_vit", stopped)  # both text folders are written then
    with pytest.raises(KeyboardInterrupt):
        warm_start.made(spec, load_data(spec, outputs), outputs)
    left = {path.name for path in (outputs / "warm_start").iterdir() if path.name[0] != "."}
    assert left == {apart.name}


def test_keys_hold_what_it_depends_on(
    tiny: Study, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def both(study: Study) -> tuple[str, str]:
        spec = plan(study, outputs).rows[0].spec
        return keys.key(spec), spec.train_key()

    study, apart = study_with(tiny), study_with(tiny, APART)
    found = [both(study), both(apart)]
    wide = "backbone.itc_width"
    assert both(apart.with_field(wide, 32))[0] == found[1][0]  # it is no size of a tower
    found += [both(study.with_field(wide, 32))]
    found += [both(study.with_field("warm_start.align_samples", 2560))]
    for version in ("ALIGNMENT", "OBJECTIVES"):
        with monkeypatch.context() as patch:
            patch.setattr(versions, version, "raised")
            assert both(apart)[0] == found[1][0]
            found += [both(study)]
    for part in zip(*found, strict=True):
        assert len(set(part)) == len(found)
    named = plan(apart, outputs).rows[0].spec.train
    assert "alignment" not in named.versions
    assert "align_samples" not in named.changed_fields()["warm_start"]


def test_it_is_told_before_and_after(tiny: Study, made: tuple[RunSpec, Path, Path]) -> None:
    _, _, folder = made
    outputs, study = outputs_of(folder), study_with(tiny)
    planned = plan(study, outputs)
    corpora = prepared(planned, outputs)
    told = read_json(folder / "ledger.json")["made"]["aligned"]
    expected = start_notes.expected(planned.rows[0].spec, corpora["split"])["aligned"]
    assert expected.items() <= told.items() and expected["flops"] > 0
    (line,) = start_notes.notes(planned, corpora, outputs)
    assert "made before the runs: BERT 16 samples" in line
    assert "BERT and ViT aligned by 1,280 samples" in line and "pairs of a batch" in line
    later = plan(study.with_field("warm_start.seed", 91), outputs)
    (line,) = start_notes.notes(later, corpora, outputs)
    assert "to be made before the first run" in line and "aligned by 1,280 samples" in line


def test_a_loss_that_is_no_number_is_said(tiny: Study, made: tuple[RunSpec, Path, Path]) -> None:
    spec, apart, folder = made
    wild = Optimizer(learning_rate=1e30, clip_norm=0.0, warmup_share=0.0)
    spec = spec.with_field("train.warm_start.optimizer", wild)
    course = Pretraining(spec.train, load_data(spec, outputs_of(folder)))
    with pytest.raises(SettingError, match=r"aligned diverged at step .*learning_rate, 1e\+30"):
        course.aligned(apart / "bert", apart / "vit.safetensors")


def test_a_text_stage_learns_over_the_aligned_vit(tiny: Study, outputs: Path) -> None:
    recipe = RECIPE.model_copy(update={"align_samples": 16, "text_stage_samples": 16})
    cells = (Cell(variant=Variant("multiway", vl_layers=1), label="split"),)
    planned = plan(study_with(tiny, recipe).model_copy(update={"cells": cells}), outputs)
    towers, stage = prepare.make_all(planned, prepared(planned, outputs), outputs)
    vit, held = load_file(towers / "vit.safetensors"), load_file(stage / "model.safetensors")
    name = "blocks.0.attn.qkv.weight"
    assert torch.equal(held[f"image.vit.{name}"], vit[name])
    entries = [path for path in (outputs / "warm_start").iterdir() if path.is_dir()]
    assert len(entries) == 3  # apart, aligned, and one stage
