"""The tiny study and its outputs folder, as the tests of the harness use them."""

from tests.harness.conftest import once, outputs, shared_cache, tiny
from tests.training.objectives.conftest import corpus, make

__all__ = ["corpus", "make", "once", "outputs", "shared_cache", "tiny"]
