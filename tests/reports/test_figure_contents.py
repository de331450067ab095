"""What figures show is what their table says: no empty figure passes for one."""

from __future__ import annotations

from collections.abc import Callable

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text

from harness.results.tables import Results
from reports.drawing import NothingToDraw
from reports.figures.training import NAMES
from reports.gallery import Picture, style
from tests.reports.tables_by_hand import table_for, tables_for
from tests.reports.test_figures import PICTURES, drawn, every_figure, texts

Point = tuple[float, float]


def named(name: str) -> Picture:
    return next(picture for picture in PICTURES if picture.name == name)


def dots(ax: Axes) -> list[Point]:
    """Where single markers stand; those without a value are drawn nowhere."""
    parts = [c.get_offsets() for c in ax.collections if isinstance(c, PathCollection)]
    parts += [line.get_xydata() for line in ax.lines if line.get_linestyle() == "None"]
    points = [tuple(map(float, row)) for part in parts for row in np.ma.filled(part, np.nan)]
    return sorted(point for point in points if np.isfinite(point).all())


def bars(ax: Axes) -> list[tuple[float, float, float]]:
    """x, foot and head of vertical lines."""
    segments = [
        s for c in ax.collections if isinstance(c, LineCollection) for s in c.get_segments()
    ]
    return sorted((float(s[0][0]), float(s[0][1]), float(s[1][1])) for s in segments)


def crossed(make: Callable[..., Results]) -> Results:
    """Three splits times two settings of ITC."""
    names = {f"k={k} itc={reads}": float(k) for k in (2, 6, 10) for reads in ("fusion", "towers")}
    made = make(names, control="k=6 itc=fusion")
    made.runs["config.text_layers"] = made.runs["text_layers"]
    made.runs["set.objectives.itc.reads"] = made.runs["cell"].str.rpartition("=")[2]
    return made


def curve(ax: Axes, label: str) -> tuple[np.ndarray, np.ndarray]:
    (line,) = (line for line in ax.lines if line.get_label() == label)
    return np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)


def rounded(points: list[tuple[float, ...]]) -> list[tuple[float, ...]]:
    return sorted(tuple(round(number, 6) for number in point) for point in points)


def description(figure: Figure) -> str:
    """All that a figure shows, as text, in which one nan equals another."""
    shown: list[object] = [text.get_text() for text in figure.findobj(Text)]
    for ax in figure.axes:
        for line in ax.lines:
            xy = np.asarray(line.get_xydata(), float).round(9).tolist()
            face = to_hex(line.get_markerfacecolor())
            shown.append((xy, line.get_linestyle(), line.get_marker(), face))
            shown.append((to_hex(line.get_color()), to_hex(line.get_markeredgecolor())))
        for collection in ax.collections:
            offsets = np.ma.filled(collection.get_offsets(), np.nan).round(9).tolist()
            paths = [path.vertices.round(9).tolist() for path in collection.get_paths()]
            colours = [c.tolist() for c in (collection.get_facecolor(), collection.get_edgecolor())]
            shown.append((offsets, paths, colours))
        for patch in ax.patches:
            shown.append(
                (patch.get_extents().get_points().round(6).tolist(), patch.get_facecolor())
            )
    return repr(shown)


# Of every kind of column another value.
OTHERS = {
    "cell": lambda column: column + " altered",
    "role": lambda column: column.map({"compared": "floor", "floor": "compared"}),
    "name": lambda column: column.map(dict(zip(u := list(column.unique()), u[1:] + u[:1]))),  # noqa: B905
    "status": lambda column: column.where(column != "done", "interrupted"),
    "verdict": lambda column: column.where(column == "", "equal"),
    "colour": lambda column: column.map(lambda _: "#123456"),
    "score_name": lambda column: "another/score",
    "axis_name": lambda column: "another_axis",
    "marker": lambda column: column.map(lambda _: "d"),
    "endpoint": lambda column: column + " altered",
    "cost_name": lambda column: column + " altered",
    "control": lambda column: column + " altered",
    "unit": lambda column: "bits",
    "order": lambda column: -column,
    "value": lambda column: -column,
}


def altered(table: pd.DataFrame, column: str) -> pd.DataFrame:
    table = table.astype(dict.fromkeys(table.select_dtypes("category"), "str"))
    values = table[column]
    if column in OTHERS:
        return table.assign(**{column: OTHERS[column](values)})
    if column == "is_control":
        return table.assign(is_control=table["cell"] == "2+10")
    if values.dtype == bool:
        return table.assign(**{column: ~values})
    if column == "seed":  # which runs belong together
        return table.assign(seed=[place**2 % 3 for place in range(len(table))])
    if column == "axis":
        return table.assign(axis=values.astype(float) ** 2)
    return table.assign(**{column: values * 1.5 + 1})


def bare(picture: Picture, table: pd.DataFrame) -> str:
    """All that a figure shows of a table, without laying it out."""
    with matplotlib.rc_context(style()):
        try:
            return description(picture.draw(table))
        except NothingToDraw:
            return "nothing"


@every_figure
def test_shows_every_column_that_it_needs(
    picture: Picture, results: Results, make: Callable[..., Results]
) -> None:
    interaction = picture.name == "interaction"
    table = table_for(picture, crossed(make) if interaction else results)
    whole = bare(picture, table)
    assert whole == bare(picture, table) != "nothing", "the same table gives the same figure"
    names = [name for name in picture.needs if not (interaction and name == "cell")]
    idle = [column for column in names if bare(picture, altered(table, column)) == whole]
    assert not idle, "another value of these columns changes nothing"


@every_figure
def test_before_anything_is_done_it_shows_no_value_and_says_what_it_is(
    picture: Picture, results: Results
) -> None:
    table = table_for(picture, results)
    measured = ["score", "delta", "lower", "upper", *(c for c in table if c.startswith("ledger."))]
    waiting = table.iloc[:0] if picture.table != "runs" else table.assign(verdict="")
    waiting = waiting.assign(**{name: np.nan for name in measured if name in waiting})
    figure = drawn(
        picture,
        results,
        **{picture.table: waiting, "trend_curve": tables_for(results)["trend_curve"].iloc[:0]},
    )
    shown = [text for text, _ in texts(figure)]
    nothing = f"no {'validation' if picture.name == 'curves' else 'training'} curves yet"
    assert "retrieval mean recall" in shown or shown == [nothing]
    for ax in figure.axes:
        assert not bars(ax)
        values = [y for _, y in dots(ax)] + [y for line in ax.lines for y in line.get_ydata()]
        assert {value for value in values if np.isfinite(value)} <= {0.0}, "the control's own place"


def test_allocation_shows_every_score_and_every_contrast(results: Results) -> None:
    picture = named("allocation")
    table = table_for(picture, results)
    above, below = picture.drawn(table).axes
    compared = table[table["role"] == "compared"].dropna(subset="score")
    means = compared.groupby("axis")["score"].mean().items()
    runs = zip(compared["axis"], compared["score"], strict=True)
    assert rounded(dots(above)) == rounded([*runs, *means])
    others = table[(table["role"] == "compared") & ~table["is_control"]].drop_duplicates("cell")
    spans = zip(others["axis"], others["lower"], others["upper"], strict=True)
    assert rounded(bars(below)) == rounded(list(spans))
    deltas = zip(others["axis"], others["delta"], strict=True)
    assert rounded(dots(below)) == rounded([*deltas, (6.0, 0.0)])
    floor = table.loc[table["role"] == "floor", "score"].mean()
    assert any(np.allclose(line.get_ydata(), floor) for line in above.lines)


def test_cost_shows_every_cell_over_both_costs(results: Results) -> None:
    picture = named("cost")
    table = table_for(picture, results)
    for ax, column in zip(
        picture.drawn(table).axes, ("ledger.forward_flops", "ledger.flops_per_sample"), strict=True
    ):
        done = table.dropna(subset=["score", column]).groupby("cell")
        expected = zip(done[column].mean(), done["score"].mean(), strict=True)
        assert rounded(dots(ax)) == rounded(list(expected))
        spans = zip(done[column].mean(), done["score"].min(), done["score"].max(), strict=True)
        assert rounded(bars(ax)) == rounded(list(spans))
        assert len(dots(ax)) == 4


@pytest.mark.parametrize("name", ["curves", "training"])
def test_curves_are_means_over_the_finished_seeds(name: str, results: Results) -> None:
    picture = named(name)
    table = table_for(picture, results)
    fits = {"curves": lambda n: n.startswith("val/"), "training": NAMES.__contains__}[name]
    measured = [n for n in table["name"].unique() if fits(n)]
    axes = [ax for ax in picture.drawn(table).axes if ax.get_visible()]
    assert len(axes) == len(measured) > 1
    for measure in measured:
        title = measure.partition("/")[2].replace("_", " ")
        (ax,) = (ax for ax in axes if ax.get_title(loc="left").lower().endswith(title))
        rows = table[(table["name"] == measure) & (table["status"] == "done")]
        for cell, runs in rows.groupby("cell"):
            mean = runs.groupby("samples")["value"].mean()
            samples, values = curve(ax, str(cell))
            assert samples.tolist() == mean.index.tolist()
            np.testing.assert_allclose(values, mean)
        lost = table[(table["name"] == measure) & (table["status"] != "done")]
        dotted = [line for line in ax.lines if line.get_linestyle() == ":"]
        assert len(dotted) == lost.groupby(["cell", "seed"]).ngroups == 1
        np.testing.assert_allclose(dotted[0].get_ydata(), lost.sort_values("samples")["value"])
