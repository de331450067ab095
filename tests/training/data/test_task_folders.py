"""Folders that tasks name are known by what lies there, whatever kind of folder it is."""

import json
from pathlib import Path

import pytest

from harness.training.data.cache import DataError
from harness.training.data.group_files import folder_digest
from harness.training.data.task_folders import task_folder_digests
from harness.training.settings.tasks import VQA, Entailment, Pairs, Retrieval, Sentences
from tests.training.data.conftest import png

GROUP = {"group": "x", "images": ["0.png"], "captions": ["a b", "b a"], "match": [[1, 0]]}
CLAIM = {"image": "0.png", "sentence": "a", "label": "b"}


def folder_of(where: Path) -> str:
    where.mkdir()
    (where / "0.png").write_bytes(png())
    (where / "groups.jsonl").write_text(json.dumps(GROUP))
    for name in ("train.jsonl", "test.jsonl"):
        (where / name).write_text(json.dumps(CLAIM))
    for name in ("train.tsv", "test.tsv"):
        (where / name).write_text("sentence\tlabel\na\tb")
    return str(where)


def test_every_kind_of_folder_has_a_digest(tmp_path: Path) -> None:
    where = folder_of(tmp_path / "one")
    pairs, claims = Pairs(groups=where), Entailment(source=where)
    digests = [task_folder_digests([task])[where] for task in (pairs, claims)]
    digests.append(task_folder_digests([pairs, claims])[where])
    digests.append(task_folder_digests([Sentences(source=where)])[where])
    assert len(set(digests)) == 4 and digests[0] == folder_digest(where)
    assert task_folder_digests([claims, pairs, claims])[where] == digests[2]
    other = folder_of(tmp_path / "other")
    assert task_folder_digests([Entailment(source=other), pairs]) == {
        other: digests[1], where: digests[0]
    }  # fmt: skip
    assert task_folder_digests([Retrieval(), Pairs(), VQA()]) == {}


def test_a_folder_that_cannot_be_read_names_line_and_field(tmp_path: Path) -> None:
    where = folder_of(tmp_path / "one")
    with pytest.raises(DataError, match=r"train.jsonl: 1 of 1 items .*\n  line 1, .*'sentence'"):
        task_folder_digests([VQA(source=where)])
