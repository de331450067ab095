"""Says whether compared runs saw the same batches, and started from the same weights.

Read by way of `harness.results.tables`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pandas as pd

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

    Batches are compared over the measured steps that two runs have in common; initial weights
    by where they start, over what they have in common.
    """
    return [
        *_same_digests(results, "batches"),
        *_same_digests(results, "roles"),
        *_same_code(results.runs),
        *_same_surroundings(results.runs),
        *_same_budget(results),
    ]


def _same_digests(results: Results, kind: str) -> Iterator[Finding]:
    """Compares steps or roles in the order measured, so the first that differs comes first."""
    digests = results.digests[results.digests["kind"] == kind]
    if kind == "roles":
        digests = digests.assign(name=_told_apart(digests))
    named = results.runs[["run", "seed", "cell"]].merge(digests, on="run")
    where, what = ("step ", "batches") if kind == "batches" else ("", "initial weights")
    for seed, runs in named.groupby("seed"):
        cells = runs["cell"].nunique()
        shared = runs.groupby("name", sort=False)[["digest", "run"]].nunique()
        shared = shared[shared["run"] > 1]
        if cells < 2:
            continue
        broken = list(shared.index[shared["digest"] > 1])
        if broken:
            some = runs[runs["name"] == broken[0]].groupby("digest", sort=False)["cell"].agg(list)
            groups = " / ".join(", ".join(cells) for cells in some)
            broken[0] = str(broken[0]).partition(" ")[0]
            text = f"seed {seed}: {what} differ from {where}{broken[0]} on: {groups}"
            if kind == "roles":
                text = f"seed {seed}: {what} differ in {len(broken)} roles, {broken[0]}: {groups}"
            yield Finding(False, text)
        else:
            share = f"{len(shared)} measured steps"
            if kind == "roles":
                share = f"{len(shared)} shared roles{_shared_sizes(runs, shared.index)}"
            yield Finding(True, f"seed {seed}: {cells} cells have the same {what} ({share})")


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
    spent = done.groupby("cell", sort=False)[f"ledger.{unit}"].mean()
    if study.control not in spent or len(spent) < 2:
        return
    control = spent[study.control]
    apart = spent[(spent / control - 1).abs() > LARGEST_DIFFERENCE]
    for cell, much in apart.items():
        yield Finding(
            False, f"{cell}: {much:,.0f} {unit}, the control {study.control} {control:,.0f}"
        )
    if apart.empty:
        text = f"the binding unit, {unit}, is within {LARGEST_DIFFERENCE:.0%} of the control's"
        yield Finding(True, text)
