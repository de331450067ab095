"""Image-text pairs as ITC reads them: the two features of a pair, and its identity.

Letters: N pairs, B pairs of one side of a comparison, K of the other (its candidates), E width of a
feature, V vectors of one image, L text positions.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import torch
from torch import Tensor

from architectures.layers.similarity import Similarity, similarities
from harness.training.data.identity import Identity, matches
from harness.training.objectives.gather import gathered


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pairs:
    """N pairs; row i of the images belongs to row i of the texts.

    image_NE: (N, E) unit vectors, or (N, V, E) where an image has several
    text_NE:  (N, E) unit vectors, or (N, L, E) where tokens are compared
    keys:     what the N pairs are (`data.identity`)
    """

    image_NE: Tensor
    text_NE: Tensor
    identity: Identity

    def __len__(self) -> int:
        return len(self.text_NE)

    @staticmethod
    def join(parts: Sequence[Pairs]) -> Pairs:
        """Returns the pairs of all parts, one part after another."""
        return Pairs(
            image_NE=torch.cat([part.image_NE for part in parts]),
            text_NE=torch.cat([part.text_NE for part in parts]),
            identity=Identity.join([part.identity for part in parts]),
        )

    def of_all_workers(self, *, own_first: bool = True) -> Pairs:
        """Returns the pairs of all workers, in the order that `gather.gathered` describes."""
        gather = functools.partial(gathered, own_first=own_first)
        return Pairs(
            image_NE=gather(self.image_NE),
            text_NE=gather(self.text_NE),
            identity=self.identity.map(gather),
        )

    def cosines_with(self, others: Pairs, how: Similarity = "pooled") -> tuple[Tensor, Tensor]:
        """Returns two (B, K) tables of similarities: the images with the others' texts, and the
        texts with the others' images.
        """
        return (
            similarities(self.image_NE, others.text_NE, how, "image"),
            similarities(others.image_NE, self.text_NE, how, "text").T,
        )

    def matches_with(self, others: Pairs) -> tuple[Tensor, Tensor]:
        """Returns two (B, K) bool tables in the same order: the two match (`identity.matches`)."""
        return matches(self.identity, others.identity), matches(others.identity, self.identity).T
