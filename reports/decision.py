"""What a study decides, as plain values: for a file, a script or an agent that reads verdicts.

The names of the fields stay: a reader may rely on them. A number that is not known is null.
"""

from __future__ import annotations

import math
from typing import Literal, TypedDict

from harness.results.pairing import pairing
from harness.results.tables import Results
from reports import analysis
from reports.analysis import Answer

State = Literal["decided", "undecided", "broken"]
EXITS: dict[State, int] = {"decided": 0, "broken": 1, "undecided": 3}
"""Exit codes of `fuselab verdict`; 2 is a mistake in the command, as of every command."""
FORMAT = 1
"""Raised when a field changes its meaning or goes."""


class ContrastLine(TypedDict):
    """A contrast line is one compared cell against the control."""

    cell: str
    control: str
    verdict: str
    """better, worse, equal or undecided."""
    delta: float | None
    """Least-squares difference, in units of the score."""
    se: float | None
    lower: float | None
    upper: float | None
    p_adjusted: float | None
    seeds: int
    seeds_needed: int | None
    """Seeds to add for an 80 % chance of a decision; null when decided, or beyond the cap."""
    hours_needed: float | None
    """Device-hours of those seeds."""
    text: str


class EndpointLines(TypedDict):
    """Endpoint lines are what one score says of all compared cells."""

    endpoint: str
    order: int
    higher_is_better: bool
    unit: str
    equal_within: float
    level: float
    """Simultaneous confidence of the intervals."""
    residual_sd: float | None
    detectable: float | None
    """Smallest difference found with 80 % chance at these seeds."""
    contrasts: list[ContrastLine]


class Decision(TypedDict):
    """A decision is what `verdicts.json` holds."""

    format: int
    study: str
    question: str
    control: str
    state: State
    """decided: every contrast of every endpoint; broken: see `problems`."""
    alpha: float
    looks: int | tuple[int, ...]
    seeds: list[int]
    problems: list[str]
    """Runs without a score, and what breaks their pairing, in words."""
    endpoints: list[EndpointLines]


def decision(results: Results, answers: tuple[Answer, ...] | None = None) -> Decision:
    """Says what a study decides. It is broken where a run lacks its score, where runs are not
    paired as they should be, and where nothing is there to compare."""
    answers = analysis.answers(results) if answers is None else answers
    study = results.study
    problems = [line for answered in answers for line in answered.missing]
    problems += [finding.text for finding in pairing(results) if not finding.ok]
    endpoints = [_endpoint(results, place, each) for place, each in enumerate(answers)]
    problems += [
        f"{each['endpoint']}: no cell can be compared with {study.control}"
        for each in endpoints
        if not each["contrasts"]
    ]
    kinds = [line["verdict"] for each in endpoints for line in each["contrasts"]]
    state: State = "broken" if problems else "undecided" if "undecided" in kinds else "decided"
    return Decision(
        format=FORMAT,
        study=study.name,
        question=study.question,
        control=study.control,
        state=state,
        alpha=study.alpha,
        looks=study.looks,
        seeds=list(study.seeds),
        problems=list(dict.fromkeys(problems)),
        endpoints=endpoints,
    )


def _endpoint(results: Results, place: int, answered: Answer) -> EndpointLines:
    task, _, name = answered.primary.partition("/")
    own = results.scores[(results.scores["task"] == task) & (results.scores["score"] == name)]
    model = answered.analysis
    return EndpointLines(
        endpoint=answered.primary,
        order=place,
        higher_is_better=answered.higher_is_better,
        unit=str(own["unit"].iloc[0]) if len(own) else "",
        equal_within=answered.region,
        level=1 - model.alpha,
        residual_sd=_known(math.sqrt(model.mse)),
        detectable=_known(answered.detectable),
        contrasts=[_contrast(answered, place) for place in range(len(model.contrasts))],
    )


def _contrast(answered: Answer, place: int) -> ContrastLine:
    contrast = answered.analysis.contrasts[place]
    verdict = answered.verdicts[contrast.design]
    return ContrastLine(
        cell=contrast.design,
        control=contrast.control,
        verdict=verdict.kind,
        delta=_known(contrast.delta),
        se=_known(contrast.se),
        lower=_known(contrast.lower),
        upper=_known(contrast.upper),
        p_adjusted=_known(contrast.p_adjusted),
        seeds=contrast.seeds,
        seeds_needed=verdict.needs,
        hours_needed=verdict.hours,
        text=verdict.text,
    )


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
