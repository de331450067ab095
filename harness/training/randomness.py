"""Named random streams: every draw says what it depends on.

A stream is keyed by (seed, name, indices), never consumed in order, so the same batch, mask or
initial weight comes out whatever ran before it, on whichever worker, after whichever restart
(Philox: Salmon et al., SC 2011, as in numpy).
"""

from __future__ import annotations

import hashlib

import numpy as np


def key(seed: int, name: str, *index: int | str) -> int:
    """Returns the 128-bit key of a stream. Distinct names and indices give unrelated keys."""
    text = "\x1f".join([str(seed), name, *map(str, index)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "little")


def stream(seed: int, name: str, *index: int | str) -> np.random.Generator:
    """Returns the generator of a stream, at its beginning.

    >>> stream(0, "order", 3).integers(10) == stream(0, "order", 3).integers(10)
    np.True_
    """
    return np.random.Generator(np.random.Philox(key=key(seed, name, *index)))


def torch_seed(seed: int, name: str, *index: int | str) -> int:
    """Returns a 63-bit seed for a torch generator, for draws on the device itself."""
    return key(seed, name, *index) >> 65
