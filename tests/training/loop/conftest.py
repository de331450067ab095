"""The tiny study and its outputs folder, as the tests of the harness use them."""

from tests.harness.conftest import outputs, shared_cache, tiny
from tests.training.objectives.conftest import corpus, make

__all__ = ["corpus", "make", "outputs", "shared_cache", "tiny"]
