"""Tables of the page are shown alike: sorted by a heading, filtered by words, folded or open."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd

from reports import tables

NUMBER = re.compile(r"([<>] )?[-+−]?[\d,]*\.?\d+(e[-+]?\d+)?( ?[kMGTP]|%)?( (±|of) .*| [\[(].*)?")
"""What a cell of a column of numbers says, if anything."""
NOTHING = ("", "–")
RUN = "run key"
"""Heading of the column that names runs."""
FEW = 6
"""Rows that need no field to filter them."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """A table under a heading."""

    title: str
    note: str = ""
    table: pd.DataFrame
    """Numbers under plain names, as `tables.shown` takes them."""
    text: bool = False
    """Whether the table is text under headings already."""
    folded: bool = False
    """Whether only a line shows until a reader opens it."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of a table as it is shown."""

    name: str
    words: bool
    """Whether it is set left, may wrap, and is sorted as words."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of a table as it is shown."""

    cell: int | None
    """Number of the design that it is about, in the study's order."""
    texts: tuple[str, ...]
    links: Mapping[int, str] = field(default_factory=dict)
    """Place of a text -> the address behind it."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A table as text."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]

    @property
    def filtered(self) -> bool:
        """Says whether it is long enough to be filtered."""
        return len(self.rows) > FEW


def grid(
    section: Section, numbers: Mapping[str, int], links: Mapping[str, str] | None = None
) -> Grid:
    """Returns the table of a section as text.

    `numbers`: design -> its number; a table with a column `cell` has rows about designs. `links`:
    text of the column `RUN` -> the address behind it.
    """
    shown = section.table if section.text else tables.shown(section.table)
    columns = tuple(
        Column(name=str(name), words=not all(map(_numeric, shown[name]))) for name in shown
    )
    cells = shown["cell"] if "cell" in shown else [""] * len(shown)
    place = list(shown).index(RUN) if RUN in shown else -1
    rows = tuple(
        Row(
            cell=numbers.get(cell),
            texts=texts,
            links={place: links[texts[place]]} if links and texts[place] in links else {},
        )
        for cell, texts in zip(cells, shown.itertuples(index=False, name=None), strict=True)
    )
    return Grid(caption=section.title, columns=columns, rows=rows)


def _numeric(text: str) -> bool:
    return text in NOTHING or NUMBER.fullmatch(text) is not None
