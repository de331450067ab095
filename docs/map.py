"""The map of CONTRIBUTING.md: a line for every file, from its docstring; `make rooms` writes it.

What a file is for is said once, where the file begins. What is no Python file is named here.
"""

from __future__ import annotations

import ast
import re
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {
    "architectures": "what is compared",
    "harness": "how it is compared",
    "studies": "what was asked: one file per question, data only",
    "reports": "what was answered: tables in; figures, tables and page out",
    "benchmarks": "run by hand; no test asserts a time",
    "docs": "pictures that README and this page show, and the scripts that write them",
}
"""Folders whose files stand in the map, and what each is for."""
OTHERS = {
    "reports/page/index.html": "The template of the page of all studies",
    "reports/page/page.css": "The style of both pages: light, dark, on paper, at any width",
    "reports/page/page.html": "The template of a study's page",
    "reports/page/page.js": "What both pages do: legend, values, sorting, filtering, colours",
    "reports/page/parts.html": "What templates share: head, bar, table, figure",
}
"""Files that cannot say themselves what they are for."""
BEGIN, END = "<!-- map: written by `make rooms` -->", "<!-- end of the map -->"
INDENT, NAMES, COLUMNS = 2, 26, 100


def mapped(root: Path = ROOT) -> list[str]:
    """Paths of all files that have a line, folder by folder, a folder's own files first."""
    paths = [
        file.relative_to(root)
        for folder in FOLDERS
        for file in (root / folder).rglob("*")
        if file.suffix == ".py" and file.name != "__init__.py"
    ]
    others = [Path(name) for name in OTHERS]
    order = {folder: place for place, folder in enumerate(FOLDERS)}
    ordered = sorted([*paths, *others], key=lambda p: (order[p.parts[0]], p.parent, p.name))
    return [path.as_posix() for path in ordered]


def purpose(path: Path) -> str:
    """The first sentence of a file's docstring, without its full stop; empty: it has none."""
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    sentence = re.split(r"(?<!et al\.)(?<=[.?])\s", " ".join(text.split("\n\n")[0].split()))[0]
    return sentence.removesuffix(".")


def lines(root: Path = ROOT) -> list[str]:
    """The map: a heading for every folder, and a line for every file in it."""
    written: list[str] = []
    folder = ""
    for name in mapped(root):
        parent, _, file = name.rpartition("/")
        if parent != folder:
            folder = parent
            written.append(f"{folder}/".ljust(INDENT + NAMES) + FOLDERS.get(folder, ""))
        what = OTHERS.get(name) or shortened(purpose(root / name))
        written.append(" " * INDENT + file.ljust(NAMES - 1) + " " + what)
    return [line.rstrip() for line in written]


def shortened(sentence: str) -> str:
    """What of a sentence has room on a line: all of it, its beginning up to a comma, a colon or a
    bracket, or, where too little would be left, the words that fit.
    """
    room = COLUMNS - INDENT - NAMES
    if len(sentence) <= room:
        return sentence
    ends = [m.start() for m in re.finditer(r"[,:;] | \(", sentence[: room + 1])]
    whole = [sentence[:end] for end in ends if end > room // 2]
    closed = [part for part in whole if part.count("(") == part.count(")")]
    return closed[-1] if closed else textwrap.shorten(sentence, room, placeholder=" ...")


def placed(text: str, root: Path = ROOT) -> str:
    """A page whose map, between the two marks, is replaced by that of the tree.

    Raises ValueError where the page lacks a mark.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page needs the marks {BEGIN} and {END}")
    body = "\n".join(["```", *lines(root), "```"])
    return f"{before}{BEGIN}\n{body}\n{END}{after}"


if __name__ == "__main__":
    page = ROOT / "CONTRIBUTING.md"
    page.write_text(placed(page.read_text()))
    print(f"wrote the map of {page.name}")
