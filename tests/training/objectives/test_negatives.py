"""What ITM's negatives are drawn by, and how hard they were: hand-made cosines of three rows."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from architectures.contract import FusionDesign
from harness.training.data.batches import Batches
from harness.training.objectives import forward
from harness.training.objectives.itc import Scores
from harness.training.objectives.itm import Negatives
from harness.training.objectives.state import ObjectiveState
from harness.training.settings.objectives import ITC, ITM, Objectives

# In row 0 of images to texts 0.9 against 0.7: at temperature 0.1 that is e^2 to 1.
TO_TEXT = torch.tensor([[1.0, 0.9, 0.7], [0.1, 1.0, 0.1], [0.2, 0.4, 1.0]])
TO_IMAGE = torch.tensor([[1.0, 0.2, 0.5], [0.3, 1.0, 0.3], [0.6, 0.6, 1.0]])
ODDS = 0.8807970780


def both_ways(extra: int = 0) -> tuple[Scores, Scores]:
    """With columns of a queue behind, which are never drawn."""
    queue = torch.ones(3, extra)
    cosines = (torch.cat([table, queue], dim=1) for table in (TO_TEXT, TO_IMAGE))
    one, other = (Scores(cosine_BK=c, match_BK=torch.zeros_like(c).bool()) for c in cosines)
    return one, other


def state_of(temperature: float, hard_share: float = 1.0) -> Any:
    settings = Objectives(itm=ITM(hard_share=hard_share))
    return SimpleNamespace(temperature=torch.tensor(temperature), settings=settings)


def drawn(state: Any, ways: tuple[Scores, Scores] | None, match: Tensor) -> list[Negatives]:
    generator = torch.Generator().manual_seed(0)
    cosines = ways and forward._squares(ways, from_all=False)
    return [forward._drawn(cosines, state, match, generator) for _ in range(2000)]


def share(draws: list[Negatives], side: str, row: int, column: int) -> float:
    return sum(int(getattr(each, side)[row]) == column for each in draws) / len(draws)


@pytest.mark.parametrize("queue", [0, 4])
def test_hard_negatives_are_drawn_by_cosine_over_temperature(queue: int) -> None:
    draws = drawn(state_of(0.1), both_ways(queue), torch.eye(3).bool())
    assert share(draws, "text_for_image_B", 0, 1) == pytest.approx(ODDS, abs=0.03)
    assert share(draws, "text_for_image_B", 2, 1) == pytest.approx(ODDS, abs=0.03)
    assert share(draws, "image_for_text_B", 0, 2) == pytest.approx(0.9525741, abs=0.03)  # e^3 to 1
    assert share(draws, "image_for_text_B", 2, 1) == pytest.approx(0.5, abs=0.05)


def test_a_share_of_them_is_drawn_uniformly() -> None:
    draws = drawn(state_of(0.1, hard_share=0.5), both_ways(), torch.eye(3).bool())
    assert share(draws, "text_for_image_B", 0, 1) == pytest.approx((ODDS + 0.5) / 2, abs=0.04)


def test_without_itc_all_are_drawn_uniformly() -> None:
    match = torch.eye(3).bool()
    match[1, 0] = True  # image 1 and text 0 say the same
    draws = drawn(state_of(0.1), None, match)
    assert share(draws, "text_for_image_B", 0, 1) == pytest.approx(0.5, abs=0.05)
    assert share(draws, "text_for_image_B", 1, 2) == 1
    assert share(draws, "image_for_text_B", 0, 2) == 1


@pytest.mark.parametrize(
    ("texts", "images", "mean"),
    [
        ([1, 2, 0], [2, 0, 1], (0.9 + 0.1 + 0.2 + 0.3 + 0.6 + 0.5) / 6),
        ([1, -1, -1], [-1, -1, -1], 0.9),  # one alone
        ([1, -1, -1], [-1, 2, -1], (0.9 + 0.3) / 2),
        ([-1, -1, -1], [-1, -1, -1], 0.0),
    ],
)
def test_how_hard_negatives_were_is_their_mean_cosine(
    texts: list[int], images: list[int], mean: float
) -> None:
    # Text 0 took image 2, text 1 image 0, text 2 image 1: rows of TO_IMAGE.
    wrong = Negatives(image_for_text_B=torch.tensor(images), text_for_image_B=torch.tensor(texts))
    cosines = forward._squares(both_ways(2), from_all=False)
    assert float(forward._negative_cosine(cosines, wrong)) == pytest.approx(mean)


@torch.no_grad()
def test_a_cold_step_takes_the_hardest_negatives(
    make: Callable[..., FusionDesign], batches: Batches
) -> None:
    """At a temperature near 0 the draw is the largest cosine of a pair that does not match."""
    objectives = Objectives(itc=ITC(temperature=1e-6, temperature_range=(1e-6, 1)))
    design = make("split_bert", objectives, dropout=0.0)
    batch = batches.at(0)
    drawing = torch.Generator().manual_seed(0)
    state = ObjectiveState(objectives, design)
    notes = forward.terms(design, state, batch, negatives=drawing).notes
    image = design.encode_image(batch.pixels())
    text = design.encode_text(batch.ids_BL, batch.text_is_real_BL)
    image_BE, text_BE = design.heads["itc"](image.pooled_BD, text.pooled_BD)
    cosine_BB = (image_BE @ text_BE.T).masked_fill(batch.match_BB, -torch.inf)
    hardest = torch.cat([cosine_BB.amax(1), cosine_BB.amax(0)])
    wanted = hardest[hardest.isfinite()].mean()
    assert float(notes["itm_negative_cosine"]) == pytest.approx(float(wanted), abs=1e-6)
