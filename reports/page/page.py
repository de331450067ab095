"""The page: one self-contained HTML file; no script, no address of anything outside it."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import pandas as pd

from reports import tables
from reports.analysis import Answer, all_learned, learned
from reports.drawing import in_words

if TYPE_CHECKING:
    from harness.results.pairing import Finding
    from harness.results.tables import Results

TEMPLATE = Path(__file__).with_name("page.html")
WORDS = ("cell", "verdict", "protocol", "task", "level")
"""Columns whose text is set left and may wrap."""


def page(
    results: Results,
    found: Answer,
    pictures: Sequence[Mapping[str, Any]],
    findings: Sequence[Finding],
    tuning: pd.DataFrame | None,
    designs: Sequence[Mapping[str, Any]] = (),
) -> str:
    """The HTML. `pictures`: title, caption and svg (bytes) of every figure, in order; `designs`:
    cells, design and svg of every diagram.

    All text is escaped: what runs and studies say is shown, never interpreted.
    """
    study, runs = results.study["study"], results.runs
    levels = learned(runs)
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    environment.globals |= {"zip": zip, "words": WORDS}
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        study=study,
        scale=_scale(runs),
        answer=sentences(found, len(study["seeds"])),
        score=in_words(found.primary),
        control=found.analysis.control,
        level=_percent(found),
        figures=[dict(p, svg=base64.b64encode(p["svg"]).decode()) for p in pictures],
        designs=[dict(d, svg=base64.b64encode(d["svg"]).decode()) for d in designs],
        comparison=tables.shown(tables.comparison(runs, found)),
        verdicts=found.lines,
        scores=tables.shown(tables.scores(runs)),
        ledger=tables.shown(tables.ledger(runs)),
        tuning=None if tuning is None else tables.shown(tuning),
        learned=tables.shown(levels),
        unlearned=tables.shown(levels[~levels["ok"]]),
        learned_ok=all_learned(runs),
        findings=findings,
        broken=[finding for finding in findings if not finding.ok],
        missing=found.missing,
        not_applicable=_not_applicable(results.study["rows"]),
        method=_method(found, study),
        notes=found.analysis.notes,
        settings=json.dumps(study, indent=2, sort_keys=True, default=str),
    )


def sentences(found: Answer, seeds_asked: int) -> list[str]:
    """The answer, no stronger than its verdicts."""
    control, score = found.analysis.control, in_words(found.primary)
    if not found.verdicts:
        who = "no other cell has a" if found.analysis.seeds[control] else "it has no"
        why = f"the control is {control}, and {who} score to compare"
        return [f"No verdict: {why}.", *_limits(found, seeds_asked)]
    kinds: dict[str, list[str]] = {kind: [] for kind in ("better", "worse", "equal", "undecided")}
    for cell, verdict in found.verdicts.items():
        kinds[verdict.kind].append(cell)
    parts = [
        f"{_list(kinds[kind])} {_be(kinds[kind])} {kind}{extra}"
        for kind, extra in (
            ("better", f" than {control}"),
            ("worse", f" than {control}"),
            ("equal", f" to {control} within {found.region:g}"),
        )
        if kinds[kind]
    ]
    differs = kinds["better"] or kinds["worse"]
    if not differs:
        parts.insert(0, f"no cell is shown to differ from {control}")
    first = f"On {score}, {'; '.join(parts)}."
    return [first, *_undecided(kinds["undecided"], found), *_limits(found, seeds_asked)]


def _undecided(cells: list[str], found: Answer) -> list[str]:
    if not cells:
        return []
    why: dict[str, list[str]] = {}
    for cell in cells:
        why.setdefault(tables.still_needed(found.verdicts[cell]), []).append(cell)
    return [f"Undecided: {'; '.join(f'{_list(names)} ({needs})' for needs, names in why.items())}."]


def _limits(found: Answer, seeds_asked: int) -> list[str]:
    sentences = []
    if found.missing:
        count = len(found.missing)
        sentences.append(
            f"{count} run{'s' * (count > 1)} gave no score and {_be(found.missing)} left out."
        )
    if math.isfinite(found.detectable):
        sentences.append(
            f"With these seeds ({seeds_asked} asked) a difference below about "
            f"{found.detectable:.2g} has less than an 80% chance of being found."
        )
    return [" ".join(sentences)] if sentences else []


def _scale(runs: pd.DataFrame) -> str:
    done = int((runs["status"] == "done").sum())
    hours = runs["ledger.device_seconds"].sum() / 3600
    cells, seeds = runs["cell"].nunique(), runs["seed"].nunique()
    return (
        f"{cells} cells × {seeds} seeds: {done} of {len(runs)} runs done, {hours:.2g} device-hours."
    )


def _be(things: Sequence[str]) -> str:
    return "is" if len(things) == 1 else "are"


def _list(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _percent(found: Answer) -> str:
    return f"{100 * (1 - found.analysis.alpha):.4g}%"


def _not_applicable(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """(cell, what and why) once per cell."""
    seen = {
        (str(row["cell"]), f"{what}, because {why}"): None
        for row in rows
        for what, why in (row.get("not_applicable") or {}).items()
    }
    return list(seen)


def _method(found: Answer, study: Mapping[str, Any]) -> list[str]:
    analysis = found.analysis
    return [
        "Every score is modelled as a mean, plus the design, plus the seed, plus a residual. Seeds "
        "are blocks, because all designs of one seed saw the same batches and started from the "
        "same shared weights. A contrast's standard error takes the larger of its own and the "
        "pooled variance; its interval is simultaneous over all contrasts with the control "
        "(Dunnett).",
        f"Family-wise error rate {study['alpha']:g} over {study['looks']} declared "
        f"look{'s' * (study['looks'] != 1)}: {_percent(found)} intervals, {analysis.df} degrees of "
        f"freedom. Declared beforehand: differences within ±{found.region:g} do not matter.",
        f"An interval inside ±{found.region:g} says equal, otherwise above zero better, below zero "
        "worse; all else is undecided, with the seeds that would give an 80% chance of a decision "
        "if the estimate were the truth. Floors and all else on this page are descriptive.",
    ]
