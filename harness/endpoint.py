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


def endpoints_of(
    declared: tuple[Endpoint, ...], primary: str, region: float
) -> tuple[Endpoint, ...]:
    """Returns the endpoints that were declared, or, of a study with none, its primary score."""
    return declared or (Endpoint(score=primary, equal_within=region),)
