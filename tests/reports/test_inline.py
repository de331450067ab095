"""Pictures in a page have ids of their own, designs by number, and nothing that runs."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from reports.page.dark import by_name, css_of, on_dark
from reports.page.inline import inlined

DRAWN = b"""<?xml version="1.0" encoding="utf-8" standalone="no"?>
<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd">
<svg xmlns:xlink="http://www.w3.org/1999/xlink" width="518.4pt" height="403.2pt"
  viewBox="0 0 518.4 403.2" xmlns="http://www.w3.org/2000/svg" version="1.1">
 <metadata><a>date</a></metadata>
 <defs><style type="text/css">*{stroke-linejoin: round}</style>
  <path id="m1" d="M 1.23456 2
L 3 4.5" style="stroke: #440154"/><clipPath id="p2"><rect x="0" y="0"/></clipPath></defs>
 <g id="axes_1"><!-- a remark -->
  <g id="cell-11--delta"><title>k=11 &lt;b&gt;: +1.2</title>
   <use xlink:href="#m1" x="73.571496" clip-path="url(#p2)" style="fill: #FFFFFF"/></g>
  <g id="cell-3--line" onclick="alert(1)"><a xlink:href="javascript:alert(1)">
   <text style="fill: url(https://evil/x.svg)">tall  &amp; wide</text></a></g>
 </g><script>alert(2)</script><foreignObject><b/></foreignObject>
</svg>"""


def test_ids_are_the_pictures_own_and_designs_have_numbers() -> None:
    text = inlined(DRAWN, "f7", 'a "label"')
    root = ElementTree.fromstring(text)
    assert root.attrib == {
        "viewBox": "0 0 518.4 403.2", "version": "1.1", "class": "plot", "role": "img",
        "aria-label": 'a "label"',
    }  # fmt: skip
    assert re.findall(r' id="([^"]*)"', text) == ["f7-m1", "f7-p2"]  # those that are referred to
    assert 'href="#f7-m1"' in text and 'clip-path="url(#f7-p2)"' in text
    assert [one.get("data-cell") for one in root.iter() if "data-cell" in one.attrib] == ["11", "3"]
    assert root.findtext(".//title") == "k=11 <b>: +1.2"
    assert root.findtext(".//text") == "tall  & wide"
    assert 'd="M 1.23 2 L 3 4.5"' in text and 'x="73.57"' in text


def test_nothing_of_a_picture_runs_and_nothing_is_fetched() -> None:
    text = inlined(DRAWN, "f7", "label")
    assert not re.search(r"script|onclick|https?:|foreignObject|remark|date|<style", text)


def test_a_picture_drawn_to_scale_keeps_its_size() -> None:
    assert 'width="518.4pt"' in inlined(DRAWN, "d0", "label", sized=True)


def test_colours_have_names_and_dark_values() -> None:
    text = inlined(DRAWN, "f7", "label")
    assert "stroke: var(--c440154,#440154)" in text and "var(--cffffff,#FFFFFF)" in text
    rule = css_of([text])
    assert rule.startswith("--c440154:light-dark(#440154,#") and rule.count(";") == 2
    assert by_name("fill: url(#f1-aabbcc)") == "fill: url(#f1-aabbcc)"


def luminance(colour: str) -> float:
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
        for c in (part / 255 for part in bytes.fromhex(colour.removeprefix("#")))
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("colour", ["000000", "440154", "0072b2", "882255", "21918c", "9bd93c"])
def test_marks_are_read_on_dark_paper(colour: str) -> None:
    """A contrast of 4.5, as WCAG 2.2 asks of words."""
    assert (luminance(on_dark(colour)) + 0.05) / (luminance(on_dark("ffffff")) + 0.05) > 4.5
