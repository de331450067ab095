"""The graph says who reads whom, as written in the design's documentation."""

import json

import pytest

from architectures import registry
from architectures.graph import graph


def test_split_bert_reads_the_image_from_its_fusion_layers(small):
    found = graph("split_bert", {"text_layers": 6}, small, 50)
    edges = {(e["from"], e["to"], e["as"]) for e in found["edges"]}
    stack = {(f"layers.{j}", f"layers.{j + 1}", "input") for j in range(7)}
    tower = {
        ("image.vit.patch_embed", "image.vit.blocks.0", "input"),
        ("image.vit.blocks.0", "image.vit.blocks.1", "input"),
    }
    reads = {("image.vit.blocks.1", f"layers.{j}", "reads") for j in (6, 7)}
    heads = {
        ("image.vit.blocks.1", "heads.itc", "input"),
        ("layers.5", "heads.itc", "input"),
        ("layers.7", "heads.itm", "input"),
        ("layers.7", "heads.mlm", "input"),
    }
    assert edges == tower | stack | reads | heads | {("embeddings", "layers.0", "input")}
    phases = {node["id"]: node["phase"] for node in found["nodes"]}
    assert [phases[n] for n in ("image.vit.blocks.1", "layers.5", "layers.6")] == [
        "image", "text", "fusion"
    ]  # fmt: skip


def test_sources_follow_the_slot_table(small):
    named = small.with_field("text_weights", "somewhere")
    nodes = {n["id"]: n for n in graph("split_bert", {}, named, 50)["nodes"]}
    assert nodes["layers.7"]["source"] == "layers.7"
    assert nodes["image.vit.blocks.0"]["source"] == nodes["heads.itm"]["source"] == "fresh"
    assert nodes["image.vit.blocks.0"]["slot"] == small.vision


def test_a_layer_without_cross_attention_reads_nothing(small):
    found = graph("split_bert", {"text_layers": 4, "cross_every": 2}, small, 50)
    assert [e["to"] for e in found["edges"] if e["as"] == "reads"] == ["layers.5", "layers.7"]
    assert found["changed"] == {"text_layers": 4, "cross_every": 2}


def test_a_bridge_joins_tower_and_stream(small):
    found = graph("bridge", {"fusion_layers": 3, "bridges": [2]}, small, 50)
    edges = {(e["from"], e["to"], e["as"]) for e in found["edges"]}
    assert {e for e in edges if e[1].startswith("text_bridges")} == {
        ("layers.5", "text_bridges.0", "input"),
        ("layers.7", "text_bridges.2", "input"),
        ("text_fusion.1", "text_bridges.2", "input"),
    }
    assert ("image_bridges.2", "text_fusion.2", "reads") in edges
    assert ("image_fusion.0", "text_fusion.1", "reads") in edges


@pytest.mark.parametrize(
    ("name", "fields", "again"),
    [
        ("co_attention", {"tied": "all", "fusion_layers": 2}, "text_fusion.1#2"),
        ("bridge", {"share_norms": True, "fusion_layers": 3}, "text_bridges.shared#2"),
    ],
)
def test_a_part_that_is_used_twice_stands_there_twice(small, name, fields, again):
    found = graph(name, fields, small, 50)
    nodes = {node["id"]: node for node in found["nodes"]}
    assert nodes[again]["tied"] == [again.partition("#")[0]]
    assert nodes["heads.mlm"]["tied"] == ["embeddings"] and nodes["layers.0"]["tied"] == []
    below: dict[str, set[str]] = {name: set() for name in nodes}
    for edge in found["edges"]:
        assert edge["to"] not in below[edge["from"]]  # no part stands below itself
        below[edge["to"]] |= {edge["from"]} | below[edge["from"]]


def test_widths_are_those_of_what_a_part_gives(small):
    nodes = {n["id"]: n["width"] for n in graph("multiway", {}, small, 50)["nodes"]}
    assert nodes["text_experts.0"] == nodes["image.vit.patch_embed"] == small.image_width
    assert nodes["embeddings"] == small.text_width


@pytest.mark.parametrize("name", registry.names())
def test_every_part_of_a_design_is_reached(small, name):
    found = graph(name, {}, small, 50)
    assert json.loads(json.dumps(found)) == found
    reached = {e["to"] for e in found["edges"]} | {e["from"] for e in found["edges"]}
    assert {node["id"] for node in found["nodes"]} == reached
    assert all(node["phase"] and node["parameters"] > 0 for node in found["nodes"])
