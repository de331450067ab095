"""Every design's picture: all parts are there, nothing lies on a label, what sets designs apart
shows.
"""

from __future__ import annotations

import functools
import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.path import Path as Outline
from matplotlib.transforms import Bbox

from architectures import build, registry
from architectures.backbone import scale
from architectures.views.graph import graph
from reports.diagrams.diagram import FILLS, STRIP, diagram, drawn, label, origin, shape
from reports.diagrams.parts import PIECE, PlacedPart
from reports.diagrams.placement import LETTER, LINE, PILL, Placement, place
from tests.architectures.conftest import SMALL, VOCABULARY
from tests.architectures.reference import randomised
from tests.architectures.weights.test_checkpoints import published

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
    ("in_backbone", {"readers": "image", "fusion_layers": 2, "gate": "none"}),
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
    return bool(Outline([start, end]).intersects_bbox(box.padded(-0.005), filled=False))


@pytest.mark.parametrize(("name", "fields"), CASES)
def test_the_picture(name: str, fields: dict[str, Any]) -> None:
    drawing = graph_of(name, fields)
    found = place(drawing)
    has_every_part(drawing, found)
    has_every_edge(drawing, found)
    keeps_labels_clear(found)
    fits_its_words(diagram(drawing))


def has_every_part(drawing: dict[str, Any], found: Placement) -> None:
    experts = {e["id"] for part in found.parts.values() for e in part.guests}
    heads = {pill.head for pill in found.pills}
    assert {n["id"] for n in drawing["nodes"]} == found.parts.keys() | experts | heads


def has_every_edge(drawing: dict[str, Any], found: Placement) -> None:
    hosts = {e["id"]: part.name for part in found.parts.values() for e in part.guests}
    wires = {(wire.start, wire.end) for wire in found.wires}
    pills = {(pill.at, pill.head) for pill in found.pills}
    for edge in drawing["edges"]:
        ends = hosts.get(edge["from"], edge["from"]), hosts.get(edge["to"], edge["to"])
        assert ends[0] == ends[1] or ends in wires | pills, ends
    reading = {hosts.get(e["to"], e["to"]) for e in drawing["edges"] if e["as"] == "reads"}
    assert all(found.parts[part].meets for part in reading)


def keeps_labels_clear(found: Placement) -> None:
    labelled = boxes(found)
    for part in found.parts.values():
        strip = STRIP if part.node["slot_rest"] else 0.0
        assert part.small or LETTER * len(label(part)) <= part.size[0] - strip, label(part)
        assert all(LETTER * len(piece.name) <= PIECE[0] for piece in part.pieces)
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


def row(part: PlacedPart) -> list[tuple[str, str, bool]]:
    """What stands beside a slab, from left to right: words, whose weights, whether it fuses."""
    pieces = sorted(part.pieces, key=lambda piece: piece.x)
    return [(piece.name, origin(piece.node), piece.fuses) for piece in pieces]


def test_layers_that_read_inside_the_towers_say_what() -> None:
    parts = placed("in_backbone").parts
    assert [
        name for name, part in parts.items() if row(part) == [("reads text", "fresh", True)]
    ] == [f"image.vit.blocks.{j}" for j in range(4)]
    assert [
        name for name, part in parts.items() if row(part) == [("reads image", "fresh", True)]
    ] == [f"layers.{j}" for j in range(8, 12)]
    assert sum(bool(row(part)) for part in parts.values()) == 8
    image, text = parts["image.vit.blocks.0"], parts["layers.8"]
    assert image.x < image.pieces[0].x + image.x < text.pieces[0].x + text.x < text.x
    one = placed("in_backbone", readers="text", fusion_layers=1).parts
    assert [name for name, part in one.items() if part.pieces] == ["layers.11"]


def test_experts_say_whose_they_are_and_which_of_them_fuse() -> None:
    parts = placed("multiway").parts
    lower = [("image expert", "image", True), ("text expert", "fresh", True)]
    alone = [("image expert", "image", False), ("text expert", "fresh", False)]
    assert row(parts["image.vit.blocks.1"]) == lower
    assert row(parts["image.vit.blocks.2"]) == [("VL expert", "fresh", True), *alone]
    assert label(parts["image.vit.blocks.2"]) == "attention 2"
    joint = placed("multiway", separate_passes=False).parts
    assert row(joint["image.vit.blocks.1"]) == lower
    assert row(joint["image.vit.blocks.2"]) == [("VL expert", "fresh", True)]


def test_a_strip_says_that_a_part_of_a_layer_starts_elsewhere() -> None:
    parts = placed("split_bert").parts
    fresh = [name for name, part in parts.items() if origin(part.node, "slot_rest") == "fresh"]
    assert fresh == [f"layers.{j}" for j in range(6, 12)] and parts["layers.6"].looks == -1
    rests = {origin(part.node, "slot_rest") for part in placed("co_attention").parts.values()}
    assert rests == {""}  # all of their fusion layers is fresh


def test_weights_of_the_whole_design_are_coloured_and_what_they_lack_is_said(
    tmp_path: Path,
) -> None:
    allow = ["layers.*.cross_*", "heads.itm.*", "pooler.*"]
    file = albef(tmp_path / "deep" / "albef.pth")
    fields = {"text_layers": 3, "pooler": True, "whole_weights": file, "whole_allow": allow}
    drawing = graph("split_bert", fields, SMALL, VOCABULARY)
    found = place(drawing)
    starts = {
        name: (origin(part.node, found.field), origin(part.node, f"{found.field}_rest"))
        for name, part in found.parts.items()
    }
    fresh_inside = {"layers.3", "layers.4"}
    assert {name for name, start in starts.items() if start == ("whole", "fresh")} == fresh_inside
    assert {start for n, start in starts.items() if n not in fresh_inside} == {("whole", "")}
    heads = {pill.head: origin(pill.node, found.field) for pill in found.pills}
    assert heads == {"heads.itc": "whole", "heads.itm": "fresh", "heads.mlm": "whole"}
    picture = drawn(drawing, "svg").decode()
    lacks = ["layers.*.cross_attention", "layers.*.cross_norm", "pooler", "heads.itm"]
    assert drawing["lacks"] == lacks and all(part in picture for part in lacks)
    assert FILLS["whole"] in picture and "none, drawn fresh" in picture
    assert "whole_weights = albef.pth" in picture and "deep" not in picture
    fits_its_words(diagram(drawing))
    lent = drawing | {"lacks": []}
    assert shape(lent) != shape(drawing)


def albef(file: Path) -> str:
    """A file of ALBEF without an ITM head, whose layers 3 and 4 do not read the image."""
    design = build.construct("split_bert", {"text_layers": 3}, SMALL, VOCABULARY)
    state = published(randomised(design))
    lacks = re.compile(r"itm_head|layer\.[34]\.crossattention")
    file.parent.mkdir()
    torch.save({"model": {k: v for k, v in state.items() if not lacks.search(k)}}, file)
    return str(file)


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
