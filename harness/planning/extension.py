"""Adds seeds and cells to a study that stands: the same batches and weights, and what was asked
first stays on record.

What was added lies beside the study's record, `studies/<name>/extended.json`, and is put over the
study's file whenever it is planned: `plan`, `run`, `tune`, `status` and `report` all have it.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

from architectures.frozen import Frozen, SettingError
from harness.outputs.folder import RunFolder, study_file
from harness.outputs.records import Record, StudyRecord, read_if_there
from harness.planning.plan import Plan
from harness.study import Cell, Study


class Added(Frozen):
    """Holds what was added at once."""

    seeds: tuple[int, ...] = ()
    cells: tuple[Cell, ...] = ()
    when: float
    """Seconds since 1970."""
    done: int
    """Runs that were done by then, whose scores could be looked at."""
    runs: int
    """Runs that the study had by then."""


class Extension(Record):
    """Holds all that was added to a study, in order: `extended.json`."""

    remedy: ClassVar[str] = "delete it, and say `fuselab extend` again: finished runs are kept"
    added: tuple[Added, ...] = ()


def extension_file(outputs: Path, study: str) -> Path:
    """Says where a study's extension lies."""
    return study_file(outputs, study).with_name("extended.json")


def extended(study: Study, outputs: Path) -> Study:
    """Returns the study with all that was added to it; itself where nothing was. Raises
    `DamagedFile`, and `SettingError` where what was added does not fit the study any more."""
    record = read_if_there(Extension, extension_file(outputs, study.name)) or Extension()
    for added in record.added:
        study = _with(study, added.seeds, added.cells)
    return study


def _with(study: Study, seeds: Sequence[int], cells: Sequence[Cell]) -> Study:
    """Returns the study with those seeds and cells that it has not."""
    names = {cell.name for cell in study.cells}
    more_seeds = [seed for seed in seeds if seed not in study.seeds]
    more_cells = [cell for cell in cells if cell.name not in names]
    if not more_seeds and not more_cells:
        return study
    both = {"seeds": (*study.seeds, *more_seeds), "cells": (*study.cells, *more_cells)}
    return study.model_copy(update=both)


def seeds_of(study: Study, words: str) -> tuple[int, ...]:
    """Returns the seeds that `+2` or `5,7` adds: of a number the next ones that no run of another
    kind uses. Raises `SettingError`."""
    if words.startswith("+") and words[1:].isdecimal() and int(words) > 0:
        taken = {study.tuning.seed, *study.seeds}
        recipes = [study.settings_of(cell).warm_start for cell in study.cells]
        taken |= {recipe.seed for recipe in recipes if recipe}
        first = max(study.seeds) + 1
        free = (seed for seed in range(first, first + int(words) + len(taken)) if seed not in taken)
        return tuple(seed for seed, _ in zip(free, range(int(words)), strict=False))
    parts = [part.strip() for part in words.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise SettingError(f"--seeds {words!r}: write how many more, as +2, or which, as 5,7")
    seeds = tuple(map(int, parts))
    if there := sorted(set(seeds) & set(study.seeds)):
        raise SettingError(f"--seeds {words}: the study has the seed {there[0]} already")
    return seeds


def grown(study: Study, seeds: Sequence[int], cells: Sequence[Cell]) -> Study:
    """Returns the study with these seeds and cells. Raises `SettingError` where a cell has the name
    of one that is there."""
    names = {cell.name for cell in study.cells}
    for cell in cells:
        if cell.name in names:
            raise SettingError(f"the study has a cell {cell.name!r} already")
    return _with(study, seeds, cells)


MORE = 2
"""Seeds between two looks of a study that declares how many looks there are, and not where."""


def looks_of(study: Study, at_most: int) -> tuple[int, ...]:
    """Returns how many seeds a study has at each look until it has `at_most`; `study`: as its file
    says it. Raises `SettingError` where it declares fewer looks, or others."""
    begins = len(study.seeds)
    if begins > at_most:
        raise SettingError(f"--at-most {at_most}: the study begins with {begins} seeds")
    if not isinstance(study.looks, int):
        looks = tuple(seeds for seeds in study.looks if seeds <= at_most)
        if looks[:1] != (begins,):
            raise SettingError(
                f"the study begins with {begins} seeds, but its first look is at "
                f"{study.looks[0]}: begin at the first look"
            )
        return looks
    looks = tuple(range(begins, at_most + 1, MORE))
    if study.looks < len(looks):
        numbers = ", ".join(map(str, looks))
        raise SettingError(
            f"{looks[0]} to {looks[-1]} seeds are {len(looks)} looks at the verdicts, and the "
            f"study declares {study.looks}: set looks=[{numbers}] before it runs, or lower "
            "--at-most"
        )
    return looks


def check_same(planned: Plan, outputs: Path) -> None:
    """Raises `SettingError` where the study was run under other settings than those of now: what is
    added would not be paired with it."""
    record = read_if_there(StudyRecord, study_file(outputs, planned.study.name))
    before = {(row.cell, row.seed): row.run for row in record.rows} if record else {}
    for row in planned.rows:
        run = before.get((row.cell.name, row.seed))
        if run and run != row.spec.train_key():
            raise SettingError(
                f"{planned.study.name} was run under other settings than these (cell "
                f"{row.cell.name!r} is the run {run}): name the same --set and --tuned as then"
            )


def write_extension(
    before: Plan, seeds: Sequence[int], cells: Sequence[Cell], outputs: Path
) -> None:
    """Writes down that seeds and cells were added to the study of a plan, and how many of its runs
    were done by then."""
    path = extension_file(outputs, before.study.name)
    record = read_if_there(Extension, path) or Extension()
    added = Added(
        seeds=tuple(seeds),
        cells=tuple(cells),
        when=time.time(),
        done=_done(before, outputs),
        runs=len(before.specs),
    )
    Extension(added=(*record.added, added)).write(path)


def _done(planned: Plan, outputs: Path) -> int:
    keys = [spec.train_key() for spec in planned.specs]
    return sum(RunFolder(outputs, key).recovered_status().state == "done" for key in keys)


def notes(study: Study, outputs: Path) -> Iterator[str]:
    """Says what was added to a study when, and how often it was looked at before."""
    record = read_if_there(Extension, extension_file(outputs, study.name)) or Extension()
    look = 1
    declared = study.looks if isinstance(study.looks, int) else len(study.looks)
    for added in record.added:
        what = []
        if added.seeds:
            what.append(f"seeds {', '.join(map(str, added.seeds))}")
        if added.cells:
            what.append(f"cells {', '.join(cell.name for cell in added.cells)}")
        day = datetime.datetime.fromtimestamp(added.when, datetime.UTC).date()
        line = (
            f"{' and '.join(what)} were added to the study on {day}, when {added.done} of its "
            f"{added.runs} runs were done"
        )
        if added.seeds and added.done:
            look += 1
            line += f": look {look} of {declared} declared"
            if look > declared:
                line += (
                    f"; {study.alpha:.0%} holds for the looks declared before a study runs "
                    "(setting looks), and these are more: read its verdicts as a pilot's"
                )
        yield line


def progress(planned: Plan, outputs: Path) -> Iterator[str]:
    """Says how many runs of a study that something was added to are done, and how many are new."""
    if extension_file(outputs, planned.study.name).exists():
        done, runs = _done(planned, outputs), len(planned.specs)
        yield f"{done} of its {runs} runs are done, {runs - done} are new"
