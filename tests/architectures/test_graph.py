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


@pytest.mark.parametrize("name", registry.names())
def test_every_part_of_a_design_is_reached(small, name):
    found = graph(name, {}, small, 50)
    assert json.loads(json.dumps(found)) == found
    reached = {e["to"] for e in found["edges"]} | {e["from"] for e in found["edges"]}
    assert {node["id"] for node in found["nodes"]} == reached
    assert all(node["phase"] and node["parameters"] > 0 for node in found["nodes"])
