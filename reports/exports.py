"""Tables are written here for others to read: Markdown, LaTeX (booktabs), and parquet."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Collection, Mapping

import pandas as pd
from rich.cells import cell_len

from reports import tables
from reports.drawing import in_words

Format = Callable[[str, pd.DataFrame], str]
LONGEST = 1000
"""Rows of a table that is read; of a longer one CSV and parquet are there."""
NUMBER = re.compile(r"[–+\-−]?(\d.*)?|[<>] ?\d.*|nan|inf|yes|NO")
LATEX = {
    **{mark: rf"\{mark}" for mark in "&%$#_{}"},
    **{"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"},
    **{"<": "$<$", ">": "$>$", "|": r"\textbar{}", '"': "''"},
    **{"−": "$-$", "±": r"$\pm$", "×": r"$\times$", "–": "--", "≤": r"$\leq$", "≥": r"$\geq$"},
    "²": "$^2$",
}
"""Character -> how LaTeX writes it."""
MARKDOWN = {mark: f"\\{mark}" for mark in "\\`*_|~<"} | {"&": "&amp;"}


def markdown(name: str, table: pd.DataFrame) -> str:
    """Writes a table of text as GitHub's Markdown, its columns aligned; numbers stand right."""
    header = [_escaped(heading, MARKDOWN) for heading in table]
    # Of a link its address must not follow the words in brackets.
    rows = [
        [_escaped(cell, MARKDOWN).replace("](", "]\\(") for cell in row]
        for row in table.itertuples(index=False)
    ]
    right = _numbers(table)
    widths = [max(3, *map(cell_len, column)) for column in zip(header, *rows, strict=True)]
    rule = ["-" * (width - 1) + (":" if r else "-") for width, r in zip(widths, right, strict=True)]
    return "".join(
        f"| {' | '.join(map(_padded, line, widths, right))} |\n" for line in (header, rule, *rows)
    )


def latex(name: str, table: pd.DataFrame) -> str:
    """Writes a table of text as a LaTeX table (booktabs), to be read with `\\input`; its caption is
    the table's name."""
    header = [_latex(heading) for heading in table]
    rows = [[_latex(cell) for cell in row] for row in table.itertuples(index=False)]
    columns = "".join("r" if right else "l" for right in _numbers(table))
    lines = [" & ".join(line) + r" \\" for line in (header, *rows)]
    # After the end of a row LaTeX reads a bracket as an argument, and a star as its own.
    lines = ["{}" * line.startswith(("[", "*")) + line for line in lines]
    return "\n".join(
        [
            "% \\usepackage{booktabs}",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_latex(in_words(name).capitalize())}}}",
            rf"\label{{tab:{name.replace('_', '-')}}}",
            rf"\begin{{tabular}}{{{columns}}}",
            *(r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule"),
            *(r"\end{tabular}", r"\end{table}", ""),
        ]
    )


FORMATS: dict[str, tuple[str, Format]] = {"markdown": ("md", markdown), "latex": ("tex", latex)}
"""What `--tables` takes -> ending of the files, and who writes them."""


def written(
    named: Mapping[str, pd.DataFrame], as_text: Collection[str], formats: Collection[str]
) -> dict[str, bytes]:
    """Gives files of a report's tables by name: in these formats, and parquet of long ones.

    `named`: name -> table of plain values; `as_text`: names of those that page and terminal show
    with headings and rounded; they are short and wide, where parquet is larger than CSV. Raises
    ValueError for an unknown format.
    """
    if unknown := set(formats) - set(FORMATS):
        raise ValueError(f"unknown format {min(unknown)!r} of tables; known: {', '.join(FORMATS)}")
    files = {
        f"{name}.parquet": parquet(table) for name, table in named.items() if name not in as_text
    }
    for name, table in named.items():
        if not formats or len(table) > LONGEST:
            continue
        text = tables.shown(table) if name in as_text else _plain(table)
        for each in formats:
            ending, write = FORMATS[each]
            files[f"{name}.{ending}"] = write(name, text).encode()
    return files


def parquet(table: pd.DataFrame) -> bytes:
    """Writes a table as parquet; a column of several kinds of values becomes one of JSON."""
    typed = table.copy(deep=False)
    for name in typed.columns:
        column = typed[name]
        kinds = {type(value) for value in column.dropna()} if column.dtype == object else set()
        if len(kinds) > 1 or kinds & {list, tuple, dict}:
            typed[name] = column.map(json.dumps, na_action="ignore")
    typed.columns = typed.columns.astype(str)
    buffer = io.BytesIO()
    typed.to_parquet(buffer, index=False)
    return buffer.getvalue()


def _plain(table: pd.DataFrame) -> pd.DataFrame:
    """Gives every value as text, numbers by six digits at most."""

    def text(value: object) -> str:
        if isinstance(value, float):
            return "–" if value != value else f"{value:.6g}"
        return "–" if value is None else str(value)

    columns = {str(name): list(map(text, table[name].astype(object))) for name in table.columns}
    return pd.DataFrame(columns)


def _numbers(table: pd.DataFrame) -> list[bool]:
    """Says of every column whether all its cells are numbers, to be set to the right."""
    columns = (table.iloc[:, place] for place in range(table.shape[1]))
    return [all(NUMBER.fullmatch(str(cell)) for cell in column) for column in columns]


def _escaped(value: object, marks: Mapping[str, str]) -> str:
    """Gives a cell on one line, with every mark that would mean something written out."""
    text = " ".join(str(value).split())
    return "".join(marks.get(c, c) for c in text if c.isprintable())


def _latex(value: object) -> str:
    # A minus before a digit, which LaTeX would set as a hyphen.
    return _escaped(re.sub(r"(?<!\w)-(?=\d)", "−", str(value)), LATEX)


def _padded(text: str, width: int, right: bool) -> str:
    room = " " * (width - cell_len(text))
    return room + text if right else text + room
