"""Two workers with half a batch each take the steps of one with the whole batch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.multiprocessing

from tests.training.loop import by_workers

CLOSE = 1e-5
"""Of 1, or of the largest value of a tensor where that is larger."""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_workers_take_the_steps_of_one(tmp_path: Path) -> None:
    """Losses and gradients of three steps, without dropout, of every design by its objectives, and
    of all kinds of objectives; so are the curves, the queue, the digests, and what was spent.
    """
    cache = tmp_path / "cache"
    corpus = by_workers.corpus_in(cache)
    given = (str(tmp_path), str(cache))
    torch.multiprocessing.spawn(by_workers.one_worker, given, nprocs=by_workers.WORLD)
    each = [torch.load(tmp_path / f"{rank}.pt") for rank in range(by_workers.WORLD)]
    torch.set_num_threads(1)
    for case, its in by_workers.CASES.items():
        one = by_workers.trained(*its, corpus)
        worst = {"loss": 0.0, "gradient": 0.0}
        for several in (seen[case] for seen in each):
            assert several.keys() == one.keys(), case
            for name, expected in one.items():
                if not isinstance(expected, torch.Tensor):
                    assert several[name] == expected, (case, name)
                    continue
                apart = float((several[name].double() - expected.double()).abs().max())
                apart /= max(1.0, float(expected.double().abs().max()))
                assert apart <= CLOSE, (case, name, apart)
                kind = "gradient" if "gradient" in name else "loss"
                worst[kind] = max(worst[kind], apart)
        print(f"{case}: loss {worst['loss']:.1e}, gradient {worst['gradient']:.1e}")
    for seen in each:
        local, of_all = seen["local"], seen["split_bert"]
        assert local["1 loss"] != of_all["1 loss"], "negatives of the own worker are others"
        assert local["1 loss"] == each[0]["local"]["1 loss"], "every worker knows the whole loss"
