"""The sheet shows every row, its captions as written and as many as there is room for."""

import warnings

import numpy as np
import pytest

from reports.sheet import LINES, SheetRow, drawn, sheet


def row(*captions: str, channels: int = 3) -> SheetRow:
    image = np.zeros((8, 8, channels), dtype=np.uint8)
    return SheetRow(image_HWC=image, captions=captions, heading="row 3")


@pytest.mark.parametrize("rows", [1, 5, 12])
def test_every_row_is_drawn(rows: int) -> None:
    figure = sheet([row(f"caption {number}") for number in range(rows)], "a title")
    assert [len(ax.images) for ax in figure.axes][:rows] == [1] * rows
    words = [text.get_text() for ax in figure.axes for text in ax.texts]
    assert words == [f"- caption {number}" for number in range(rows)]


def test_captions_are_folded_cut_and_shown_as_written() -> None:
    long, many = row("word " * 200), row(*(f"the {n}th" for n in range(20)))
    figure = sheet([long, many, row("costs $5 and $6_x\x1b[31m", channels=1)], "a title")
    texts = [ax.texts[0].get_text().splitlines() for ax in figure.axes[:3]]
    assert len(texts[0]) == len(texts[1]) == LINES
    assert texts[0][-1] == "(...)" and texts[1][-1] == f"(and {20 - LINES + 1} more)"
    assert texts[2] == ["- costs $5 and $6_x [31m"]


def test_letters_that_the_font_lacks_draw_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert drawn([row("ไทย 你好")], "ไทย", "png")[1:4] == b"PNG"
