"""The index is a page of every study: question, answer, figure, cost and date, and its report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from harness.results.tables import Results
from reports.analysis import answer
from reports.build import figure
from reports.gallery import pictures, saved
from reports.page import sentences as words
from reports.page.inline import inlined
from reports.page.page import rendered


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A study in the index."""

    name: str
    date: str
    """Day on which a run of it last did anything; empty: unknown."""
    link: str
    """Address of its report from the index; empty: there is none."""
    question: str = ""
    sentence: str = ""
    """What it answers, or why nothing can be said."""
    settings: str = ""
    """Whether designs were tuned."""
    cost: str = ""
    picture: Markup | None = None
    """Its first figure."""


def entry(results: Results, *, date: str, link: str) -> Entry:
    """Returns what the index says of a study; `date` and `link` as in `Entry`."""
    answered, name = answer(results), results.study.name
    return Entry(
        name=name,
        date=date,
        link=link,
        question=results.study.question,
        sentence=words.sentences(answered)[0],
        settings=words.tuned(results),
        cost=" ".join(filter(None, (words.scale(results), words.left_out(answered.missing)))),
        picture=_picture(results),
    )


def _picture(results: Results) -> Markup | None:
    first = pictures()[0]
    try:
        svg = saved(figure(results, first.name), "svg")
    except Exception:  # a figure of a user's own may raise anything; the report says what
        return None
    return inlined(svg, results.study.name, f"{results.study.name}: {first.title}")


def index(entries: Sequence[Entry]) -> str:
    """Returns the page, the newest study first."""
    newest = sorted(entries, key=lambda one: (one.date, one.name), reverse=True)
    return rendered("index.html", [one.picture for one in newest if one.picture], entries=newest)
