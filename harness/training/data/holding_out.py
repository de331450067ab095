"""Validation and test rows held out of a training source, whole groups at a time.

Letters: N rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.training.data.cache import DataError
from harness.training.randomness import stream


def hold_out(
    groups: Sequence[str], picture_N: np.ndarray, shares: dict[str, float], seed: int
) -> dict[str, np.ndarray]:
    """Draws the rows of each split named in `shares`; `train` keeps the rest.

    Rows that share a group or a picture, also by way of others, stay together. A share counts
    such families, at least one each. Depends on the rows and the seed only.
    """
    family_N = families(groups, picture_N)
    order = stream(seed, "held out").permutation(family_N.max() + 1)
    wanted = {}
    for name, share in shares.items():
        if share <= 0:
            raise DataError(f"no {name} pictures: name a source for {name} or raise {name}_share")
        wanted[name] = max(1, round(share * len(order)))
    if sum(wanted.values()) >= len(order):
        raise DataError(
            f"train has {len(order)} groups of rows: too few to hold out {wanted} of them"
        )
    rows, start = {}, 0
    for name, count in wanted.items():
        rows[name] = np.flatnonzero(np.isin(family_N, order[start : start + count]))
        start += count
    return rows | {"train": np.flatnonzero(np.isin(family_N, order[start:]))}


def families(groups: Sequence[str], picture_N: np.ndarray) -> np.ndarray:
    """Numbers the families, int64 (N,): equal where rows are linked by group or picture."""
    parent = list(range(len(groups)))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = row = parent[parent[row]]
        return row

    first: dict[object, int] = {}
    for row, (group, picture) in enumerate(zip(groups, picture_N.tolist(), strict=True)):
        for link in (group, picture):
            parent[root(row)] = root(first.setdefault(link, row))
    return np.unique([root(row) for row in range(len(groups))], return_inverse=True)[1]
