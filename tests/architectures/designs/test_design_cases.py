"""What the speed benchmark compares does the same work: equal states on both sides."""

import pytest
import torch

from benchmarks import design_cases as cases


@pytest.mark.parametrize("name", cases.CASES)
@torch.no_grad()
def test_both_sides_compute_the_same(name):
    case = cases.CASES[name]
    sizes = cases.Sizes(width=64, layers=2, image_size=16, batch=3, tokens=6, vocabulary=50)
    torch.manual_seed(0)
    theirs, batch = case.theirs(sizes).train(), cases.Batch.of(sizes)
    ours = case.ours(sizes, theirs).train()
    states = zip(case.run_ours(ours, batch), case.run_theirs(theirs, batch), strict=True)
    for mine, his in states:
        assert mine.shape == his.shape
        # Sums, for ViLT's class shuffles its image tokens.
        torch.testing.assert_close(mine.square().sum(), his.square().sum(), rtol=1e-5, atol=1e-5)
