"""Gated insertion against loops; what it says at the start, and where new layers stand."""

import pytest
import torch

from architectures import registry
from architectures.frozen import SettingError
from tests.architectures.reference import attend, embed, layer, linear, part, randomised

NAME = "gated_insertion"


@torch.no_grad()
def by_loops(design, batch):
    """Fused text of every row (L, D), and ITC's text (B, D), from the weights."""
    images, ids, real = batch
    weights, heads = dict(design.named_parameters()), design.backbone.text_heads
    tokens_BPD = design.encode_image(images).tokens_BPD
    fused, alone = [], []
    for row, length in enumerate(real.sum(1).tolist()):
        with_image = by_itself = embed(part(weights, "embeddings"), ids[row, :length].tolist())
        here = [True] * length
        for j in range(len(design.layers)):
            if str(j) in design.inserted:
                with_image = inserted(
                    part(weights, f"inserted.{j}"), with_image, tokens_BPD[row], heads
                )
            own = part(weights, f"layers.{j}")
            with_image = layer(own, with_image, here, None, heads)
            by_itself = layer(own, by_itself, here, None, heads)
        fused.append(with_image)
        alone.append(by_itself[0])
    return fused, torch.stack(alone)


def inserted(weights, x, image, heads):
    """x + tanh(a) CA(LN x), then x + tanh(b) MLP(LN x); without a gate its tanh is 1."""

    def gate(name):
        return weights[name].tanh() if name in weights else 1.0

    def normed(name, x):
        return torch.nn.functional.layer_norm(
            x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"]
        )

    asking, everything = normed("crossing.norm", x), [True] * len(image)
    read = attend(weights, "crossing.attention", asking, image, everything, heads)
    x = x + gate("crossing.gate.gamma") * read
    inner = torch.nn.functional.gelu(linear(weights, "mlp.inner", normed("mlp.norm", x)))
    return x + gate("mlp.gate.gamma") * linear(weights, "mlp.outer", inner)


@pytest.mark.parametrize("fields", [{}, {"places": [0, 3]}, {"every": 8, "gate": "none"}])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("packed", [False, True])
def test_values_equal_loops(make, batch, fields, dtype, packed):
    design = randomised(make(NAME, fields, dtype=dtype))
    images, ids, real = batch[0].to(dtype), *batch[1:]
    text = design.encode_text(ids, real, packed=packed)
    fused = design.fuse(design.encode_image(images), text)
    wanted, alone = by_loops(design, (images, ids, real))
    tolerance = 1e-11 if dtype is torch.float64 else 1e-5
    for row, states in enumerate(wanted):
        ours = fused.text_BRD[row, : len(states)]
        torch.testing.assert_close(ours, states, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(text.pooled_BD, alone, rtol=tolerance, atol=tolerance)


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("fields", [{}, {"places": [0, 5]}, {"gate": "scalar", "every": 1}])
def test_at_first_the_stack_is_the_text_encoder_to_the_last_bit(make, batch, dtype, fields):
    design, dual = make(NAME, fields, dtype=dtype), make("dual_encoder", {}, dtype=dtype)
    images, ids, real = batch[0].to(dtype), *batch[1:]
    text = dual.encode_text(ids, real)
    fused = design.fuse(design.encode_image(images), design.encode_text(ids, real))
    assert torch.equal(fused.text_BRD[real], text.tokens_BLD[real])
    assert torch.equal(fused.pooled_BD, text.pooled_BD)
    # ITC's pass computes [CLS] alone in its last layer: the same but for the order of sums.
    torch.testing.assert_close(design.encode_text(ids, real).pooled_BD, text.pooled_BD)


def test_shut_gates_learn_first(make, batch):
    design = make(NAME, {})
    images, ids, real = batch
    fused = design.fuse(design.encode_image(images), design.encode_text(ids, real))
    (fused.pooled_BD.pow(3).sum() + fused.text_BRD[real].pow(3).sum()).backward()
    new = {n: p.grad for n, p in design.named_parameters() if n.startswith("inserted.")}
    learns = [name for name, gradient in new.items() if gradient is not None and gradient.any()]
    assert learns == [name for name in new if name.endswith(".gate.gamma")]
    assert len(learns) == 2 * len(design.inserted)


def test_where_new_layers_stand(make, small):
    def places(**fields):
        return [int(j) for j in make(NAME, fields).inserted]

    assert places() == [1, 3, 5, 7] and places(every=3) == [1, 4, 7]
    assert places(every=8) == [7] and places(every=20) == [7] and places(places=[2, 6]) == [2, 6]
    for wrong in ((3, 1), (2, 2), (8,)):
        config = registry.config(NAME, {"places": list(wrong)})
        with pytest.raises(SettingError, match=r"gated_insertion: places .*from 0 to 7"):
            registry.find(NAME).facts(config, small)
