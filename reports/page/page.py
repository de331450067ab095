"""The page: one self-contained HTML file; no script, no address of anything outside it."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import pandas as pd

from harness.results.tables import Results, StudyRecord
from reports import tables
from reports.analysis import Answer
from reports.drawing import in_words
from reports.examples import Example
from reports.facts import Facts

TEMPLATE = Path(__file__).with_name("page.html")
WORDS = ("cell", "verdict", "protocol", "task", "level")
"""Columns whose text is set left and may wrap."""


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A figure for the page."""

    title: str
    caption: str
    svg: bytes

    @property
    def encoded(self) -> str:
        """The picture as text, for an address that holds its data."""
        return base64.b64encode(self.svg).decode()


@dataclass(frozen=True, kw_only=True)
class Diagram:
    """The picture of a design, for the cells that share it."""

    cells: tuple[str, ...]
    design: str
    svg: bytes

    @property
    def encoded(self) -> str:
        """The picture as text, for an address that holds its data."""
        return base64.b64encode(self.svg).decode()


def page(
    results: Results,
    facts: Facts,
    figures: Sequence[Drawing],
    designs: Sequence[Diagram] = (),
    not_drawn: Sequence[str] = (),
    examples: Sequence[Example] = (),
) -> str:
    """The HTML; `not_drawn`: why figures are missing.

    All text is escaped: what runs and studies say is shown, never interpreted.
    """
    study, answer, levels = results.study, facts.answer, facts.learned
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    environment.globals |= {"zip": zip, "words": WORDS}
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        study=study,
        not_drawn=not_drawn,
        scale=_scale(results.runs),
        answer=all_sentences(facts.answers, len(study.seeds)),
        score=in_words(answer.primary),
        control=answer.analysis.control,
        level=_percent(answer),
        figures=figures,
        designs=designs,
        examples=examples,
        comparison=tables.shown(facts.comparison),
        verdicts=answer.lines,
        scores=tables.shown(facts.scores),
        ledger=tables.shown(facts.ledger),
        tuning=None if facts.tuning is None else tables.shown(facts.tuning),
        learned=tables.shown(levels),
        unlearned=tables.shown(levels[~levels["ok"].astype(bool)]),
        learned_ok=facts.learned_ok,
        findings=facts.findings,
        broken=[finding for finding in facts.findings if not finding.ok],
        missing=answer.missing,
        not_applicable=_not_applicable(results),
        method=_method(answer, study),
        notes=(*filter(None, [answer.undeclared]), *_notes(facts.answers), *study.notes),
        settings=json.dumps(study.settings, indent=2, sort_keys=True, default=str),
    )


def all_sentences(answers: Sequence[Answer], seeds_asked: int) -> list[str]:
    """The answer on the first endpoint, a sentence for each other, then what limits the first."""
    first, *limits = sentences(answers[0], seeds_asked)
    return [first, *(sentences(other, seeds_asked)[0] for other in answers[1:]), *limits]


def sentences(answer: Answer, seeds_asked: int) -> list[str]:
    """The answer, no stronger than its verdicts."""
    control, score = answer.analysis.control, in_words(answer.primary)
    score += "" if answer.higher_is_better else " (lower is better)"
    if not answer.verdicts:
        who = "no other cell has a" if answer.analysis.seeds[control] else "it has no"
        why = f"the control is {control}, and {who} score to compare"
        return [f"No verdict on {score}: {why}.", *_limits(answer, seeds_asked)]
    kinds: dict[str, list[str]] = {kind: [] for kind in ("better", "worse", "equal", "undecided")}
    for cell, verdict in answer.verdicts.items():
        kinds[verdict.kind].append(cell)
    parts = [
        f"{_list(kinds[kind])} {_be(kinds[kind])} {kind}{extra}"
        for kind, extra in (
            ("better", f" than {control}"),
            ("worse", f" than {control}"),
            ("equal", f" to {control} within {answer.region:g}"),
        )
        if kinds[kind]
    ]
    differs = kinds["better"] or kinds["worse"]
    if not differs:
        parts.insert(0, f"no cell is shown to differ from {control}")
    first = f"On {score}, {'; '.join(parts)}."
    return [first, *_undecided(kinds["undecided"], answer), *_limits(answer, seeds_asked)]


def _undecided(cells: list[str], answer: Answer) -> list[str]:
    if not cells:
        return []
    why: dict[str, list[str]] = {}
    for cell in cells:
        why.setdefault(answer.verdicts[cell].short, []).append(cell)
    return [f"Undecided: {'; '.join(f'{_list(names)} ({needs})' for needs, names in why.items())}."]


def _limits(answer: Answer, seeds_asked: int) -> list[str]:
    sentences = []
    if answer.missing:
        count = len(answer.missing)
        sentences.append(
            f"{count} run{'s' * (count > 1)} gave no score and {_be(answer.missing)} left out."
        )
    if math.isfinite(answer.detectable):
        sentences.append(
            f"With these seeds ({seeds_asked} asked) a difference below about "
            f"{answer.detectable:.2g} has less than an 80% chance of being found."
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


def _percent(answer: Answer) -> str:
    return f"{100 * (1 - answer.analysis.alpha):.4g}%"


def _not_applicable(results: Results) -> list[tuple[str, str]]:
    """(cell, what and why) once per cell."""
    pairs = [
        (row.cell, f"{what}, because {why}")
        for row in results.study.rows
        for what, why in row.not_applicable.items()
    ]
    return list(dict.fromkeys(pairs))


def _notes(answers: Sequence[Answer]) -> list[str]:
    """What each analysis must say, beside its score where there are several."""
    pairs = [
        (in_words(answer.primary), note) for answer in answers for note in answer.analysis.notes
    ]
    return [note if len(answers) == 1 else f"{score}: {note}" for score, note in pairs]


def _margin(answer: Answer, declared: bool) -> str:
    """What counts as equal, and who said so."""
    if declared:
        return f"Declared beforehand: differences within ±{answer.region:g} do not matter."
    return (
        f"Nobody declared which differences do not matter: ±{answer.region:g} is fuselab's default."
    )


def _method(answer: Answer, study: StudyRecord) -> list[str]:
    analysis = answer.analysis
    return [
        "Every score is modelled as a mean, plus the design, plus the seed, plus a residual. Seeds "
        "are blocks, because all designs of one seed saw the same batches and started from the "
        "same shared weights. A contrast's standard error takes the larger of its own and the "
        "pooled variance; its interval is simultaneous over all contrasts with the control "
        "(Dunnett).",
        f"Family-wise error rate {study.alpha:g} over {study.looks} declared "
        f"look{'s' * (study.looks != 1)}: {_percent(answer)} intervals, {analysis.df} degrees of "
        f"freedom. {_margin(answer, study.margin_declared)}",
        f"An interval inside ±{answer.region:g} says equal, otherwise above zero better, below "
        "zero worse; all else is undecided, with the seeds that would give an 80% chance of a "
        "decision if the estimate were the truth. Floors and all else on this page only describe.",
    ]
