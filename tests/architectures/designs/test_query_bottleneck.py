"""The query bottleneck against BLIP-2's whole model and against loops; what it reads, what it
costs, what it starts from.
"""

import copy

import pytest
import torch
import transformers

from architectures import build, registry
from architectures.frozen import SettingError
from architectures.layers.similarity import cosines
from architectures.views.cost import cost
from architectures.weights.checkpoints import load_whole
from architectures.weights.published.blip2 import blip2_tensors
from harness.commands.show_designs import slot_rows
from tests.architectures.conftest import VOCABULARY
from tests.architectures.published_models import for_clip, model
from tests.architectures.reference import attend, embed, linear, norm, part, randomised
from tests.architectures.stacks.test_one_way import saved
from tests.architectures.views.test_cost import TINY, block

NAME = "query_bottleneck"

# ---- BLIP-2 --------------------------------------------------------------------------------------
QUERIES, LAYERS = 3, 5


@pytest.fixture(scope="module")
def blip2():
    """BLIP-2's first stage, every weight drawn at random."""
    made = model("Blip2ForImageTextRetrieval")
    with torch.no_grad():  # so that the lowest layers' gradients are not too small to compare
        for name, parameter in made.named_parameters():
            parameter += float("norm" in name.lower() and name.endswith("weight"))
    return made


def pairs(design, blip2, batch, *, packed, fed=torch.Tensor.float):
    """ITC and ITM scores and states of words, ours and theirs; `fed`: our pixels -> its own."""
    images, ids, real = batch
    asked = dict(pixel_values=fed(images.float()), input_ids=ids, attention_mask=real.long())
    itc, itm = (blip2(**asked, use_image_text_matching_head=which) for which in (False, True))
    image = design.encode_image(images.float())
    text = design.encode_text(ids, real, packed=packed)
    fused = design.fuse(image, text)
    similarity = cosines(*design.heads["itc"](image.pooled_BD, text.pooled_BD))
    match = design.heads["itm"](fused.pooled_BD)
    words = itm.text_model_output.last_hidden_state[:, QUERIES:]
    return (
        (similarity, itc.logits_per_image),
        (match, itm.logits_per_image),
        (text.pooled_BD, itc.text_model_output.last_hidden_state[:, 0]),
        (fused.text_BRD[real], words[real]),
    )


@pytest.mark.parametrize("packed", [False, True])
def test_blip2_from_pixels_and_ids(blip2, small, batch, packed):
    """Outputs, and the gradient of every weight."""
    blip2.zero_grad()
    fields = {"queries": QUERIES, "fusion_layers": LAYERS}
    design = build.construct(NAME, fields, small, VOCABULARY, ("itc", "itm")).eval()
    load_whole(design, blip2_tensors(copy.deepcopy(blip2.state_dict())))
    found = pairs(design, blip2, batch, packed=packed)
    for ours, theirs in found:
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    for which in (0, 1):
        sum(pair[which].pow(2).mean() for pair in found).backward()
    wanted = blip2_tensors({name: p.grad for name, p in blip2.named_parameters()})
    wanted.pop("embeddings.token_type.weight")
    ours = {role: p.grad for role, p in design.named_parameters()}
    assert ours.keys() - wanted.keys() == {"embeddings.token_type.weight"}
    torch.testing.assert_close({role: ours[role] for role in wanted}, wanted, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_a_folder_of_blip2(blip2, make, batch, tmp_path):
    """As the design that it is, and over what else a variant starts from."""
    blip2.save_pretrained(tmp_path)
    loaded = build.load(str(tmp_path))
    assert loaded.name == NAME and list(loaded.heads) == ["itc", "itm"]
    whole = {"queries": QUERIES, "fusion_layers": LAYERS, "whole_weights": str(tmp_path)}
    sizes = {"text_layers": LAYERS, "dtype": torch.float32}
    with pytest.raises(
        SettingError, match=r"as a whole query_b.*missing: heads\.mlm\.decoder\.bias"
    ):
        make(NAME, whole, **sizes)
    variant = make(NAME, {**whole, "whole_allow": ["heads.mlm.*"]}, **sizes)
    for design in (loaded, variant):
        for ours, theirs in pairs(design, blip2, batch, packed=False, fed=for_clip):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    with pytest.raises(
        SettingError, match=r"missing: .*unexpected: layers\.2\.for_queries\.cross_a"
    ):
        make(NAME, {**whole, "cross_every": 3, "whole_allow": ["heads.mlm.*"]}, **sizes)


# ---- Loops ---------------------------------------------------------------------------------------


def added(weights, which, x, found):
    return norm(weights, f"{which}_norm", x + found)


def mlp(weights, x):
    inner = linear(weights, "mlp.inner", x)
    return added(weights, "mlp", x, linear(weights, "mlp.outer", torch.nn.functional.gelu(inner)))


def by_loops(design, x, queries, image):
    """Words (L, D) and queries (Q, D) of one row through the stack; either may be absent."""
    weights, config = dict(design.named_parameters()), design.config
    for j in range(len(design.layers)):
        own = part(weights, f"layers.{j}")
        both = torch.cat([y for y in (x, queries) if y is not None])
        everything = [True] * len(both)
        if x is not None:
            x_found = attend(own, "self_attention", x, both, everything, heads=2)
            x = mlp(own, added(own, "self", x, x_found))
        if queries is not None:
            seen = both if config.queries_read_text else both[len(both) - len(queries) :]
            found = attend(own, "self_attention", queries, seen, [True] * len(seen), heads=2)
            queries, own = added(own, "self", queries, found), part(own, "for_queries")
            if j % config.cross_every == 0:
                whole = [True] * len(image)
                found = attend(own, "cross_attention", queries, image, whole, heads=2)
                queries = added(own, "cross", queries, found)
            queries = mlp(own, queries)
    return x, queries


@torch.no_grad()
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    "fields",
    [
        {"queries": 3, "fusion_layers": 3},
        {"queries": 2, "fusion_layers": 4, "cross_every": 3, "queries_read_text": False},
        {"queries": 7, "fusion_layers": 2, "cross_every": 1, "queries_read_text": False},
    ],
)
def test_states_equal_loops(make, batch, fields, packed):
    design = randomised(make(NAME, {**fields, "image_layers": 1}))
    images, ids, real = (x[1:4] for x in batch)  # 3, 5 and 4 words of 7
    image, text = design.encode_image(images), design.encode_text(ids, real, packed=packed)
    fused = design.fuse(image.take(torch.tensor([2, 2, 0])), text)
    weights = dict(design.named_parameters())
    queries = norm(part(weights, "embeddings"), "norm", weights["queries.weight"])
    for row, seen in enumerate([2, 2, 0]):
        words = int(real[row].sum())
        x = embed(part(weights, "embeddings"), ids[row, :words].tolist())
        wanted, said = by_loops(design, x, queries, image.tokens_BPD[seen])
        torch.testing.assert_close(fused.text_BRD[row, :words], wanted)
        pooled = said.mean(0) if design.config.queries_read_text else wanted[0]
        torch.testing.assert_close(fused.pooled_BD[row], pooled)
        torch.testing.assert_close(text.pooled_BD[row], by_loops(design, x, None, None)[0][0])
        alone = by_loops(design, None, queries, image.tokens_BPD[row])[1]
        torch.testing.assert_close(image.pooled_BD[row], alone)


@torch.no_grad()
def test_itc_takes_the_closest_query(make, batch):
    design = make(NAME, {"queries": 3})
    images, ids, real = batch
    image, text = design.encode_image(images), design.encode_text(ids, real)
    image_BQE, text_BE = design.heads["itc"](image.pooled_BD, text.pooled_BD)
    found = cosines(image_BQE, text_BE)
    for i in range(8):
        for j in range(8):
            best = max(float(image_BQE[i, q] @ text_BE[j]) for q in range(3))
            assert abs(float(found[i, j]) - best) < 1e-12
    many = cosines(image_BQE.repeat(40, 1, 1), text_BE)  # more than are compared at once
    torch.testing.assert_close(many, found.repeat(40, 1))


@torch.no_grad()
def test_what_words_change(make, batch):
    """Queries that do not read words say the same beside any words."""
    images, ids, real = batch
    for reads in (True, False):
        design = make(NAME, {"queries": 2, "fusion_layers": 3, "queries_read_text": reads})
        image = design.encode_image(images)
        texts = design.encode_text(ids, real), design.encode_text(ids.roll(1, 0), real.roll(1, 0))
        said = [design.fuse(image, text).pooled_BD for text in texts]
        assert (said[0] - said[1]).abs().amax(1).min() > 1e-6  # [CLS], or queries that read words
        assert len(image.layers) == (0 if reads else 3)


# ---- Settings, slots, cost -----------------------------------------------------------------------


def test_endpoints(small):
    cls = registry.find(NAME)
    facts = cls.facts(registry.config(NAME, {"fusion_layers": 1}), small)
    assert facts.can_align and facts.can_fuse
    assert facts.why_not("mlm").startswith("fusion_layers = 1: words read queries that saw no")
    one_way = {"fusion_layers": 1, "queries_read_text": False}
    facts = cls.facts(registry.config(NAME, one_way), small)
    assert facts.can_align and facts.why_not("itm") == facts.why_not("mlm") == facts.no_fuse != ""
    assert (facts.text_layers, facts.fusion_layers, facts.image_layers) == (0, 1, 2)
    facts = cls.facts(registry.config(NAME, {"fusion_layers": 5, "cross_every": 4}), small)
    assert "in layers 0, 4;" in facts.fusion_reads


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"queries": 0}, "query_bottleneck: queries: .*greater than or equal to 1"),
        ({"fusion_layers": 0}, "query_bottleneck: fusion_layers: .*greater than or equal to 1"),
        ({"fusion_layers": 9}, "query_bottleneck: fusion_from 'first' gives at most 8 layers"),
        ({"image_layers": 3}, "query_bottleneck: image_layers is 3.* take 1 to 2"),
    ],
)
def test_what_cannot_be_built_names_the_field(make, fields, said):
    with pytest.raises(SettingError, match=said):
        make(NAME, fields)


def test_queries_start_from_berts_mlps(make, tmp_path):
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=8, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=12,
    )  # fmt: skip
    bert = transformers.BertForMaskedLM(config)
    fields = {"queries": 2, "fusion_layers": 3, "fusion_from": [5, None, 5]}
    weights = {"text_weights": saved(bert, tmp_path), "dtype": torch.float32}
    design, random = make(NAME, fields, **weights), make(NAME, fields, dtype=torch.float32)
    theirs = bert.bert.encoder.layer[5]
    for j in (0, 2):
        ours = design.layers[j]
        for mine in (ours, ours.for_queries):
            assert torch.equal(mine.mlp.inner.weight, theirs.intermediate.dense.weight)
            assert torch.equal(mine.mlp_norm.bias, theirs.output.LayerNorm.bias)
        query = theirs.attention.self.query
        assert torch.equal(ours.self_attention.query.weight, query.weight)
        cross = [d.layers[j].for_queries.cross_attention.key.weight for d in (design, random)]
        assert torch.equal(*cross)
    pairs = zip(design.layers[1].parameters(), random.layers[1].parameters(), strict=True)
    assert all(torch.equal(mine, drawn) for mine, drawn in pairs)
    first, last = random.layers[0], random.layers[2]  # one source, also where none is given
    assert torch.equal(first.mlp.inner.weight, last.for_queries.mlp.inner.weight)


def test_a_fresh_part_stands_under_its_innermost_slot():
    with torch.device("meta"):
        design = build.construct(NAME, {"fusion_layers": 3}, TINY, VOCABULARY)
    rows = [(slot.strip(), starts) for slot, _, starts in slot_rows(design)]
    fresh = [slot for slot, starts in rows if starts == "fresh"]
    parts = "for_queries.cross_attention, cross_norm"
    assert fresh == [f"layers.0.{parts}", f"layers.2.{parts}", "queries"]


L, P, D, V, Q = 10, 17, 32, 70, 6


@pytest.mark.parametrize("reads", [True, False])
def test_parameters_and_flops_equal_the_formulae(reads):
    """references.md section 0; four layers, of which 0 and 2 read the image."""
    fields = {"queries": Q, "queries_read_text": reads}
    counted = cost(NAME, fields, TINY, V, text_tokens=L)
    layer, inner, cross = 12 * D * D + 13 * D, 8 * D * D + 7 * D, 4 * D * D + 6 * D
    heads = 2 * (D * 8 + 8) + D * 2 + 2 + D * D + D + 2 * D + V
    words = (V + 16 + 2) * D + 2 * D
    own = words + Q * D + 4 * (layer + inner) + 2 * cross
    assert counted.parameters - counted.by_part["heads"] - own == sum(
        p.numel() for p in build.construct(NAME, fields, TINY, V).image.parameters()
    )
    assert counted.by_part["heads"] == heads
    crossed = 2 * Q * D * D + 2 * P * D * D + 2 * Q * P * D
    alone = 4 * block(Q) + 2 * crossed
    assert counted.text.flops == 0
    itc = 2 * (Q * D * 8 + D * 8)
    last = 3 * block(L) + 2 * L * D * D + 10 * D * D + 2 * L * D  # of which [CLS] alone asks
    if reads:
        assert counted.fuse.flops == 2 * (4 * block(L + Q) + 2 * crossed)
        assert counted.heads["itc"].flops == itc + 2 * (alone + last)
    else:
        beside = 4 * (block(L) + 2 * Q * D * D + 2 * L * Q * D)
        assert counted.fuse.flops == 2 * beside
        assert counted.heads["itc"].flops == itc + 2 * last
        patches = (P - 1) * 3 * 8 * 8 * D
        assert counted.image.flops == 2 * (3 * block(P) + patches + alone)
