"""The graph says who reads whom, as written in the design's documentation."""

import json

import pytest
import torch

from architectures import registry
from architectures.frozen import SettingError
from architectures.views.graph import graph
from reports.diagrams.parts import stand
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


OWN = '''
"""Fusion by a layer of its own kind: what comes in has other names, and a sum goes round it."""
from typing import ClassVar

from torch import nn

from architectures.contract import DesignConfig, Fused
from architectures.designs.dual_encoder import DualEncoder, DualEncoderConfig
from architectures.layers.blocks import text_read, with_first


class Weigh(nn.Module):
    """Words plus a mean of the image, or plus words that came before."""

    node: ClassVar[str] = "layer"

    def __init__(self, width, reads):
        super().__init__()
        self.own, self.other = nn.Linear(width, width), nn.Linear(reads, width)

    def forward(self, x_TD, layout, before_TD, memory):
        x_TD = self.own(x_TD) + before_TD
        if memory is None:
            return x_TD
        read_BD = self.other(memory["image"].mean(1))
        return layout.pack(layout.unpack(x_TD) + read_BD[:, None])


class Mine(DualEncoder):
    """Words weigh the image."""

    name: ClassVar[str] = "mine"
    version: ClassVar[str] = "1"
    Config = DualEncoderConfig

    def __init__(self, config, backbone, vocabulary):
        super().__init__(config, backbone, vocabulary)
        text, image = backbone.text_width, backbone.image_width
        self.weigh = nn.ModuleList([Weigh(text, text), Weigh(text, image), Weigh(text, text)])

    @classmethod
    def facts(cls, config, backbone):
        facts = super().facts(config, backbone)
        import dataclasses
        return dataclasses.replace(facts, no_fuse="", fusion_layers=3)

    def fuse(self, image, text, *, read_at_BR=None, keep_attention=()):
        x_TD, before_TD = text.tokens_TD, text.tokens_TD
        memory = {"image": image.tokens_BPD}
        for j, layer in enumerate(self.weigh):
            # All are given the image, one looks.
            x_TD = layer(x_TD, text.layout, before_TD=before_TD, memory=memory if j == 1 else None)
        at_BR = with_first(read_at_BR)
        if at_BR is not None:
            x_TD = text.layout.at(x_TD, at_BR)[0]
        text_BRD, first_BD = text_read(x_TD, text.layout, at_BR)
        return Fused(text_BRD=text_BRD, image_BPD=None, pooled_BD=first_BD)
'''


def test_a_users_own_layer_is_a_crossing_where_it_reads_the_image(small, tmp_path, monkeypatch):
    """No `crosses`, other names and places of arguments, one more of the same modality."""
    monkeypatch.setattr(registry, "_own", {})
    (tmp_path / "mine.py").write_text(OWN)
    registry.load_file(tmp_path / "mine.py")
    found = graph("mine", {"text_layers": 2}, small, 50)
    reads = {(e["from"], e["to"]) for e in found["edges"] if e["as"] == "reads"}
    assert reads == {("image.vit.blocks.1", "weigh.1")}
    inputs = {(e["from"], e["to"]) for e in found["edges"] if e["to"].startswith("weigh")} - reads
    assert inputs == {
        ("layers.1", "weigh.0"), ("weigh.0", "weigh.1"), ("layers.1", "weigh.1"),
        ("weigh.1", "weigh.2"), ("layers.1", "weigh.2"),
    }  # fmt: skip
    parts, _, _ = stand(found)
    assert [name for name, part in parts.items() if part.meets] == ["weigh.1"]
