"""Scores whole curves: what a run measured along training, and not only at its end.

The last measurement is one moment; a mean over all of them holds how fast a loss fell too, and its
noise between seeds is smaller. Both kinds of scores are of the weights in training.
"""

from __future__ import annotations

from collections.abc import Mapping

from harness.outputs.folder import RunFolder
from harness.outputs.records import ScoresRecord
from harness.training.loop.budget import grid_of, steps_of
from harness.training.objectives.binding import CURVES, curve_names
from harness.training.scoring.contract import Score
from harness.training.settings.data import Data
from harness.training.settings.loop import Measure
from harness.training.settings.spec import TrainSpec
from harness.training.settings.tasks import ARRIVAL, MEAN

ARRIVED = 0.75
"""The share at which a curve of binding has arrived: half way from chance, of two, to all."""

Curves = Mapping[str, Mapping[int, float]]
"""Name of a curve -> step -> value."""


def write_along(folder: RunFolder, train: TrainSpec) -> None:
    """Writes the scores of the curves of a run that has ended: means and arrivals."""
    curves: dict[str, dict[int, float]] = {}
    for line in folder.metric_lines():
        for name, value in line.values.items():
            curves.setdefault(name, {})[line.step] = value
    for task, scores in ((MEAN, _means(curves)), (ARRIVAL, _arrivals(curves, train))):
        if scores:
            ScoresRecord(task=task, scores=tuple(scores)).write(folder.score_file(task))


def _means(curves: Curves) -> list[Score]:
    """Returns the mean of each validation curve over the measurements after the first step: losses
    in nats, accuracies in percent. The measurements are evenly spaced, so a mean is the area under
    the curve per step.
    """
    scores = []
    for name, values in curves.items():
        prefix, _, short = name.partition("/")
        later = [value for step, value in values.items() if step > 0]
        if prefix != "val" or short == "loss" or not later:
            continue  # the sum of all losses is another one for every design
        percent = short.endswith("_accuracy")
        scores.append(
            Score(
                name=short,
                value=sum(later) / len(later) * (100 if percent else 1),
                unit="percent" if percent else "nats",
                higher_is_better=percent,
                protocol=f"mean of {len(later)} measurements",
            )
        )
    return scores


def _arrivals(curves: Curves, train: TrainSpec) -> list[Score]:
    """Returns after how many steps each curve of binding was first measured at `ARRIVED` or more,
    the fewer the better. One that never was gets the step at which a measurement more would be.
    """
    never = _after_the_last(train)
    scores = []
    for name in sorted(name for name in curves if name.startswith(CURVES)):
        there = [step for step, value in curves[name].items() if value >= ARRIVED]
        step = min(there, default=never)
        scores.append(
            Score(
                name=name.replace("/", "_"),
                value=step,
                unit="steps",
                higher_is_better=False,
                protocol="never" if step == never else f"first measured at {ARRIVED} or more",
            )
        )
    return scores


def _after_the_last(train: TrainSpec) -> int:
    """Returns the step at which one measurement more would be."""
    steps = steps_of(train.budget, train.batch_size)
    return steps + steps // (len(grid_of(steps, train.measure.points)) - 1)


def names(objectives: tuple[str, ...], measure: Measure, data: Data) -> set[str]:
    """Returns the names of these scores that a run with such objectives on such data will have."""
    means = {f"{MEAN}/{name}_{what}" for name in objectives for what in ("loss", "accuracy")}
    return means | {f"{ARRIVAL}/{curve.replace('/', '_')}" for curve in curve_names(measure, data)}
