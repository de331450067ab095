"""Descriptive tables are made of answers item by item, and with the help of earlier studies.

They say more about the trained models, or rest on more than this study; neither gives a verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from harness.results.tables import Results
from harness.statistics.additive import fit
from harness.statistics.blocked import analyse
from harness.statistics.descriptive import seeds_and_items
from harness.statistics.earlier import prior, second_opinion
from harness.statistics.families import mcnemar
from reports.analysis import need
from reports.rows import Row, scores_of

Predictions = Callable[[str, str], Mapping[str, npt.NDArray[np.float64]]]
"""Train key and task -> measure -> a value an item (N,): `predictions_of` of harness/results with
the outputs folder."""
ITEMS = {
    "task": "who asked",
    "measure": "what counts as right, as the task names it",
    "cell": "a compared cell",
    "control": "the control",
    "seed": "of both models",
    "only_cell": "items that the cell's model alone has right",
    "only_control": "items that the control's model alone has right",
    "p": "McNemar's exact test of these two models, not of their designs; not adjusted",
}
ITEM_DIFFERENCES = {
    "task": "who asked",
    "measure": "what is averaged over items, as the task names it",
    "cell": "a compared cell",
    "control": "the control",
    "difference": "mean over seeds and items of cell minus control",
    "lower": "percentile of a bootstrap over seeds and items: 11-17 % false positives of 5 %",
    "upper": "as lower",
    "seeds": "that both have",
    "items": "of each seed",
}
SECOND_OPINION = {
    "endpoint": "the score",
    "cell": "a compared cell",
    "delta": "cell minus control",
    "se": "from the residual variance moderated by earlier studies",
    "df": "of the study and the earlier ones together",
    "lower": "simultaneous (Dunnett) by that variance",
    "upper": "as lower",
    "p_adjusted": "by that variance; a second opinion, no verdict",
    "prior_sd": "residual SD that earlier studies lead to expect",
    "prior_df": "what they count for",
}


def items_of(results: Results, task: str, predictions: Predictions) -> pd.DataFrame:
    """McNemar's test of every cell against the control within each seed: columns of ITEMS.

    Measures that are not right or wrong item by item have no row.
    """
    rows: list[Row] = []
    for cell, pairs in _pairs(results, task, predictions):
        for measure, by_seed in pairs.items():
            for seed, (own, control) in by_seed.items():
                if np.isin(np.concatenate([own, control]), (0, 1)).all():
                    test = mcnemar(own, control)
                    rows.append(
                        {
                            **{"task": task, "measure": measure, "cell": cell, "seed": seed},
                            **{"control": results.study.control, "p": test.p},
                            **{"only_cell": test.only_first, "only_control": test.only_second},
                        }
                    )
    return pd.DataFrame(rows, columns=list(ITEMS))


def item_differences(results: Results, task: str, predictions: Predictions) -> pd.DataFrame:
    """Every cell minus the control over seeds and items: columns of ITEM_DIFFERENCES."""
    rows: list[Row] = []
    for cell, pairs in _pairs(results, task, predictions):
        for measure, by_seed in pairs.items():
            own, control = (np.stack(side) for side in zip(*by_seed.values(), strict=True))
            mean = seeds_and_items(own, control)
            rows.append(
                {
                    **{"task": task, "measure": measure, "cell": cell},
                    **{"control": results.study.control, "difference": mean.estimate},
                    **{"lower": mean.lower, "upper": mean.upper},
                    **{"seeds": own.shape[0], "items": own.shape[1]},
                }
            )
    return pd.DataFrame(rows, columns=list(ITEM_DIFFERENCES))


ByMeasure = dict[str, dict[int, tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]]
"""Measure -> seed -> a cell's values and the control's (N,), item by item."""


def _pairs(
    results: Results, task: str, predictions: Predictions
) -> Iterator[tuple[str, ByMeasure]]:
    """Gives each cell but the control, with what both answered on the same items."""
    need(results.runs, ("cell", "role", "seed", "run", "status"), "the runs table")
    runs = results.runs[(results.runs["status"] == "done") & (results.runs["role"] == "compared")]
    keys = {(run["cell"], int(run["seed"])): str(run["run"]) for run in runs.to_dict("records")}
    control = results.study.control
    of_control = {s: predictions(key, task) for (cell, s), key in keys.items() if cell == control}
    for cell in dict.fromkeys(cell for cell, _ in keys if cell != control):
        pairs: ByMeasure = {}
        for seed, others in of_control.items():
            own = predictions(keys[cell, seed], task) if (cell, seed) in keys else {}
            for measure, values in own.items():
                if measure in others and others[measure].shape == values.shape:
                    pairs.setdefault(measure, {})[seed] = (values, others[measure])
        yield str(cell), pairs


def second_opinions(
    results: Results, earlier: Sequence[Results], endpoint: str, *, guarded: bool = True
) -> pd.DataFrame:
    """The contrasts by a residual variance that earlier studies share in: columns of
    SECOND_OPINION.

    `guarded`: see `harness.statistics.earlier`. Raises ValueError where fewer than three earlier
    studies have this score with a spread.
    """
    fits = [fit(scores_of(study, endpoint)) for study in earlier]
    spread = [model for model in fits if model.df and model.mse > 0]
    before = prior([model.mse for model in spread], [model.df for model in spread])
    study = results.study
    analysis = analyse(
        scores_of(results, endpoint), study.control, alpha=study.alpha, looks=study.looks
    )
    deltas = {contrast.design: contrast.delta for contrast in analysis.contrasts}
    rows = [
        {
            **{"endpoint": endpoint, "cell": opinion.design, "delta": deltas[opinion.design]},
            **{name: getattr(opinion, name) for name in ("se", "df", "lower", "upper")},
            "p_adjusted": opinion.p_adjusted,
            **{"prior_sd": before.variance**0.5, "prior_df": before.df},
        }
        for opinion in second_opinion(analysis, before, guarded=guarded)
    ]
    return pd.DataFrame(rows, columns=list(SECOND_OPINION))
