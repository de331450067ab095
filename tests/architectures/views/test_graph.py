"""The graph says who reads whom, as written in the design's documentation."""

import json

import pytest
import torch

from architectures import registry
from architectures.frozen import SettingError
from architectures.views.graph import graph
from tests.architectures.weights.test_checkpoints import published as albef_file


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


def test_most_and_rest_of_a_layer_start_where_the_design_says(small):
    fields = {"fusion_layers": 2, "cross_every": 2}
    nodes = {n["id"]: n for n in graph("query_bottleneck", fields, small, 50)["nodes"]}
    starts = [(nodes[f"layers.{j}"]["slot"], nodes[f"layers.{j}"]["slot_rest"]) for j in (0, 1)]
    assert starts == [("layers.0", "fresh"), ("layers.1", "")]
    assert nodes["queries"]["slot"] == nodes["layers.0"]["source"] == "fresh"
    assert nodes["layers.0"]["source_rest"] == ""


def test_what_a_whole_checkpoint_gives_and_lacks(small, make, tmp_path):
    state = albef_file(make("split_bert", {"text_layers": 3}))
    state = {name: x for name, x in state.items() if "layer.4.crossattention" not in name}
    torch.save(state, tmp_path / "albef.pth")
    allow = {"whole_allow": ["layers.4.cross_*", "image.vit.blocks.1.*", "layers.6.*"]}
    fields = {"text_layers": 3, "whole_weights": str(tmp_path / "albef.pth")}
    named = small.with_field("text_weights", "somewhere").with_field("image_layers", 3)
    with pytest.raises(SettingError, match=r"image_layers is 3, there 2"):
        graph("split_bert", fields | allow, named, 50)
    named = small.with_field("text_weights", "somewhere")
    found = graph("split_bert", fields | allow, named, 50)
    nodes = {n["id"]: (n["source"], n["source_rest"]) for n in found["nodes"]}
    assert nodes.pop("layers.4") == ("whole", "fresh")
    assert set(nodes.values()) == {("whole", "")}
    assert found["lacks"] == ["layers.4.cross_attention", "layers.4.cross_norm"]
    assert found["changed"]["whole_weights"] == "albef.pth"
    state = {name: x for name, x in state.items() if "layer.6." not in name}
    torch.save(state, tmp_path / "albef.pth")
    found = graph("split_bert", fields | allow, named, 50)
    nodes = {n["id"]: (n["source"], n["source_rest"]) for n in found["nodes"]}
    assert nodes["layers.6"] == ("layers.6", "fresh") and found["lacks"][-1] == "layers.6"


def test_a_crossing_stands_inside_the_layer_that_calls_it(small):
    found = graph("in_backbone", {"fusion_layers": 1}, small, 50)
    nodes = {node["id"]: node for node in found["nodes"]}
    inside = {name: node["inside"] for name, node in nodes.items() if node["inside"]}
    assert inside == {"text_crossing.7": "layers.7", "image_crossing.1": "image.vit.blocks.1"}
    edges = {(e["from"], e["to"], e["as"]) for e in found["edges"] if "crossing" in str(e)}
    assert edges == {
        ("layers.6", "text_crossing.7", "input"),
        ("image.vit.blocks.0", "text_crossing.7", "reads"),
        ("text_crossing.7", "layers.7", "input"),
        ("image.vit.blocks.0", "image_crossing.1", "input"),
        ("layers.6", "image_crossing.1", "reads"),
        ("image_crossing.1", "image.vit.blocks.1", "input"),
    }


def test_when_a_layers_own_mlp_is_called(small):
    fields = {"vl_layers": 1}
    for apart, top in ((True, "heads"), (False, "")):
        found = graph("multiway", fields | {"separate_passes": apart}, small, 50)
        mlps = {n["id"]: n["mlp"] for n in found["nodes"] if n["kind"] == "layer"}
        assert mlps == {"image.vit.blocks.0": "fusion", "image.vit.blocks.1": top}


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
