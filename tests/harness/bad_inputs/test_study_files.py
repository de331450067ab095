"""Study files with one thing wrong in them: the message names file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from architectures import registry
from tests.harness.bad_inputs.conftest import STUDY, Refused

pytestmark = pytest.mark.slow

CHANGED = [
    ('control="k1"', 'control="k9"', "unknown control 'k9'; did you mean 'k"),
    ('control="k1"', "control=3", "Study.control: must be text (given: 3)"),
    ('    control="k1",\n', "", "Study.control: is needed"),
    ("seeds=(0, 1)", "seeds=()", "seeds: name at least one"),
    ("seeds=(0, 1)", "seeds=3", "Study.seeds: must be a list"),
    ("Budget(steps=6)", "Budget(steps=6, samples=7)", "exactly one of samples, steps"),
    ("Budget(steps=6)", "6", "Study.budget: must be a Budget"),
    ("batch_size=8", "batch_sise=8", "did you mean 'batch_size'"),
    ("(Retrieval(rerank=4),)", '("retrieval",)', "Study.tasks.0: must be"),
    ("(Retrieval(rerank=4),)", "(Budget(steps=4),)", "Budget is none of the tasks"),
    ("Retrieval(rerank=4)", "Retrieval(rerank=0)", "Retrieval.rerank: must be greater than 0"),
    ("Retrieval(rerank=4)", 'Retrieval(label="a b")', "Retrieval.label: must be a word"),
    ("Retrieval(rerank=4),", "Retrieval(), Retrieval()", "several stand under 'retrieval'"),
    ('Cell(variant=Variant("dual_encoder"), role="floor")', '"floor"', "Study.cells.2: must be"),
    ('role="floor"', 'role="flour_"', "Cell.role: must be 'compared' or 'floor'; did you mean"),
    ('role="floor"', 'settings={"optimize.eps": 1}', "did you mean 'optimizer'"),
    ('role="floor"', 'settings={"optimizer.eps": -1}', "optimizer.eps: must be greater than 0"),
    ('role="floor"', 'settings={"seeds": (1,)}', "cell 'dual_encoder seeds=(1,)'"),
    ('label="k{text_layers}"', 'label="k"', "the same name twice"),
    ('label="k{text_layers}"', 'label="k{layers}"', "KeyError: 'layers'"),
    ('Variant("dual_encoder")', "Variant()", "missing 1 required positional argument"),
    ('scale("nano")', 'scale("nono")', "did you mean 'nano'"),
    ('"text_layers": 3', '"text_layerz": 3', "did you mean 'text_layers'"),
    ('.with_fields({"text_layers": 3', '.model_copy(update={"text_layers": "x"', "text_layers: "),
    ('.with_fields({"text_layers": 3', '.model_copy(update={"dropot": 0.1', "'dropout'"),
    ("Scenes(train=96, val=24, test=24)", "None", "Study.data: must be"),
    ("Scenes(train=96, val=24, test=24)", "Scenes(train=10**9)", "Scenes.train: must be less"),
    ("Scenes(train=96, val=24, test=24)", "Pictures()", "Pictures.train: is needed"),
    ("seeds=(0, 1)", "objectives=Objectives(itc=ITC(queue=4)), seeds=(0, 1)", "itc.queue is 4"),
    ("seeds=(0, 1)", "tuning=Tuning(space={}), seeds=(0, 1)", "Tuning.space: must not be empty"),
    ("seeds=(0, 1)", "alpha=0, seeds=(0, 1)", "Study.alpha: must be greater than 0"),
    ("seeds=(0, 1)", "seeds=(0, 1), seeds=(2,)", "keyword argument repeated"),
    ("STUDY = ", "1 / 0; STUDY = ", "ZeroDivisionError: division by zero"),
    ("STUDY = ", "import nothing_there; STUDY = ", "No module named 'nothing_there'"),
    ("STUDY = ", "raise SystemExit(3)\nSTUDY = ", "SystemExit: 3"),
    ("STUDY = ", "STUDY = (", "was never closed"),
]
NOT_OF_A_LINE = [
    ("STUDY = ", "STUDY_ = ", "it must define STUDY = Study(...)"),
    ('Variant("dual_encoder")', 'Variant("dual_encodr")', "did you mean 'dual_encoder'"),
    ('Variant("dual_encoder")', 'Variant("dual_encoder", text_layer=3)', "'text_layers'"),
    ('Variant("dual_encoder")', 'Variant("dual_encoder", text_layers="x")', "a whole number"),
    ('Variant("dual_encoder")', 'Variant("dual_encoder", text_layers=30)', "take 0 to 3"),
    ("seeds=(0, 1)", 'primary="retrieval/r1", seeds=(0, 1)', "(setting primary)"),
    ("seeds=(0, 1)", 'axis="foo", seeds=(0, 1)', "(setting axis)"),
    ("seeds=(0, 1)", 'tuning=Tuning(score="x"), seeds=(0, 1)', "(setting tuning.score)"),
]


@pytest.mark.parametrize(("before", "after", "words"), CHANGED)
def test_a_wrong_word_is_named_with_its_line(
    study: Path, refused: Refused, before: str, after: str, words: str
) -> None:
    assert before in STUDY
    study.write_text(STUDY.replace(before, after))
    assert not refused("plan", study, names=[f"{study}:", words])


@pytest.mark.parametrize(("before", "after", "words"), NOT_OF_A_LINE)
def test_what_the_plan_finds_names_the_setting(
    study: Path, refused: Refused, before: str, after: str, words: str
) -> None:
    assert before in STUDY
    study.write_text(STUDY.replace(before, after))
    assert not refused("plan", study, names=[words])


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe\0x", b"x = 1\0", b"STUDY = [1]", b"STUDY = {}", b"# \xe9\nx ="]
)
def test_files_that_are_no_study(study: Path, refused: Refused, content: bytes) -> None:
    study.write_bytes(content)
    assert not refused("plan", study, names=[str(study)])


@pytest.mark.parametrize(
    "name", ["none.py", "nowhere/none", "a\0b.py", "~nosuchuser/x.py", "x" * 5000 + ".py", ""]
)
def test_names_that_are_no_study(refused: Refused, name: str) -> None:
    for command in ("plan", "run", "tune", "warm-start", "status", "report"):
        assert not refused(command, name)


OWN = """
from architectures.designs.dual_encoder import DualEncoder


class Mine(DualEncoder):
    name = "mine"
    version = "1"
    Config = DualEncoder.Config

    {method}

"""
METHODS = {
    "facts": ("@classmethod\n    def facts(cls, c, b): return b.depth", "AttributeError"),
    "no facts": ("@classmethod\n    def facts(cls, c, b): return None", "not Facts"),
    "constructor": ("def __init__(self, *_): super().__init__()", "cannot be built: TypeError"),
    "fuse": ("def encode_text(self, *_): return 1 / 0", "ZeroDivisionError"),
    "slots": ("@classmethod\n    def slots(cls, c, b): return {'x': 'y'}", "slots name 'x'"),
}


@pytest.mark.parametrize("command", ["plan", "run"])
@pytest.mark.parametrize(("method", "words"), METHODS.values(), ids=METHODS)
def test_a_design_of_ones_own_is_looked_into_before_anything_runs(
    study: Path,
    refused: Refused,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    method: str,
    words: str,
) -> None:
    monkeypatch.setattr(registry, "_own", {})
    text = OWN.replace("{method}", method) + STUDY
    study.write_text(text.replace('Variant("dual_encoder")', 'Variant("mine")'))
    assert not refused(command, study, names=[f"{study}:5: mine: ", words])
