"""What runs answered to single items is read where its mean is the score, and only there."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from harness.outputs.folder import RunFolder
from harness.results.items import item_answers
from harness.results.tables import Results
from tests.reports.conftest import _make as make

RIGHT = np.array([1, 0, 1, 1, 0, 1, 1, 1.0])


@pytest.fixture
def results() -> Results:
    results = make({"6+6": 6.0, "2+10": 2.0}, seeds=2, control="6+6")
    mean = results.scores["score"] == "mean_recall"
    results.scores.loc[mean, "value"] = 100 * RIGHT.mean()
    return results


def write(outputs: Path, results: Results, arrays: Callable[[], dict[str, np.ndarray]]) -> None:
    for run in results.runs["run"]:
        file = RunFolder(outputs, run).score_file("retrieval").with_suffix(".npz")
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez(file, **arrays())


def test_an_array_of_the_score_or_the_mean_of_all(results: Results, tmp_path: Path) -> None:
    write(tmp_path, results, lambda: {"mean_recall_itm": RIGHT, "other": 1 - RIGHT})
    answers = item_answers(tmp_path, results, "retrieval/mean_recall")
    assert answers is not None and answers.shape == (2, 2, 8)
    assert (answers == 100 * RIGHT).all()
    write(tmp_path, results, lambda: {"i2t_1": RIGHT, "t2i_1": RIGHT[::-1]})
    answers = item_answers(tmp_path, results, "retrieval/mean_recall")
    assert answers is not None
    assert answers[0, 0] == pytest.approx(50 * (RIGHT + RIGHT[::-1]))


def test_answers_to_something_else_or_none_are_not_taken(results: Results, tmp_path: Path) -> None:
    assert item_answers(tmp_path, results, "retrieval/mean_recall") is None
    write(tmp_path, results, lambda: {"mean_recall_itm": 1 - RIGHT})
    assert item_answers(tmp_path, results, "retrieval/mean_recall") is None
    (
        RunFolder(tmp_path, results.runs["run"][0]).score_file("retrieval").with_suffix(".npz")
    ).write_bytes(b"no")
    assert item_answers(tmp_path, results, "retrieval/mean_recall") is None
    assert item_answers(tmp_path, results, "no/such score") is None
