"""Words of the command line: names, options and folders that cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.harness.bad_inputs.conftest import Refused

pytestmark = pytest.mark.slow

NAMES = {
    ("status", "nothing"): "(option --outputs)",
    ("report", "nothing"): "(option --outputs)",
    ("report", "../x"): "is no name of a study",
    ("report", "x", "--from-tracking"): "there is no store",
    ("report", "x", "--from-tracking", "--tracking", "foo://x"): "foo://x",
    ("publish", "nothing"): "(option --outputs)",
    ("publish", "../x"): "is no name of a study",
    ("publish", "--tracking", "foo://x"): "foo://x",
    ("export", "abc", "new"): "'abc' fits no run",
    ("export", "", "new"): "'' fits no run",
    ("export", "*", "new"): "'*' fits no run",
    ("export", "demo/6+6", "new"): "write it as STUDY/CELL/SEED",
    ("export", "demo/6+6/0", "new"): "unknown study",
    ("ui",): "there is no store",
    ("plan", "dmo"): "did you mean 'demo'",
}
DESIGNS = {
    ("split_bret",): "did you mean 'split_bert'",
    ("split_bert", "--scale", "nono"): "did you mean 'nano'",
    ("split_bert", "--set", "x"): "write it as field=value",
    ("split_bert", "--set", "a.b=3"): "unknown field of SplitBertConfig 'a.b'",
    ("split_bert", "--set", "text_layers=-1"): "text_layers: must be greater than or equal to 0",
    ("split_bert", "--set", "text_layers=99"): "text_layers is 99",
    ("split_bert", "--set", "text_from=lats"): "text_from",
    ("split_bert", "--draw", "x.gif"): "a picture ends in .svg or .png",
    ("split_bert", "--draw", "/proc/x.svg"): "/proc/",
    ("--draw", "x.svg"): "all designs ends in .md",
    ("--file", "none.py"): "none.py: no such file",
    ("--file", "/"): "/: no such file",
    ("--file", "/etc/hostname"): "/etc/hostname is no Python file",
    ("--file", "~nosuchuser/x"): "is no path that can be used",
    ("--set", "text_layers=3"): "name the design too",
}
RUNS = {
    ("--only", "zzz"): "cells: k1, k2, dual_encoder",
    ("--gpu-share", "0"): "gpu_share: must be greater than 0",
    ("--gpu-share", "nan"): "gpu_share: must be less than or equal to 1",
    ("--tuned",): "was not tuned",
    ("--set", "numerics.device=cuda"): "torch finds no GPU here",
}


@pytest.mark.parametrize(("words", "message"), NAMES.items())
def test_names(refused: Refused, words: tuple[str, ...], message: str) -> None:
    assert not refused(*words, names=[message])


@pytest.mark.parametrize(("words", "message"), DESIGNS.items())
def test_designs(refused: Refused, words: tuple[str, ...], message: str) -> None:
    assert not refused("designs", *words, names=[message], own=True)


@pytest.mark.parametrize(("words", "message"), RUNS.items())
def test_options_of_a_run(
    study: Path,
    refused: Refused,
    words: tuple[str, ...],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert not refused("run", study, "--local", *words, names=[message])


@pytest.mark.parametrize(
    "address", ["!!", "nowhere", "127.0.0.1:1", "127.0.0.1:99999999", "ray://"]
)
def test_a_cluster_that_is_not_there_is_said_within_seconds(
    study: Path, refused: Refused, address: str
) -> None:
    assert not refused("run", study, "--address", address, names=[f"--address {address!r}"])


@pytest.mark.parametrize("place", ["file", "file/x", "/dev/null/x", "~nosuchuser/x", "y" * 300])
@pytest.mark.parametrize(
    "words", [("plan", "demo"), ("run", "demo"), ("status", "demo"), ("report", "demo"),
              ("clean",), ("publish",), ("export", "ab", "new"), ("ui",), ("tune", "demo")]
)  # fmt: skip
def test_outputs_that_are_no_folder(
    tmp_path: Path, refused: Refused, words: tuple[str, ...], place: str
) -> None:
    (tmp_path / "file").write_text("x")
    outputs = place if place[0] in "/~" else tmp_path / place
    assert not refused(*words, "--outputs", outputs, names=["outputs"], own=True)


@pytest.mark.parametrize("sign", "?#%")
@pytest.mark.parametrize("command", ["run", "tune", "publish", "ui"])
def test_outputs_that_no_address_can_hold(
    study: Path, refused: Refused, command: str, sign: str
) -> None:
    words = [command] if command in ("publish", "ui") else [command, study, "--local"]
    outputs = study.parent / f"a{sign}b"
    assert not refused(*words, "--outputs", outputs, names=[f"has {sign} in its path"], own=True)
    assert not outputs.exists()


def test_a_folder_that_is_taken_is_refused_before_anything_is_made(
    study: Path, refused: Refused
) -> None:
    assert not refused("warm-start", study, "--to", study.parent, names=["is not empty"])
