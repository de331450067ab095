"""The twin of a model that learns a task."""

import copy

import torch
from torch import nn

from harness.training.objectives.twin import ModelTwin


def test_it_follows_once_before_it_is_asked_and_shares_nothing():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5), nn.Linear(3, 2))
    twin = ModelTwin(model, 0.9)
    before = copy.deepcopy(dict(twin.model.named_parameters()))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    x = torch.randn(5, 3)
    taught = twin.ask(model.eval(), lambda its: its(x))
    naive = copy.deepcopy(model)
    with torch.no_grad():
        for role, parameter in naive.named_parameters():
            parameter.copy_(0.9 * before[role] + 0.1 * dict(model.named_parameters())[role])
    torch.testing.assert_close(taught, naive.eval()(x))
    assert not taught.requires_grad and not any(p.requires_grad for p in twin.parameters())
    ours = {p.data_ptr() for p in twin.parameters()}
    assert not ours & {p.data_ptr() for p in model.parameters()}
    active = [twin.ask(model.train(), lambda its: its(x)) for _ in range(2)]
    assert not torch.allclose(*active)  # dropout, where the model has it
