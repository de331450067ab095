"""Attention in training on a CPU, and how layouts give it rows and take them back."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from architectures.contract import ImageStates
from architectures.layers.attention import attend
from architectures.layers.blocks import Attention
from architectures.layers.read import Read
from architectures.layout import Layout


def drawn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def heads(dtype=torch.float64):
    """Queries, keys and values in strides of rows, as a padded layout gives them."""
    sizes = (5, 7, 7)
    return [drawn(2, n, 3, 4, seed=n, dtype=dtype).transpose(1, 2) for n in sizes]


def key_bias():
    last_B1 = torch.tensor([[4], [7]])
    return (torch.arange(7) >= last_B1).double().mul(-1e4)[:, None, None]


@pytest.mark.parametrize("bias", [None, key_bias()])
def test_equals_torch_in_value_and_gradient(bias):
    grad = drawn(2, 3, 5, 4, seed=1)
    found = []
    for way in (lambda *x: attend(*x, bias, 0.0, None), lambda *x: sdpa(*x, bias)):
        parts = [x.clone().requires_grad_() for x in heads()]
        out = way(*parts)
        found.append([out, *torch.autograd.grad(out, parts, grad)])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def sdpa(q, k, v, bias):
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)


def test_gradient_with_dropout_is_that_of_what_was_computed():
    parts = [x.requires_grad_() for x in heads()]

    def seeded(*parts):
        torch.manual_seed(0)
        return attend(*parts, key_bias(), 0.3, None)

    assert not torch.equal(seeded(*parts), attend(*parts, key_bias(), 0.0, None))
    assert torch.autograd.gradcheck(seeded, parts)


def test_dropout_draws_alike_whether_kept_or_not():
    parts = [x.requires_grad_() for x in heads()]
    torch.manual_seed(0)
    unseen = attend(*parts, key_bias(), 0.3, None)
    torch.manual_seed(0)
    torch.testing.assert_close(attend(*parts, key_bias(), 0.3, []), unseen)


def test_bfloat16_keeps_its_kind():
    parts = [x.requires_grad_() for x in heads(torch.bfloat16)]
    out = attend(*parts, key_bias(), 0.1, None)
    out.float().sum().backward()
    assert out.dtype == parts[0].grad.dtype == torch.bfloat16
    with torch.autocast("cpu", dtype=torch.bfloat16):
        attend(*parts, key_bias(), 0.1, None).float().sum().backward()


def test_a_bias_that_learns_gets_a_gradient():
    bias = drawn(1, 3, 5, 7).requires_grad_()
    attend(*heads(), bias, 0.0, None).sum().backward()
    assert bias.grad is not None and bias.grad.abs().sum() > 0


REAL = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1]]).bool()


def test_heads_of_packed_tokens_stand_where_padded_ones_do():
    packed, padded = Layout.of(REAL, packed=True), Layout.of(REAL)
    x_BLD = drawn(3, 4, 6).requires_grad_()
    ours, theirs = packed.heads(packed.pack(x_BLD), 2), padded.heads(padded.pack(x_BLD), 2)
    real = REAL[:, None, :, None].expand_as(ours)
    assert torch.equal(ours[real], theirs[real])
    assert torch.equal(packed.flat(ours), packed.pack(x_BLD))
    assert torch.equal(packed.flat(theirs), packed.pack(x_BLD))


def test_gradients_of_heads_are_those_of_the_places_that_count():
    packed = Layout.of(REAL, packed=True)
    x_TD = packed.pack(drawn(3, 4, 6)).requires_grad_()
    weight = drawn(3, 2, 4, 3, seed=2) * REAL[:, None, :, None]  # what padding gets is 0
    (grad,) = torch.autograd.grad((packed.heads(x_TD, 2) * weight).sum(), x_TD)
    assert torch.equal(grad, packed.flat(weight))
    found = drawn(3, 2, 4, 3, seed=3).requires_grad_()
    (grad,) = torch.autograd.grad((packed.flat(found) * x_TD.detach()).sum(), found)
    real = REAL[:, None, :, None].expand_as(grad)
    assert torch.equal(grad[real], packed.heads(x_TD, 2)[real])
    assert not grad[~real].any()


def test_keys_of_an_image_are_made_once_for_all_that_read_it():
    attention = Attention(6, 2, reads=8, dropout=0.0).double()
    calls = []
    attention.key.register_forward_hook(lambda *call: calls.append(call[2].shape))
    layout = Layout.full(3, 4, torch.device("cpu"))
    rows = torch.tensor([1, 0, 1])

    def said(tokens, *, again):
        """Sum over two readings, of some rows and of one row for each image."""
        image, own = (ImageStates(distinct_UPD=tokens, pooled=tokens[:, 0]) for _ in range(2))
        other = image if again else own
        first = attention(drawn(12, 6), layout, Read.of_image(image.take(rows)))
        second = attention(drawn(8, 6), Layout.full(2, 4, rows.device), Read.of_image(other))
        return first.sum() + second.pow(2).sum()

    tokens = drawn(2, 5, 8, seed=4).requires_grad_()
    grads = [
        torch.autograd.grad(said(tokens, again=again), [tokens, *attention.parameters()])
        for again in (True, False)
    ]
    assert calls == [(2, 5, 6)] * 3
    for ours, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    with torch.no_grad():
        said(tokens, again=True)
    said(tokens.detach(), again=True)
    assert len(calls) == 7, "nothing is held where no image tower learns"


def test_no_second_derivative_is_made_up() -> None:
    """What attention keeps in training on a CPU has no gradient of its own."""
    q, k, v = (torch.randn(1, 2, 3, 4, requires_grad=True) for _ in range(3))
    mixed = attend(q, k, v, None, 0.0, None)
    (of_q,) = torch.autograd.grad(mixed.square().sum(), q, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        of_q.square().sum().backward()
