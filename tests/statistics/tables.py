"""Tables of scores that tests of the statistics share."""

import numpy as np

Table = dict[str, dict[int, float]]


def table(scores_DS: np.ndarray) -> Table:
    """Designs named by their number, from 0; a score that is nan stays."""
    return {str(d): dict(enumerate(row)) for d, row in enumerate(scores_DS.tolist())}


def noise(rng: np.random.Generator, sd_D: np.ndarray, seeds: int) -> np.ndarray:
    """Scores (D, S) of designs that differ in nothing but their spread, on seeds that differ."""
    return sd_D[:, None] * rng.normal(size=(len(sd_D), seeds)) + 3 * rng.normal(size=seeds)
