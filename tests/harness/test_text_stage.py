"""VLMo's second stage: text parts learn from captions alone, over a ViT whose attention rests."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from architectures import build, exported, registry
from architectures.designs.multiway import Multiway, MultiwayConfig
from architectures.weights import slots
from harness.outputs.files import read_json
from harness.planning import prepare, start_notes
from harness.planning.plan import plan
from harness.planning.prepare import prepared
from harness.runs.assemble import build_design, load_data
from harness.study import Cell, Study, Variant
from harness.training.data.corpus import Corpus
from harness.training.one_modality.pretraining import Pretraining
from harness.training.randomness import stream
from harness.training.settings.loop import Optimizer
from harness.training.settings.spec import RunSpec
from harness.training.settings.warm_start import WarmStart
from harness.warm_start import keys
from harness.warm_start import make as warm_start

RECIPE = WarmStart(
    bert_samples=16,
    distil_samples=16,
    vit_samples=16,
    text_stage_samples=160,
    batch_size=8,
    optimizer=Optimizer(learning_rate=5e-3),
)
CELLS = (
    Cell(variant=Variant("split_bert", text_layers=1), label="split"),
    Cell(variant=Variant("multiway", vl_layers=1), label="multiway"),
)


@pytest.fixture
def staged(tiny: Study) -> Study:
    changed = {"cells": CELLS, "control": "split", "warm_start": RECIPE}
    return tiny.model_copy(update=changed)


@pytest.fixture(scope="module")
def finished() -> dict[str, Any]:
    """What the first test made, for those that only read."""
    return {}


@pytest.fixture
def made(
    staged: Study, shared_cache: Path, finished: dict[str, Any], tmp_path_factory: Any
) -> tuple[Path, Path, Path]:
    """The outputs folder, that of the towers, and that of the stage."""
    if not finished:
        outputs = tmp_path_factory.mktemp("stage") / "outputs"
        outputs.mkdir()
        (outputs / "cache").symlink_to(shared_cache)
        planned = plan(staged, outputs)
        towers, stage = prepare.make_all(planned, prepared(planned, outputs), outputs)
        finished["made"] = (outputs, towers, stage)
    return finished["made"]


def specs(study: Study, outputs: Path, cell: str) -> list[RunSpec]:
    """Those of a cell, by seed."""
    return [row.spec for row in plan(study, outputs).rows if row.cell.name == cell]


def course_of(spec: RunSpec, outputs: Path) -> tuple[Corpus, Pretraining]:
    corpus = load_data(spec, outputs)
    return corpus, Pretraining(spec.train, corpus)


def weights_of(design: torch.nn.Module) -> dict[str, Tensor]:
    return {role: value.detach() for role, value in design.named_parameters()}


def test_what_learns_and_what_rests(staged: Study, made: tuple[Path, Path, Path]) -> None:
    outputs, towers, folder = made
    spec = specs(staged, outputs, "multiway")[0]
    stage = keys.text_stage(spec)
    assert stage is not None
    learnt = exported.load(folder)
    start = build.design(
        "multiway",
        stage.fields,
        spec.backbone.with_field("vision_weights", str(towers / "vit.safetensors")),
        learnt.vocabulary,
        draw=lambda role: stream(RECIPE.seed, "initial weights", role),
        objectives=("mlm",),
    )
    before, after = weights_of(start), weights_of(learnt)
    assert before.keys() == after.keys()
    changed = {role for role in before if not torch.equal(before[role], after[role])}
    assert changed == {role for role in before if role.startswith(stage.trains)}
    assert {
        "embeddings.word.weight",
        "types.text.weight",
        "text_experts.0.norm.weight",
        "text_experts.0.mlp.fc1.weight",
        "positions.bias_table",
        "image.vit.norm.weight",
        "heads.mlm.dense.weight",
    } <= changed
    vit = load_file(towers / "vit.safetensors")
    for part in ("attn.qkv.weight", "attn.proj.bias", "norm1.weight", "mlp.fc1.weight"):
        name = f"blocks.0.{part}"
        assert torch.equal(after[f"image.vit.{name}"], vit[name])


def test_its_loss_falls(made: tuple[Path, Path, Path]) -> None:
    told = read_json(made[2] / "ledger.json")["made"]["text_stage"]
    assert told["samples"] == 160
    assert told["last_loss"] < told["first_loss"] - 0.3
    assert 0 < told["chance"] < 1 and told["measured_on"] == "validation"


def test_a_design_of_the_study_starts_from_it(staged: Study, made: tuple[Path, Path, Path]) -> None:
    outputs, towers, folder = made
    held = load_file(folder / "model.safetensors")
    first, second = (
        build_design(spec, exported.load(folder).vocabulary, towers)
        for spec in specs(staged, outputs, "multiway")
    )
    ours, others = weights_of(first), weights_of(second)
    assert held.keys() < ours.keys()
    for role, value in held.items():
        assert torch.equal(ours[role], value) and torch.equal(others[role], value), role
    for role in ("fusion_experts.0.mlp.fc1.weight", "pooler.weight", "heads.itc.text.weight"):
        assert not torch.equal(ours[role], others[role]), role
    assert all(parameter.requires_grad for parameter in first.parameters())
    starts = slots.starts(first)
    for role in ("embeddings.word.weight", "image.vit.norm.weight", "text_experts.0.norm.bias"):
        assert starts[role].startswith("whole:")
    assert starts["image.vit.blocks.0.attn.qkv.weight"] == "image.vit.blocks.0.attn.qkv.weight"


def test_another_design_is_not_affected(
    staged: Study, made: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs, towers, folder = made
    spec = specs(staged, outputs, "split")[0]
    without = specs(staged.with_field("warm_start.text_stage_samples", 0), outputs, "split")[0]
    assert spec.train_key() == without.train_key()
    assert keys.key(spec) == keys.key(without) == towers.name
    words = exported.load(folder).vocabulary
    found = (slots.role_digests(build_design(each, words, towers)) for each in (spec, without))
    assert next(found) == next(found)
    hashed: list[Any] = []
    monkeypatch.setattr(
        "harness.training.settings.spec.digest", lambda parts: str(hashed.append(parts))
    )
    spec.train_key()
    _, fields = hashed[-1]
    assert "text_stage_samples" not in fields["warm_start"]
    assert "text_stage" not in fields["versions"]


def linked(outputs: Path, towers: Path) -> None:
    """The towers, which need not be made again."""
    (outputs / "warm_start").mkdir()
    (outputs / "warm_start" / towers.name).symlink_to(towers)


def test_a_study_without_such_a_design_makes_no_stage(
    staged: Study, made: tuple[Path, Path, Path], outputs: Path
) -> None:
    linked(outputs, made[1])
    planned = plan(staged.model_copy(update={"cells": CELLS[:1]}), outputs)
    folders = prepare.make_all(planned, prepared(planned, outputs), outputs)
    assert [path.name for path in folders] == [made[1].name]
    assert [path for path in (outputs / "warm_start").iterdir() if path.is_dir()] == folders


def test_keys_hold_what_the_stage_depends_on(staged: Study, outputs: Path) -> None:
    def folder(**fields: Any) -> tuple[str, str]:
        cells = (CELLS[0], Cell(variant=Variant("multiway", **fields), label="multiway"))
        spec = specs(staged.model_copy(update={"cells": cells}), outputs, "multiway")[0]
        stage = keys.text_stage(spec)
        return keys.stage_folder(spec, stage) if stage else "", spec.train_key()

    (name, run), (same, other) = folder(vl_layers=1), folder(vl_layers=0, pooler=False)
    assert name == same and run != other  # text alone passes through neither
    assert folder(positions="absolute")[0] not in ("", name)
    assert folder(separate_passes=False)[0] == ""
    longer = staged.with_field("warm_start.text_stage_samples", 320)
    spec = specs(longer, outputs, "multiway")[0]
    stage = keys.text_stage(spec)
    assert stage and keys.stage_folder(spec, stage) != name and spec.train_key() != run
    none = specs(staged.with_field("warm_start.text_stage_samples", 0), outputs, "multiway")[0]
    assert keys.text_stage(none) is None and none.train_key() != run


def test_twice_the_same_bits(staged: Study, made: tuple[Path, Path, Path], tmp_path: Path) -> None:
    outputs, towers, folder = made
    spec = specs(staged, outputs, "multiway")[0]
    torch.manual_seed(7)
    _, course = course_of(spec, outputs)
    stage = keys.text_stage(spec)
    assert stage
    model, _ = course.text_stage(stage, towers / "vit.safetensors")
    held = load_file(folder / "model.safetensors")
    found = weights_of(model)
    assert found.keys() == held.keys()
    assert all(torch.equal(found[role], held[role]) for role in held)


def test_a_stop_leaves_nothing_half_written(
    staged: Study, made: tuple[Path, Path, Path], outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(folder: Path, *_: Any, **__: Any) -> None:
        (folder / "model.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt

    linked(outputs, made[1])
    spec = specs(staged, outputs, "multiway")[0]
    monkeypatch.setattr(exported, "write", stopped)
    with pytest.raises(KeyboardInterrupt):
        warm_start.made(spec, load_data(spec, outputs), outputs)
    left = [path.name for path in (outputs / "warm_start").iterdir() if path.name[0] != "."]
    assert left == [made[1].name]


def test_it_is_told_before_and_after(staged: Study, made: tuple[Path, Path, Path]) -> None:
    outputs, _, folder = made
    planned = plan(staged, outputs)
    corpora = prepared(planned, outputs)
    told = read_json(folder / "ledger.json")["made"]["text_stage"]
    spec = specs(staged, outputs, "multiway")[0]
    (expected,) = start_notes.expected_stage(spec, corpora["multiway"]).values()
    assert expected.items() <= told.items()
    towers, stage = start_notes.notes(planned, corpora, outputs)
    assert towers.startswith("all designs start from weights trained on the training data")
    assert stage.startswith("text parts of multiway start from training on captions alone")
    assert "made before the runs: text stage 160 samples" in stage and "masked words" in stage
    later = plan(staged.with_field("warm_start.seed", 91), outputs)
    assert (
        "to be made before the first run: text stage"
        in start_notes.notes(later, corpora, outputs)[1]
    )


def test_no_way_through_the_top_layers_without_passes_of_their_own() -> None:
    assert Multiway.text_stage(MultiwayConfig(separate_passes=False)) is None
    stage = Multiway.text_stage(MultiwayConfig())
    assert stage and registry.config("multiway", stage.fields).vl_layers == 0  # type: ignore[attr-defined]
