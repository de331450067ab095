"""No code of a tokenizer or a checkpoint ever runs, and nobody is asked whether it may."""

import json
import pickle

import pytest
import torch

from architectures.frozen import SettingError
from architectures.weights.checkpoints import read
from architectures.weights.from_transformers import load_tokenizer, tokenizer
from harness.training.data.wordpiece import train_wordpiece

SPECIAL = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}


class Writes:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


@pytest.mark.parametrize("kept", ["pickle", "archive", "old archive", "folder"])
def test_a_malicious_pickle_does_not_run(tmp_path, kept):
    trace, file = tmp_path / "it ran", tmp_path / "weights.pth"
    content = {"model": {"patch_embed.proj.weight": torch.ones(2), "x": Writes(trace)}}
    if kept == "pickle":
        file.write_bytes(pickle.dumps({"x": Writes(trace)}))
    elif kept == "folder":
        (tmp_path / "config.json").write_text('{"model_type": "bert"}')
        torch.save(content, tmp_path / "pytorch_model.bin")
        file = tmp_path
    else:
        torch.save(content, file, _use_new_zipfile_serialization=kept == "archive")
    with pytest.raises(SettingError, match=r"could run code|damaged"):
        read(file)
    assert not trace.exists()


def test_a_tokenizer_that_brings_code_does_not_run(tmp_path, monkeypatch):
    trace = tmp_path / "it ran"
    backend = train_wordpiece(["a red square"], 50).backend
    tokenizer(backend, SPECIAL, 7).save_pretrained(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    config = json.loads(path.read_text())
    config |= {"auto_map": {"AutoTokenizer": ["own.Own", "own.Own"]}, "tokenizer_class": "Own"}
    path.write_text(json.dumps(config))
    code = (
        "from transformers import PreTrainedTokenizerFast\nclass Own(PreTrainedTokenizerFast): ..."
    )
    (tmp_path / "own.py").write_text(f"open({str(trace)!r}, 'w')\n{code}\n")
    monkeypatch.setattr("builtins.input", lambda *text: pytest.fail("it asked"))
    try:
        words = load_tokenizer(str(tmp_path))
    except SettingError as error:
        assert "\n" not in str(error)
    else:
        assert words("a red square")["input_ids"]
    assert not trace.exists()
