"""Dropout by 16-bit draws: how much it drops, what it scales by, which bits, which gradient."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from architectures.layers.dropout import STEPS, Dropout, dropout
from architectures.registry import names

ONES = torch.ones(1000, 1001)


@pytest.mark.parametrize("p", [0.01, 0.1, 0.5, 0.9])
def test_share_dropped_and_scale(p):
    torch.manual_seed(0)
    kept = dropout(ONES, p)
    share = (kept == 0).double().mean().item()
    assert share == pytest.approx(p, abs=4 * (p * (1 - p) / ONES.numel()) ** 0.5 + 1 / STEPS)
    (scale,) = kept[kept != 0].unique().tolist()
    true_chance = round(p * STEPS) / STEPS
    assert scale * (1 - true_chance) == pytest.approx(1.0, abs=1e-7)


def test_every_element_has_its_own_chance():
    """Neighbours share a 64-bit draw, but not its bits."""
    torch.manual_seed(0)
    kept = (dropout(torch.ones(40_000, 4), 0.5) != 0).double()
    torch.testing.assert_close(torch.corrcoef(kept.T), torch.eye(4).double(), atol=0.03, rtol=0)
    assert (kept.mean(0) - 0.5).abs().max() < 0.015


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8])
def test_any_number_of_elements(size):
    assert dropout(torch.ones(size), 0.5).shape == (size,)
    assert not dropout(torch.ones(2, 0), 0.5).numel()


def test_a_seed_fixes_the_bits_and_every_call_has_its_own():
    torch.manual_seed(3)
    first, second = dropout(ONES, 0.3), dropout(ONES, 0.3)
    torch.manual_seed(3)
    assert torch.equal(dropout(ONES, 0.3), first)
    assert torch.equal(dropout(ONES, 0.3), second)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_gradient_is_mask_times_scale(dtype):
    """`x`'s strides are not those of a new tensor, as those of transposed heads."""
    torch.manual_seed(0)
    x = torch.rand(6, 5, 7).add(1).to(dtype).transpose(0, 2).requires_grad_()
    out = dropout(x, 0.4)
    grad = torch.randn(7, 5, 6).to(dtype)
    out.backward(grad)
    kept, scale = (out != 0).to(dtype), STEPS / (STEPS - round(0.4 * STEPS))
    assert out.dtype == x.grad.dtype == dtype
    assert torch.equal(out, (x * kept).mul(scale))
    assert torch.equal(x.grad, (grad * kept).mul(scale))


def test_without_a_chance_and_in_eval_it_is_the_identity():
    assert dropout(ONES, 0.0) is ONES
    assert dropout(ONES, 0.5, training=False) is ONES
    assert Dropout(0.5).eval()(ONES) is ONES
    assert Dropout(0.0)(ONES) is ONES
    assert Dropout(0.5)(ONES) is not ONES


def test_every_dropout_of_a_design_is_this_one(make):
    for name in names():
        parts = make(name, {}, dropout=0.1).modules()
        found = [type(part) for part in parts if isinstance(part, nn.Dropout) and part.p]
        assert set(found) <= {Dropout}, name


def test_it_copies_like_any_module():
    assert copy.deepcopy(Dropout(0.2)).p == 0.2
