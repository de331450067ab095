"""The comparison with stored numbers, on a folder of other sizes made here: what agrees, what is
wrong, what a folder may lack. The numbers are the design's own; only the script is tested.
"""

import json
from pathlib import Path

import pytest
import torch

from benchmarks import albef_golden as golden
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


def changed(folder: Path, file: str, change) -> None:
    stored = torch.load(folder / file, weights_only=True)
    change(stored)
    torch.save(stored, folder / file)


@pytest.fixture
def folder(make, tmp_path):
    """A checkpoint, pre-training at its image size, retrieval at another with more texts."""
    torch.manual_seed(0)
    design = make("split_bert", {"text_layers": 2}, dtype=torch.float32, **SIZES)
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
    for part, given in parts.items():
        torch.save(given, tmp_path / f"{part}_inputs.pt")
        for dtype, suffix in golden.SUFFIX.items():
            source = golden.design_of(tmp_path, dtype, given["images"].shape[-1])
            numbers = golden.COVERED[part](tmp_path, source, given)
            numbers = torch.utils._pytree.tree_map(lambda x: x.detach(), numbers)
            numbers["not ours"] = torch.tensor(1.0)
            torch.save(numbers, tmp_path / f"{part}_outputs_{suffix}.pt")
    table = golden.resize_positions(state["visual_encoder.pos_embed"].double(), 25, prefix=1)
    resized = {"image_res": 20, "visual_encoder.pos_embed": table}
    torch.save(resized, tmp_path / "pos_embed_resized.pt")
    golden.checkpoint.cache_clear()
    golden.design_of.cache_clear()
    return tmp_path


def test_a_folder_of_other_sizes_agrees(folder, capsys):
    assert golden.main([str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "62 agree, 0 wrong, 3 not covered"
    assert "pretrain_outputs itm_logits 0.000e+00 0.000e+00" in [" ".join(x.split()) for x in lines]


def test_what_is_optional_may_be_missing(folder, capsys):
    (folder / "pos_embed_resized.pt").unlink()
    (folder / "retrieval_inputs.pt").unlink()
    (folder / "pretrain_outputs_f32.pt").unlink()
    changed(folder, "pretrain_outputs_f64.pt", lambda stored: stored.pop("text_feat"))
    (folder / "retrieval_metrics.json").write_text('{"f32_k4": {}}')
    assert golden.main([str(folder)]) == 0
    out = capsys.readouterr().out
    assert "NOT COVERED: retrieval_inputs.pt is missing" in out
    assert out.splitlines()[-1] == "57 agree, 0 wrong, 7 not covered"


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
def test_a_wrong_number_is_wrong(folder, capsys, file, value):
    changed(folder, file, lambda stored: stored.update(itm_logits=value(stored["itm_logits"])))
    assert golden.main([str(folder)]) == 1
    out = capsys.readouterr().out
    assert out.count("WRONG") == 1 and "61 agree, 1 wrong, 3 not covered" in out


def test_a_weight_that_is_nan_is_wrong(folder, capsys):
    changed(
        folder, "checkpoint.pth", lambda stored: stored["model"]["itm_head.bias"].fill_(torch.nan)
    )
    assert golden.main([str(folder)]) == 1
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
