"""Two workers with half a batch each are one with the whole batch: losses, gradients, queue."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.multiprocessing

from harness.training.objectives.gather import gathered
from tests.training.objectives import workers


def test_one_worker_needs_no_process_group() -> None:
    """References trap ALBEF 9: nothing asks for a world size that is not there."""
    x = torch.zeros(2, 3)
    assert gathered(x) is x


@pytest.mark.slow
def test_two_workers_are_one_with_the_whole_batch(tmp_path: Path) -> None:
    """References trap ALBEF 18: a gather without gradients gives only the own part of them; and
    16: the queue need not be a multiple of the batch of all.
    """
    torch.multiprocessing.spawn(workers.one_worker, (str(tmp_path),), nprocs=workers.WORLD)
    each = [torch.load(tmp_path / f"{rank}.pt") for rank in range(workers.WORLD)]
    for name, itc in workers.CASES.items():
        whole = workers.trained(itc, slice(0, workers.WORLD * workers.ROWS))
        for found in each:
            *steps, queue = found[name]
            if itc.gather:
                for step, expected in zip(steps, whole, strict=False):
                    for ours, theirs in zip(step, expected, strict=True):
                        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
            assert len(queue) == len(whole[-1])
            for ours, theirs in zip(queue, whole[-1], strict=True):
                torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)
    own, all_of_them = each[0]["own_batch"], each[0]["teacher"]
    assert not torch.equal(own[0][0], all_of_them[0][0])  # fewer negatives
