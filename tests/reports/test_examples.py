"""Examples show fixed items of the first seed of every compared cell, hits and misses alike."""

import dataclasses
import io
import math
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from harness.results.tables import Results
from reports import examples as showing
from reports.build import build
from reports.examples import LARGEST, examples, small_png, swap_groups
from reports.heat_maps import heat_maps
from tests.reports.conftest import Row

NOISE = np.random.default_rng(0)
"""For pictures that hardly become small; those of tests about something else are flat."""


def grounded(points: list[float]) -> dict[str, np.ndarray]:
    """Predictions of eight items of sixty, half of them kept and right where `points` says so."""
    kept, items = 8, np.arange(8) * 8
    return {
        "pointing": np.repeat(points, 8).astype(float),
        "point_x": np.full(64, 0.25),
        "point_y": np.full(64, 0.75),
        "shown_item": items,
        "shown_image": np.full((kept, 16, 16, 3), 100, np.uint8),
        "shown_map": np.ones((kept, 4, 4), dtype=np.float32),
        "shown_box": np.tile(np.float32([0.2, 0.5, 0.6, 1]), (kept, 1)),
        "shown_text": np.array([f"thing {item}" for item in items]),
    }


def swapped(scores: list[list[float]]) -> dict[str, np.ndarray]:
    return {
        "shown_group": np.array([3]),
        "shown_pictures": np.full((1, 2, 16, 16, 3), 100, np.uint8),
        "shown_captions": np.array([["red left of $5", "$5 left of red"]]),
        "shown_scores": np.array([scores], dtype=np.float32),
    }


def asked_for(results: Results, *tasks: str) -> Results:
    """The same results with a score of each of these tasks for every run."""
    row: Row = {"score": "x", "protocol": "how", "value": 1.0, "higher_is_better": True}
    runs = results.runs["run"]
    rows = [row | {"run": run, "task": task, "unit": "percent"} for task in tasks for run in runs]
    return dataclasses.replace(results, scores=pd.concat([results.scores, pd.DataFrame(rows)]))


def test_every_compared_cell_shows_the_same_items_of_its_first_seed(results: Results) -> None:
    reads: list[tuple[str, str]] = []

    def arrays(run: str, task: str) -> Mapping[str, np.ndarray]:
        reads.append((run, task))
        return grounded([1, 0] * 4) if task == "grounding" else {"given": np.zeros(3)}

    shown = examples(arrays, asked_for(results, "grounding", "vqa"))
    assert [each.cells for each in shown] == [("2+10",), ("6+6",), ("10+2",)]
    assert {each.title for each in shown} == {"grounding"}
    assert all("Items 0, 16, 40, 56 of 64, the same" in each.caption for each in shown)
    assert all(each.caption.startswith("how, seed 0.") for each in shown)
    assert {run[2:] for run, _ in reads} == {f"{0:014d}"}, "another seed was read"


def test_what_a_run_said_stands_beside_each_item(
    make: Callable[..., Results], monkeypatch: pytest.MonkeyPatch
) -> None:
    results = make({"6+6": 6.0}, seeds=1, control="6+6")
    drawn = []
    monkeypatch.setattr(showing, "heat_maps", lambda rows, title: drawn.append(rows) or
                        heat_maps(rows, title))  # fmt: skip
    examples(lambda *_: grounded([1, 0, 0.5, 0, 0, 1, 0, 0]), asked_for(results, "grounding"))
    texts = [row.text for row in drawn[0]]
    assert texts == ["hit: thing 0", "50% of its maxima hit: thing 16", "hit: thing 40",
                     "miss: thing 56"]  # fmt: skip
    assert drawn[0][0].point == (0.25, 0.75)


def test_cells_of_one_run_share_an_example(results: Results) -> None:
    runs = results.runs.copy()
    runs["run"] = "one"
    both = asked_for(dataclasses.replace(results, runs=runs), "grounding")
    (only,) = examples(lambda *_: grounded([1] * 8), both)
    assert only.cells == ("2+10", "6+6", "10+2")


@pytest.mark.parametrize(
    ("scores", "verdict"),
    [([[1, 0], [0, 1]], "right"), ([[1, 0], [2, 3]], "wrong"), ([[1, 1], [1, 1]], "wrong"),
     ([[math.nan, 0], [0, 1]], "wrong")],
)  # fmt: skip
def test_a_swap_group_is_right_where_all_find_their_own(scores: list, verdict: str) -> None:
    predictions = swapped(scores)
    figure = swap_groups(*(predictions[name] for name in showing.SWAPS[:3]))
    (text,) = figure.texts
    lines = text.get_text().split("\n")
    assert lines[0] == f"{verdict}:" and lines[1] == "red left of $5"
    assert lines[2].strip() == (
        f"with the left picture {scores[0][0]:.3f}, with the right one {scores[1][0]:.3f}"
    )
    assert len(figure.axes) == 2


def test_a_picture_is_small_whatever_it_shows(make: Callable[..., Results]) -> None:
    pictures = NOISE.integers(0, 256, (1, 2, 64, 64, 3), dtype=np.uint8)
    kept = {
        "grounding": grounded([1] * 8),
        "pairs": swapped([[1, 0], [0, 1]]) | {"shown_pictures": pictures},
    }
    results = asked_for(make({"6+6": 6.0}, seeds=1, control="6+6"), "grounding", "pairs")
    shown = examples(lambda _, task: kept.get(task, {}), results)
    assert {each.title for each in shown} == {"grounding", "pairs"}
    for each in shown:
        assert len(each.png) <= LARGEST
        assert Image.open(io.BytesIO(each.png)).size[0] > 250
    noise = grounded([1] * 8) | {
        "shown_image": NOISE.integers(0, 256, (8, 384, 384, 3), dtype=np.uint8)
    }
    one, same = (small_png(heat_maps(showing.kept(noise)[:4], "")) for _ in range(2))
    assert one == same and len(one) <= LARGEST


@pytest.mark.usefixtures("without_figures")
def test_the_page_has_them_where_run_folders_are_read(
    make: Callable[..., Results], tmp_path
) -> None:
    results = asked_for(make({"a": 2.0, "<b>": 6.0}, control="a"), "grounding")

    def arrays(run: str, task: str) -> Mapping[str, np.ndarray]:
        return grounded([1] * 8) if task == "grounding" else {}

    page = build(results, tmp_path / "r", arrays=arrays).page.read_text()
    assert page.count("data:image/png;base64,") == 2 and "<b>&lt;b&gt;</b>, grounding" in page
    assert "<h2>Examples</h2>" not in build(results, tmp_path / "none").page.read_text()
    none = build(results, tmp_path / "r", arrays=lambda *_: {}).page.read_text()
    assert "<h2>Examples</h2>" not in none

    def damaged(run: str, task: str) -> Mapping[str, np.ndarray]:
        raise RuntimeError("grounding.npz cannot be read; delete it")

    report = build(results, tmp_path / "r", arrays=damaged)
    assert "grounding.npz cannot be read" in report.not_drawn[0] and report.page.exists()
