"""Finds what can be known wrong with a study before anything is spent; plan and run ask alike."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from architectures.facts import OBJECTIVES
from architectures.frozen import SettingError, nearest
from harness.outputs.folder import RunFolder, study_file
from harness.outputs.records import DamagedFile, StudyRecord, read_if_there
from harness.planning import endpoints
from harness.planning.plan import Plan
from harness.planning.several import refuse_several
from harness.runs import along
from harness.study import Study
from harness.training.loop.budget import grid_of, steps_of
from harness.training.scoring import registry as tasks
from harness.training.settings.data import Data
from harness.training.settings.loop import Final
from harness.training.settings.tasks import VALIDATION, TaskSpec

FACTS = ("cell", "text_layers", "fusion_layers", "itc_reads")
"""What a results table says of every design, and an axis may be."""
TUNED = ("optimizer", "objectives", "tasks")
"""Settings whose fields may be tuned."""
IN_ITS_LOSS = ("share", "mask_share", "random_share", "margin")
"""Fields of an objective that its validation loss is made with, so that its losses under two values
are of two things."""


def check(planned: Plan, *, tuned: bool = False) -> None:
    """Raises `SettingError` for a name in the study that nothing will answer, with the nearest.

    `tuned`: whether the settings are those that tuning chose.
    """
    study = planned.study
    endpoints.check(study, scores_of(planned), tuned=tuned)
    if study.axis not in (axes := axes_of(planned)):
        raise nearest(study.axis, axes, "column (setting axis)")
    _check_space(study)
    _check_yardstick(study)
    if study.tuning.score not in (curves := set(_curves(planned))):
        raise nearest(study.tuning.score, curves, "validation loss (setting tuning.score)")
    check_measurements(planned)
    refuse_several(planned)


def _check_yardstick(study: Study) -> None:
    """Raises `SettingError` where what is tuned changes what the loss that is minimised measures:
    of weights, say, the smallest would always win."""
    score = study.tuning.score
    for path in study.tuning.space:
        section, _, rest = path.partition(".")
        objective, _, field = rest.partition(".")
        own = field in IN_ITS_LOSS and score in ("val/loss", f"val/{objective}_loss")
        if section == "objectives" and (own or (field == "weight" and score == "val/loss")):
            raise SettingError(
                f"tuning.space tunes {path}, which {score} is made with, so its lowest value says "
                "nothing: set tuning.score to a loss that it only trains, as val/itc_loss"
            )


def check_measurements(planned: Plan) -> None:
    """Raises `SettingError` where final weights are a mean of more measurements than there are.
    Rows whose steps are not known yet are left out."""
    for row in planned.rows:
        train = row.spec.train
        if train.final.kind != "mean" or train.budget.per_design:
            continue
        steps = steps_of(train.budget, train.batch_size)
        measured, wanted = len(grid_of(steps, train.measure.points)) - 1, train.final.measurements
        if wanted > measured:
            raise SettingError(
                f"cell {row.cell.name!r}: final.measurements is {wanted}, but {steps} steps have "
                f"{measured} measurements; raise measure.points or lower it"
            )


def _check_space(study: Study) -> None:
    """Raises `SettingError` where a setting to be tuned is none, or cannot have a value of its
    range in some cell."""
    for path, span in study.tuning.space.items():
        if path.partition(".")[0] not in TUNED:
            raise nearest(path, TUNED, "setting in tuning.space, which may name fields of these,")
        between = span.low + (span.high - span.low) / math.pi
        for cell in study.cells:
            for value in (span.low, between, span.high):
                try:
                    study.settings_of(cell).with_field(path, value)
                except SettingError as error:
                    raise SettingError(f"tuning.space, cell {cell.name!r}: {error}") from None


def scores_of(planned: Plan) -> set[str]:
    """Names of all final scores that some run will have, as `retrieval/mean_recall`."""
    names: set[str] = set()
    named: list[tuple[TaskSpec, Data]] = []
    for row in planned.rows:
        spec, data = row.spec, row.spec.asked.data
        for task in spec.asked.tasks:
            if (task, data) not in named:  # a folder of groups is read once for all rows
                named.append((task, data))
                scores = tasks.find(task.name).names(task, data)
                names |= {f"{task.title}/{score}" for score in scores}
        for objective in spec.train.objectives.active():
            names |= {f"{VALIDATION}/{objective}_{what}" for what in ("loss", "accuracy")}
        names |= along.names(spec.train.objectives.active(), spec.train.measure, data)
    return names


def axes_of(planned: Plan) -> set[str]:
    """Returns the columns that a figure may have on its axis."""
    fields = {f"config.{field}" for row in planned.rows for field in row.config}
    changed = {f"set.{path}" for row in planned.rows for path in row.cell.settings}
    return {*FACTS, *fields, *changed}


def _curves(planned: Plan) -> Iterator[str]:
    """Returns the validation curves that every cell can minimise."""
    if title := planned.study.tuning.task:
        yield f"{title}/val/task_loss"
        return
    yield "val/loss"
    specs = [row.spec for row in planned.rows]
    for objective in OBJECTIVES:
        if all(objective in spec.train.objectives.active() for spec in specs):
            yield f"val/{objective}_loss"


def same_runs(planned: Plan) -> list[str]:
    """Says which cells ask for the same runs under several names."""
    cells: dict[str, list[str]] = {}
    for row in planned.rows:
        if row.seed == planned.study.seeds[0]:
            cells.setdefault(row.spec.train_key(), []).append(row.cell.name)
    return [
        f"{' and '.join(names)} are the same run under {len(names)} names: it is made once"
        for names in cells.values()
        if len(names) > 1
    ]


def final_weights(planned: Plan) -> list[str]:
    """Says which weights are final, where they are not those after the last step of every cell."""
    cells: dict[str, list[str]] = {}
    for row in planned.rows:
        if row.seed == planned.study.seeds[0]:
            cells.setdefault(row.spec.train.final.in_words, []).append(row.cell.name)
    if set(cells) == {Final().in_words}:
        return []
    lines = []
    for weights, names in cells.items():
        who = "" if len(cells) == 1 else f" of {', '.join(names)}"
        lines.append(
            f"the final weights{who} are {weights}; they are scored and exported, curves are of "
            "the weights in training"
        )
    return lines


def left_over(planned: Plan, outputs: Path) -> list[str]:
    """Says which runs of this study's name stand from other settings, and where they lie."""
    study = planned.study.name
    try:
        before = read_if_there(StudyRecord, study_file(outputs, study))
    except DamagedFile:
        return []
    if before is None:
        return []
    wanted = {row.spec.train_key() for row in planned.rows}
    keys = [key for key in (*before.keys, *before.left_over) if key not in wanted]
    begun = [key for key in dict.fromkeys(keys) if RunFolder(outputs, key).path.is_dir()]
    if not begun:
        return []
    shown = ", ".join(begun[:4]) + (", ..." if len(begun) > 4 else "")
    return [
        f"{len(begun)} runs of {study} under other settings are left over and not part of it any "
        f"more: {shown} in {outputs / 'runs'}; the old settings bring them back, deleting their "
        "folders frees the space"
    ]


def former_runs(planned: Plan, outputs: Path) -> tuple[str, ...]:
    """Returns train keys that this study's name once asked for and does not any more."""
    try:
        before = read_if_there(StudyRecord, study_file(outputs, planned.study.name))
    except DamagedFile:
        return ()
    wanted = {row.spec.train_key() for row in planned.rows}
    keys: Sequence[str] = (*before.left_over, *before.keys) if before else ()
    return tuple(key for key in dict.fromkeys(keys) if key not in wanted)
