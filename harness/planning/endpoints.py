"""Finds what is wrong with the scores that a study gives verdicts about, and what it can see."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from architectures.frozen import SettingError, nearest
from harness.statistics.dunnett import as_dunnett
from harness.statistics.looks import level_of_look
from harness.statistics.power import smallest_detectable_effect
from harness.study import Study
from harness.training.settings.tasks import MEAN, VALIDATION

NOT_IN_PERCENT = re.compile(r"_loss$|^steps_until/|margin|mcnemar_p$")
"""Scores in nats, steps or logits, by their names."""
LOWER_IS_BETTER = re.compile(r"_loss$|^steps_until/|/itc_only$|/mcnemar_p$")
"""Scores of which less is better, by their names."""


def check(study: Study, names: Collection[str], *, tuned: bool) -> None:
    """Raises `SettingError` for a score that nothing will measure, that has no region in its own
    units, that is said to be better the other way round, or that tuning minimised.

    `names`: all scores that some run will have; `tuned`: whether settings are those tuning chose.
    """
    for place, endpoint in enumerate(study.judged):
        score, at = endpoint.score, f"endpoints.{place}" if study.endpoints else "primary"
        if score not in names:
            raise nearest(score, names, f"score (setting {at}{'.score' * bool(study.endpoints)})")
        declared = study.endpoints or study.equal_within is not None
        if not declared and NOT_IN_PERCENT.search(score):
            raise SettingError(
                f"equal_within is not declared, and its default of {study.margin:g} is meant for "
                f"percent: say what difference of {score} counts as none, in its units"
            )
        better = "lower" if LOWER_IS_BETTER.search(score) else "higher"
        if endpoint.better not in (None, better):
            raise SettingError(
                f"{at}.better is {endpoint.better!r}, but of {score} {better} is better: leave it "
                "out"
            )
        if tuned and score.startswith((f"{VALIDATION}/", f"{MEAN}/")):
            raise SettingError(
                f"{at} {score!r} is measured on the pictures that tuning minimised "
                f"{study.tuning.score!r} on, so --tuned would flatter it; name a score of a task"
            )


def level_of_first(study: Study) -> float:
    """Returns the family-wise level that an endpoint starts from, at every look."""
    compared = sum(cell.role == "compared" for cell in study.cells)
    shared = 1 if study.endpoint_order == "ordered" else len(study.judged)
    return level_of_look(study.alpha / shared, study.looks, compared)


def in_words(study: Study) -> Iterator[str]:
    """Says of each endpoint what difference the study can find, at the level that it starts from,
    and what counts as none."""
    compared, seeds = sum(cell.role == "compared" for cell in study.cells), len(study.seeds)
    number, level = len(study.judged), level_of_first(study)
    contrasts, df = compared - 1, (compared - 1) * (seeds - 1)
    if number > 1 and study.endpoint_order == "ordered" and df:
        level = as_dunnett(level, contrasts, df, contrasts)
    effect = smallest_detectable_effect(compared, seeds, alpha=level)
    declared = study.endpoints or study.equal_within is not None
    margin = "declared" if declared else "a default, not declared"
    for endpoint in study.judged:
        yield (
            f"Smallest difference from {study.control!r} that {seeds} seeds find with 80 % chance: "
            f"{effect:.2f} residual SDs of {endpoint.score}. Differences within "
            f"{endpoint.equal_within:g} count as equal ({margin})."
        )
    if number > 1:
        yield (
            f"Verdicts are about {number} endpoints ({study.endpoint_order}), which share an error "
            f"rate of {study.alpha:g}."
        )
