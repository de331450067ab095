"""Every figure that there is, found by file: what holds for any of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from harness.results.tables import Results
from reports.analysis import answer, coloured_curves, scored_runs
from reports.build import in_colour
from reports.drawing import NothingToDraw, colours
from reports.gallery import Picture, Size, pictures, saved
from tests.reports.conftest import asking

PICTURES = pictures()
every_figure = pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.name)


def tables_for(results: Results) -> dict[str, pd.DataFrame]:
    """Every table that figures are drawn from; those of the analyses plausible and made by hand."""
    runs = scored_runs(results, answer(results))
    hand = {
        "contrasts": contrasts(runs),
        "trend_curve": trend_curve(runs),
        "pareto": pareto(runs),
        "best_of_k": best_of_k(runs),
    }
    tables = {name: in_colour(table, runs) for name, table in hand.items() if "cell" in table}
    return hand | tables | {"runs": runs, "curves": coloured_curves(results, runs)}


def table_for(picture: Picture, results: Results) -> pd.DataFrame:
    return tables_for(results)[picture.table]


def contrasts(runs: pd.DataFrame) -> pd.DataFrame:
    """Three endpoints, the second a loss; the first says what `runs` says."""
    own = runs[(runs["role"] == "compared") & np.isfinite(runs["delta"]) & ~runs["is_control"]]
    own = own.drop_duplicates("cell")[["cell", "delta", "lower", "upper", "verdict", "region"]]
    control = runs.loc[runs["is_control"], "cell"].iloc[0]
    numbers = ["delta", "lower", "upper", "region"]
    other = {"better": "worse", "worse": "better"}
    parts = [
        own.assign(endpoint="retrieval/mean_recall", higher_is_better=True, unit="percent"),
        own.assign(
            endpoint="validation/itc_loss", higher_is_better=False, unit="nats",
            verdict=own["verdict"].replace(other), **{c: own[c] / 20 for c in numbers},
        ),
        own.assign(
            endpoint="pairs/relation_group_match", higher_is_better=True, unit="percent",
            verdict="undecided", **{c: own[c] + 0.3 for c in numbers},
        ),
    ]  # fmt: skip
    placed = [part.assign(order=order) for order, part in enumerate(parts)]
    return pd.concat(placed).assign(control=control, level=0.95, seeds=3).reset_index(drop=True)


def trend_curve(runs: pd.DataFrame) -> pd.DataFrame:
    """A parabola over the axis, where the axis is numeric."""
    axis = pd.to_numeric(runs["axis"], errors="coerce").dropna()
    x = np.linspace(axis.min(), axis.max(), 25) if len(axis) else np.zeros(0)
    fitted = 50 - 0.3 * (x - 6) ** 2
    bounds = {"lower": fitted - 1, "upper": fitted + 1, "endpoint": "retrieval/mean_recall"}
    return pd.DataFrame({"axis": x, "fitted": fitted, **bounds})


def pareto(runs: pd.DataFrame) -> pd.DataFrame:
    """Mean scores against three costs; whoever no cheaper cell beats is on the front."""
    rows = []
    for cost in ("ledger.parameters", "ledger.forward_flops", "ledger.train_seconds"):
        means = runs.groupby("cell", sort=False)[["score", cost]].mean().dropna()
        for cell, (score, price) in zip(means.index, means.to_numpy(), strict=True):
            beaten = ((means["score"] >= score) & (means[cost] < price)).any()
            row = {"cell": cell, "cost_name": cost, "cost": price, "score": score}
            rows.append(row | {"on_front": not beaten, "endpoint": "retrieval/mean_recall"})
    columns = ["cell", "cost_name", "cost", "score", "on_front", "endpoint"]
    return pd.DataFrame(rows, columns=columns)


def best_of_k(runs: pd.DataFrame) -> pd.DataFrame:
    """Curves that fall, of another height each."""
    rows = [
        {"cell": cell, "k": k, "score": 1.5 + 0.05 * place + 0.4 / k}
        for place, cell in enumerate(runs["cell"].unique())
        for k in range(1, 9)
    ]
    return pd.DataFrame(rows)


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


def test_the_page_starts_with_the_three_figures_of_a_study() -> None:
    assert [picture.name for picture in PICTURES][:3] == ["allocation", "curves", "cost"]


@every_figure
def test_draws_with_a_run_missing(picture: Picture, results: Results) -> None:
    table = table_for(picture, results)[list(picture.needs)]  # and needs no other columns
    figure = picture.drawn(table)
    assert not overlapping(figure)
    assert len(picture.caption(table)) > 20
    assert saved(figure, "svg").startswith(b"<?xml")


@every_figure
def test_draws_one_cell(picture: Picture, make: Callable[..., Results]) -> None:
    made = make({"6+6": 6.0}, seeds=1, control="6+6")
    assert not overlapping(picture.drawn(table_for(picture, made)))


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
    picture.drawn(table_for(picture, waiting)).draw_without_rendering()


@every_figure
def test_thirteen_cells_with_names_that_do_not_overlap(
    picture: Picture, make: Callable[..., Results]
) -> None:
    names = {f"split_bert text_layers={k}": float(k) for k in range(13)}
    made = make(names, seeds=5, floor="dual_encoder", control="split_bert text_layers=6")
    assert not overlapping(picture.drawn(table_for(picture, made)))


def test_names_under_the_axis_do_not_overlap(make: Callable[..., Results]) -> None:
    names = {f"a design with a long name, number {k}": float(k) for k in range(13)}
    made = make(names, floor="dual_encoder", control="a design with a long name, number 3")
    made = asking(made, axis="no such column")
    allocation = next(picture for picture in PICTURES if picture.name == "allocation")
    assert not overlapping(allocation.drawn(table_for(allocation, made)))


@every_figure
def test_values_that_are_not_finite(picture: Picture, results: Results) -> None:
    table = table_for(picture, results)
    numbers = table.select_dtypes("float").columns.difference(["axis", "region", "samples"])
    table.loc[table.index[::4], numbers] = np.nan
    if picture.table == "curves":
        table.loc[table.index[1::5], "value"] = np.inf
    axes = [ax for ax in picture.drawn(table).axes if ax.get_visible()]
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


def test_colours_are_ordered_along_a_numeric_axis() -> None:
    cells = ["c", "a", "b", "floor"]
    table = pd.DataFrame({"cell": cells, "axis": [12.0, 0.0, 6.0, 0.0]})
    table["role"] = ["compared"] * 3 + ["floor"]
    numeric = colours(table)
    brightness = [sum(bytes.fromhex(numeric[cell][1:])) for cell in "abc"]
    assert brightness == sorted(brightness) and len(set(numeric.values())) == 4
    assert colours(table.iloc[[2, 0, 3, 1]]) == numeric  # the axis orders, not the rows
    assert colours(table.assign(axis=["x", "y", "z", "w"])) != numeric


@pytest.mark.parametrize("cells", [1, 7, 8, 30])
def test_no_two_compared_cells_share_a_colour(cells: int) -> None:
    names = [f"cell {i}" for i in range(cells)]
    table = pd.DataFrame({"cell": names, "role": "compared", "axis": names})
    assert len(set(colours(table).values())) == cells
