"""All that a report says, computed once: page, files and terminal show the same numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from harness.results.pairing import Finding, pairing
from harness.results.tables import CellChoice, Results
from reports import analyses, tables, ways
from reports.analysis import Answer, all_learned, answers, learned
from reports.endpoints import contrasts, endpoint_table, verdict_table


@dataclass(frozen=True, kw_only=True)
class Facts:
    """The answers of a study, and the tables beside them, as numbers."""

    answers: tuple[Answer, ...]
    """One for each endpoint, in order."""
    contrasts: pd.DataFrame
    """Every compared cell against the control, on every endpoint."""
    verdicts: pd.DataFrame
    """The same as text: a row a cell, a column an endpoint."""
    endpoints: pd.DataFrame
    """What the runs could see of every endpoint."""
    ways: pd.DataFrame
    """What would decide an undecided contrast, and its price."""
    variance: pd.DataFrame
    """What the spread of every endpoint consists of."""
    analyses: Mapping[str, pd.DataFrame]
    """What else the runs say, by the names of `reports.analyses.TABLES`."""
    findings: tuple[Finding, ...]
    """The pairing certificate."""
    comparison: pd.DataFrame
    scores: pd.DataFrame
    ledger: pd.DataFrame
    study_ledger: pd.DataFrame
    learned: pd.DataFrame
    """What every run got right, beside chance."""
    learned_ok: bool
    """Whether every compared run is done and above chance in all that applies to it."""
    tuning: pd.DataFrame | None
    """What tuning chose; None where the study was not tuned."""

    @property
    def answer(self) -> Answer:
        """The answer on the first endpoint."""
        return self.answers[0]

    @classmethod
    def of(cls, results: Results, tuning: Mapping[str, CellChoice] | None = None) -> Facts:
        """The facts of a study's results."""
        answered, levels = answers(results), learned(results)
        compared = contrasts(results, answered)
        return cls(
            answers=answered,
            contrasts=compared,
            verdicts=verdict_table(compared),
            endpoints=endpoint_table(answered),
            ways=ways.ways(results, answered),
            variance=ways.variance_parts(results, answered),
            analyses=analyses.tables_of(results, [each.primary for each in answered]),
            findings=tuple(pairing(results)),
            comparison=tables.comparison(results, answered[0]),
            scores=tables.scores(results),
            ledger=tables.ledger(results.runs),
            study_ledger=tables.study_ledger(results.runs),
            learned=levels,
            learned_ok=all_learned(results, levels),
            tuning=tables.tuning_choices(tuning) if tuning else None,
        )
