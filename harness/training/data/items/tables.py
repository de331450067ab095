"""Sentences with labels in a file of columns with tabs between, as GLUE's."""

from __future__ import annotations

from pathlib import Path

from architectures.frozen import SettingError, nearest
from harness.training.data.cache import DataError
from harness.training.data.items.items import SECOND
from harness.training.data.items.rows import Listed, Row
from harness.training.data.json_lines import BadLines, numbered_lines
from harness.training.data.sources.cells import is_blank


def read_table(path: Path, texts: tuple[str, ...], label: str) -> Listed:
    """Reads and checks a file; quotes are letters, and cells have no line feeds. Columns that are
    all numbers are counted from 0, and the file has no header then.

    Raises DataError that names file, line and column of the first bad lines, and how many there
    are, and SettingError for a column that is not there.
    """
    wanted = (*texts, label)
    has_header = not all(name.isdecimal() for name in wanted)
    bad, rows, count = BadLines(path, "lines"), [], 0
    columns: list[int] = []
    width = 0
    for number, text in numbered_lines(path):
        cells = (text or "").split("\t")
        if not columns:
            width = len(cells)
            columns = _places(path, cells, wanted, has_header)
            if has_header:
                continue
        count += 1
        if problem := _problem(text, cells, width, dict(zip(wanted, columns, strict=True))):
            bad.add(f"line {number}, {problem}")
            continue
        *of_text, of_label = (cells[column].strip() for column in columns)
        rows.append(Row(f"line {number}", text=SECOND.join(of_text), label=of_label))
    bad.complain(count)
    return Listed(path=path, rows=rows, label=f"column {label!r}")


def _places(path: Path, first: list[str], wanted: tuple[str, ...], has_header: bool) -> list[int]:
    """Finds the columns by name, or by number."""
    names = [name.strip() for name in first] if has_header else list(map(str, range(len(first))))
    for name in wanted:
        if names.count(name) > 1:
            raise DataError(f"{path} has two columns {name!r}; rename one of them")
        if name not in names:
            error = nearest(name, names, f"column of {path} (settings text and column)")
            raise SettingError(f"{error}; a file without a header has columns 0, 1, ...")
    return [names.index(name) for name in wanted]


def _problem(text: str | None, cells: list[str], width: int, columns: dict[str, int]) -> str:
    if text is None:
        return "not UTF-8; write the file anew"
    if len(cells) != width:
        return f"{len(cells)} columns, where the first line has {width}; tabs stand between them"
    blank = [name for name, column in columns.items() if is_blank(cells[column])]
    return f"column {blank[0]!r}: must not be blank" if blank else ""
