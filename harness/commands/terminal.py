"""Tables and paragraphs are laid out here for a terminal of any width, and for a pipe.

Nothing is cut, and no word is broken: lines fold at spaces and after `/`, `_`, `=` and the dots of
a path; a table that is still too wide becomes a few lines for each row.
"""

from __future__ import annotations

import os
import re
import sys
import textwrap
from collections.abc import Container, Iterable, Mapping
from typing import Literal

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.words import visible

PIPED_COLUMNS = 1000
"""Where nobody's terminal limits the width: every row of a table is one line."""
NARROWEST = 12
"""Columns that a folded column of words keeps."""
BETWEEN_WORDS = re.compile(r"(?<=[/_=])|(?<=\.)(?=[A-Za-z])|(?=\s)")
BEFORE_SPREAD = re.compile(r"(?=\s[\[±])")
NOWHERE = re.compile(r"(?!)")
ATTEMPTS = ((30, NOWHERE), (16, NOWHERE), (16, BEFORE_SPREAD))
"""How a wide table is folded, the first that fits: columns that the last one keeps where it holds
words, and where cells of numbers fold."""


def _columns() -> int | None:
    """Counts the columns to print in: the terminal's, or, in a pipe, as many as a table needs."""
    if os.environ.get("COLUMNS", "").isdigit():
        return int(os.environ["COLUMNS"])
    return None if sys.stdout.isatty() else PIPED_COLUMNS


console = Console(
    highlight=False, markup=False, width=_columns(), height=None if sys.stdout.isatty() else 50
)


def table(
    columns: Iterable[str], rows: Iterable[Iterable[object]], *, words: Container[str] = ()
) -> None:
    """Prints a table; the first column and those named in `words` stand left and may fold, numbers
    stand right. Where it is wider than the terminal, each row becomes a few lines."""
    names = list(columns)
    cells = [[_cell(cell) for cell in row] for row in rows]
    of_words = [i == 0 or name in words for i, name in enumerate(names)]
    for last, of_numbers in ATTEMPTS:
        breaks = [BETWEEN_WORDS if left else of_numbers for left in of_words]
        widths = _fitting(names, cells, breaks, last, console.width - 2 * len(names))
        if widths is not None:
            break
    else:
        _stacked(names, cells)
        return
    grid = Table(header_style="bold", box=None, padding=(0, 1))
    for name, width, left in zip(names, widths, of_words, strict=True):
        side: Literal["left", "right"] = "left" if left else "right"
        grid.add_column(Text(folded(name, width)), justify=side, no_wrap=True)
    for row in cells:
        places = zip(row, widths, breaks, strict=True)
        grid.add_row(*(Text(folded(c.plain, w, where), c.style) for c, w, where in places))
    console.print(grid)


def pairs(left: str, right: str, values: Mapping[str, str]) -> None:
    """Prints two columns of words."""
    table((left, right), values.items(), words=(right,))


def say(
    text: str, *, lead: str = "", indent: str | None = None, at_most: int = 100, style: str = ""
) -> None:
    """Prints words as a paragraph, without markup; `lead` stands before it, `indent` (by default as
    much space) before its other lines. A word that is wider than the terminal stays whole."""
    lines = textwrap.wrap(
        text,
        min(console.width, at_most),
        initial_indent=lead,
        subsequent_indent=" " * len(lead) if indent is None else indent,
        break_on_hyphens=False,
        break_long_words=False,
    )
    console.print("\n".join(lines), style=style, soft_wrap=True)


def folded(text: str, width: int, where: re.Pattern[str] = BETWEEN_WORDS) -> str:
    """Folds every line of a text between its words, so that none is wider than `width` unless a
    word is.

    >>> folded("retrieval/mean_recall of val", 10)
    'retrieval/\\nmean_\\nrecall of\\nval'
    """
    lines: list[str] = []
    for line in text.split("\n"):
        if cell_len(line) <= width:
            lines.append(line)
            continue
        first, *others = (piece for piece in where.split(line) if piece)
        part = first
        for piece in others:
            if cell_len(part + piece) <= width or not part.strip():
                part += piece
            else:
                lines.append(part)
                part = piece.lstrip()
        lines.append(part)
    return "\n".join(lines)


def _fitting(
    names: list[str],
    rows: list[list[Text]],
    breaks: list[re.Pattern[str]],
    last: int,
    room: int,
) -> list[int] | None:
    """Returns the width of every column, so that a table fits into `room` columns; None where it
    does not. Headings always fold."""
    needed, least = [], []
    for i, (name, where) in enumerate(zip(names, breaks, strict=True)):
        texts = [row[i].plain for row in rows]
        widest = max(map(_width, [name, *texts]))
        longest = max([_longest(name, BETWEEN_WORDS), *(_longest(text, where) for text in texts)])
        if where is BETWEEN_WORDS:
            floor = last if i == len(names) - 1 else NARROWEST
            longest = max(longest, min(widest, floor))
        needed.append(widest)
        least.append(longest)
    if sum(least) > room:
        return None
    while sum(needed) > room:
        place = max(range(len(names)), key=lambda i: (needed[i] > least[i], needed[i]))
        needed[place] -= 1
    return needed


def _width(text: str) -> int:
    """Counts the columns of the longest line."""
    return max(map(cell_len, text.split("\n")))


def _longest(text: str, where: re.Pattern[str]) -> int:
    """Counts the columns of the longest piece that does not fold."""
    pieces = (piece for line in text.split("\n") for piece in where.split(line))
    return max(cell_len(piece.strip()) for piece in pieces)


def _stacked(names: list[str], rows: list[list[Text]]) -> None:
    """Writes a row as its first cell and, below it, what it says under each other column."""
    longest = max(map(cell_len, names[1:]), default=0)
    for row in rows:
        console.print(Text(folded(row[0].plain, console.width), "bold"), soft_wrap=True)
        for name, cell in zip(names[1:], row[1:], strict=True):
            if cell.plain:
                lead = f"  {name:<{longest}}  "
                lines = folded(cell.plain, max(console.width - len(lead), 1)).split("\n")
                text = Text(("\n" + " " * len(lead)).join(lines), cell.style)
                console.print(Text.assemble(lead, text), soft_wrap=True)


def _cell(value: object) -> Text:
    """Shows a cell as written."""
    return value if isinstance(value, Text) else Text(visible(str(value)))
