"""The page: one self-contained HTML file; it asks for nothing outside itself, and may not."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import pandas as pd
from markupsafe import Markup

from harness.results.tables import Results, StudyRecord
from reports.analysis import Answer, scored_runs
from reports.drawing import in_words
from reports.examples import Example
from reports.facts import Facts
from reports.page import chapters
from reports.page import sentences as words
from reports.page.dark import by_name, css_of
from reports.page.inline import inlined
from reports.page.sections import Section, grid

FOLDER = Path(__file__).parent
MARKS = {
    "o": "●", "s": "■", "^": "▲", "v": "▼", "D": "◆", "d": "♦", "P": "✚", "X": "✖", "*": "★",
    "p": "⬟", "h": "⬢", "<": "◀", ">": "▶",
}  # fmt: skip
"""Matplotlib's marker -> a character that looks like it."""
FEW_LEVELS = 12
"""Levels at chance that are shown at once."""


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A figure for the page. `svg` should hold its words as text."""

    title: str
    caption: str
    svg: bytes


@dataclass(frozen=True, kw_only=True)
class Diagram:
    """The picture of a design, for the cells that share it."""

    cells: tuple[str, ...]
    design: str
    svg: bytes


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A design in the legend."""

    cell: str
    number: int
    """In the study's order."""
    colour: str
    """As a style says it: another one on dark paper."""
    mark: str
    label: str
    """What of the name is not in `prefix`."""


def page(
    results: Results,
    facts: Facts,
    figures: Sequence[Drawing],
    designs: Sequence[Diagram] = (),
    not_drawn: Sequence[str] = (),
    *,
    examples: Sequence[Example] = (),
    further: Sequence[Section] = (),
    links: Mapping[str, str] | None = None,
) -> str:
    """Returns the HTML.

    figures: the first stands beside the answer
    not_drawn: why others are missing
    examples: what runs said of a few items
    further: tables beside those of the analyses
    links: train key -> address of the run in MLflow

    All text is escaped: what runs and studies say is shown, never interpreted.
    """
    study, answers = results.study, facts.answers
    answer = answers[0]
    missing = list(dict.fromkeys(line for each in answers for line in each.missing))
    pictures = [_picture(figure, f"f{i}") for i, figure in enumerate(figures)]
    drawn = [
        inlined(design.svg, f"d{i}", f"{', '.join(design.cells)} as a diagram", sized=True)
        for i, design in enumerate(designs)
    ]
    prefix = _prefix(study)
    entries = _legend(results, answer, prefix)
    numbers = {entry.cell: entry.number for entry in entries}
    levels = chapters.by_cell(facts.learned)

    def shown(section: Section) -> object:
        return grid(section, numbers, links)

    return rendered(
        "page.html",
        [*(picture["svg"] for picture in pictures), *drawn, *(one.colour for one in entries)],
        grid=shown,
        section=Section,
        study=study,
        not_drawn=not_drawn,
        entries=entries,
        prefix=prefix,
        numbers=numbers,
        answer=words.all_sentences(answers),
        certainty=words.certainty(answer),
        tuned=words.tuned(results),
        cost=" ".join(filter(None, (words.scale(results), words.left_out(missing)))),
        broken=[finding for finding in facts.findings if not finding.ok],
        figures=pictures,
        designs=list(zip(designs, drawn, strict=True)),
        verdicts=_verdicts(facts.contrasts),
        judged=set(facts.contrasts["cell"]),
        lines=chapters.lines(answers),
        examples=examples,
        comparison=chapters.comparison(answer, facts),
        further=[*chapters.further(facts), *further],
        scores=chapters.scores(facts),
        runs=chapters.runs(results, answers),
        linked=bool(links),
        spent=Section(
            title="What was spent",
            note="Means over finished runs; attempts and tuning in all.",
            table=facts.ledger,
        ),
        tuning=facts.tuning,
        unlearned=levels[~levels["ok"].astype(bool)],
        learned=levels,
        few=FEW_LEVELS,
        learned_ok=facts.learned_ok,
        findings=facts.findings,
        missing=missing,
        caveats=chapters.caveats(results, answers),
        not_applicable=chapters.not_applicable(study),
        method=chapters.method(answers, study),
        reproduce=chapters.reproduce(results),
        settings=json.dumps(study.settings, indent=2, sort_keys=True, default=str),
    )


def rendered(template: str, pictures: Sequence[str], **parts: object) -> str:
    """Returns a page of this room whole, with style and script in it. `pictures`: those whose
    colours change with the page."""
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        loader=jinja2.FileSystemLoader(FOLDER),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = (FOLDER / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template(template).render(
        style=Markup((FOLDER / "page.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_digest=digest,
        colours=Markup(css_of(pictures)),
        **parts,
    )


def _picture(figure: Drawing, name: str) -> dict[str, str]:
    svg = inlined(figure.svg, name, figure.title)
    return {"title": figure.title, "caption": figure.caption, "svg": svg}


def _prefix(study: StudyRecord) -> str:
    """Returns what the names of all compared designs begin with, up to a `=` or a space."""
    names = sorted({row.cell for row in study.rows if row.role == "compared"})
    pairs = zip(names[0], names[-1], strict=False) if len(names) > 1 else ()
    common = "".join(a for a, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
    return common[: max(common.rfind("="), common.rfind(" ")) + 1]


def _legend(results: Results, answer: Answer, prefix: str) -> list[Entry]:
    """Returns every design of the study with its colour and mark, in the study's order."""
    runs = scored_runs(results, answer).drop_duplicates("cell")
    markers = runs["marker"] if "marker" in runs else ["o"] * len(runs)
    named = zip(runs["cell"], runs["colour"], markers, strict=True)
    return [
        Entry(
            cell=cell,
            number=number,
            colour=by_name(colour),
            mark=MARKS.get(marker, "●"),
            label=cell.removeprefix(prefix) or cell,
        )
        for number, (cell, colour, marker) in enumerate(named)
    ]


def _verdicts(table: pd.DataFrame) -> list[dict[str, object]]:
    """Returns endpoint by endpoint what it is, and design -> its contrast as text."""
    endpoints = []
    for endpoint, rows in table.groupby("endpoint", sort=False):
        first, texts = (
            rows.iloc[0],
            grid(Section(title="", table=rows[["delta", "lower", "upper"]]), {}).rows,
        )
        cells = {
            cell: {"kind": kind, "short": short, "figures": text.texts[0]}
            for cell, kind, short, text in zip(
                rows["cell"], rows["verdict"], rows["short"], texts, strict=True
            )
        }
        endpoints.append(
            {
                "name": in_words(str(endpoint)),
                "lower": not first["higher_is_better"],
                "region": f"{first['region']:g}",
                "cells": cells,
            }
        )
    return endpoints
