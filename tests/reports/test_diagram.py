"""Every design's picture: all parts are there, nothing lies on a label, what sets designs apart
shows.
"""

from __future__ import annotations

import functools
import itertools
import json
from typing import Any

import pytest
from matplotlib.figure import Figure
from matplotlib.path import Path
from matplotlib.transforms import Bbox

from architectures import registry
from architectures.backbone import scale
from architectures.graph import graph
from reports.diagram import diagram, drawn, label, origin, shape
from reports.placement import LETTER, LINE, PILL, Placement, place

VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("split_bert", {"text_layers": 2}),
    ("split_bert", {"text_layers": 10}),
    ("split_bert", {"text_layers": 0, "cross_every": 3}),
    ("split_bert", {"text_layers": 12}),
    ("full_text_deep_fusion", {"fusion_layers": 0}),
    ("distilbert_fusion", {"text_encoder": "distilbert"}),
    ("bridge", {"bridges": [1, 3, 5], "kind": "gated"}),
    ("bridge", {"text_layers": 2, "share_norms": True, "pooled": "text"}),
    ("co_attention", {"update": "sequential", "tied": "cross", "cross_every": 2}),
    ("co_attention", {"tied": "all"}),
    ("merged_attention", {"over": "patches", "separate_passes": True}),
    ("multiway", {"separate_passes": False}),
    ("query_bottleneck", {"queries_read_text": False, "fusion_layers": 4}),
]
CASES = [pytest.param(name, {}, id=name) for name in registry.names()] + [
    pytest.param(name, fields, id=f"{name}-{'-'.join(fields)}", marks=pytest.mark.slow)
    for name, fields in VARIANTS
]
Point = tuple[float, float]


@functools.cache
def _graph(name: str, fields: str) -> dict[str, Any]:
    return graph(name, json.loads(fields), scale("nano"), 50)


def graph_of(name: str, fields: dict[str, Any] | None = None) -> dict[str, Any]:
    return _graph(name, json.dumps(fields or {}))


def placed(name: str, **fields: Any) -> Placement:
    return place(graph_of(name, fields))


def boxes(placement: Placement) -> dict[str, Bbox]:
    """Everything that holds a label, by name; rows of experts are one box."""
    (width, height), found = PILL, dict[str, Bbox]()
    for name, part in placement.parts.items():
        found[name] = Bbox([[part.left, part.bottom], [part.right, part.top]])
    for pill in placement.pills:
        found[f"{pill.head} at {pill.at}"] = Bbox.from_bounds(
            pill.x - width / 2, pill.y - height / 2, width, height
        )
    for caption in placement.captions:
        wide = LETTER * max(map(len, caption.lines))
        left = {"left": 0.0, "right": -wide, "center": -wide / 2}[caption.align]
        tall = LINE * len(caption.lines)
        name = f"{'/'.join(caption.lines)} at {caption.x}"
        found[name] = Bbox.from_bounds(caption.x + left, caption.top - tall, wide, tall)
    return found


def crosses(box: Bbox, start: Point, end: Point) -> bool:
    """Whether a straight line comes into a box, farther than to its edge."""
    return bool(Path([start, end]).intersects_bbox(box.padded(-0.005), filled=False))


@pytest.mark.parametrize(("name", "fields"), CASES)
def test_the_picture(name: str, fields: dict[str, Any]) -> None:
    drawing = graph_of(name, fields)
    found = place(drawing)
    has_every_part(drawing, found)
    has_every_edge(drawing, found)
    keeps_labels_clear(found)
    fits_its_words(diagram(drawing))


def has_every_part(drawing: dict[str, Any], found: Placement) -> None:
    experts = {e["id"] for part in found.parts.values() for e in part.experts}
    heads = {pill.head for pill in found.pills}
    assert {n["id"] for n in drawing["nodes"]} == found.parts.keys() | experts | heads


def has_every_edge(drawing: dict[str, Any], found: Placement) -> None:
    hosts = {e["id"]: part.name for part in found.parts.values() for e in part.experts}
    wires = {(wire.start, wire.end) for wire in found.wires}
    pills = {(pill.at, pill.head) for pill in found.pills}
    for edge in drawing["edges"]:
        ends = hosts.get(edge["from"], edge["from"]), hosts.get(edge["to"], edge["to"])
        assert ends[0] == ends[1] or ends in wires | pills, ends
    reading = {e["to"] for e in drawing["edges"] if e["as"] == "reads"}
    assert all(found.parts[part].meets for part in reading)


def keeps_labels_clear(found: Placement) -> None:
    labelled = boxes(found)
    for (one, a), (other, b) in itertools.combinations(labelled.items(), 2):
        assert not a.overlaps(b), f"{one} lies on {other}"
    for wire in found.wires:
        for start, end in itertools.pairwise(wire.points):
            on = [one for one, box in labelled.items() if crosses(box, start, end)]
            assert not on, f"{wire.start} to {wire.end} crosses {on}"


def fits_its_words(figure: Figure) -> None:
    figure.draw_without_rendering()
    extents = [(text.get_text(), text.get_window_extent()) for text in figure.texts]
    for text, box in extents:
        inside = figure.bbox.padded(1)
        assert inside.contains(*box.min) and inside.contains(*box.max), text
    for (one, a), (other, b) in itertools.combinations(extents, 2):
        assert not a.padded(-0.5).overlaps(b.padded(-0.5)), f"{one!r} lies on {other!r}"


def test_a_split_shows_where_the_image_is_read() -> None:
    few, many = placed("split_bert", text_layers=10), placed("split_bert", text_layers=2)
    assert [name for name, part in few.parts.items() if part.meets] == ["layers.10", "layers.11"]
    assert [name for name, part in many.parts.items() if part.meets] == [
        f"layers.{j}" for j in range(2, 12)
    ]
    for found, text, fusion in ((few, 10, 2), (many, 2, 10)):
        said = [caption.lines for caption in found.captions]
        assert said == [
            ("image", "4 layers", "64 wide"),
            ("text", f"{text} layers", "64 wide"),
            ("fusion", f"{fusion} layers", "64 wide"),
        ]
        reads = [wire.end for wire in found.wires if wire.kind == "reads"]
        assert sorted(reads) == sorted(f"layers.{j}" for j in range(text, 12))
        spans = [caption.span for caption in found.captions]
        assert spans[1] and spans[2] and spans[1][2] < spans[2][1]


def test_bridges_stand_between_streams_and_towers_and_co_attention_on_the_towers() -> None:
    co, bridged = placed("co_attention"), placed("bridge", bridges=[1, 3, 5], kind="gated")
    assert co.parts["text_fusion.0"].x == co.parts["layers.0"].x
    assert co.parts["image_fusion.0"].x == co.parts["image.vit.blocks.0"].x
    names = ("image.vit.blocks.0", "image_fusion.0", "text_fusion.0", "layers.0")
    xs = [bridged.parts[name].x for name in names]
    assert xs == sorted(xs) and len(set(xs)) == 4
    bridges = [part.name for part in bridged.parts.values() if label(part) == "bridge"]
    assert sorted(bridges) == [f"{m}_bridges.{i}" for m in ("image", "text") for i in (1, 3, 5)]
    for i in (1, 3, 5):
        bridge, layer = bridged.parts[f"text_bridges.{i}"], bridged.parts[f"text_fusion.{i}"]
        assert bridge.x == layer.x and bridge.y < layer.y


def test_streams_read_each_other_in_the_row_or_from_the_row_below() -> None:
    parallel, sequential = placed("co_attention"), placed("co_attention", update="sequential")
    for i in range(6):
        for found in (parallel, sequential):
            assert found.parts[f"text_fusion.{i}"].y == found.parts[f"image_fusion.{i}"].y
    heard = {wire.start for wire in sequential.wires if wire.end == "image_fusion.3"}
    assert heard == {"image_fusion.2", "text_fusion.3"}
    heard = {wire.start for wire in parallel.wires if wire.end == "image_fusion.3"}
    assert heard == {"image_fusion.2", "text_fusion.2"}


def test_labels_and_colours_say_where_weights_start() -> None:
    copies = placed("full_text_deep_fusion").parts
    assert label(copies["fusion.0"]) == "layer 0 ← 6" and label(copies["layers.6"]) == "layer 6"
    assert origin(copies["fusion.0"].node) == origin(copies["layers.6"].node) == "text"
    assert origin(placed("distilbert_fusion").parts["distil.0"].node) == "other"
    streams = placed("co_attention", tied="all").parts
    assert label(streams["text_fusion.3#2"]) == "layer 3, tied"
    assert origin(streams["text_fusion.3"].node) == "fresh"
    shared = placed("co_attention", tied="cross").captions
    assert [caption.lines[-1] for caption in shared].count("tied in part") == 2


def test_the_same_graph_gives_the_same_bytes_and_another_title_the_same_shape() -> None:
    drawing = graph_of("split_bert")
    first = drawn(drawing, "svg")
    assert drawn(json.loads(json.dumps(drawing)), "svg") == first
    assert b"<dc:date>" not in first and drawn(drawing, "png").startswith(b"\x89PNG")
    renamed = drawing | {"changed": {"new_part_rate": 2.0}}
    assert shape(renamed) == shape(drawing) != shape(graph_of("split_bert", {"text_layers": 2}))
    assert b"new_part_rate = 2.0" in drawn(renamed, "svg") and b"new_part_rate" not in first


def test_a_circle_is_drawn_all_the_same() -> None:
    drawing = json.loads(json.dumps(graph_of("split_bert")))
    drawing["edges"].append({"from": "layers.9", "to": "layers.7", "as": "reads"})
    drawing["edges"].append({"from": "layers.11", "to": "image.vit.blocks.3", "as": "reads"})
    assert {"layers.7", "layers.9"} <= place(drawing).parts.keys()
    assert drawn(drawing, "svg")
