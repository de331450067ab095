"""Pictures as files, and the page in docs that has one of every design."""

from __future__ import annotations

from pathlib import Path

from architectures import registry
from architectures.backbone import scale
from architectures.views.graph import graph
from reports.diagrams.catalogue import files

DOCS = Path(__file__).parents[2] / "docs"
AGAIN = "run fuselab designs --draw docs/designs.md"


def test_the_docs_show_every_design() -> None:
    text = (DOCS / "designs.md").read_text()
    known = {name: e for name, e in registry.names().items() if e.file.parent == registry.DESIGNS}
    pictures = {path.name for path in (DOCS / "designs").iterdir()}
    assert pictures == {f"{name}.svg" for name in known}, AGAIN
    for name, entry in known.items():
        assert f"## {name}\n\n{entry.summary}\n" in text, AGAIN
        assert f"![{name}](designs/{name}.svg)" in text, AGAIN


def test_a_page_and_a_picture() -> None:
    drawing = graph("single_stream", {}, scale("nano"), 50)
    (picture,) = files(Path("a/x.PNG"), [("", drawing)], "nano").items()
    assert picture[0] == Path("a/x.PNG") and picture[1].startswith(b"\x89PNG")
    page = files(Path("a/all.md"), [("In a line.", drawing)], "nano")
    assert set(page) == {Path("a/all.md"), Path("a/all/single_stream.svg")}
    assert b"![single_stream](all/single_stream.svg)" in page[Path("a/all.md")]
    assert b"In a line." in page[Path("a/all.md")] and b"at nano" in page[Path("a/all.md")]
