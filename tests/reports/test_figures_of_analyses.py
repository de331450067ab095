"""What figures of contrasts, costs, ranks, factors and tuning show is what their table says."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection

from harness.results.tables import Results
from reports.drawing import NothingToDraw
from tests.reports.tables_by_hand import table_for, tables_for
from tests.reports.test_figure_contents import crossed, curve, dots, named, rounded


def test_allocation_shows_the_fitted_curve_of_its_score(results: Results) -> None:
    tables = tables_for(results)
    curve_of_another = tables["trend_curve"].assign(endpoint="another/score")
    picture = named("allocation")
    above = picture.drawn(tables["runs"], tables).axes[0]
    x, fitted = curve(above, "fitted")
    np.testing.assert_allclose(fitted, 50 - 0.3 * (x - 6) ** 2)
    plain = picture.drawn(tables["runs"], {"trend_curve": curve_of_another}).axes[0]
    assert "fitted" not in [line.get_label() for line in plain.lines]


def test_forest_shows_every_contrast_of_every_endpoint(results: Results) -> None:
    table = table_for(named("forest"), results)
    axes = named("forest").drawn(table).axes
    names = [ax.get_title(loc="left").replace("\n", " ") for ax in axes]
    assert names == ["retrieval mean recall", "validation ITC loss", "pairs relation group match"]
    for ax, endpoint in zip(axes, table["endpoint"].unique(), strict=True):
        own = table[table["endpoint"] == endpoint]
        labels = [text.get_text() for text in axes[0].get_yticklabels()]
        rows = dict(zip(labels, ax.get_yticks(), strict=True))
        assert list(rows) == list(own["cell"]) and rows["2+10"] > rows["10+2"]
        places = own["cell"].map(rows)
        assert rounded(dots(ax)) == rounded(list(zip(own["delta"], places, strict=True)))
        spans = [
            (float(s[0][0]), float(s[1][0]), float(s[0][1]))
            for c in ax.collections
            if isinstance(c, LineCollection)
            for s in c.get_segments()
        ]
        assert rounded(spans) == rounded(list(zip(own["lower"], own["upper"], places, strict=True)))
    assert "← better" in axes[1].get_xlabel() and "better →" in axes[2].get_xlabel()


def test_verdicts_shows_each_with_its_sign_and_the_colour_of_its_direction(
    results: Results,
) -> None:
    table = table_for(named("verdicts"), results)
    (ax,) = named("verdicts").drawn(table).axes
    shown = [text.get_text() for text in ax.texts]
    signs = {"better": "▲", "worse": "▼", "equal": "=", "undecided": "?"}
    rows = table.to_dict("records")
    assert shown == [
        f"{row['delta']:+.3g} {signs[row['verdict']]}".replace("-", "−") for row in rows
    ]
    for row, tile in zip(rows, ax.collections, strict=True):
        red, _, blue, _ = tile.get_facecolor()[0]
        assert (blue > red) == ((row["delta"] > 0) == row["higher_is_better"])
    one = table[table["order"] == 0]
    with pytest.raises(NothingToDraw):
        named("verdicts").drawn(one)


def test_differences_are_means_over_the_seeds_that_both_finished(results: Results) -> None:
    table = table_for(named("differences"), results)
    axes = [ax for ax in named("differences").drawn(table).axes if ax.get_visible()]
    (ax,) = (ax for ax in axes if ax.get_title(loc="left") == "ITM accuracy")
    own = table[(table["name"] == "val/itm_accuracy") & (table["status"] == "done")]
    values = own.astype({"cell": str}).set_index(["cell", "seed", "samples"])["value"]
    for cell in ("2+10", "10+2"):
        expected = (values[cell] - values["6+6"]).dropna().groupby("samples").mean()
        samples, shown = curve(ax, cell)
        assert samples.tolist() == expected.index.tolist()
        np.testing.assert_allclose(shown, expected)


def test_ranks_put_the_lowest_loss_and_the_highest_accuracy_first() -> None:
    rows = [
        {"cell": cell, "seed": seed, "samples": 8, "name": name, "value": value + seed}
        for name, values in {"val/itc_loss": (1, 2, 3), "val/mlm_accuracy": (1, 2, 3)}.items()
        for cell, value in zip("abc", values, strict=True)
        for seed in range(2)
    ]
    looks = {"role": "compared", "status": "done", "colour": "#000000", "marker": "o"}
    axes = named("rank").drawn(pd.DataFrame(rows).assign(**looks)).axes
    shown = {ax.get_title(loc="left"): [float(curve(ax, c)[1][0]) for c in "abc"] for ax in axes}
    assert shown == {"ITC loss": [1, 2, 3], "MLM accuracy": [3, 2, 1]}
    assert axes[0].yaxis_inverted()


def test_pareto_draws_every_cell_and_steps_along_the_front(results: Results) -> None:
    table = table_for(named("pareto"), results)
    for ax, (_, own) in zip(
        named("pareto").drawn(table).axes, table.groupby("cost_name", sort=False), strict=True
    ):
        assert rounded(dots(ax)) == rounded(list(zip(own["cost"], own["score"], strict=True)))
        (line,) = (line for line in ax.lines if line.get_linestyle() == "-")
        front = own[own["on_front"]].sort_values("cost")
        assert line.get_xdata().tolist() == front["cost"].tolist()
        assert line.get_drawstyle() == "steps-post"


def test_spent_adds_up_to_the_time_on_the_device_and_tuning(results: Results) -> None:
    results.runs.loc[results.runs["cell"] == "6+6", "ledger.tuning_seconds"] = 90.0
    table = table_for(named("spent"), results)
    times, _, inference, _ = named("spent").drawn(table).axes
    done = table[table["status"] == "done"].groupby("cell", sort=False)
    expected = done["ledger.device_seconds"].mean() + pd.Series({"6+6": 30.0}).reindex(
        done.groups, fill_value=0.0
    )
    ends: dict[float, float] = {}
    for bar in times.patches:
        ends[bar.get_y()] = max(ends.get(bar.get_y(), 0.0), bar.get_x() + bar.get_width())
    names = [text.get_text() for text in times.get_yticklabels()]
    assert dict(zip(names, ends.values(), strict=True)) == pytest.approx(expected.to_dict())
    widths = [bar.get_width() for bar in inference.patches]
    assert widths == pytest.approx(done["ledger.forward_flops"].mean().tolist())


def test_interaction_draws_a_line_for_each_level_of_the_smaller_factor(
    make: Callable[..., Results],
) -> None:
    table = table_for(named("interaction"), crossed(make))
    (ax,) = named("interaction").drawn(table).axes
    assert [text.get_text() for text in ax.get_xticklabels()] == ["2", "6", "10"]
    assert ax.get_xlabel() == "text layers"
    handles, labels = ax.get_legend_handles_labels()
    assert labels == ["ITC reads fusion", "ITC reads towers"]
    for handle, reads in zip(handles, ("fusion", "towers"), strict=True):
        own = table[table["cell"].str.endswith(reads)]
        means = own.groupby("text_layers")["score"].mean()
        np.testing.assert_allclose(handle.lines[0].get_ydata(), means)
    lacking = table[table["cell"] != "k=2 itc=towers"]
    with pytest.raises(NothingToDraw):
        named("interaction").drawn(lacking)


def test_tuning_draws_the_best_of_k_of_every_cell(results: Results) -> None:
    table = table_for(named("tuning"), results)
    (ax,) = named("tuning").drawn(table).axes
    for cell, own in table.groupby("cell"):
        trials, scores = curve(ax, str(cell))
        assert trials.tolist() == own["k"].tolist() and scores.tolist() == own["score"].tolist()
