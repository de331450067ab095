"""Late fusion by hand: what the MLP reads, endpoints, other text towers, cost."""

import math

import pytest
import torch

from architectures import registry
from architectures.frozen import SettingError
from architectures.views.cost import cost
from architectures.weights.slots import FRESH
from harness.planning.plan import applicable
from harness.training.objectives.forward import matching
from harness.training.objectives.itm import Negatives
from harness.training.settings.objectives import Objectives
from tests.architectures.reference import layer, linear, part, randomised
from tests.architectures.views.test_cost import TINY, block

NAME = "shallow_fusion"


def by_loops(design, x, real, image):
    """Fused vector of one row: embedded words (L, D) and image tokens (P, E)."""
    weights, config = dict(design.named_parameters()), design.config
    for j in range(design.text_depth):
        x = layer(part(weights, f"layers.{j}"), x, real, None, heads=2)
    text, image = x[0], image[0]
    if config.combine == "product":
        text, image = (
            linear(weights, "text_projection", text),
            linear(weights, "image_projection", image),
        )
        found = torch.stack([a * b for a, b in zip(text, image, strict=True)])
    else:
        found = torch.cat([text, image])
    for j in range(config.mlp_layers):
        found = linear(weights, f"fusion_mlp.layers.{j}", found)
        found = found * 0.5 * (1 + torch.erf(found / math.sqrt(2)))
    return found


@torch.no_grad()
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    "fields",
    [
        {"text_layers": 2},
        {"text_layers": 3, "combine": "product", "mlp_layers": 1, "itc_layer": 1},
        {"text_layers": 1, "combine": "product", "mlp_layers": 0},
    ],
)
def test_the_fused_vector_equals_loops(make, batch, fields, packed):
    design = randomised(make(NAME, {**fields, "image_layers": 1}))
    images, ids, real = (x[1:4] for x in batch)  # 3, 5 and 4 words of 7
    image, text = design.encode_image(images), design.encode_text(ids, real, packed=packed)
    fused = design.fuse(image.take(torch.tensor([2, 0, 0])), text)
    embedded = design.embeddings(ids, text.layout.of(real)).view(3, 7, -1)
    for row, seen in enumerate([2, 0, 0]):
        wanted = by_loops(design, embedded[row], real[row], image.tokens_BPD[seen])
        torch.testing.assert_close(fused.pooled_BD[row], wanted)
    torch.testing.assert_close(fused.text_BRD[real], text.tokens_BLD[real])


def test_mlm_does_not_apply_and_says_why(make, small):
    cls, config = registry.find(NAME), registry.config(NAME, {})
    facts = cls.facts(config, small)
    objectives, reasons = applicable(Objectives(), facts)
    assert objectives.active() == ("itc", "itm")
    assert reasons == {"mlm": "only the pooled vectors meet, and no word reads the image"}
    assert make(NAME, {}).heads.keys() == {"itc", "itm"}


def test_concatenation_without_an_mlp_cannot_match(make, batch):
    """A linear head of both vectors side by side ranks texts alike for every image."""
    design = make(NAME, {"mlp_layers": 0})
    facts = design.facts(design.config, design.backbone)
    assert facts.can_align and not facts.can_fuse and facts.why_not("mlm") == facts.no_fuse
    assert design.heads.keys() == {"itc"}
    states = design.encode_image(batch[0]), design.encode_text(*batch[1:])
    with pytest.raises(TypeError, match="shallow_fusion cannot fuse: mlp_layers = 0 under concat"):
        design.fuse(*states)


def test_itm_reads_what_meets(make, batch):
    """Matching rows of 3 B pairs through the MLP, as training does."""
    design = make(NAME, {})
    image, text = design.encode_image(batch[0]), design.encode_text(*batch[1:])
    wrong = torch.arange(8).roll(1)
    term = matching(design, image, text, Negatives(wrong, wrong))
    assert int(term.items) == 24
    term.loss.backward()
    assert all(p.grad.any() for p in design.fusion_mlp.parameters())


def test_causal_text_gives_its_last_word(make, batch):
    """Nothing fuses words here, so the text tower may be CLIP's."""
    design = make(NAME, {"text_layers": 2}, text="clip")
    image, text = design.encode_image(batch[0]), design.encode_text(*batch[1:])
    last = text.tokens_BLD[torch.arange(8), batch[2].sum(1) - 1]
    torch.testing.assert_close(text.pooled_BD, last)
    both = torch.cat([last, image.tokens_BPD[:, 0]], dim=1)
    torch.testing.assert_close(design.fuse(image, text).pooled_BD, design.fusion_mlp(both))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"text_layers": 9}, "shallow_fusion: text_layers is 9.* take 0 to 8"),
        ({"text_layers": 0}, "shallow_fusion: text_layers: .*greater than or equal to 1"),
        ({"mlp_layers": -1}, "shallow_fusion: mlp_layers: .*greater than or equal to 0"),
        ({"combine": "sum"}, "shallow_fusion: combine: .*'concat' or 'product'"),
        ({"text_layers": 2, "itc_layer": 2}, "itc_layer is 2, but text has 2.* 0 to 1"),
    ],
)
def test_what_cannot_be_built_names_the_field(make, fields, said):
    with pytest.raises(SettingError, match=said):
        make(NAME, fields)


L, P, D, V = 10, 17, 32, 70


@pytest.mark.parametrize(
    ("fields", "mlp", "projections"),
    [({}, 3, 0), ({"combine": "product", "mlp_layers": 1}, 1, 2)],
)
def test_parameters_and_flops_equal_the_formulae(fields, mlp, projections):
    """In matrices of D x D: concatenation reads two in its first layer."""
    counted = cost(NAME, fields, TINY, V, text_tokens=L)
    assert counted.text.flops == 2 * 4 * block(L)
    matrices = mlp + projections
    assert counted.fuse.flops == counted.fuse_pooled.flops == 2 * matrices * D * D
    biases = fields.get("mlp_layers", 2) + projections
    assert counted.by_part["fusion"] == matrices * D * D + biases * D
    assert counted.heads.keys() == {"itc", "itm"}


def test_every_slot_has_a_source(small):
    table = registry.find(NAME).slots(registry.config(NAME, {"text_layers": 2}), small)
    assert dict(table) == {j: j for j in ("embeddings", "layers.0", "layers.1")}
    assert FRESH not in table.values()
