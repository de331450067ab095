"""Says whether compared runs saw the same batches, and started from the same weights.

Read by way of `harness.results.tables`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pandas as pd

from harness.words import count

if TYPE_CHECKING:
    from harness.results.tables import Results

LARGEST_DIFFERENCE = 0.01
"""Of the binding unit, as a share of the control's."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """A finding is one line of the pairing certificate."""

    ok: bool
    text: str


def pairing(results: Results) -> list[Finding]:
    """Says what makes the runs of one seed comparable, and what does not, seed by seed.

    Batches are compared over the steps that two runs have in common, as far as the shorter one
    goes; initial weights by where they start, over what they have in common.
    """
    return [
        *_same_batches(results),
        *_same_roles(results),
        *_same_code(results.runs),
        *_same_surroundings(results.runs),
        *_same_budget(results),
    ]


def _named(results: Results, kind: str) -> pd.DataFrame:
    """Returns the digests of a kind, each with seed and cell of its run."""
    digests = results.digests[results.digests["kind"] == kind]
    if kind == "roles":
        digests = digests.assign(name=_told_apart(digests))
    return results.runs[["run", "seed", "cell"]].merge(digests, on="run")


def _same_batches(results: Results) -> Iterator[Finding]:
    """Compares the batches of each seed over the steps that runs have in common: those of different
    lengths over their common beginning. The first step that differs is named."""
    named = _named(results, "batches")
    named = named[named["digest"] != ""].assign(step=lambda rows: rows["name"].astype(int))
    for seed, runs in named.sort_values("step", kind="stable").groupby("seed"):
        cells = runs["cell"].nunique()
        if cells < 2:
            continue
        shared = runs.groupby("step")[["digest", "run"]].nunique()
        shared = shared[shared["run"] > 1]
        broken = list(shared.index[shared["digest"] > 1])
        compared = runs[runs["step"].isin(shared.index)].groupby("cell")["step"].max()
        if broken:
            groups = _groups(runs[runs["step"] == broken[0]])
            text = f"seed {seed}: batches differ from step {broken[0]} on: {groups}"
            yield Finding(False, text)
        elif alone := sorted(set(runs["cell"]) - set(compared.index)):
            text = f"seed {seed}: no step at which batches of {', '.join(alone)} can be compared"
            yield Finding(False, text)
        else:
            lengths = runs.groupby("cell")["step"].max()
            apart = f" of {lengths.min():,} to {lengths.max():,}"
            over = f"the first {compared.min():,} steps{apart * (lengths.nunique() > 1)}"
            yield Finding(True, f"seed {seed}: {cells} cells have the same batches ({over})")


def _same_roles(results: Results) -> Iterator[Finding]:
    """Compares initial weights in the order of roles, so the first that differs comes first."""
    for seed, runs in _named(results, "roles").groupby("seed"):
        cells = runs["cell"].nunique()
        if cells < 2:
            continue
        shared = runs.groupby("name", sort=False)[["digest", "run"]].nunique()
        shared = shared[shared["run"] > 1]
        broken = list(shared.index[shared["digest"] > 1])
        if broken:
            groups = _groups(runs[runs["name"] == broken[0]])
            first = str(broken[0]).partition(" ")[0]
            text = f"initial weights differ in {len(broken)} roles, {first}: {groups}"
            yield Finding(False, f"seed {seed}: {text}")
        else:
            share = f"{len(shared)} shared roles{_shared_sizes(runs, shared.index)}"
            yield Finding(
                True, f"seed {seed}: {cells} cells have the same initial weights ({share})"
            )


def _groups(runs: pd.DataFrame) -> str:
    """Names the cells that have one digest, then those that have another."""
    groups = runs.groupby("digest", sort=False)["cell"].agg(list)
    return " / ".join(", ".join(cells) for cells in groups)


def _told_apart(roles: pd.DataFrame) -> list[str]:
    """Names roles by where they start and the sizes of the module that they belong to: slots of one
    pretrained layer start alike, a fresh one under the same name does not; a head that reads twice
    as wide is another one, and its bias is drawn within other bounds.
    """
    owners = [name.rpartition(".")[0] for name in roles["name"]]
    sizes: dict[tuple[str, str], list[str]] = {}
    for run, owner, size in zip(roles["run"], owners, roles["size"], strict=True):
        sizes.setdefault((run, owner), []).append(str(size))
    named = zip(roles["drawn_as"], roles["run"], owners, strict=True)
    return [f"{name} {' '.join(sizes[run, owner])}" for name, run, owner in named]


def _shared_sizes(runs: pd.DataFrame, shared: pd.Index) -> str:
    """Says which share of its parameters a cell has in common with another one, at the least."""
    sizes = runs.groupby("cell", sort=False)["size"].sum()
    if not sizes.all():
        return ""
    common = runs[runs["name"].isin(shared)].groupby("cell", sort=False)["size"].sum()
    return f", {(common / sizes).min():.0%} of a cell's parameters or more"


def _same_code(runs: pd.DataFrame) -> Iterator[Finding]:
    with_code = runs.dropna(subset=["code"])
    trained = with_code.groupby("code", sort=False)["cell"].agg(lambda cells: sorted(set(cells)))
    if len(trained) > 1:
        groups = "; ".join(f"{code}: {', '.join(cells)}" for code, cells in trained.items())
        yield Finding(False, f"trained by different code: {groups}")
    elif len(trained):
        yield Finding(True, f"all runs were trained by the same code ({trained.index[0]})")


def _same_surroundings(runs: pd.DataFrame) -> Iterator[Finding]:
    """Compares versions and devices of the runs that say them."""
    for column, what in (("libraries", "versions"), ("device", "kind of device")):
        with_value = runs.dropna(subset=[column])
        used = with_value.groupby(column, sort=False)["cell"].agg(lambda cells: sorted(set(cells)))
        if len(used) > 1:
            groups = "; ".join(f"{text}: {', '.join(cells)}" for text, cells in used.items())
            yield Finding(False, f"trained under different {what}: {groups}")
        elif len(used):
            yield Finding(True, f"all runs were trained under the same {what} ({used.index[0]})")


def _same_budget(results: Results) -> Iterator[Finding]:
    """Compares the binding unit actually spent by runs that are done with the control's."""
    study, runs = results.study, results.runs
    unit = study.budget_unit
    done = runs[(runs["status"] == "done") & (runs["role"] == "compared")]
    spent = _spent(results, done).groupby(done["cell"], sort=False).mean()
    if study.control not in spent or len(spent) < 2:
        return
    control = spent[study.control]
    apart = spent[~((spent / control - 1).abs() <= LARGEST_DIFFERENCE)]  # one not known is apart
    for cell, much in apart.items():
        its, of_control = (_amount(value, unit) for value in (much, control))
        yield Finding(False, f"{cell}: {its}, the control {study.control}: {of_control}")
    if apart.empty:
        text = f"the binding unit, {unit}, is within {LARGEST_DIFFERENCE:.0%} of the control's"
        yield Finding(True, text)


def _amount(value: float, unit: str) -> str:
    return f"{count(value)} {unit}" if math.isfinite(value) else f"nobody knows how many {unit}"


def _spent(results: Results, runs: pd.DataFrame) -> pd.Series:
    """Returns how much of the binding unit each run spent. Seconds are those that the budget was
    turned into steps by, and not what a step took beside other runs."""
    if results.study.budget_unit != "seconds":
        return runs[f"ledger.{results.study.budget_unit}"]
    of_a_step = {row.run: row.step_seconds for row in results.study.rows}
    return runs["ledger.steps"] * runs["run"].map(of_a_step).replace(0.0, math.nan)
