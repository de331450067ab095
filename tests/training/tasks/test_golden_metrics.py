"""The comparison with stored retrieval metrics: counted by hand for two images and four texts."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks import albef_golden as golden

# Image 0 ranks its texts (0, 1) second and third, image 1 (2, 3) first; text 0 and 3 find their
# image, text 1 does not, text 2 ties.
TEXTS = [[1.0, 0.5, 2.0, 0.0], [0.0, 1.0, 3.0, 2.0]]
IMAGES = [[2.0, 1.0], [0.0, 1.0], [1.0, 1.0], [0.0, 4.0]]
RANGE = {
    "txt_r1": [50.0, 50.0], "txt_r5": [100.0, 100.0], "txt_r10": [100.0, 100.0],
    "img_r1": [50.0, 75.0], "img_r5": [100.0, 100.0], "img_r10": [100.0, 100.0],
}  # fmt: skip


def folder_of(tmp_path: Path, bounds: dict[str, list[float]], mean: float = 0.0) -> Path:
    stored = {"itm_eval": {"r_mean": mean}, "range_over_tie_orders": bounds}
    (tmp_path / "retrieval_metrics.json").write_text(json.dumps({"made_up": stored}))
    given = {
        "img2txt": {0: [0, 1], 1: [2, 3]},
        "made_up_i2t": torch.tensor(TEXTS),
        "made_up_t2i": torch.tensor(IMAGES),
    }
    torch.save(given, tmp_path / "retrieval_inputs.pt")
    return tmp_path


@pytest.mark.parametrize(
    ("changes", "outside"),
    [
        ({}, 0.0),
        ({"img_r1": [70.0, 75.0]}, 7.5),
        ({"img_r1": [25.0, 50.0]}, 12.5),
        ({"txt_r1": [40.0, 40.0]}, 10.0),
    ],
)
def test_ours_lies_between_the_tie_orders(
    tmp_path: Path, changes: dict[str, list[float]], outside: float
) -> None:
    """Image recall at 1 is 2.5 of 4."""
    lines = list(golden.metrics(folder_of(tmp_path, {**RANGE, **changes})))
    assert lines == [("retrieval_metrics", "made_up", [pytest.approx(outside), None])]


@pytest.mark.parametrize("mean, error", [((50 + 62.5 + 400) / 6, 0.0), (80.0, 5.4166667)])
def test_without_ties_the_mean_is_compared_too(tmp_path: Path, mean: float, error: float) -> None:
    certain = {**RANGE, "img_r1": [62.5, 62.5]}
    ((_, _, errors),) = golden.metrics(folder_of(tmp_path, certain, mean))
    assert errors == [pytest.approx(error), None]
