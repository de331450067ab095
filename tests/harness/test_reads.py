"""A study keeps who read its report with how many seeds."""

from pathlib import Path

import pytest

from harness.outputs.folder import study_file
from harness.outputs.reads import note_read, read_at
from harness.outputs.records import DamagedFile
from tests.harness.test_records import STUDY

UNDECIDED = {"a/b": {"6+6": "undecided"}}


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    STUDY.write(study_file(tmp_path, "s"))
    return tmp_path


def test_reads_of_the_same_verdicts_count_once(outputs: Path) -> None:
    assert read_at(outputs, "s") == ()
    assert note_read(outputs, "s", 3, UNDECIDED)
    assert not note_read(outputs, "s", 3, UNDECIDED)
    assert note_read(outputs, "s", 3, {"a/b": {"6+6": "better"}}), "another verdict is kept"
    assert note_read(outputs, "s", 5, UNDECIDED)
    assert read_at(outputs, "s") == (3, 5)


def test_one_seed_has_no_verdict_to_read(outputs: Path) -> None:
    assert not note_read(outputs, "s", 1, UNDECIDED)
    assert read_at(outputs, "s") == ()


def test_a_study_that_lies_elsewhere_is_not_noted(outputs: Path) -> None:
    assert not note_read(outputs, "read from a store", 3, UNDECIDED)
    assert not (outputs / "studies" / "read from a store").exists()


def test_a_damaged_record_is_named_with_what_to_do(outputs: Path) -> None:
    file = study_file(outputs, "s").with_name("reads.json")
    file.write_text("{")
    for ask in (lambda: read_at(outputs, "s"), lambda: note_read(outputs, "s", 3, UNDECIDED)):
        with pytest.raises(DamagedFile, match=r"reads\.json is damaged .*`looks` of the study"):
            ask()
    assert file.read_text() == "{", "nothing is lost by it"
