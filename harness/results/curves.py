"""Puts what runs measured into tables: a row a value. Words are categories, because a study may
have millions of rows and a few words.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from itertools import chain

import numpy as np
import pandas as pd
from pandas.api.types import union_categoricals

from harness.outputs.measured import MeasuredLine
from harness.outputs.records import StudyRow

MEASURED = ("step", "samples", "seconds", "name", "value")
"""Columns of what one run measured."""


def curves_of(lines: Sequence[MeasuredLine]) -> pd.DataFrame:
    """Returns measured lines as a table with the columns of MEASURED."""
    sizes, names = [len(line.values) for line in lines], [tuple(line.values) for line in lines]
    kinds = dict.fromkeys(names)  # lines that measure the same are many
    words = tuple(dict.fromkeys(chain.from_iterable(kinds)))
    places = {word: place for place, word in enumerate(words)}
    codes_of = {kind: [places[word] for word in kind] for kind in kinds}
    codes = chain.from_iterable(codes_of[kind] for kind in names)
    values = chain.from_iterable(line.values.values() for line in lines)
    columns = {
        "step": np.repeat(np.array([line.step for line in lines], np.int64), sizes),
        "samples": np.repeat(np.array([line.samples for line in lines], np.int64), sizes),
        "seconds": np.repeat(np.array([line.seconds for line in lines], np.float64), sizes),
        "name": pd.Categorical.from_codes(
            np.fromiter(codes, np.int64, sum(sizes)), categories=_index(words)
        ),
        "value": np.fromiter(values, np.float64, sum(sizes)),
    }
    return pd.DataFrame(columns, copy=False)


@functools.cache
def _index(words: tuple[str, ...]) -> pd.Index:
    """Returns one index for all runs that measured the same."""
    return pd.Index(words)


def joined(study: str, measured: Sequence[tuple[StudyRow, pd.DataFrame]]) -> pd.DataFrame:
    """Puts the curves of all runs of a study into one table, with what their rows say of them."""
    sizes = [len(curves) for _, curves in measured]

    def repeated(words: list[str]) -> pd.Categorical[str]:
        return pd.Categorical(words, categories=list(dict.fromkeys(words))).repeat(sizes)

    tables = [curves for _, curves in measured]
    columns = {
        "study": repeated([study for _ in measured]),
        "cell": repeated([row.cell for row, _ in measured]),
        "role": repeated([row.role for row, _ in measured]),
        "run": repeated([row.run for row, _ in measured]),
        "seed": np.repeat([row.seed for row, _ in measured], sizes),
        "name": union_categoricals([curves["name"].astype("category") for curves in tables]),
        **{
            name: np.concatenate([curves[name].to_numpy() for curves in tables])
            for name in ("step", "samples", "seconds", "value")
        },
    }
    return pd.DataFrame(columns, copy=False)
