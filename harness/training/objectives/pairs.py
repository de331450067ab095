"""Image-text pairs as ITC sees them: two features and what they are.

Letters: B N pairs, K keys, E width of a feature, V vectors of one image.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import torch
from torch import Tensor

from architectures.layers.heads import cosines
from harness.training.data.identity import Identity, matches
from harness.training.objectives.gather import gathered


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pairs:
    """N pairs; row i of the images belongs to row i of the texts."""

    image_NE: Tensor
    """Unit vectors (N, E), or (N, V, E) where an image has several."""
    text_NE: Tensor
    """Unit vectors (N, E)."""
    identity: Identity

    def __len__(self) -> int:
        return len(self.text_NE)

    @staticmethod
    def join(parts: Sequence[Pairs]) -> Pairs:
        """Those of all parts, one after another."""
        return Pairs(
            image_NE=torch.cat([part.image_NE for part in parts]),
            text_NE=torch.cat([part.text_NE for part in parts]),
            identity=Identity.join([part.identity for part in parts]),
        )

    def of_all_workers(self, *, own_first: bool = True) -> Pairs:
        """See `gather.gathered`."""
        gather = functools.partial(gathered, own_first=own_first)
        return Pairs(
            image_NE=gather(self.image_NE),
            text_NE=gather(self.text_NE),
            identity=self.identity.map(gather),
        )

    def cosines_with(self, others: Pairs) -> tuple[Tensor, Tensor]:
        """(B, K) twice: the images with the others' texts, the texts with the others' images."""
        return (
            cosines(self.image_NE, others.text_NE),
            cosines(others.image_NE, self.text_NE).T,
        )

    def matches_with(self, others: Pairs) -> tuple[Tensor, Tensor]:
        """bool (B, K) twice, in the same order: they are of the same thing (`identity.matches`)."""
        return matches(self.identity, others.identity), matches(others.identity, self.identity).T
