"""What is set in a whole process for a loop is set back after it, however the loop ends."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator

import pytest

from harness.training.loop.numerics import settled


def steps() -> Iterator[int]:
    with settled():
        yield 1
        yield 2


def abandoned() -> None:
    for _ in steps():
        assert gc.get_freeze_count()
        return


def failed() -> None:
    for _ in steps():
        raise OSError("no space is left")


@pytest.mark.parametrize("loop", [lambda: list(steps()), abandoned, failed])
def test_the_collector_sees_all_again_after_a_loop(loop: Callable[[], object]) -> None:
    with contextlib.suppress(OSError):
        loop()
    assert not gc.get_freeze_count()
