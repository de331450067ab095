"""A picture of matplotlib becomes part of a page: no name of it clashes with another picture's.

What a figure draws of one design stands in a group whose id begins with `cell-<number>--`; in the
page the group says `data-cell="<number>"`, so that one legend reaches it in every figure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree import ElementTree

from markupsafe import Markup

from reports.page.dark import by_name

CELL = re.compile(r"cell-(\d+)--")
REFERENCE = re.compile(r"#([\w.:-]+)")
LONG_NUMBER = re.compile(r"(\.\d\d)\d+")
OUTSIDE = re.compile(r"url\((?!#)[^)]*\)")
COORDINATES = ("d", "x", "y", "points")
UNUSED = {"metadata", "style", "script", "foreignObject"}
"""Elements that a page needs none of: its own style says how lines end."""


def inlined(svg: bytes, name: str, label: str, *, sized: bool = False) -> Markup:
    """Returns an SVG file as an element of a page.

    `name`: what the ids of this picture begin with; `label`: what it shows, for who does not see
    it; `sized`: a diagram, as large as it was drawn and with words on its colours, else a figure,
    as wide as there is room. Coordinates keep two decimals, colours become those of `dark.css_of`,
    nothing of it runs and nothing is fetched.
    """
    root = _without_namespaces(ElementTree.fromstring(svg))
    used = set(_references(root))
    for element in root.iter():
        _rename(element, name, used, paper=sized)
    if not sized:
        root.attrib.pop("width", None)
        root.attrib.pop("height", None)
    root.attrib |= {"class": "plot", "role": "img", "aria-label": label}
    return Markup(ElementTree.tostring(root, encoding="unicode"))  # escapes words itself


def _without_namespaces(element: ElementTree.Element) -> ElementTree.Element:
    """Returns an element of HTML, where SVG has no prefixes, without `UNUSED` and white space."""
    plain = ElementTree.Element(_local(element.tag), _attributes(element))
    words = element.tag.endswith(("}text", "}tspan", "}title"))
    plain.text = element.text if words else None
    for child in element:
        if _local(child.tag) not in UNUSED:
            kept = _without_namespaces(child)
            kept.tail = child.tail if words else None
            plain.append(kept)
    return plain


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def _attributes(element: ElementTree.Element) -> dict[str, str]:
    attributes = {_local(key): OUTSIDE.sub("none", text) for key, text in element.items()}
    return {
        key: text
        for key, text in attributes.items()
        if not key.lower().startswith("on")
        and (key != "href" or text.startswith(("#", "data:image/")))
    }


def _references(root: ElementTree.Element) -> Iterator[str]:
    """Gives every id that something in the picture refers to."""
    for element in root.iter():
        for key, text in element.items():
            if key == "href" or "url(#" in text:
                yield from REFERENCE.findall(text)


def _rename(element: ElementTree.Element, name: str, used: set[str], *, paper: bool) -> None:
    """Gives ids and references the picture's name, and colours the names that the page knows."""
    attributes = element.attrib
    own = attributes.pop("id", "")
    if own in used:
        attributes["id"] = f"{name}-{own}"
    if cell := CELL.match(own):
        attributes["data-cell"] = cell[1]
    for key, text in attributes.items():
        if key == "href" and text.startswith("#"):
            attributes[key] = f"#{name}-{text[1:]}"
        elif "url(#" in text:
            text = attributes[key] = text.replace("url(#", f"url(#{name}-")
        if key in COORDINATES:
            attributes[key] = LONG_NUMBER.sub(r"\1", " ".join(text.split()))
        elif key == "style":
            attributes[key] = by_name(text, paper=paper)
