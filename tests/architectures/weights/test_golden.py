"""The comparison with stored numbers, on a folder of other sizes made here: what agrees, what is
wrong, what a folder may lack. The numbers are the design's own; only the script is tested.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch

from architectures import build
from architectures.backbone import Backbone
from benchmarks import albef_golden as golden
from tests.architectures.conftest import SMALL, VOCABULARY, seeded
from tests.architectures.weights.test_checkpoints import published

VISION = dict(
    image_res=12, patch_size=4, width=24, depth=3, heads=3, mlp_ratio=2.5, in_channels=1,
    layer_norm_eps=1e-6, qkv_bias=True, activation="gelu (erf)",
)  # fmt: skip
BERT = dict(
    hidden_size=16, num_hidden_layers=5, fusion_layer=2, num_attention_heads=4,
    intermediate_size=20, encoder_width=24, vocab_size=50, max_position_embeddings=9,
    type_vocab_size=1, layer_norm_eps=1e-12, hidden_act="gelu (erf)",
)  # fmt: skip
SIZES = dict(
    image_size=12, patch_size=4, image_width=24, image_layers=3, image_heads=3, image_mlp=60,
    image_channels=1, image_norm_eps=1e-6, text_width=16, text_layers=5, text_heads=4, text_mlp=20,
    max_positions=9, itc_width=6,
)  # fmt: skip

TWINS = ("visual_encoder.", "text_encoder.", "vision_proj.", "text_proj.")


def twin(name: str) -> str:
    """The name of a weight's momentum twin."""
    tower, _, rest = name.partition(".")
    return f"{tower}_m.{rest}"


def batch(texts: int, images: int, size: int) -> dict[str, torch.Tensor]:
    real = torch.arange(7) < torch.randint(2, 8, (texts, 1))
    return {
        "images": torch.randn(images, 1, size, size).half(),
        "input_ids": torch.randint(1, 50, (texts, 7)) * real,
        "attention_mask": real.long(),
    }


def fine_tuned(state: dict[str, torch.Tensor]) -> dict[str, dict]:
    """The states of the three tasks: which weights come from the checkpoint, and new ones."""
    fresh = {f"cls_head{m}.{layer}.{kind}": torch.randn(*shape)
             for m in ("", "_m") for layer, rows in ((0, 16), (2, 3))
             for kind, shape in (("weight", (rows, 16)), ("bias", (rows,)))}  # fmt: skip
    same, twice, decoder = {}, {}, {}
    for name in state:
        head, _, layer = name.replace(".bert.", ".").partition(".encoder.layer.")
        number, _, rest = layer.partition(".")
        if name.startswith(("visual_encoder", "text_encoder")) and ".cls." not in name:
            same[name.replace(".bert.", ".")] = name
            fuses = bool(layer) and int(number) >= 2
            for image in (0, 1) if fuses else ():
                twice[f"{head}.encoder.layer.{2 * int(number) - 2 + image}.{rest}"] = name
            twice |= {} if fuses else {name.replace(".bert.", "."): name}
        if name.startswith("text_encoder") and not (layer and int(number) < 2):
            ours = name.replace("text_encoder", "text_decoder")
            decoder[ours.replace(f"layer.{number}.", f"layer.{int(number or 2) - 2}.")] = name
    reads = ("crossattention.self.key.weight", "crossattention.self.value.weight")
    wide = {name: state[origin][:, :16] + 0.1 for name, origin in decoder.items()
            if name.endswith(reads)}  # fmt: skip
    decoder = {name: origin for name, origin in decoder.items() if name not in wide}
    nlvr = {name: x[:2] if ".2." in name else x for name, x in fresh.items()}
    return {
        "ve": {"from_checkpoint": same, "own": fresh},
        "nlvr": {"from_checkpoint": twice, "own": nlvr,
                 "own_variant2": {"cls_head.2.bias": torch.ones(2)}},
        "vqa": {"from_checkpoint": {**same, **decoder}, "own": wide,
                "own_variant2": {"text_decoder.bert.embeddings.LayerNorm.bias": torch.ones(16)}},
    }  # fmt: skip


def labelled_items(size: int) -> dict[str, dict]:
    """Inputs of the three tasks."""
    one = {**batch(3, 3, size), "alpha": 0.4, "targets": torch.tensor([1, 0, 1])}
    two = {**one, "image0": one["images"], "image1": one["images"].flip(0)}
    del two["images"]
    answers = torch.tensor([[1, 5, 2, 0], [1, 6, 2, 0], [1, 5, 7, 2], [1, 8, 2, 0], [1, 9, 3, 2]])
    vqa = {
        "images": one["images"], "alpha": 0.4, "k": [1, 3, 1], "rank_k": 2,
        "question_ids": one["input_ids"], "question_mask": one["attention_mask"],
        "weights": torch.tensor([1.0, 0.5, 0.3, 0.2, 1.0]), "answer_ids": answers,
        "answer_mask": (answers > 0).long(), "candidate_ids": answers[[0, 1, 3, 4]],
        "candidate_mask": (answers[[0, 1, 3, 4]] > 0).long(),
    }  # fmt: skip
    return {"ve": one, "nlvr": two, "vqa": vqa}


def changed(folder: Path, file: str, change) -> None:
    stored = torch.load(folder / file, weights_only=True)
    change(stored)
    torch.save(stored, folder / file)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A checkpoint, pre-training at its image size, retrieval at another with more texts, three
    fine-tuned models.
    """
    tmp_path = tmp_path_factory.mktemp("golden")
    torch.manual_seed(0)
    backbone = Backbone(**{**dict(SMALL), **SIZES})
    design = build.design(
        "split_bert", {"text_layers": 2}, backbone, VOCABULARY, draw=seeded(0)
    ).eval()
    state = published(design)
    types = "text_encoder.bert.embeddings.token_type_embeddings.weight"
    state[types] = state[types][:1]
    state |= {twin(name): x + 0.01 for name, x in state.items() if name.startswith(TWINS)}
    state["queue_ptr"] = torch.tensor([7])
    for side in ("image", "text"):
        state[f"{side}_queue"] = torch.nn.functional.normalize(torch.randn(6, 9), dim=0)
    torch.save({"model": state}, tmp_path / "checkpoint.pth")
    config = {"vision": VISION, "bert": BERT, "embed_dim": 6}
    (tmp_path / "config.json").write_text(json.dumps(config))
    pretrain = {
        **batch(4, 4, 12),
        "itm_neg_image_for_text": torch.tensor([1, 2, 3, 0]),
        "itm_neg_text_for_image": torch.tensor([3, 0, 1, 2]),
    }
    pretrain["mlm_input_ids"] = pretrain["input_ids"].roll(1, 0)
    pretrain["mlm_labels"] = torch.where(
        pretrain["attention_mask"] > 0, pretrain["input_ids"], -100
    )
    pretrain["alpha"] = 0.3
    tuned = {name: x for name, x in pretrain.items() if not name.startswith("mlm_")}
    tuned |= {"idx": torch.tensor([3, 7, 3, 5]), "idx_queue": torch.arange(9)[None]}
    parts = {"pretrain": pretrain, "retrieval": batch(5, 3, 20), "retrieval_train": tuned}
    for task, its in fine_tuned(state).items():
        torch.save(its, tmp_path / f"{task}_state.pth")
    for part, given in (parts | labelled_items(20)).items():
        torch.save(given, tmp_path / f"{part}_inputs.pt")
        for dtype, suffix in golden.SUFFIX.items():
            images = given.get("images", given.get("image0"))
            source = golden.design_of(tmp_path, dtype, images.shape[-1])
            numbers = golden.COVERED[part](tmp_path, source, given)
            numbers = torch.utils._pytree.tree_map(lambda x: x.detach(), numbers)
            torch.save(numbers, tmp_path / f"{part}_outputs_{suffix}.pt")
    table = golden.resize_positions(state["visual_encoder.pos_embed"].double(), 25, prefix=1)
    resized = {"image_res": 20, "visual_encoder.pos_embed": table}
    torch.save(resized, tmp_path / "pos_embed_resized.pt")
    return tmp_path


@pytest.fixture
def folder(made, tmp_path):
    """A copy, to be changed."""
    golden.checkpoint.cache_clear()
    golden.design_of.cache_clear()
    return shutil.copytree(made, tmp_path / "golden")


@pytest.fixture
def trained(folder):
    """A copy without the fine-tuned models."""
    for task in ("ve", "nlvr", "vqa"):
        for suffix in golden.SUFFIX.values():
            (folder / f"{task}_outputs_{suffix}.pt").unlink()
    return folder


def test_a_folder_of_other_sizes_agrees(folder, capsys):
    assert golden.main([str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "105 agree, 0 wrong, 0 not covered"
    assert "pretrain_outputs itm_logits 0.000e+00 0.000e+00" in [" ".join(x.split()) for x in lines]


def test_what_is_optional_may_be_missing(trained, capsys):
    (trained / "pos_embed_resized.pt").unlink()
    (trained / "retrieval_inputs.pt").unlink()
    (trained / "pretrain_outputs_f32.pt").unlink()
    changed(trained, "pretrain_outputs_f64.pt", lambda stored: stored.pop("text_feat"))
    (trained / "retrieval_metrics.json").write_text('{"f32_k4": {}}')
    assert golden.main([str(trained)]) == 1  # numbers without inputs are not covered
    out = capsys.readouterr().out
    assert "NOT COVERED: retrieval_inputs.pt is missing" in out
    assert out.splitlines()[-1] == "57 agree, 0 wrong, 4 not covered"


def test_a_number_that_is_not_ours_is_not_covered(trained, capsys):
    for part in ("pretrain", "retrieval"):
        file = f"{part}_outputs_f64.pt"
        changed(trained, file, lambda stored: stored.update({"not ours": torch.tensor(1.0)}))
    assert golden.main([str(trained)]) == 1
    assert "62 agree, 0 wrong, 2 not covered" in capsys.readouterr().out


def test_a_state_that_lacks_a_weight_is_said(folder, capsys):
    gone = "text_encoder.encoder.layer.5.crossattention.self.query.bias"
    changed(folder, "nlvr_state.pth", lambda stored: stored["from_checkpoint"].pop(gone))
    assert golden.main([str(folder)]) == 2
    assert "lacks design.layers.3.1.cross_attention.query.bias" in capsys.readouterr().err
    (folder / "nlvr_state.pth").unlink()
    assert golden.main([str(folder)]) == 2
    assert "lacks nlvr_state.pth" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("file", "value"),
    [
        ("pretrain_outputs_f64.pt", lambda x: x + 2e-8),
        ("pretrain_outputs_f32.pt", lambda x: x + 4e-5),
        ("pretrain_outputs_f64.pt", lambda x: x * float("nan")),
        ("pretrain_outputs_f64.pt", lambda x: x[:1]),
    ],
    ids=["float64", "float32", "nan", "shape"],
)
def test_a_wrong_number_is_wrong(trained, capsys, file, value):
    changed(trained, file, lambda stored: stored.update(itm_logits=value(stored["itm_logits"])))
    assert golden.main([str(trained)]) == 1
    out = capsys.readouterr().out
    assert out.count("WRONG") == 1 and "61 agree, 1 wrong, 0 not covered" in out


def test_a_weight_that_is_nan_is_wrong(trained, capsys):
    changed(
        trained, "checkpoint.pth", lambda stored: stored["model"]["itm_head.bias"].fill_(torch.nan)
    )
    assert golden.main([str(trained)]) == 1
    assert "53 agree, 9 wrong" in capsys.readouterr().out


def test_what_a_folder_lacks_is_said(folder, capsys):
    config = json.loads((folder / "config.json").read_text())

    def said(change) -> str:
        other = json.loads(json.dumps(config))
        change(other)
        (folder / "config.json").write_text(json.dumps(other))
        golden.design_of.cache_clear()
        assert golden.main([str(folder)]) == 2
        return capsys.readouterr().err

    assert "lacks 'hidden_size'" in said(lambda c: c["bert"].pop("hidden_size"))
    assert "bert.layer_norm_eps is 1e-05" in said(lambda c: c["bert"].update(layer_norm_eps=1e-5))
    assert "encoder_width 16 is not" in said(lambda c: c["bert"].update(encoder_width=16))
    assert "does not fit" in said(lambda c: c["vision"].update(depth=4))
    for name in ("checkpoint.pth", "config.json"):
        (folder / name).unlink()
        golden.checkpoint.cache_clear()
        golden.design_of.cache_clear()
        assert golden.main([str(folder)]) == 2
        assert f"lacks {name}" in capsys.readouterr().err
    assert golden.main([str(folder / "nowhere")]) == 2
