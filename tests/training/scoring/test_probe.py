"""The linear probe against scipy's optimum, and what it does with odd features."""

import numpy as np
import pytest
from scipy import optimize, special

from harness.training.scoring.probe import fitted, pixel_features

DRAW = np.random.default_rng(0)


def rows(count: int = 60) -> tuple[np.ndarray, list[str]]:
    """Three classes that a line does not quite tell apart, in features of very unlike size."""
    number_N = DRAW.integers(3, size=count)
    feature_NF = DRAW.standard_normal((count, 5)) + np.eye(3, 5)[number_N] * 1.5
    return (feature_NF * [1, 100, 0.01, 1, 1] + [0, 7, 0, 0, -3]).astype(np.float32), [
        "abc"[number] for number in number_N
    ]


@pytest.mark.parametrize("decay", [1e-3, 0.1])
def test_the_optimum_is_scipys(decay: float) -> None:
    feature_NF, labels = rows()
    probe = fitted(feature_NF, labels, decay)
    x_NF = feature_NF.astype(np.float64)
    x_NF = (x_NF - x_NF.mean(0)) / x_NF.std(0)
    right_NK = np.array([[label == name for name in probe.labels] for label in labels])

    def loss(flat: np.ndarray) -> float:
        weight_FK, bias_K = flat[:15].reshape(5, 3), flat[15:]
        log_NK = special.log_softmax(x_NF @ weight_FK + bias_K, axis=1)
        return -log_NK[right_NK].mean() + decay * (weight_FK**2).sum()

    best = optimize.minimize(loss, np.zeros(18), method="BFGS", options={"gtol": 1e-7})
    ours = np.concatenate([probe.weight_FK.numpy().ravel(), probe.bias_K.numpy()])
    assert loss(ours) <= best.fun + 1e-10
    assert np.abs(ours[:15] - best.x[:15]).max() < 1e-4
    assert np.ptp(ours[15:] - best.x[15:]) < 1e-4  # biases are free up to a constant


def test_what_can_be_told_apart_is_and_again_the_same() -> None:
    feature_NF = np.eye(4, dtype=np.float32)[[0, 1, 2, 3, 0, 1]]
    labels = [1, 2, 3, 4, 1, 2]
    first, second = (fitted(feature_NF, labels, 1e-3) for _ in range(2))
    assert first.named(feature_NF) == labels
    assert np.array_equal(first.weight_FK, second.weight_FK)


def test_features_that_say_nothing_give_the_most_common_label() -> None:
    constant_NF = np.full((5, 3), 0.1, dtype=np.float32)
    probe = fitted(constant_NF, ["b", "a", "b", "b", "a"], 1e-3)
    assert probe.named(constant_NF + 1) == ["b"] * 5
    assert fitted(constant_NF[:2], ["x", "x"], 1e-3).named(constant_NF) == ["x"] * 5


def test_a_constant_feature_does_not_spoil_the_others() -> None:
    feature_NF, labels = rows(30)
    with_constant = np.concatenate([feature_NF, np.full((30, 1), 1e6, np.float32)], axis=1)
    plain = fitted(feature_NF, labels, 0.01).named(feature_NF)
    assert fitted(with_constant, labels, 0.01).named(with_constant) == plain


def test_nothing_to_learn_from_is_refused() -> None:
    with pytest.raises(ValueError, match="rows to learn from"):
        fitted(np.zeros((0, 2)), [], 0.1)


def test_pixels_are_averaged_down() -> None:
    images = DRAW.integers(256, size=(2, 64, 64, 3)).astype(np.uint8)
    small = pixel_features(images).reshape(2, 3, 16, 16)
    assert small[1, 2, 0, 3] == pytest.approx(images[1, :4, 12:16, 2].mean() / 255)
    assert pixel_features(images[:, :8, :8]).shape == (2, 8 * 8 * 3)
