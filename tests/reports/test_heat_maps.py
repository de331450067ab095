"""Heat maps show every picture plain and under its map, with box and words as written."""

import warnings

import numpy as np
import pytest

from reports.heat_maps import HeatMap, drawn, heat_maps, kept

BOX = (0.25, 0.5, 0.75, 1.0)


def row(text: str = "a thing", channels: int = 3, level: float = 1.0) -> HeatMap:
    image = np.full((8, 8, channels), 99, dtype=np.uint8)
    return HeatMap(image_HWC=image, map_hw=np.eye(4) * level, text=text, box=BOX)


@pytest.mark.parametrize("count", [1, 3, 8])
def test_every_picture_is_drawn_plain_and_under_its_map(count: int) -> None:
    figure = heat_maps([row(f"thing {number}") for number in range(count)], "a title")
    assert [len(ax.images) for ax in figure.axes] == [1, 2] * count
    words = [text.get_text() for text in figure.texts]
    assert words[0] == "a title" and words[2:] == [f"thing {number}" for number in range(count)]
    edges = [ax.get_position().extents for ax in figure.axes]
    assert np.min(edges) >= 0 and np.max(edges) <= 1
    for place, one in enumerate(edges):
        for other in edges[place + 1 :]:
            wide = min(one[2], other[2]) - max(one[0], other[0])
            high = min(one[3], other[3]) - max(one[1], other[1])
            assert min(wide, high) <= 0, "pictures over each other"


def test_the_box_stands_where_it_is_and_a_map_from_0_to_its_highest() -> None:
    figure = heat_maps([row(level=3.0)], "")
    for ax in figure.axes:
        assert {patch.get_bbox().extents.tolist() == list(BOX) for patch in ax.patches} == {True}
    assert figure.axes[1].images[1].get_clim() == (0, 3)
    empty = HeatMap(image_HWC=row().image_HWC, map_hw=np.zeros((4, 4)), text="")
    assert not heat_maps([empty], "").axes[0].patches


def test_words_are_shown_as_written_and_what_the_font_lacks_without_a_warning() -> None:
    figure = heat_maps([row("costs $5 and $6_x", channels=1)], "")
    assert figure.texts[2].get_text() == "costs $5 and $6_x"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert drawn([row("ไทย 你好")], "ไทย", "png")[1:4] == b"PNG"


def test_what_a_task_kept_comes_back() -> None:
    arrays = {
        "shown_image": np.zeros((2, 8, 8, 3), dtype=np.uint8),
        "shown_map": np.ones((2, 4, 4), dtype=np.float32),
        "shown_box": np.array([BOX, BOX], dtype=np.float32),
        "shown_text": np.array(["one", "another"]),
    }
    rows = kept(arrays)
    assert [each.text for each in rows] == ["one", "another"] and rows[1].box == BOX
    assert kept({"hit": np.ones(2)}) == []
