"""A study in a notebook: its table, its verdicts, any of its figures."""

from __future__ import annotations

import functools
import html
import warnings
from collections.abc import Hashable, Mapping
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from harness.results.tables import Results
from reports import build, exports, tables
from reports.analysis import Answer, answers, note
from reports.decision import Decision, decision

COLUMNS = ("endpoint", "cell", "verdict", "difference", "p", "seeds")
MARKS = {"better": "▲", "worse": "▼", "equal": "=", "undecided": "?"}
"""Verdicts for an eye that does not read: no colour is needed."""


@dataclass(frozen=True)
class Verdicts:
    """Verdicts are a study's decision, shown as a table wherever they are the last line of a
    cell."""

    decision: Decision

    @property
    def table(self) -> pd.DataFrame:
        """Returns one row per endpoint and contrast, in plain numbers."""
        return pd.DataFrame(
            [
                {"endpoint": endpoint["endpoint"], **line}
                for endpoint in self.decision["endpoints"]
                for line in endpoint["contrasts"]
            ]
        )

    @property
    def shown(self) -> pd.DataFrame:
        """Returns the same as text."""
        rows = [
            (
                *(row["endpoint"], row["cell"], f"{MARKS[row['verdict']]} {row['verdict']}"),
                *(_interval(row), "–" if pd.isna(p := row["p_adjusted"]) else f"{p:.3f}"),
                row["seeds"],
            )
            for row in self.table.to_dict("records")
        ]
        return pd.DataFrame(rows, columns=list(COLUMNS))

    @property
    def heading(self) -> str:
        decided = self.decision
        return f"{decided['question']} Against {decided['control']}: {decided['state']}."

    def __repr__(self) -> str:
        return "\n".join([self.heading, *self.decision["problems"], self.shown.to_string()])

    def _repr_markdown_(self) -> str:
        return f"**{self.heading}**\n\n{exports.markdown('verdicts', self.shown)}"

    def _repr_html_(self) -> str:
        problems = "".join(f"<li>{html.escape(line)}</li>" for line in self.decision["problems"])
        return (
            f"<p><strong>{html.escape(self.heading)}</strong></p>"
            + f"<ul>{problems}</ul>" * bool(problems)
            + self.shown.to_html(index=False, border=0)
        )


@dataclass(frozen=True)
class StudyView:
    """A study view shows a study's results in a notebook:
    `StudyView(Lab("outputs").results("demo"))`.
    """

    results: Results

    @functools.cached_property
    def answers(self) -> tuple[Answer, ...]:
        """Returns the analysis of every endpoint; that it was read is noted like a report's."""
        answered = answers(self.results)
        try:
            note(self.results, answered)
        except OSError as error:
            warnings.warn(f"that this was read cannot be noted: {error}", stacklevel=3)
        return answered

    @functools.cached_property
    def verdicts(self) -> Verdicts:
        """Returns what the study decides, with a rich display."""
        return Verdicts(decision(self.results, self.answers))

    @functools.cached_property
    def comparison(self) -> pd.DataFrame:
        """Returns one row per cell: scores, contrast, verdict and costs, in plain numbers."""
        return tables.comparison(self.results, self.answers[0])

    @property
    def table(self) -> pd.DataFrame:
        """Returns the comparison as the page shows it."""
        return tables.shown(self.comparison)

    def figure(self, name: str) -> Figure:
        """Returns a figure of the report by its name, as `allocation`. Raises ValueError for an
        unknown one."""
        return build.figure(self.results, name)

    def _repr_html_(self) -> str:
        return self.verdicts._repr_html_() + self.table.to_html(index=False, border=0)

    def _repr_markdown_(self) -> str:
        shown = exports.markdown("comparison", self.table)
        return f"{self.verdicts._repr_markdown_()}\n{shown}"

    def __repr__(self) -> str:
        return repr(self.verdicts)


def _interval(row: Mapping[Hashable, object]) -> str:
    values = [row[name] for name in ("delta", "lower", "upper")]
    delta, lower, upper = (float("nan") if x is None else float(str(x)) for x in values)
    if delta != delta:
        return "–"
    return f"{delta:+.3g}" + (f" [{lower:+.3g}, {upper:+.3g}]" if lower == lower else "")
