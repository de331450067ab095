"""What a source of weights seems to be, in words, where it is none; shards and pickles that are."""

import json
import pickle
import zipfile
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from architectures.frozen import SettingError
from architectures.weights.checkpoints import read
from architectures.weights.weight_files import content, open_file, open_folder

STATE = {"norm.weight": torch.ones(3), "norm.bias": torch.arange(3.0)}


class Code:
    """What no checkpoint of weights needs."""


def zipped(name):
    def write(path):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, b"")

    return write


def cut(path):
    torch.save(STATE, path)
    path.write_bytes(path.read_bytes()[:-400])


def cut_safetensors(path):
    save_file(STATE, path)
    path.write_bytes(path.read_bytes()[:-8])


def cut_header(path):
    save_file(STATE, path)
    path.write_bytes(path.read_bytes()[:40])


def cut_pickle(path):
    torch.save(STATE, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:200])


FOREIGN = {
    "empty": (lambda p: p.write_bytes(b""), "is empty"),
    "lfs": (
        lambda p: p.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
        "git lfs pull",
    ),
    "page": (lambda p: p.write_text("\n<!DOCTYPE html><html>"), "a web page"),
    "json": (lambda p: p.write_text('{"error": "no"}'), "JSON text"),
    "gzip": (lambda p: p.write_bytes(b"\x1f\x8b\x08"), "compressed by gzip"),
    "keras": (lambda p: p.write_bytes(b"\x89HDF\r\n"), "HDF5"),
    "tar": (lambda p: p.write_bytes(bytes(257) + b"ustar"), "a tar archive"),
    "text": (lambda p: p.write_text("weights"), "neither a checkpoint of PyTorch nor safetensors"),
    "cut": (cut, "is incomplete: it begins as a checkpoint"),
    "cut safetensors": (cut_safetensors, "damaged or incomplete"),
    "cut header": (cut_header, "its header is cut off"),
    "cut pickle": (cut_pickle, "damaged or "),
    "numpy": (zipped("a.npy"), "arrays of NumPy"),
    "zip": (zipped("photo.jpg"), "no checkpoint; it holds photo.jpg"),
    "program": (zipped("x/constants.pkl"), "TorchScript"),
    "code": (lambda p: torch.save({"model": STATE, "args": Code()}, p), r"\(.*Code\).*run code"),
    "namespace": (lambda p: torch.save({"args": SimpleNamespace()}, p), r"\(types.SimpleNamespace"),
    "pickle": (lambda p: p.write_bytes(pickle.dumps(Code())), "a pickle that is no checkpoint"),
    "lightning": (
        lambda p: torch.save({"pytorch-lightning_version": "2", "state_dict": STATE}, p),
        "a Lightning checkpoint",
    ),
    "optimizer": (
        lambda p: torch.save({"state": {}, "param_groups": []}, p),
        "state of an optimizer",
    ),
    "tensor": (lambda p: torch.save(torch.ones(2), p), "holds a Tensor"),
    "others": (lambda p: torch.save({**STATE, "epoch": 3}, p), "it holds also epoch"),
    "nothing": (lambda p: torch.save({}, p), "it holds nothing"),
    "names": (lambda p: torch.save(STATE, p), r"no known model \(norm.weight, norm.bias"),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_a_file_that_is_no_checkpoint_says_what_it_seems_to_be(tmp_path, what):
    write, said = FOREIGN[what]
    write(tmp_path / "weights.pth")
    with pytest.raises(SettingError, match=said) as caught:
        read(tmp_path / "weights.pth")
    assert "weights.pth" in str(caught.value)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "no configuration found"),
        ({"config.json": "["}, "is no JSON"),
        ({"config.json": "[]"}, "is no configuration of a model, but a list"),
        ({"config.json": "{}"}, "names no model_type; known: bert"),
        ({"config.json": '{"model_type": "t5"}'}, "is a t5; known: bert"),
        ({"config.json": '{"model_type": "bert"}', "vocab.txt": ""}, "it holds config.json, vocab"),
        ({"config.json": '{"model_type": "bert"}', "tf_model.h5": ""}, "holds TensorFlow weights"),
        ({"config.json": '{"model_type": "bert"}', "m.ckpt.index": ""}, "holds TensorFlow weights"),
        ({"config.json": '{"model_type": "bert"}', "flax_model.msgpack": ""}, "Flax weights"),
        ({"config.json": '{"model_type": "bert"}', "weights.pt": ""}, "`fuselab export` first"),
        ({"config.json": '{"model_type": "bert"}', "model.safetensors": ""}, "is empty"),
    ],
)
def test_a_folder_that_is_no_model_says_what_it_holds(tmp_path, files, said):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(SettingError, match=said):
        read(tmp_path)


def test_nothing_there(tmp_path):
    with pytest.raises(SettingError, match="there is no such file or folder"):
        read(tmp_path / "nowhere.pth")


@pytest.mark.parametrize("wrapper", ["model", "state_dict", ""])
@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("old", [True, False])
def test_state_dicts_as_training_scripts_keep_them(tmp_path, wrapper, prefix, old):
    state = {f"{prefix}{name}": x for name, x in STATE.items()}
    whole = {wrapper: state, "optimizer": {"lr": 0.1}, "epoch": 3} if wrapper else state
    torch.save(whole, tmp_path / "any.ending", _use_new_zipfile_serialization=not old)
    found = open_file(tmp_path / "any.ending")
    assert found.keys() == STATE.keys() and torch.equal(found["norm.bias"], STATE["norm.bias"])


def test_parts_of_a_folder_and_what_they_lack(tmp_path):
    parts = {name: f"model-{j}.safetensors" for j, name in enumerate(STATE)}
    for name, part in parts.items():
        save_file({name: STATE[name]}, tmp_path / part)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": parts}))
    found = open_folder(tmp_path)
    assert found.keys() == STATE.keys() and torch.equal(found["norm.bias"], STATE["norm.bias"])
    index.write_text(json.dumps({"weight_map": {**parts, "extra": "model-0.safetensors"}}))
    with pytest.raises(SettingError, match="that no part holds: extra"):
        open_folder(tmp_path)
    for name in ("model-2.safetensors", "../model-0.safetensors"):
        index.write_text(json.dumps({"weight_map": {**parts, "extra": name}}))
        with pytest.raises(SettingError, match="which is not beside it"):
            open_folder(tmp_path)
    index.write_text("{}")
    with pytest.raises(SettingError, match="is no index of weights"):
        open_folder(tmp_path)


def test_content_is_what_is_inside(tmp_path):
    for name, file in {"a": "model.safetensors", "b": "model.safetensors", "c": "x.pth"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_bytes(b"0" if name != "c" else b"1")
        (tmp_path / name / "README.md").write_text(name)
    a, b, c = (content(str(tmp_path / name)) for name in "abc")
    assert a == b != "" and c == ""
    (tmp_path / "b" / "config.json").write_text("{}")
    assert content(str(tmp_path / "b")) != a
    (tmp_path / "a" / "model.safetensors").write_bytes(b"1")
    assert content(str(tmp_path / "a")) != a
    assert content(str(tmp_path / "c" / "x.pth")) != content("bert-base-uncased") == ""


@pytest.mark.parametrize("length", [0x3C20, 0x7B20])
def test_a_header_whose_length_looks_like_text(tmp_path, length):
    """Its bytes are a space and `<` or `{`, as web pages and JSON begin."""
    file = tmp_path / "weights.safetensors"
    save_file(STATE, file, metadata={"x": ""})
    fill = length - int.from_bytes(file.read_bytes()[:8], "little")
    save_file(STATE, file, metadata={"x": "x" * fill})
    assert int.from_bytes(file.read_bytes()[:8], "little") == length
    assert open_file(file).keys() == STATE.keys()
