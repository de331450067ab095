"""What is set in a whole process for a loop is set back after it, however the loop ends."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator

import pytest

from harness.training.loop.numerics import settled


@pytest.fixture
def thawed() -> Iterator[None]:
    """The collector as it is outside the tests: it passes over nothing."""
    gc.unfreeze()
    yield
    gc.freeze()


def steps() -> Iterator[int]:
    with settled():
        yield 1
        yield 2


def abandoned() -> None:
    for _ in steps():
        assert gc.get_freeze_count() > 100_000
        return


def failed() -> None:
    for _ in steps():
        raise OSError("no space is left")


@pytest.mark.usefixtures("thawed")
@pytest.mark.parametrize("loop", [lambda: list(steps()), abandoned, failed])
def test_the_collector_sees_all_again_after_a_loop(loop: Callable[[], object]) -> None:
    with contextlib.suppress(OSError):
        loop()
    assert not gc.get_freeze_count()


@pytest.mark.usefixtures("thawed")
def test_a_loop_within_a_loop_leaves_the_collector_alone() -> None:
    with settled():
        list(steps())
        assert gc.get_freeze_count()
