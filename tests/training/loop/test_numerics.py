"""What is set for a whole process while a loop trains is set back, and not by a loop within."""

import gc
from collections.abc import Iterator

import pytest

from harness.training.loop.numerics import settled


@pytest.fixture
def thawed() -> Iterator[None]:
    """The collector as it is outside the tests: it passes over nothing."""
    gc.unfreeze()
    yield
    gc.freeze()


@pytest.mark.usefixtures("thawed")
def test_the_collector_passes_over_what_was_there_until_the_loop_ends() -> None:
    with pytest.raises(KeyError), settled():
        passed_over = gc.get_freeze_count()
        assert passed_over > 100_000
        with settled():
            pass
        assert gc.get_freeze_count() == passed_over
        raise KeyError
    assert gc.get_freeze_count() == 0
