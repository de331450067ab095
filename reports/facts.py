"""All that a report says, computed once: page, files and terminal show the same numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from harness.results.pairing import Finding, pairing
from harness.results.tables import CellChoice, Results
from reports import tables
from reports.analysis import Answer, all_learned, answer, learned


@dataclass(frozen=True, kw_only=True)
class Facts:
    """The answer of a study, and the tables beside it, as numbers."""

    answer: Answer
    findings: tuple[Finding, ...]
    """The pairing certificate."""
    comparison: pd.DataFrame
    scores: pd.DataFrame
    ledger: pd.DataFrame
    learned: pd.DataFrame
    """What every run got right, beside chance."""
    learned_ok: bool
    """Whether every compared run is done and above chance in all that applies to it."""
    tuning: pd.DataFrame | None
    """What tuning chose; None where the study was not tuned."""

    @classmethod
    def of(cls, results: Results, tuning: Mapping[str, CellChoice] | None = None) -> Facts:
        """The facts of a study's results."""
        answered, levels = answer(results), learned(results)
        return cls(
            answer=answered,
            findings=tuple(pairing(results)),
            comparison=tables.comparison(results, answered),
            scores=tables.scores(results),
            ledger=tables.ledger(results.runs),
            learned=levels,
            learned_ok=all_learned(results, levels),
            tuning=tables.tuning_choices(tuning) if tuning else None,
        )
