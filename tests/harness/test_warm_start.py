"""What designs start from where nothing can be downloaded: made once, whole, to the same bits."""

import dataclasses
import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from architectures.backbone import scale
from architectures.frozen import SettingError
from architectures.weights.checkpoints import read
from architectures.weights.slots import redraw, role_digests
from harness.commands.main import app
from harness.lab import Lab
from harness.outputs.files import read_json
from harness.outputs.folder import RunFolder
from harness.outputs.records import Certificate
from harness.planning import prepare, start_notes
from harness.planning.plan import Plan, plan
from harness.planning.prepare import prepared
from harness.runs.assemble import build_design, load_data
from harness.runs.run import execute
from harness.study import Cell, Study, Variant
from harness.training.data.corpus import Corpus
from harness.training.one_modality.courses import SOFT, TEMPERATURE, Distilled
from harness.training.one_modality.models import FillsPatches, MaskedWords, halved
from harness.training.one_modality.pretraining import Pretraining, batches_of, vit_task
from harness.training.randomness import stream
from harness.training.settings.loop import Optimizer
from harness.training.settings.spec import RunSpec
from harness.training.settings.warm_start import WarmStart
from harness.warm_start import keys
from harness.warm_start import make as warm_start

RECIPE = WarmStart(
    bert_samples=16, distil_samples=16, vit_samples=16, text_stage_samples=0, batch_size=8
)
CELLS = (
    Cell(variant=Variant("split_bert", text_layers=1), label="split"),
    Cell(variant=Variant("distilbert_fusion", distil_layers=1), label="distil"),
    Cell(variant=Variant("multiway", layers=1), label="multiway"),
    Cell(variant=Variant("dual_encoder"), role="floor"),
)


@pytest.fixture
def warm(tiny: Study) -> Study:
    """Designs of several families, at one seed, from a warm start."""
    changed = {"cells": CELLS, "control": "split", "seeds": (0,), "warm_start": RECIPE}
    return tiny.model_copy(update=changed)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Outputs folders in which a warm start was made, by key: once for the tests that only read."""
    return {}


@pytest.fixture
def made(
    warm: Study, shared_cache: Path, finished: dict[str, Path], tmp_path_factory: Any
) -> tuple[RunSpec, Path]:
    """A spec, and the outputs folder that holds its warm start."""
    if "only" not in finished:
        outputs = tmp_path_factory.mktemp("warm") / "outputs"
        outputs.mkdir()
        (outputs / "cache").symlink_to(shared_cache)
        planned = plan(warm, outputs)
        prepare.make_all(planned, prepared(planned, outputs), outputs)
        finished["only"] = outputs
    outputs = finished["only"]
    return plan(warm, outputs).rows[0].spec, outputs


def files(folder: Path) -> dict[str, str]:
    """Digest of every file; the ledger has seconds in it, and the manifest its size."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("ledger.json", "manifest.json")
    }


def folder_of(spec: RunSpec, outputs: Path) -> Path:
    return outputs / "warm_start" / keys.key(spec)


def test_twice_the_same_bits(made: tuple[RunSpec, Path], outputs: Path) -> None:
    spec, first = made
    torch.manual_seed(7)
    np.random.seed(7)
    again = warm_start.made(spec, load_data(spec, outputs), outputs)
    found = files(folder_of(spec, first))
    assert again is not None and files(again) == found
    assert {"bert/model.safetensors", "distilbert/model.safetensors", "vit.safetensors"} <= set(
        found
    )


def test_a_flipped_byte_is_noticed(made: tuple[RunSpec, Path], tmp_path: Path) -> None:
    """In every model that runs start from; the ViT tells its heads and pixels besides."""
    spec, outputs = made
    shutil.copytree(folder_of(spec, outputs), tmp_path / "copy")
    for source in ("bert", "distilbert", "vit.safetensors"):
        found = read(tmp_path / "copy" / source)
        path = tmp_path / "copy" / source
        path = path if path.is_file() else path / "model.safetensors"
        content = bytearray(path.read_bytes())
        content[-50] ^= 4
        path.write_bytes(bytes(content))
        with pytest.raises(SettingError, match="are not those that fuselab wrote there"):
            read(tmp_path / "copy" / source)
    assert found.sizes["image_heads"] == spec.backbone.image_heads and not found.assumed_pixels
    assert found.pixels is not None and found.pixels.are_ours


def test_dropout_is_drawn_by_step(warm: Study, outputs: Path) -> None:
    found = []
    for seed in (1, 2):
        _, course = corpus_and(warm, outputs)
        torch.manual_seed(seed)
        found.append(role_digests(course.bert()[0]))
    assert found[0] == found[1]


def test_it_is_made_once(made: tuple[RunSpec, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    spec, outputs = made
    monkeypatch.setattr(warm_start, "_fill", lambda *_: pytest.fail("made again"))
    assert warm_start.made(spec, load_data(spec, outputs), outputs) == folder_of(spec, outputs)


@pytest.mark.parametrize("kind", ["bert", "distilbert"])
def test_transformers_reads_the_same_model(made: tuple[RunSpec, Path], kind: str) -> None:
    import transformers

    from architectures.build import backbone_from
    from architectures.weights.from_transformers import text_tensors

    spec, outputs = made
    corpus, folder = load_data(spec, outputs), folder_of(spec, outputs) / kind
    theirs = transformers.AutoModelForMaskedLM.from_pretrained(folder, attn_implementation="eager")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    captions = [said[0] for said in corpus.val.captions[:4]] + [""]
    ids_BL, real_BL = corpus.tokenizer.encode(captions)
    asked = tokenizer(captions, padding="max_length", return_tensors="pt")
    assert torch.equal(asked["input_ids"], ids_BL)
    assert torch.equal(asked["attention_mask"].bool(), real_BL)

    backbone = backbone_from(spec.backbone, str(folder))
    assert backbone.text == kind and backbone.text_layers == (3 if kind == "bert" else 1)
    ours = MaskedWords(backbone, corpus.tokenizer.vocabulary).eval()
    found = ours.load_state_dict(text_tensors(str(folder)), strict=False)
    assert set(found.missing_keys) <= {"heads.mlm.decoder.weight"} and not found.unexpected_keys
    every_BL = torch.arange(ids_BL.shape[1]).expand(ids_BL.shape)
    logits_NV, _ = ours(ids_BL, real_BL, every_BL)
    expected_BLV = theirs.eval()(**asked).logits
    torch.testing.assert_close(
        logits_NV.view_as(expected_BLV)[real_BL], expected_BLV[real_BL], rtol=1e-5, atol=1e-5
    )


def test_every_design_starts_from_it(warm: Study, made: tuple[RunSpec, Path]) -> None:
    from architectures.weights.from_transformers import text_tensors

    spec, outputs = made
    folder = folder_of(spec, outputs)
    words = load_data(spec, outputs).tokenizer.vocabulary
    bert, half = (text_tensors(str(folder / kind)) for kind in ("bert", "distilbert"))
    vit = load_file(folder / "vit.safetensors")
    started = {}
    for row in plan(warm, outputs).rows:
        assert keys.key(row.spec) == folder.name
        weights = build_design(row.spec, words, folder).state_dict()
        fresh = build_design(row.spec, words).state_dict()
        started[row.cell.name] = {k for k, v in weights.items() if not torch.equal(v, fresh[k])}
        for role in weights.keys() & bert.keys():
            assert torch.equal(weights[role], bert[role]), (row.cell.name, role)
        for name in [name for name in vit if f"image.vit.{name}" in weights]:
            assert torch.equal(weights[f"image.vit.{name}"], vit[name]), (row.cell.name, name)
        if row.cell.name == "distil":
            for role in [role for role in half if role.startswith("layers.")]:
                assert torch.equal(weights[role.replace("layers", "distil")], half[role])
    assert "heads.mlm.dense.weight" in started["split"] & started["distil"]
    assert not any("cross" in role for roles in started.values() for role in roles)
    assert any(role.startswith("distil.0.mlp") for role in started["distil"])


@pytest.mark.slow
def test_a_study_runs_from_it_and_says_so(warm: Study, outputs: Path) -> None:
    lab = Lab(outputs)
    short = warm.model_copy(update={"cells": CELLS[:2]})
    states = lab.run(short, local=True)
    assert set(states.values()) == {"done"}
    (note,) = lab.notes("tiny")
    assert "all designs start from" in note and "BERT 16 samples" in note
    keys = [row.spec.train_key() for row in lab.plan(short).rows]
    certificates = [Certificate.read(RunFolder(outputs, key).certificate) for key in keys]
    roles = [{n: role.digest for n, role in one.roles.items()} for one in certificates]
    bare = plan(warm.model_copy(update={"warm_start": None}), outputs).rows[0].spec
    words = load_data(bare, outputs).tokenizer.vocabulary
    fresh = role_digests(build_design(bare, words))
    assert roles[0]["layers.0.mlp.inner.weight"] == roles[1]["layers.0.mlp.inner.weight"]
    assert roles[0]["layers.0.mlp.inner.weight"] != fresh["layers.0.mlp.inner.weight"]


def test_a_worker_makes_what_is_missing(warm: Study, outputs: Path) -> None:
    spec = plan(warm, outputs).rows[1].spec
    assert execute(spec, outputs) == "done"
    assert folder_of(spec, outputs).is_dir()


def test_keys_hold_the_recipe_and_no_path(warm: Study, outputs: Path, tmp_path: Path) -> None:
    spec = plan(warm, outputs).rows[0].spec
    assert plan(warm, tmp_path / "other").rows[0].spec == spec

    def keys_with(path: str, value: Any) -> tuple[str, str]:
        changed = plan(warm.with_field(path, value), outputs).rows[0].spec
        return keys.key(changed), changed.train_key()

    for path, value in {
        "warm_start.seed": 91,
        "warm_start.vit_task": "patches",
        "warm_start.optimizer.learning_rate": 1e-4,
        "backbone.text_mlp": 64,
        "data.seed": 1,
        "data.text.vocabulary": 400,
        "numerics.threads": 2,
    }.items():
        key, train_key = keys_with(path, value)
        assert key != keys.key(spec) and train_key != spec.train_key(), path
    assert keys_with("budget.steps", 7)[0] == keys.key(spec)
    assert keys_with("backbone.itc_width", 32)[0] == keys.key(spec)


def test_a_study_without_one_keeps_its_keys(
    tiny: Study, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[Any] = []
    monkeypatch.setattr(
        "harness.training.settings.spec.digest", lambda parts: str(hashed.append(parts))
    )
    plan(tiny, outputs).rows[0].spec.train_key()
    _, fields = hashed[-1]
    assert "warm_start" not in fields and "warm_start" not in fields["versions"]


def test_a_stop_leaves_nothing_half_written(
    warm: Study, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: Any) -> None:
        raise KeyboardInterrupt

    spec = plan(warm, outputs).rows[0].spec
    with monkeypatch.context() as patch:
        patch.setattr(Pretraining, "vit", stopped)  # both text folders are written then
        with pytest.raises(KeyboardInterrupt):
            warm_start.made(spec, load_data(spec, outputs), outputs)
    left = [path.name for path in (outputs / "warm_start").iterdir() if path.name[0] != "."]
    assert left == []


def test_a_loss_that_is_no_number_is_said(warm: Study, outputs: Path) -> None:
    wild = Optimizer(learning_rate=1e30, clip_norm=0.0, warmup_share=0.0)
    spec = plan(warm, outputs).rows[0].spec
    recipe = RECIPE.model_copy(update={"optimizer": wild, "bert_samples": 80})
    spec = spec.model_copy(update={"train": spec.train.model_copy(update={"warm_start": recipe})})
    with pytest.raises(SettingError, match=r"bert diverged at step .*learning_rate, 1e\+30"):
        warm_start.made(spec, load_data(spec, outputs), outputs)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("backbone.text", "roberta", "backbone.text is 'roberta'"),
        ("backbone.text_weights", "some", "take the place of backbone.text_weights 'some'"),
        ("backbone.vision_weights", "hub", "take the place of backbone.vision_weights 'hub'"),
    ],
)
def test_what_it_does_not_go_with(
    warm: Study, outputs: Path, path: str, value: str, said: str
) -> None:
    short = warm.model_copy(update={"cells": CELLS[:1]})
    with pytest.raises(SettingError, match=rf"cell 'split': .*{said}"):
        plan(short.with_field(path, value), outputs)


def test_a_design_that_has_its_own_weights(warm: Study, outputs: Path) -> None:
    own = Cell(variant=Variant("distilbert_fusion", distil_weights="some"), label="split")
    with pytest.raises(SettingError, match="take the place of distil_weights 'some'"):
        plan(warm.model_copy(update={"cells": (own,)}), outputs)


def test_a_student_of_another_depth_is_said_before_any_run(
    warm: Study, made: tuple[RunSpec, Path]
) -> None:
    _, outputs = made
    six = Cell(variant=Variant("distilbert_fusion"), label="split")
    with pytest.raises(SettingError, match=r"cell 'split': .*distil_layers is 6, "):
        Lab(outputs).run(warm.model_copy(update={"cells": (six,)}), local=True)
    assert not list((outputs / "runs").glob("*"))


def corpus_and(warm: Study, outputs: Path, **recipe: Any) -> tuple[Any, Pretraining]:
    spec = plan(warm, outputs).rows[0].spec
    corpus = load_data(spec, outputs)
    changed = {"warm_start": RECIPE.model_copy(update=recipe)}
    return corpus, Pretraining(spec.train.model_copy(update=changed), corpus)


def test_what_the_vit_learns(warm: Study, outputs: Path) -> None:
    corpus, course = corpus_and(warm, outputs, vit_task="patches")
    assert vit_task(RECIPE, corpus) == "patches"  # 96 pictures of nearly as many descriptions
    model, told = course.vit()
    assert told["task"] == "patches" and told["error"] > 0 and isinstance(model, FillsPatches)
    groups = np.arange(len(corpus.train)) // 8
    grouped = with_groups(corpus, groups)
    assert vit_task(RECIPE, grouped) == "classes"
    asked = Pretraining(course.spec.model_copy(update={"warm_start": RECIPE}), grouped)
    _, told = asked.vit()
    assert told["task"] == "classes" and 1 / 12 <= told["chance"] < 0.5 and told["items"] == 512
    single = with_groups(corpus, np.arange(len(corpus.train)))
    with pytest.raises(SettingError, match="96 training pictures are of 96 groups"):
        vit_task(RECIPE.model_copy(update={"vit_task": "classes"}), single)


def with_groups(corpus: Corpus, groups: np.ndarray) -> Corpus:
    train = dataclasses.replace(corpus.train, group_N=groups.astype(np.int64))
    return dataclasses.replace(corpus, train=train)


def drawn(build: Callable[[], torch.nn.Module], seed: int = 0) -> Any:
    model = build()
    redraw(model, lambda role: stream(seed, role), std=0.3)
    return model.eval()


SMALL = scale("nano").model_copy(update={"text_layers": 5, "text_width": 16, "text_mlp": 32})


def test_half_of_a_bert() -> None:
    teacher = drawn(lambda: MaskedWords(SMALL, 40))
    student = halved(teacher).eval()
    assert student.backbone.text == "distilbert" and student.backbone.text_layers == 2
    for slot, source in ((0, 2), (1, 4)):
        for name, value in student.layers[slot].state_dict().items():
            assert torch.equal(value, teacher.layers[source].state_dict()[name])
    ids_BL = torch.randint(5, 40, (3, 6), generator=torch.Generator().manual_seed(0))
    for model in (teacher, student):
        model.layers = torch.nn.ModuleList()  # what is left embeds a text, and names words
    real_BL = torch.ones_like(ids_BL, dtype=torch.bool)
    asked = (ids_BL, real_BL, torch.tensor([[1, 2]] * 3))
    for ours, its in zip(student(*asked), teacher(*asked), strict=True):
        torch.testing.assert_close(ours, its)


def test_the_loss_of_distilling_against_a_loop(warm: Study, outputs: Path) -> None:
    corpus, course = corpus_and(warm, outputs)
    words, backbone = corpus.tokenizer.vocabulary, course.spec.backbone
    teacher = drawn(lambda: MaskedWords(backbone, words))
    distilled = Distilled(teacher)
    batch = batches_of(RECIPE, corpus).at(0)
    loss, term = distilled.eval()(batch)
    asked = (batch.masked_ids_BL, batch.text_is_real_BL, batch.mask_positions_BR)
    with torch.no_grad():
        (said, states), (taught, shown) = distilled.model(*asked), teacher(*asked)
    soft, hard = [], []
    for row, label in enumerate(batch.mask_labels_BR.flatten().tolist()):
        if label != -100:
            p, q = (taught[row] / TEMPERATURE).softmax(-1), (said[row] / TEMPERATURE).softmax(-1)
            soft.append(float((p * (p / q).log()).sum()) * TEMPERATURE**2)
            hard.append(-float(said[row].log_softmax(-1)[label]))
    apart = [
        1 - float(a @ b / (a.norm() * b.norm()))
        for a, b, real in zip(states, shown, batch.text_is_real_BL.flatten().tolist(), strict=True)
        if real
    ]
    expected = SOFT * np.mean(soft) + 2 * np.mean(hard) + np.mean(apart)
    assert loss.item() == pytest.approx(expected, rel=1e-4) and int(term.items) == len(hard)
    loss.backward()
    assert all(p.grad is None for p in distilled.teacher.parameters())
    assert all(p.grad is not None for p in distilled.model.parameters())


def test_hidden_patches_are_not_seen() -> None:
    model = drawn(lambda: FillsPatches(scale("nano")))
    image_BCHW = torch.from_numpy(stream(0, "pixels").standard_normal((2, 3, 32, 32), np.float32))
    at_BR = torch.tensor([[0, 5], [3, 6]])
    said_NK, true_NK = model(image_BCHW, at_BR)
    other_BCHW = image_BCHW.clone()
    other_BCHW[0, :, 8:16, 8:16] += 1 + torch.arange(8.0)  # patch 5 of the first picture
    again_NK, changed_NK = model(other_BCHW, at_BR)
    torch.testing.assert_close(again_NK, said_NK)
    assert (changed_NK != true_NK).any(1).tolist() == [False, True, False, False]
    patch = image_BCHW[1, :, 0:8, 24:32].flatten()
    torch.testing.assert_close(true_NK[2], (patch - patch.mean()) / patch.std(), atol=1e-4, rtol=0)
    other_BCHW[0, :, 0:8, 8:16] += 1  # patch 1, which is seen
    assert not torch.allclose(model(other_BCHW, at_BR)[0][:2], said_NK[:2])


def test_what_it_will_cost_is_what_it_costs(warm: Study, made: tuple[RunSpec, Path]) -> None:
    spec, outputs = made
    told = read_json(folder_of(spec, outputs) / "ledger.json")
    corpus = load_data(spec, outputs)
    for name, expected in start_notes.expected(spec, corpus).items():
        assert expected.items() <= told["made"][name].items()
    assert told["warm_start"] == spec.train.warm_start.model_dump(mode="json")
    planned: Plan = plan(warm.with_field("warm_start.seed", 91), outputs)
    (note,) = start_notes.notes(planned, dict.fromkeys(("split",), corpus), outputs)
    assert "to be made before the first run" in note and "DistilBERT 16 samples" in note


def test_a_copy_is_whole_or_refused(made: tuple[RunSpec, Path], tmp_path: Path) -> None:
    spec, outputs = made
    to = warm_start.copied(folder_of(spec, outputs), tmp_path / "weights")
    assert files(to) == files(folder_of(spec, outputs)) and not (to / "manifest.json").exists()
    with pytest.raises(SettingError, match="not empty"):
        warm_start.copied(folder_of(spec, outputs), to)


def test_from_the_command_line(
    warm: Study, made: tuple[RunSpec, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, outputs = made
    monkeypatch.setattr("harness.planning.shelf.load", lambda *_: warm)
    words = ["warm-start", "own", "--outputs", str(outputs), "--to", str(tmp_path / "to")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    for said in ("BERT 16 samples", "DistilBERT 16", "right (the commonest:", "their means"):
        assert said in result.output
    assert files(tmp_path / "to") == files(folder_of(spec, outputs))
    again = CliRunner().invoke(app, words)
    assert again.exit_code == 2 and "not empty" in again.output


def test_a_study_that_names_no_recipe_gets_the_default(tiny: Study, outputs: Path) -> None:
    asked: list[RunSpec] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(warm_start, "made", lambda spec, *_: asked.append(spec))
        Lab(outputs).warm_start(tiny)
    assert {spec.train.warm_start for spec in asked} == {WarmStart()}
