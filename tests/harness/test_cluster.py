"""A study on a cluster: a node that dies changes no bit, and nodes get the user's own file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from architectures import registry
from harness.lab import Lab
from harness.outputs.code import code_digest
from harness.outputs.folder import RunFolder
from harness.planning.plan import plan
from harness.planning.shelf import load
from tests.harness.cluster import CUT
from tests.harness.test_run import elsewhere, final

ROOT = Path(__file__).parents[2]
OWN = '''
"""Is a design of one's own known on every node?"""

from typing import ClassVar

from architectures.contract import DesignConfig
from architectures.designs.split_bert import SplitBert, SplitBertConfig
from harness.study import Cell, Variant
from tests.harness.conftest import TINY


class Mine(SplitBert):
    """The split, under another name."""

    name: ClassVar[str] = "mine"
    version: ClassVar[str] = "1"
    Config: ClassVar[type[DesignConfig]] = SplitBertConfig


MINE = Variant("mine", text_layers=1)
CELLS = (
    Cell(variant=MINE, label="one"),
    Cell(variant=MINE, label="two", settings={"numerics.workers": 2}),
)
STUDY = TINY.model_copy(
    update={"name": "own", "cells": CELLS, "control": "one", "seeds": (0,)}
)
'''


def test_a_file_that_is_brought_is_read_in_the_place_of_one_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also by the next run of the same process, and where its text is another by now."""
    for name in ("_own", "_copies"):
        monkeypatch.setattr(registry, name, {})
    own = tmp_path / "own.py"
    own.write_text(OWN)
    modules = [registry.load_file(own)]
    own.write_text("the user goes on writing")
    digests = []
    for text in (OWN, OWN, OWN.replace("under another", "under one more")):
        registry.bring(own, text.encode())
        modules.append(registry.load_file(own))
        digests.append(code_digest.__wrapped__(str(own)))
    assert modules[1] is modules[2] and len(set(map(id, modules))) == 3
    assert digests[0] == digests[1] != digests[2]
    own.unlink()
    registry.bring(own, text.encode())
    assert registry.load_file(own) is modules[3]


def test_a_file_is_the_designs_only_where_it_defines_one(
    outputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a word changed in a study would read as other code; where it does, of all its cells."""
    monkeypatch.setattr(registry, "_own", {})
    own = tmp_path / "own.py"
    own.write_text("from tests.harness.conftest import TINY\nSTUDY = TINY\n")
    shelf = tmp_path / "shelf"
    assert {spec.asked.design_file for spec in plan(load(str(own), shelf), outputs).specs} == {""}
    more = 'CELLS += (Cell(variant=Variant("split_bert", text_layers=1), label="ours"),)\nSTUDY ='
    own.write_text(OWN.replace("STUDY =", more))
    planned = plan(load(str(own), shelf), outputs)
    assert len(planned.specs) == 3
    assert {spec.asked.design_file for spec in planned.specs} == {str(own)}


@pytest.mark.slow
@pytest.mark.timeout(1200)  # a minute and a half on an idle machine
def test_a_study_on_several_nodes(outputs: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    own.write_text(OWN)
    command = [sys.executable, "-m", "tests.harness.cluster", str(outputs), str(own)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert "killed a node" in ended.stdout and not own.exists()
    states = [line.split() for line in ended.stdout.splitlines() if line.startswith("done")]
    # of the second study one run by two workers, each on a node of its own
    assert states == [["done"] * 6, ["done"] * 2], ended.stderr[-3000:]
    assert "it goes on from its checkpoint" in ended.stderr

    undisturbed = elsewhere(outputs, tmp_path)
    Lab(undisturbed).run(CUT, local=True)
    for spec in plan(CUT, outputs).specs:
        folders = [RunFolder(where, spec.train_key()) for where in (outputs, undisturbed)]
        assert final(folders[0]) == final(folders[1])
    tables = [Lab(where).results(CUT.name).scores for where in (outputs, undisturbed)]
    cut, whole = (table[table.unit != "seconds"] for table in tables)
    assert cut.equals(whole) and len(cut) > 60
