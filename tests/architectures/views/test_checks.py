"""Every built-in design is without fault; every fault of a user's own is said in a line."""

from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from architectures import build, registry
from architectures.backbone import scale
from architectures.frozen import SettingError
from architectures.views.checks import faults, faults_of_file
from harness.commands.main import app
from tests.architectures.conftest import seeded

OWN = '''
import dataclasses
from typing import ClassVar

import torch
from torch import nn

from architectures.contract import FusionDesign
from architectures.designs.split_bert import SplitBert, SplitBertConfig


class Mine(SplitBert):
    """A design of a user's own."""

    name: ClassVar[str] = "mine"
    version: ClassVar[str] = "1"
    Config = SplitBertConfig

    def __init__(self, config, backbone, vocabulary):
        super().__init__(config, backbone, vocabulary)
        {constructor}

    @classmethod
    def facts(cls, config, backbone):
        facts = super().facts(config, backbone)
        return {facts}

    {methods}
'''
PLAIN = {"constructor": "pass", "facts": "facts", "methods": "pass"}
INITIALISE = """
    def initialise(self, role, tensor, stream):
        if role != "kernel":
            return False
        tensor.copy_(torch.from_numpy(stream.uniform(2, 3, tensor.shape)))
        return True
"""
KERNEL = "self.kernel = nn.Parameter(torch.empty(3, 3))"
FRAMED = {
    "facts": ({"facts": "dataclasses.replace(facts, pooled_width=7)"}, "facts say pooled_width 7"),
    "no facts": ({"facts": "None"}, "`facts` returns NoneType, not Facts"),
    "widths": (
        {"facts": "dataclasses.replace(facts, itc_widths=(5, 64))"},
        r"facts say ITC reads \(2, 5\) of the image, but it is \(2, 64\)",
    ),
    "slots": (
        {"methods": "@classmethod\n    def slots(cls, c, b): return {'layer.0': 'layers.0'}"},
        "slots name 'layer.0', which is no module of it",
    ),
    "source": (
        {"methods": "@classmethod\n    def slots(cls, c, b): return {'layers.0': 'layers.99'}"},
        "slot 'layers.0' starts from 'layers.99', which no text encoder has",
    ),
    "crossings": ({"methods": "def crossings(self): return ('x',)"}, "crossings name 'x'"),
    "rule": ({"constructor": KERNEL}, "no rule for the initial weights of kernel.*`initialise"),
    "fuse": (
        {"methods": "def fuse(self, image, text, **more): raise ValueError('not yet')"},
        "facts say that it fuses, but fuse with read_at_BR None fails: ValueError: not yet",
    ),
    "constructor": ({"constructor": "self.x = backbone.depth"}, "cannot be built: AttributeError"),
    "images": (
        {"methods": "for_images = None"},
        "facts give no 'no_images'.*no method `for_images",
    ),
    "decoder": ({"methods": "answer_decoder = None"}, "no method `answer_decoder`"),
    "undecayed": ({"methods": "undecayed = ('y',)"}, "`undecayed` of the design names 'y'"),
}


@pytest.fixture(autouse=True)
def forget(monkeypatch):
    monkeypatch.setattr(registry, "_own", {})


def own(folder: Path, text: str = OWN, **changed: str) -> Path:
    file = folder / "mine.py"
    for place, code in {**PLAIN, **changed}.items():
        text = text.replace(f"{{{place}}}", code)
    file.write_text(text)
    return file


@pytest.mark.parametrize("name", registry.names())
def test_the_built_in_designs_have_no_fault(name):
    assert list(faults(name, scale("nano"))) == []


@pytest.mark.parametrize(("changed", "fault"), FRAMED.values(), ids=FRAMED.keys())
def test_a_fault_is_a_line_that_names_its_place(tmp_path, changed, fault):
    file = own(tmp_path, **changed)
    lines = faults_of_file(registry.load_file(file), scale("nano"))
    assert len(lines) == 1 and lines[0].startswith(f"{file}:12: mine: "), lines
    with pytest.raises(AssertionError, match=fault):
        raise AssertionError(lines[0])


def test_the_command_ends_with_a_line_for_each(tmp_path):
    two = (
        OWN
        + "\n\nclass Other(FusionDesign):\n    name = 'other'\n    version = '1'\n    Config = 3"
    )
    two += "\n\n\nclass Nameless(SplitBert):\n    pass\n"
    file = own(tmp_path, two, constructor=KERNEL)
    result = CliRunner().invoke(app, ["designs", "--file", str(file)])
    lines = result.output.splitlines()
    assert result.exit_code == 2 and len(lines) == 3, result.output
    assert "mine: no rule for the initial weights of kernel (Mine)" in lines[0]
    assert "other: it lacks encode_image, encode_text, facts, fuse, word_embedding" in lines[1]
    assert "class Nameless is no design yet: it has no `name` and `Config`" in lines[2]
    assert CliRunner().invoke(app, ["designs", "--file", str(own(tmp_path))]).exit_code == 0


def test_a_design_draws_its_own_weights_by_seed_and_role(tmp_path, small):
    """By the generator of the role: other weights are those that they are without it."""
    registry.load_file(own(tmp_path, constructor=KERNEL, methods=INITIALISE))
    assert list(faults("mine", scale("nano"))) == []
    design = build.design("mine", {}, small, 50, draw=seeded(4))
    wanted = torch.from_numpy(seeded(4)("kernel").uniform(2, 3, (3, 3))).float()
    assert torch.equal(design.kernel, wanted)
    split = build.design("split_bert", {}, small, 50, draw=seeded(4))
    for role, weight in split.named_parameters():
        assert torch.equal(design.get_parameter(role), weight)


def test_without_it_the_error_names_the_hook(tmp_path, small):
    registry.load_file(own(tmp_path, constructor=KERNEL))
    with pytest.raises(SettingError, match=r"weights of kernel \(Mine\).*`initialise\(role"):
        build.design("mine", {}, small, 50, draw=lambda role: np.random.default_rng(0))


def test_what_a_design_freezes_learns_nothing(tmp_path, small):
    frozen = "self.image.requires_grad_(False)"
    registry.load_file(own(tmp_path, constructor=frozen))
    assert list(faults("mine", scale("nano"))) == []
    design = build.design("mine", {}, small, 50, draw=seeded(0))
    learns = {role for role, p in design.named_parameters() if p.requires_grad}
    assert (
        not any(role.startswith("image.") for role in learns)
        and "layers.0.mlp.inner.weight" in learns
    )
