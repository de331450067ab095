"""Where maps point and which box they prefer: by hand, and what ties earn."""

import numpy as np
import pytest

from harness.training.scoring import pointing

LEFT, RIGHT, WHOLE = (0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0), (0.0, 0.0, 1.0, 1.0)


def test_pixels_are_in_a_box_by_their_centre() -> None:
    inside = pointing.inside((0.25, 0.0, 0.75, 0.5), 4)
    assert inside.sum() == 4 and inside[:2, 1:3].all()
    assert not pointing.inside((0.3, 0.3, 0.34, 0.34), 4).any()  # between centres
    assert pointing.inside(WHOLE, 4).all()


def test_a_map_is_stretched_by_its_place() -> None:
    map_1hw = np.zeros((1, 2, 2))
    map_1hw[0, 0, 1] = 1
    large = pointing.upsampled(map_1hw, 8)[0]
    assert large.shape == (8, 8) and np.unravel_index(large.argmax(), (8, 8)) in {(0, 7), (1, 6)}


@pytest.mark.parametrize("value", [0.0, 0.1, 1e-9, 12345.678, -3.0])
def test_a_constant_map_points_everywhere_after_stretching(value: float) -> None:
    large = pointing.upsampled(np.full((1, 3, 3), value, dtype=np.float32), 17)[0]
    points = pointing.points(large)
    assert points.all()
    share = pointing.inside((0.1, 0.2, 0.4, 0.9), 17)[points].mean()
    assert share == pointing.inside((0.1, 0.2, 0.4, 0.9), 17).mean()
    assert pointing.preferred(large, [LEFT, (0.5, 0, 0.6, 1)]).tolist() == [0.5, 0.5]


def test_a_map_that_is_no_number_earns_chance() -> None:
    map_SS = np.zeros((4, 4))
    map_SS[1, 1] = np.nan
    assert pointing.points(map_SS).all()
    assert pointing.preferred(map_SS, [LEFT, RIGHT, WHOLE]) == pytest.approx(1 / 3)


def test_a_single_maximum_is_one_point_and_ties_are_several() -> None:
    map_SS = np.zeros((4, 4))
    map_SS[0, 1] = 2
    assert pointing.points(map_SS).sum() == 1
    map_SS[3, 3] = 2 + 1e-12  # the same but for rounding
    assert pointing.points(map_SS).sum() == 2


def test_the_preferred_box_has_the_most_for_its_size() -> None:
    map_SS = np.zeros((8, 8))
    map_SS[2:4, 2:4] = 1
    exact, larger, smaller = (2 / 8, 2 / 8, 4 / 8, 4 / 8), WHOLE, (2 / 8, 2 / 8, 3 / 8, 3 / 8)
    boxes = [larger, exact, smaller, RIGHT]
    # Sums 4, 4, 1, 0 over sides 8, 2, 1, sqrt(32).
    assert pointing.preferred(map_SS, boxes).tolist() == [0, 1, 0, 0]
    assert pointing.preferred(map_SS, [exact, exact, RIGHT]).tolist() == [0.5, 0.5, 0]
    assert pointing.largest(boxes).tolist() == [1, 0, 0, 0]
    assert pointing.largest([LEFT, RIGHT]).tolist() == [0.5, 0.5]


def test_overlap_by_hand() -> None:
    assert pointing.overlap(LEFT, RIGHT) == 0
    assert pointing.overlap(LEFT, WHOLE) == 0.5
    assert pointing.overlap((0, 0, 0.5, 0.5), (0.25, 0.25, 0.75, 0.75)) == pytest.approx(1 / 7)
    assert pointing.overlap((0.2, 0.2, 0.2, 0.2), (0.2, 0.2, 0.2, 0.2)) == 0
    assert pointing.fitting([LEFT, RIGHT, WHOLE], LEFT).tolist() == [True, False, True]
