"""Behaviour that every design of the registry must show; a new design is tested without a new test.

Endpoints and other fields worth testing are added to FIELDS; a design that is not there is tested
with its default configuration.
"""

import copy
from collections.abc import Iterator

import pytest
import torch

from architectures import registry
from architectures.contract import FusionDesign, ImageStates, TextStates
from architectures.layers.blocks import Layer
from architectures.layers.heads import itc_head
from architectures.layers.similarity import similarities
from architectures.layers.vit_blocks import ViTBlock
from architectures.weights.slots import origins, paired_share, role_digests

FIELDS = {
    "split_bert": [
        {},
        {"text_layers": 0},
        {"text_layers": 3, "cross_every": 2, "type_embeddings": True, "pooler": True},
        {"text_layers": 8},
        {"attention": "joint", "type_embeddings": True},
        {"self_attention": False, "cross_every": 2},
        {"image_from": "each", "text_layers": 5, "type_embeddings": True},
    ],
    "full_text_deep_fusion": [
        {},
        {"fusion_layers": 0},
        {"text_layers": 0, "fusion_layers": 3, "fusion_from": "first"},
        {"fusion_layers": 2, "attention": "joint", "image_from": [1, 0]},
        {"fusion_layers": 2, "image_from": [0, 1], "image_concat": True},
    ],
    "distilbert_fusion": [
        {"distil_layers": 3},
        {"text_encoder": "distilbert", "fusion_layers": 3, "image_from": [0]},
        {"text_encoder": "distilbert", "text_layers": 2, "fusion_layers": 0},
    ],
    "shared_stack": [
        {},
        {"cross_every": 3, "itc_layer": 2, "pooler": True, "type_embeddings": True},
        {"attention": "joint"},
    ],
    "gated_insertion": [
        {},
        {"every": 3, "itc_layer": 1, "gate": "scalar"},
        {"places": [0, 7], "gate": "none", "image_from": "each"},
        {"places": []},
    ],
    "token_insertion": [
        {},
        {"connector": "mlp", "class_token": "drop", "positions": "shared", "mask": "causal"},
        {"connector": "pixel_shuffle", "shuffle": 2, "positions": "shared", "itc_layer": 2},
        {"mask": "prefix", "image_from": [0, 1], "image_concat": True, "itc_layer": 5},
        {"connector": "mlp", "class_token": "drop", "image_from": [0], "mask": "causal"},
    ],
    "dual_encoder": [
        {},
        {"text_layers": 2},
        {"similarity": "late_mean"},
        {"similarity": "late_sum", "text_layers": 2},
    ],
    "bridge": [
        {},
        {"kind": "gated", "fusion_layers": 3, "bridges": [2], "share_projections": False},
        {"kind": "interpolate", "fusion_layers": 3, "text_layers": 2, "pooled": "text"},
        {"kind": "none", "fusion_layers": 2, "text_layers": 0},
        {"fusion_layers": 0},
    ],
    "co_attention": [
        {},
        {"order": "lxmert", "tied": "cross", "update": "sequential", "cross_every": 2},
        {"order": "vilbert", "tied": "all", "pooled": "product", "fusion_layers": 2},
        {"fusion_layers": 1, "pooled": "text", "pooler": False, "type_embeddings": False},
        {"order": "lxmert", "affinity": "shared", "fusion_layers": 2, "image_from": [0]},
        {"order": "vilbert", "affinity": "shared", "tied": "all", "fusion_layers": 2},
        {"fusion_layers": 0},
    ],
    "in_backbone": [
        {},
        {"gate": "none"},
        {"gate": "none", "itc": "below", "fusion_layers": 1, "pooler": False},
        {"gate": "none", "readers": "text"},
        {"gate": "none", "readers": "image", "text_layers": 3},
        {"fusion_layers": 0},
    ],
    "multiway": [
        {},
        {"layers": 3, "vl_layers": 1, "positions": "absolute"},
        {"vl_layers": 1, "separate_passes": False, "layer_scale": 0, "pooler": False},
        {"vl_layers": 0},
    ],
    "query_bottleneck": [
        {},
        {"queries": 3, "queries_read_text": False, "cross_every": 3, "image_layers": 1},
        {
            "queries": 2,
            "fusion_layers": 2,
            "cross_every": 1,
            "image_from": [1, 0],
            "image_concat": True,
        },
        {"queries": 2, "fusion_layers": 1, "fusion_from": "last"},
        {"queries": 2, "fusion_layers": 1, "queries_read_text": False},
    ],
    "shallow_fusion": [
        {},
        {"combine": "product", "mlp_layers": 1, "text_layers": 2, "itc_layer": 0},
        {"combine": "product", "mlp_layers": 0, "image_layers": 1},
        {"mlp_layers": 0},
    ],
    "single_stream": [
        {},
        {"separate_passes": True, "layers": 3},
        {"pooler": False, "type_embeddings": False},
    ],
    "merged_attention": [
        {},
        {"text_layers": 2, "fusion_layers": 3, "fusion_from": "last", "pooler": False},
        {"fusion_layers": 0},
        {"over": "patches", "fusion_layers": 3, "pooled": "both"},
        {"over": "patches", "fusion_layers": 2, "separate_passes": True},
        {"tied": "mlp", "fusion_layers": 3, "fusion_from": "last", "text_layers": 2},
        {"tied": "none", "fusion_layers": 2, "image_from": [0, 1], "image_concat": True},
        {
            "tied": "none",
            "over": "patches",
            "fusion_layers": 2,
            "pooled": "both",
            "separate_passes": True,
        },
    ],
}
CASES = [
    pytest.param(name, fields, id=f"{name}-{'-'.join(map(str, fields.values())) or 'default'}")
    for name in registry.names()
    for fields in FIELDS.get(name, [{}])
]
every_design = pytest.mark.parametrize(("name", "fields"), CASES)
one_of_each = pytest.mark.parametrize(
    ("name", "fields"),
    [
        case if place == 0 or case.values[0] != CASES[place - 1].values[0]
        else pytest.param(*case.values, id=case.id, marks=pytest.mark.slow)
        for place, case in enumerate(CASES)
    ],
)  # fmt: skip
"""A case of each design by default, all of them among the slow tests: for what takes longer."""

INDIRECT = {"query_bottleneck", "shallow_fusion"}
"""Designs that fuse, but where no word reads an image token itself."""

READ_AT = torch.tensor([[1, 2]] * 8)


def alike(design: FusionDesign, image: ImageStates, text: TextStates) -> torch.Tensor:
    """The similarity of every image with every text."""
    head = itc_head(design)
    return similarities(*head.features(image, text), head.similarity)


MADE: dict[str, FusionDesign] = {}


@pytest.fixture
def design(make, name, fields) -> Iterator[FusionDesign]:
    """The design of a case in float64, made once: for tests that change nothing of it."""
    case = repr((name, fields))
    if case not in MADE:
        MADE[case] = make(name, fields)
    yield MADE[case]
    changed = MADE[case].training or any(p.grad is not None for p in MADE[case].parameters())
    assert not changed, "the tests after this one are given the same design"


def states(design: FusionDesign, batch, packed=False) -> tuple[ImageStates, TextStates]:
    images, ids, real = batch
    images = images.to(next(design.parameters()).dtype)
    return design.encode_image(images), design.encode_text(ids, real, packed=packed)


def awake(design: FusionDesign) -> FusionDesign:
    """The same with open gates: through one that starts at 0 nothing is read or learnt at first."""
    for role, parameter in design.named_parameters():
        if role.endswith(".gate.gamma"):
            parameter.data.fill_(0.5)
    return design


def can_fuse(design: FusionDesign) -> bool:
    return design.facts(design.config, design.backbone).can_fuse


@every_design
def test_padding_cannot_change_a_result(design, batch):
    _, ids, real = batch
    image, text = states(design, batch)
    other_ids = ids.where(real, 9)
    changed = design.encode_text(other_ids, real)
    torch.testing.assert_close(changed.pooled_BD, text.pooled_BD, rtol=0, atol=0)
    shorter = design.encode_text(ids[1:2, :3], real[1:2, :3])
    torch.testing.assert_close(shorter.pooled_BD, text.pooled_BD[1:2])
    if can_fuse(design):
        whole, again = design.fuse(image, text), design.fuse(image, changed)
        torch.testing.assert_close(again.text_BRD[real], whole.text_BRD[real], rtol=0, atol=0)
        alone = design.fuse(image.take(torch.tensor([1])), shorter)
        torch.testing.assert_close(alone.text_BRD, whole.text_BRD[1:2, :3])
        torch.testing.assert_close(alone.pooled_BD, whole.pooled_BD[1:2])


@every_design
def test_packed_equals_padded(design, batch):
    real = batch[2]
    image, padded = states(design, batch)
    _, packed = states(design, batch, packed=True)
    assert packed.tokens_TD.shape[0] == real.sum()
    torch.testing.assert_close(packed.pooled_BD, padded.pooled_BD)
    torch.testing.assert_close(packed.tokens_BLD[real], padded.tokens_BLD[real])
    assert not packed.tokens_BLD[~real].any()
    if can_fuse(design):
        for read_at in (None, READ_AT):
            a = design.fuse(image, padded, read_at_BR=read_at)
            b = design.fuse(image, packed, read_at_BR=read_at)
            keep = real if read_at is None else slice(None)
            torch.testing.assert_close(b.text_BRD[keep], a.text_BRD[keep])
            torch.testing.assert_close(b.pooled_BD, a.pooled_BD)


@every_design
def test_a_row_of_a_batch_equals_a_batch_of_one(design, batch):
    image, text = states(design, batch)
    one_image, one_text = states(design, tuple(x[2:3] for x in batch))
    torch.testing.assert_close(one_image.pooled_BD, image.pooled_BD[2:3])
    torch.testing.assert_close(one_text.pooled_BD, text.pooled_BD[2:3])
    if can_fuse(design):
        whole, one = design.fuse(image, text), design.fuse(one_image, one_text)
        torch.testing.assert_close(one.pooled_BD, whole.pooled_BD[2:3])


@every_design
def test_swapping_the_image_changes_what_is_fused(make, batch, name, fields):
    design = awake(make(name, fields))
    image, text = states(design, batch)
    swapped = image.take(torch.arange(8).roll(1))
    if not can_fuse(design):
        with pytest.raises(TypeError, match="cannot fuse"):
            design.fuse(image, text)
        return
    before, after = design.fuse(image, text), design.fuse(swapped, text)
    assert ((before.pooled_BD - after.pooled_BD).abs().amax(1) > 1e-6).all()
    changed = (before.text_BRD - after.text_BRD)[batch[2]].abs().amax(1)
    no_words = design.facts(design.config, design.backbone).no_words
    assert not changed.any() if no_words else (changed > 1e-6).all()


@every_design
def test_read_at_equals_reading_everything(design, batch):
    image, text = states(design, batch)
    if not can_fuse(design):
        with pytest.raises(TypeError, match="cannot fuse"):
            design.fuse(image, text)
        return
    whole = design.fuse(image, text)
    some = design.fuse(image, text, read_at_BR=READ_AT)
    none = design.fuse(image, text, read_at_BR=READ_AT[:, :0])
    torch.testing.assert_close(some.text_BRD, whole.text_BRD[:, 1:3])
    torch.testing.assert_close(some.pooled_BD, whole.pooled_BD)
    torch.testing.assert_close(none.pooled_BD, whole.pooled_BD)
    assert none.text_BRD.shape[1] == 0


@every_design
@pytest.mark.parametrize("packed", [False, True])
def test_taken_rows_are_those_rows(design, batch, packed):
    image, text = states(design, batch, packed)
    rows = torch.tensor([3, 0, 3])
    taken = text.take(rows)
    torch.testing.assert_close(taken.tokens_BLD, text.tokens_BLD[rows])
    torch.testing.assert_close(taken.pooled_BD, text.pooled_BD[rows])
    if can_fuse(design):
        whole, some = design.fuse(image, text), design.fuse(image.take(rows), taken)
        torch.testing.assert_close(some.pooled_BD, whole.pooled_BD[rows])


@every_design
@pytest.mark.parametrize("packed", [False, True])
def test_split_rows_are_those_rows(design, batch, packed):
    image, text = states(design, batch, packed)
    rows = torch.arange(len(batch[1]))
    for part, part_rows in zip(text.split(1), (rows[:1], rows[1:]), strict=True):
        taken = text.take(part_rows)
        torch.testing.assert_close(part.tokens_TD, taken.tokens_TD, rtol=0, atol=0)
        torch.testing.assert_close(part.pooled_BD, taken.pooled_BD, rtol=0, atol=0)
        if can_fuse(design):
            shown = image.take(part_rows)
            both = (design.fuse(shown, x).pooled_BD for x in (part, taken))
            torch.testing.assert_close(*both, rtol=0, atol=0)


@every_design
def test_gradients_reach_both_towers_and_every_weight(make, batch, name, fields):
    """All but BERT's unused second token type and, by softmax, keys' biases and unread rows."""
    design = awake(make(name, fields))
    image, text = states(design, batch)
    loss = image.pooled_BD.square().sum() * 0
    if "itc" in design.heads:
        loss = loss + alike(design, image, text).logsumexp(1).sum()
    if can_fuse(design):
        fused = design.fuse(image, text)
        loss = loss + design.heads["itm"](fused.pooled_BD)[:, 0].sum()
        if "mlm" in design.heads:
            loss = loss + design.heads["mlm"](fused.text_BRD[batch[2]]).logsumexp(1).sum()
    loss.backward()
    without = [n for n, p in design.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


@every_design
def test_kept_attention_is_what_was_used(make, batch, name, fields):
    design = awake(make(name, fields))
    crossing = design.crossings()
    if not crossing:
        facts = design.facts(design.config, design.backbone)
        assert not facts.can_fuse or facts.no_words or name in INDIRECT, (
            f"{name}: `crossings` names no layer. Name those in which words read image tokens, or"
            " the design in INDIRECT"
        )
        return
    image, text = states(design, batch)
    layer = crossing[-1]
    plain, kept = design.fuse(image, text), design.fuse(image, text, keep_attention=[layer])
    torch.testing.assert_close(kept.pooled_BD, plain.pooled_BD)
    probabilities = kept.attention[layer]
    assert probabilities.shape == (8, 2, 7, 5)
    given = probabilities.sum(-1)
    module = design.get_submodule(layer)
    one_softmax = isinstance(module, Layer) and (module.joint or not module.crosses)
    if one_softmax or isinstance(module, ViTBlock):
        assert ((given > 0) & (given < 1)).all()  # the rest goes to words, under the same softmax
    else:
        torch.testing.assert_close(given, torch.ones(8, 2, 7).double())
    assert torch.autograd.grad(kept.pooled_BD[:, 0].sum(), probabilities)[0].any()


@one_of_each
def test_other_dtypes(make, batch, name, fields):
    """Same weights, so the same answer but for rounding; and gradients exist."""
    exact = make(name, fields)
    image, text = states(exact, batch)
    fused = exact.fuse(image, text).pooled_BD if can_fuse(exact) else None
    roles = set() if fused is None else reached(exact, fused)
    assert fused is None or "vit.patch_embed.proj.weight" in roles
    for dtype, tolerance in ((torch.float32, 1e-4), (torch.bfloat16, 0.2)):
        rough = copy.deepcopy(exact).to(dtype)
        rough.zero_grad()
        rough_image, rough_text = states(rough, batch)
        assert rough_image.pooled_BD.dtype == rough_text.pooled_BD.dtype == dtype
        torch.testing.assert_close(
            rough_text.pooled_BD.double(), text.pooled_BD, rtol=0, atol=tolerance
        )
        if fused is not None:
            rough_BD = rough.fuse(rough_image, rough_text).pooled_BD
            assert rough_BD.dtype == dtype
            assert (rough_BD.double() - fused).abs().mean() < tolerance
            assert reached(rough, rough_BD) == roles


def reached(design: FusionDesign, pooled_BD: torch.Tensor) -> set[str]:
    """Roles of the picture's tower that a vector hangs on."""
    pooled_BD[:, 0].sum().backward()
    return {role for role, p in design.image.named_parameters() if p.grad is not None}


@one_of_each
def test_dropout_is_drawn_in_training_only(make, batch, name, fields):
    design = make(name, fields, dropout=0.5)
    first, second = (states(design, batch)[1].pooled_BD for _ in range(2))
    assert torch.equal(first, second)
    design.train()
    first, second = (states(design, batch)[1].pooled_BD for _ in range(2))
    assert not torch.equal(first, second)


@every_design
def test_config_round_trip_and_facts(small, name, fields):
    cls, config = registry.find(name), registry.config(name, fields)
    assert cls.Config.model_validate_json(config.model_dump_json()) == config
    assert hash(config) == hash(registry.config(name, fields))
    facts = cls.facts(config, small)
    assert facts.can_align or facts.can_fuse
    assert facts.itc_reads or not facts.can_align
    assert cls.version == registry.version(name)


@every_design
def test_heads_are_those_that_apply(design):
    facts = design.facts(design.config, design.backbone)
    assert ("itc" in design.heads) == facts.can_align
    assert ("itm" in design.heads) == can_fuse(design)
    assert ("mlm" in design.heads) == (can_fuse(design) and not (facts.no_words or facts.causal))
    if "mlm" in design.heads:  # tied, also in a twin
        for one in (design, copy.deepcopy(design)):
            assert one.heads["mlm"].decoder.weight is one.word_embedding().weight


@one_of_each
def test_autocast_keeps_weights_and_gradients_in_float32(make, batch, name, fields):
    design = make(name, fields, dtype=torch.float32)
    can_align = "itc" in design.heads
    exact = itc_head(design).features(*states(design, batch)) if can_align else None
    for packed in (False, True):
        with torch.autocast("cpu", torch.bfloat16):
            image, text = states(design, batch, packed)
            loss = torch.zeros(())
            if can_align:
                features = itc_head(design).features(image, text)
                loss = alike(design, image, text).float().logsumexp(1).sum()
            if can_fuse(design):
                loss = loss + design.fuse(image, text).pooled_BD[:, 0].float().sum()
        design.zero_grad()
        loss.backward()
        assert all(p.grad.dtype == torch.float32 for p in design.image.parameters())
        if exact is not None:
            assert features[0].dtype == torch.float32
            assert (features[1] - exact[1]).abs().mean() < 0.02


def test_shared_parts_start_bit_identical(make, small):
    made = [make(*case.values, dtype=torch.float32) for case in CASES]
    digests = [role_digests(design) for design in made]
    known: dict[tuple[str, str], set[str]] = {}
    for design, digest in zip(made, digests, strict=True):
        drawn_as = origins(design)
        for role, value in digest.items():  # slots of one source layer start alike everywhere
            module = design.get_submodule(role.rpartition(".")[0])
            size = str([p.shape for p in module.parameters(recurse=False)])
            known.setdefault((drawn_as[role], size), set()).add(value)
    assert [drawn_as for drawn_as, values in known.items() if len(values) > 1] == []
    towers = [
        {role for role in digest if role.startswith("image.")}
        for design, digest in zip(made, digests, strict=True)
        if design.facts(design.config, design.backbone).image_layers == small.image_layers
    ]
    assert len(towers) > 1 and all(roles == towers[0] for roles in towers)
    assert paired_share(made[0], made[0]) == 1.0
    for other in made:  # much of the smaller of any two
        assert max(paired_share(made[0], other), paired_share(other, made[0])) > 0.4


@one_of_each
def test_another_seed_draws_other_weights(make, name, fields):
    torch.manual_seed(0)
    first = make(name, fields, dtype=torch.float32)
    torch.manual_seed(1)  # what libraries draw must not show
    again = make(name, fields, dtype=torch.float32)
    digests, others = role_digests(first), role_digests(make(name, fields, seed=1).float())
    assert digests == role_digests(again)
    constant = {role for role, p in first.named_parameters() if p.unique().numel() == 1}
    assert {role for role in digests if digests[role] == others[role]} == constant
