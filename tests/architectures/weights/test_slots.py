"""Which pretrained layer lands in which slot, tensor by tensor; what starts alike without any."""

import pytest
import torch
import transformers

from architectures.frozen import SettingError
from architectures.weights.slots import FRESH, choose
from tests.architectures.reference import saved

SPLIT, FULL = "split_bert", "full_text_deep_fusion"
PARTS = {  # BERT's name of a part of a layer -> ours, apart from the product's own rules
    "attention.output.dense": "self_attention.output",
    "attention.output.LayerNorm": "self_norm",
    "intermediate.dense": "mlp.inner",
    "output.dense": "mlp.outer",
    "output.LayerNorm": "mlp_norm",
    **{f"attention.self.{one}": f"self_attention.{one}" for one in ("query", "key", "value")},
}
TABLES = {"word_embeddings": "word", "position_embeddings": "position", "LayerNorm": "norm"}
RULES = [  # of eight layers, four
    ("first", [0, 1, 2, 3]),
    ("last", [4, 5, 6, 7]),
    ("every_other", [1, 3, 5, 7]),
    ("copies", [6, 6, 7, 7]),
    ("random", [None] * 4),
    ((5, 5, None, 0), [5, 5, None, 0]),
]


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A random BERT of eight layers, and its folder."""
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=8, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=12,
    )  # fmt: skip
    model = transformers.BertModel(config)
    return model, saved(model, tmp_path_factory.mktemp("bert"))


def same(ours, theirs, parts) -> bool:
    """Whether every tensor of one of BERT's modules is in one of ours."""
    return all(
        torch.equal(value, ours.get_parameter(f"{parts[name]}.{kind}"))
        for name, kind, value in (
            (*key.rsplit(".", 1), value) for key, value in theirs.state_dict().items()
        )
        if name in parts
    )


def sources(layers, bert) -> list[list[int]]:
    """For each of our layers, the layers of BERT whose every tensor it holds."""
    assert len(PARTS) == len(list(bert.encoder.layer[0].parameters())) / 2
    return [[j for j, b in enumerate(bert.encoder.layer) if same(x, b, PARTS)] for x in layers]


def as_found(wanted):
    return [[] if j is None else [j] for j in wanted]


@pytest.mark.parametrize(("rule", "wanted"), RULES)
def test_fusion_slots_hold_the_layers_of_the_rule(make, bert, rule, wanted):
    model, folder = bert
    fields = {"fusion_layers": 4, "fusion_from": rule}
    loaded = make(FULL, fields, text_weights=folder, dtype=torch.float32)
    assert sources(loaded.fusion, model) == as_found(wanted)
    assert sources(loaded.layers, model) == as_found(range(8))
    assert same(loaded.embeddings, model.embeddings, TABLES)
    types = model.embeddings.token_type_embeddings.weight
    assert torch.equal(loaded.embeddings.token_type.weight, types)
    random = make(FULL, fields, dtype=torch.float32)
    for slot, (mine, drawn) in enumerate(zip(loaded.fusion, random.fusion, strict=True)):
        fresh = ("cross_attention", "cross_norm")
        names = [n for n, _ in mine.named_parameters()]
        kept = [n for n in names if wanted[slot] is None or n.startswith(fresh)]
        assert all(torch.equal(mine.get_parameter(n), drawn.get_parameter(n)) for n in kept)
    table = loaded.slots(loaded.config, loaded.backbone)
    said = [table[f"fusion.{i}"] for i in range(4)]
    assert said == [FRESH if j is None else f"layers.{j}" for j in wanted]
    new = {f"fusion.{i}." for i in range(4) if wanted[i] is None}
    assert {p for p in loaded.new_parts() if p.count(".") == 2} == new


def test_both_halves_of_a_split_have_rules_of_their_own(make, bert):
    model, folder = bert
    fields = {"text_layers": 5, "text_from": "every_other", "fusion_from": (0, None, 7)}
    with pytest.raises(SettingError, match="split_bert: text_from 'every_other' gives at most 4"):
        make(SPLIT, fields, text_weights=folder)
    fields["text_from"] = "last"
    design = make(SPLIT, fields, text_weights=folder, dtype=torch.float32)
    assert sources(design.layers, model) == as_found([3, 4, 5, 6, 7, 0, None, 7])


def test_slots_of_one_source_start_alike_without_pretrained_weights(make):
    """Cross-attention is drawn by its own role, and so is a fresh layer."""
    full = make(FULL, {"fusion_layers": 4, "fusion_from": (7, 7, None, 2)}, dtype=torch.float32)
    split = make(SPLIT, {}, dtype=torch.float32)

    def alike(one, other, prefix=""):
        pairs = ((p, other.get_parameter(n)) for n, p in one.named_parameters() if p.ndim > 1
                 and n.startswith(prefix) and n in dict(other.named_parameters()))  # fmt: skip
        return {torch.equal(p, q) for p, q in pairs}

    first, copy, fresh, second = full.fusion
    own = ("self_attention", "mlp")
    assert alike(first, copy, own) == alike(first, full.layers[7]) == {True}
    assert alike(first, split.layers[7], own) == alike(second, split.layers[2]) == {True}
    assert alike(first, copy, "cross_attention") == {False}
    assert alike(first, split.layers[7], "cross_attention") == {False}
    for layer in (*full.layers, first, second):
        assert alike(fresh, layer) == {False}
    again = make(FULL, {"fusion_layers": 3, "fusion_from": "random"}, dtype=torch.float32)
    assert alike(fresh, again.fusion[2]) == {True}


def test_a_rule_by_hand():
    assert choose("every_other", 6, 24, "x") == (13, 15, 17, 19, 21, 23)  # X-VLM, BERT-large
    assert choose("copies", 5, 8, "x") == (5, 6, 6, 7, 7)
    assert choose("last", 0, 8, "x") == choose("random", 0, 8, "x") == ()


@pytest.mark.parametrize(
    ("rule", "count", "said"),
    [
        ("first", 9, "x 'first' gives at most 8 layers of 8, but 9 are needed"),
        ("copies", 17, "gives at most 16"),
        ((0, 1), 3, r"x \[0, 1\] must name 3 layers from 0 to 7, not 2"),
        ((0, 8), 2, "from 0 to 7, not 8"),
        ((0, -1), 2, "from 0 to 7, not -1"),
    ],
)
def test_a_rule_that_does_not_fit(rule, count, said):
    with pytest.raises(SettingError, match=said):
        choose(rule, count, 8, "x")
