"""An endpoint is a score that a study gives verdicts about, declared before the study runs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from architectures.frozen import Frozen

MOST = 5
"""Endpoints of a study: each more makes all intervals wider."""
Order = Literal["equals", "ordered"]


class Endpoint(Frozen):
    """An endpoint is a score with its region of equivalence and its direction."""

    score: str
    """The final score, as `retrieval/mean_recall`."""
    equal_within: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    """Half-width of the region of practical equivalence, in units of the score."""
    better: Literal["higher", "lower"] | None = None
    """Which way is better; null: as the score itself says. Written out it is a check: a study that
    says otherwise than the score is refused."""

    @property
    def title(self) -> str:
        """What a dotted path names the endpoint by: `endpoints.retrieval/mean_recall.better`."""
        return self.score


def _each_once(endpoints: tuple[Endpoint, ...]) -> tuple[Endpoint, ...]:
    scores = [endpoint.score for endpoint in endpoints]
    if double := {score for score in scores if scores.count(score) > 1}:
        raise ValueError(f"the same score twice: {sorted(double)}")
    return endpoints


Endpoints = Annotated[tuple[Endpoint, ...], Field(max_length=MOST), AfterValidator(_each_once)]


SHORT_ENDPOINTS = (
    Endpoint(score="mean_over_training/itm_loss", equal_within=0.02),
    Endpoint(score="mean_over_training/itc_loss", equal_within=0.09),
    Endpoint(score="mean_over_training/mlm_loss", equal_within=0.05),
    Endpoint(score="retrieval/mean_recall", equal_within=2.0),
)
"""What a design learns in a few hundred steps of `nano`: how fast matching, alignment and masked
words come, and recall in the end. A region is 5 to 8 % of the loss of ALBEF's split; residual SDs
on seeds 0 to 14 of `demo`'s three divisions: .007, .029, .016 nats and .8 points."""


def endpoints_of(
    declared: tuple[Endpoint, ...], primary: str, region: float
) -> tuple[Endpoint, ...]:
    """Returns the endpoints that were declared, or, of a study with none, its primary score."""
    return declared or (Endpoint(score=primary, equal_within=region),)
