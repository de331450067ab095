"""A score is tested and drawn along an ordered factor, as the number of text layers.

Seeds stay blocks; designs at the same place count as one, averaged. None of this gives a verdict.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import interpolate

from harness.statistics.additive import Fit, Scores, fit
from harness.statistics.intervals import crossing_level
from harness.statistics.linear import Combination, FTest, combination, f_test, seed_weights

FloatArray = npt.NDArray[np.float64]

POINTS = 61
SPLINE_FROM = 6
KNOTS = 5


@dataclass(frozen=True, kw_only=True)
class Trend:
    """A trend says how a score moves along an ordered factor (L places)."""

    places_L: FloatArray
    """Ascending."""
    any_difference: FTest
    """Of all places at once, whatever their order."""
    slope: Combination
    """Linear contrast, in score for one unit of the factor: the least-squares line."""
    bend: Combination
    """Quadratic contrast, in score for one squared unit: below zero where the middle is higher."""
    lack_of_fit: FTest | None
    """Whether places differ from the curve by more than seeds do; None where it meets them all."""
    curve: Curve


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A curve is fitted through the places; arrays are (G,) points from first to last place."""

    kind: str
    axis: FloatArray
    fitted: FloatArray
    lower: FloatArray
    """Holds at all points together, where the true curve has this form."""
    upper: FloatArray


def trend(scores: Scores, place: Mapping[str, float], *, alpha: float = 0.05) -> Trend:
    """Tests and draws the trend of design -> seed -> score along design -> place.

    The curve's form follows from the number of places alone, not from the scores: a
    parabola for three to five, from six on a natural cubic spline with five knots spread evenly
    over the places. Its band leaves out what seeds do to all designs alike, has at each point the
    error of the primary analysis (linear.py), from the model with every design apart, and is
    simultaneous by the expected number of crossings (intervals.py). Simulated with 3-13 places and
    3-5 seeds it misses anywhere in 3.7-3.9 % of a nominal 5 %; where one design is twice as noisy
    as the others in 5-6.5 %, three times in 6-8 % of five seeds, in 10 % of 13 places and three.

    Raises ValueError for fewer than three places, for designs that do not share seeds, and where
    places have different numbers of designs, which would make the trend one of other things too.
    """
    model = fit({design: own for design, own in scores.items() if design in place})
    place_D = np.array([place[design] for design in model.designs])
    places_L, index_D, count_L = np.unique(place_D, return_inverse=True, return_counts=True)
    if len(places_L) < 3:
        raise ValueError(f"a trend needs three places, and scores lie at {len(places_L)}")
    if len(set(count_L)) > 1:
        raise ValueError("places have different numbers of cells")
    mean_LD = (index_D == np.arange(len(places_L))[:, None]) / count_L[0]
    basis_LP = _basis(places_L, places_L)
    residual_LL = np.eye(len(places_L)) - basis_LP @ np.linalg.pinv(basis_LP)
    return Trend(
        places_L=places_L,
        any_difference=f_test(model, np.diff(np.eye(len(places_L)), axis=0) @ mean_LD),
        slope=combination(model, _highest_coefficient(places_L, 1) @ mean_LD),
        bend=combination(model, _highest_coefficient(places_L, 2) @ mean_LD),
        lack_of_fit=f_test(model, residual_LL @ mean_LD)
        if len(places_L) > basis_LP.shape[1]
        else None,
        curve=_curve(model, places_L, mean_LD, alpha),
    )


def form(places: int) -> str:
    """Names the form of the curve through a number of places."""
    if places < SPLINE_FROM:
        return "parabola"
    return f"natural cubic spline with {KNOTS} knots"


def _highest_coefficient(places_L: FloatArray, degree: int) -> FloatArray:
    """Returns weights (L,) that give the highest coefficient of the least-squares polynomial."""
    powers_LP = np.vander(places_L - places_L.mean(), degree + 1)
    return np.linalg.pinv(powers_LP)[0]


def _basis(places_L: FloatArray, at_G: FloatArray) -> FloatArray:
    """Returns the curve's basis functions (G, P) at points."""
    if len(places_L) < SPLINE_FROM:
        low, high = places_L[0], places_L[-1]
        return np.vander((at_G - low) / (high - low), 3)
    knots = np.quantile(places_L, np.linspace(0, 1, KNOTS))
    return interpolate.CubicSpline(knots, np.eye(KNOTS), bc_type="natural")(at_G)


def _curve(model: Fit, places_L: FloatArray, mean_LD: FloatArray, alpha: float) -> Curve:
    axis_G = np.linspace(places_L[0], places_L[-1], POINTS)
    to_places_GL = _basis(places_L, axis_G) @ np.linalg.pinv(_basis(places_L, places_L))
    weights_GD = to_places_GL @ mean_LD
    points = [combination(model, weights_D) for weights_D in weights_GD]
    fitted_G = np.array([point.estimate for point in points])
    weights_PG = seed_weights(model, weights_GD.T)
    root_PP = np.linalg.cholesky(model.covariance_PP + 1e-12 * np.eye(len(weights_PG))).T
    level = crossing_level(root_PP @ weights_PG, model.df, alpha)
    half_G = level * np.array([point.se for point in points])
    return Curve(
        kind=form(len(places_L)),
        axis=axis_G,
        fitted=fitted_G,
        lower=fitted_G - half_G,
        upper=fitted_G + half_G,
    )
