"""A byte that flips in weights of our own is noticed on load."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from architectures import exported
from architectures.frozen import SettingError
from architectures.weights import from_transformers
from architectures.weights.checkpoints import read
from architectures.weights.digests import digest_of, seal, sealed
from harness.training.data.wordpiece import train_wordpiece
from tests.architectures.reference import randomised
from tests.architectures.weights.test_encoders import vit

SPECIAL = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
STATE = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor(3), "c": torch.ones(2).bfloat16()}


def test_a_digest_is_of_names_types_shapes_and_bytes():
    same = {"c": STATE["c"], "b": STATE["b"], "a": STATE["a"].T.contiguous().T}
    assert digest_of(same) == digest_of(STATE) and len(digest_of(STATE)) == 32
    others = [
        {**STATE, "a": STATE["a"] + 1e-6},
        {**STATE, "a": STATE["a"].view(3, 2)},
        {**STATE, "a": STATE["a"].view(torch.int32)},
        {"x" if name == "a" else name: value for name, value in STATE.items()},
        {"a": STATE["a"], "b": STATE["b"]},
        {},
    ]
    assert len({digest_of(each) for each in (STATE, *others)}) == 7


def flip(path, place: int) -> None:
    """Flips one bit, `place` bytes before the end."""
    content = bytearray(path.read_bytes())
    content[-place] ^= 1
    path.write_bytes(bytes(content))


def test_a_sealed_file_is_an_ordinary_one(tmp_path):
    files = [tmp_path / f"{name}.safetensors" for name in "ab"]
    for file in files:
        save_file(STATE, file, metadata={"format": "pt"})
        seal(file, STATE, {"architecture": "x"})
    assert files[0].read_bytes() == files[1].read_bytes()
    assert sealed(files[0]) == {"digest": digest_of(STATE), "config": {"architecture": "x"}}
    assert all(torch.equal(x, STATE[name]) for name, x in load_file(files[0]).items())
    with safe_open(files[0], "pt") as opened:
        assert opened.metadata()["format"] == "pt"
    torch.save(STATE, tmp_path / "x.pth")
    assert sealed(tmp_path / "x.pth") == {}


def test_a_flipped_byte_in_a_warm_starts_vit(make, tmp_path):
    state, file = vit().state_dict(), tmp_path / "vit.safetensors"
    save_file(state, file)
    seal(
        file, state, {"architecture": "deit_tiny_patch16_224", "mean": [0.5] * 3, "std": [0.5] * 3}
    )
    found = read(file)
    assert found.pixels.are_ours and not found.assumed_pixels  # whatever timm says of a DeiT
    assert torch.equal(found.tensors["image.vit.norm.weight"], state["norm.weight"])
    flip(file, 5)
    with pytest.raises(SettingError, match="damaged: its weights are not those that fuselab wrote"):
        make("dual_encoder", {}, vision_weights=str(file))


@pytest.mark.parametrize("tower", [exported.IMAGE, exported.TEXT])
def test_a_flipped_byte_in_a_tower_of_an_exported_folder(make, tmp_path, tower):
    design = randomised(make("dual_encoder", {}, dtype=torch.float32))
    backend = train_wordpiece(["a red square"], 50).backend
    tokenizer = from_transformers.tokenizer(backend, SPECIAL, 7)
    pixels = {"mean": (0.5,) * 3, "std": (0.5,) * 3}
    exported.write(tmp_path, design, tokenizer=tokenizer, pixels=pixels, about={})
    read(tmp_path / tower)
    flip(tmp_path / tower / "model.safetensors", 99)
    with pytest.raises(SettingError, match="damaged"):
        read(tmp_path / tower)
    exported.load(tmp_path)
    flip(tmp_path / exported.WEIGHTS, 99)
    with pytest.raises(SettingError, match="is not the file that was exported"):
        exported.load(tmp_path)


def test_an_exported_folder_is_not_folded_twice(make, tmp_path):
    """Its weights read our pixels already, whatever the first source was fed."""
    design = randomised(make("dual_encoder", {}, dtype=torch.float32))
    backend = train_wordpiece(["a red square"], 50).backend
    tokenizer = from_transformers.tokenizer(backend, SPECIAL, 7)
    pixels = {"mean": (0.5,) * 3, "std": (0.5,) * 3}
    exported.write(tmp_path, design, tokenizer=tokenizer, pixels=pixels, about={})
    stated = json.loads((tmp_path / exported.IMAGE / "config.json").read_text())["pretrained_cfg"]
    assert stated["mean"] == stated["std"] == [0.5] * 3
    role = "image.vit.patch_embed.proj.weight"
    weights = tmp_path / exported.IMAGE / "model.safetensors"
    for source in (tmp_path, tmp_path / exported.IMAGE, weights):
        assert torch.equal(read(source).tensors[role], design.state_dict()[role])
