"""The answer of a study in words: no stronger than its verdicts, and with their figures."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.results.tables import Results
from reports.analysis import Answer
from reports.drawing import in_words, signed

NAMED = 3
"""Designs of one verdict that are named, each with its figures; of more, as many and a range."""


def in_short(answer: Answer) -> str:
    """Returns one line of an endpoint that is not the first: who is better or worse, by how much,
    and how many are equal or undecided. Intervals stand in the table of verdicts."""
    if not answer.verdicts:
        return sentences(answer)[0]
    kinds, control = _by_kind(answer), answer.analysis.control
    deltas = {contrast.design: contrast.delta for contrast in answer.analysis.contrasts}
    parts = []
    for kind in ("better", "worse"):
        if len(kinds[kind]) > NAMED:
            span = _figures(kinds[kind], answer)
        else:
            span = _list([signed(deltas[cell]) for cell in kinds[kind]]) if kinds[kind] else ""
        if span:
            parts.append(f"{_list(kinds[kind])} {kind} than {control} ({span})")
    within = {"equal": f" within {answer.region:g}", "undecided": ""}
    parts += [f"{len(kinds[kind])} {kind}{within[kind]}" for kind in within if kinds[kind]]
    score = _score(answer)
    return f"{score[0].upper()}{score[1:]}: {'; '.join(parts)}."


def sentences(answer: Answer) -> list[str]:
    """Returns one sentence of what was decided and, where something was not, one of that."""
    control, score = answer.analysis.control, _score(answer)
    if not answer.verdicts:
        who = "no other cell has a" if answer.analysis.seeds[control] else "it has no"
        return [f"No verdict on {score}: the control is {control}, and {who} score to compare."]
    kinds = _by_kind(answer)
    parts = [
        f"{_list(kinds[kind])} {_be(kinds[kind])} {kind}{extra} ({_figures(kinds[kind], answer)})"
        for kind, extra in (
            ("better", f" than {control}"),
            ("worse", f" than {control}"),
            ("equal", f" to {control} within {answer.region:g}"),
        )
        if kinds[kind]
    ]
    if not (kinds["better"] or kinds["worse"]):
        parts.insert(0, f"no cell is shown to differ from {control}")
    return [f"On {score}, {'; '.join(parts)}.", *_undecided(kinds["undecided"], answer)]


def _score(answer: Answer) -> str:
    return in_words(answer.primary) + ("" if answer.higher_is_better else " (lower is better)")


def _by_kind(answer: Answer) -> dict[str, list[str]]:
    """Gives kind of verdict -> its cells, in the study's order."""
    kinds: dict[str, list[str]] = {kind: [] for kind in ("better", "worse", "equal", "undecided")}
    for cell, verdict in answer.verdicts.items():
        kinds[verdict.kind].append(cell)
    return kinds


def _figures(cells: Sequence[str], answer: Answer) -> str:
    """Writes the differences of some designs with their intervals, or of many their range."""
    contrasts = {contrast.design: contrast for contrast in answer.analysis.contrasts}
    few = [contrasts[cell] for cell in cells]
    if len(few) > NAMED:
        deltas = [contrast.delta for contrast in few]
        return f"by {signed(min(deltas))} to {signed(max(deltas))}"
    return _list([f"{signed(c.delta)} [{signed(c.lower)}, {signed(c.upper)}]" for c in few])


def _undecided(cells: list[str], answer: Answer) -> list[str]:
    """Says which designs are undecided, and what each would take; of many in a range."""
    if not cells:
        return []
    seeds = {contrast.design: contrast.seeds for contrast in answer.analysis.contrasts}
    why: dict[str, list[str]] = {}
    more: list[int] = []
    for cell in cells:
        verdict = answer.verdicts[cell]
        if len(cells) > NAMED and verdict.needs:
            more.append(verdict.needs)
            continue
        short = verdict.short if seeds[cell] > 1 else "no interval: too few seeds"
        why.setdefault(short, []).append(cell)
    if not more:
        text = "; ".join(f"{_list(names)} ({short})" for short, names in why.items())
        return [f"Undecided: {text}."]
    span = "–".join(str(count) for count in sorted({min(more), max(more)}))
    parts = [_list(cells), f"{span} more seeds would probably decide {len(more)} of them"]
    parts += [f"{len(names)} are {short}" for short, names in why.items()]
    return [f"Undecided: {'; '.join(parts)}."]


def certainty(answer: Answer) -> str:
    """Says how sure the verdicts are, and what they could have missed."""
    if not any(contrast.has_interval for contrast in answer.analysis.contrasts):
        return "Not at all: no difference has an interval, see the caveats."
    seeds = max(answer.analysis.seeds.values(), default=0)
    text = f"{percent(answer)} intervals, simultaneous over all comparisons, from {seeds} "
    text += "seed" if seeds == 1 else "seeds"
    if math.isfinite(answer.detectable):
        text += (
            f"; a difference below about {answer.detectable:.2g} has less than an 80% chance of "
            "being found"
        )
    return f"{text}."


def percent(answer: Answer) -> str:
    """Returns the level of the intervals."""
    return f"{100 * (1 - answer.analysis.alpha):.4g}%"


def tuned(results: Results) -> str:
    """Says whether the compared designs run with tuned settings or with those of the study."""
    rows = [row for row in results.study.rows if row.role == "compared"]
    trials = sorted({row.tuning.trials for row in rows})
    if not trials or trials[-1] == 0:
        return "Not tuned: all run with the settings of the study, which may suit some better."
    if trials[0] == 0:
        return "Only some designs were tuned: the comparison favours them."
    tried = " to ".join(str(count) for count in dict.fromkeys((trials[0], trials[-1])))
    return f"Tuned: every design tried {tried} settings and runs with its best."


def scale(results: Results) -> str:
    """Says how many runs there are, and what they cost."""
    runs = results.runs
    done = int((runs["status"] == "done").sum())
    hours = runs["ledger.device_seconds"].sum() / 3600
    tasks = runs["ledger.finetuning_seconds"].sum() / 3600
    tuning = runs.groupby("cell")["ledger.tuning_seconds"].max().sum() / 3600
    cells, seeds = runs["cell"].nunique(), runs["seed"].nunique()
    text = f"{cells} cells × {seeds} seeds: {done} of {len(runs)} runs done, {hours:.2g} "
    more = [
        f"{part:.2g} for {what}"
        for part, what in ((tasks, "fine-tuning"), (tuning, "tuning"))
        if part
    ]
    return f"{text}device-hours{''.join(f', and {each}' for each in more)}."


def left_out(missing: Sequence[str]) -> str:
    """Says how many runs the answers lack; empty where they lack none."""
    count = len(missing)
    lacks = f"{count} run{'s' * (count > 1)} gave no score and {_be(missing)} left out."
    return lacks if count else ""


def _be(things: Sequence[str]) -> str:
    return "is" if len(things) == 1 else "are"


def _list(names: Sequence[str]) -> str:
    """Joins names; of many it names some and counts the others."""
    if len(names) > NAMED + 1:
        return f"{', '.join(names[:NAMED])} and {len(names) - NAMED} others"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
