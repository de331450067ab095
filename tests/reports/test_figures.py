"""Every figure that there is, found by file: what holds for any of them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from harness.results.tables import Results
from reports.build import Report, figure
from reports.drawing import NothingToDraw
from reports.gallery import Picture, Size, pictures, saved
from tests.reports.conftest import asking, lost
from tests.reports.tables_by_hand import table_for, tables_for

PICTURES = pictures()
every_figure = pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.name)
LONG = tuple(
    f"{design}, {how}"
    for design in ("in_backbone", "query_bottleneck", "split_bert text_layers=6", "bridge",
                   "co_attention", "merged_attention", "full_text_deep_fusion")
    for how in ("gated in both towers and without type embeddings", "frozen")
)  # fmt: skip


def drawn(
    picture: Picture, results: Results, size: Size = "page", **changed: pd.DataFrame
) -> Figure:
    """A figure of these results with all that it can show; skips where that is nothing."""
    tables = tables_for(results) | changed
    try:
        return picture.drawn(tables[picture.table], tables, size=size)
    except NothingToDraw as nothing:
        assert picture.optional
        pytest.skip(str(nothing))


def texts(figure: Figure) -> list[tuple[str, Bbox]]:
    """Every text that is really drawn (ticks out of view are not), and its place in pixels."""
    drawn: dict[Text, None] = {}
    draw = Text.draw

    def noted(text: Text, *args: Any, **more: Any) -> None:
        drawn[text] = None
        draw(text, *args, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Text, "draw", noted)
        figure.draw_without_rendering()
    return [
        (t.get_text(), t.get_window_extent())
        for t in drawn
        if t.get_visible() and t.get_text().strip()
    ]


def overlapping(figure: Figure) -> list[tuple[str, str]]:
    """Pairs of texts that touch, and texts that are cut by the edge of the figure."""
    placed = texts(figure)
    assert len(placed) > 3
    cut = [(t, "edge") for t, box in placed if not figure.bbox.contains(*box.min)]
    cut += [(t, "edge") for t, box in placed if not figure.bbox.contains(*box.max)]
    return cut + [
        (one[0], other[0])
        for one, other in itertools.combinations(placed, 2)
        if one[1].padded(-0.5).overlaps(other[1].padded(-0.5))
    ]


def test_the_page_starts_with_the_answer() -> None:
    names = [picture.name for picture in PICTURES]
    assert names[:4] == ["allocation", "forest", "verdicts", "curves"]


@every_figure
def test_draws_with_a_run_missing(picture: Picture, results: Results) -> None:
    table = table_for(picture, results)[list(picture.needs)]  # and needs no other columns
    made = drawn(picture, results, **{picture.table: table})
    assert not overlapping(made)
    assert len(picture.caption(table)) > 20
    assert saved(made, "svg").startswith(b"<?xml")


@every_figure
def test_fits_a_column(picture: Picture, results: Results) -> None:
    made = drawn(picture, results, size="column")
    assert made.get_figwidth() <= 3.3
    assert not overlapping(made)


@every_figure
def test_draws_one_cell(picture: Picture, make: Callable[..., Results]) -> None:
    assert not overlapping(drawn(picture, make({"6+6": 6.0}, seeds=1, control="6+6")))


@every_figure
def test_draws_before_anything_is_done(picture: Picture, results: Results) -> None:
    ledger = {c: np.nan for c in results.runs if c.startswith("ledger.")}
    waiting = Results(
        study=results.study,
        runs=results.runs.assign(status="waiting", **ledger),
        scores=results.scores.iloc[:0],
        levels=results.levels.iloc[:0],
        curves=results.curves.iloc[:0],
    )
    drawn(picture, waiting).draw_without_rendering()


@pytest.mark.slow
@every_figure
def test_thirteen_cells_with_names_that_do_not_overlap(
    picture: Picture, make: Callable[..., Results]
) -> None:
    names = {f"split_bert text_layers={k}": float(k) for k in range(13)}
    made = make(names, seeds=5, floor="dual_encoder", control="split_bert text_layers=6")
    assert not overlapping(drawn(picture, made))


@pytest.mark.slow
@pytest.mark.parametrize("size", ["column", "page"])
@every_figure
def test_long_names_without_an_order_and_runs_missing(
    picture: Picture, size: Size, make: Callable[..., Results]
) -> None:
    made = make(dict.fromkeys(LONG, 6.0), seeds=4, floor="dual_encoder", control=LONG[2])
    made = asking(lost(made, (3, 17, 30)), axis="no such column")
    assert not overlapping(drawn(picture, made, size=size))


def test_names_under_the_axis_do_not_overlap(make: Callable[..., Results]) -> None:
    names = {f"a design with a long name, number {k}": float(k) for k in range(13)}
    made = make(names, floor="dual_encoder", control="a design with a long name, number 3")
    made = asking(made, axis="no such column")
    allocation = next(picture for picture in PICTURES if picture.name == "allocation")
    assert not overlapping(drawn(allocation, made))


@every_figure
def test_values_that_are_not_finite(picture: Picture, results: Results) -> None:
    table = table_for(picture, results)
    sure = ["axis", "region", "samples", "order", "level", "k", "on_front"]
    numbers = table.select_dtypes("float").columns.difference(sure)
    table.loc[table.index[::4], numbers] = np.nan
    if picture.table == "curves":
        table.loc[table.index[1::5], "value"] = np.inf
    axes = [ax for ax in drawn(picture, results, **{picture.table: table}).axes if ax.get_visible()]
    assert axes and all(ax.has_data() for ax in axes)
    for ax in axes:
        assert np.isfinite([*ax.dataLim.min, *ax.dataLim.max]).all()


@every_figure
def test_names_the_columns_it_lacks(picture: Picture, results: Results) -> None:
    table = table_for(picture, results)
    for column in picture.needs:
        with pytest.raises(
            ValueError, match=f"figure '{picture.name}' lacks the column.* {column}"
        ):
            picture.drawn(table.drop(columns=column))


@every_figure
def test_without_its_table_an_optional_figure_is_left_out(picture: Picture) -> None:
    kind = NothingToDraw if picture.optional else ValueError
    with pytest.raises(kind, match=f"'{picture.table}'"):
        picture.drawn(None)
    assert picture.optional == (picture.name not in ("allocation", "curves", "cost", "training"))


def test_any_figure_from_python_in_the_size_of_a_column(results: Results) -> None:
    flops = figure(results, "curves", size="column", against="flops")
    assert flops.get_figwidth() == 3.3
    assert "training FLOPs" in [text for text, _ in texts(flops)]
    with pytest.raises(NothingToDraw):
        figure(results, "tuning")


# -- what the page does with them


def ids(svg: bytes) -> list[str]:
    return re.findall(r'\bid="([^"]*)"', svg.decode())


def test_a_page_can_hold_all_figures_and_find_every_cell(report: Report, results: Results) -> None:
    cells = list(results.runs["cell"].unique())
    files = {path.stem: path.read_bytes() for path in report.files if path.suffix == ".svg"}
    seen: set[str] = set()
    for name, svg in files.items():
        own = ids(svg)
        assert len(own) == len(set(own)) and not seen & set(own)
        seen |= set(own)
        used = re.findall(r'(?:href="|url\()#([^")]+)', svg.decode())
        assert used and set(used) <= set(own)
        places = {int(m[1]) for m in map(re.compile(r"cell-(\d+)--").match, own) if m}
        # 6+6 is the control, the dual encoder a floor.
        lacks = {"differences": {"6+6", "dual encoder"}, "rank": {"dual encoder"}}
        lacks["forest"] = lacks["differences"]
        assert {cells[place] for place in places} == set(cells) - lacks.get(name, set()), name
    assert len(files) == 9


def test_what_a_mark_says_is_its_title_and_is_escaped(make: Callable[..., Results]) -> None:
    made = make({"<b>&": 2.0, "6+6": 6.0}, control="6+6")
    runs = tables_for(made)["runs"]
    allocation = next(picture for picture in PICTURES if picture.name == "allocation")
    svg = saved(allocation.drawn(runs), "svg").decode()
    tree = ElementTree.fromstring(svg)
    titles = {
        title.text
        for group in tree.iter("{http://www.w3.org/2000/svg}g")
        if group.get("id", "").startswith("cell-0--allocation-")
        for title in group.findall("{http://www.w3.org/2000/svg}title")
    }
    score = runs.loc[(runs["cell"] == "<b>&") & (runs["seed"] == 1), "score"].item()
    assert f"<b>&, seed 1: {score:.4g}" in titles
    assert "<text" in svg and " 'DejaVu Sans', Verdana, sans-serif" in svg


def test_files_of_a_report_say_nothing_of_their_making(report: Report) -> None:
    names = {path.name for path in report.files}
    for picture in ("allocation", "curves", "cost", "training", "differences", "rank", "spent"):
        assert {f"{picture}.{kind}" for kind in ("pdf", "png", "svg")} <= names
    pdf = (report.folder / "allocation.pdf").read_bytes()
    assert b"/FontFile2" in pdf and b"/Type3" not in pdf, "TrueType, whole and embedded"
    for name in ("allocation.pdf", "allocation.svg"):
        content = (report.folder / name).read_bytes()
        assert not re.search(rb"CreationDate|Producer|<dc:date>|Matplotlib v", content)
