"""The tiny study and its outputs folder, as the tests of the harness use them."""

from tests.harness.conftest import outputs, shared_cache, tiny

__all__ = ["outputs", "shared_cache", "tiny"]
