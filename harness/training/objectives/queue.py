"""The queue keeps features of earlier batches, as more candidates for ITC (MoCo, He et al. 2020;
ALBEF, Li et al. 2021).

Letters: Q places, N pairs that come in, E width of a feature, V vectors of one image, C most
captions of one picture.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.training.data.identity import Identity
from harness.training.objectives.pairs import Pairs

NOBODY = -2
"""The identity of an empty place and of noise. It equals no pair's (those are 0 or more) and not
the padding of captions (-1), so such a place matches nothing."""


class Queue(nn.Module):
    """A ring of the last Q pairs that came in. A new pair overwrites the oldest; Q need not be a
    multiple of the batch. The queue is state, like a parameter: it stands in checkpoints, and only
    `push` changes it.

    image_QE:    (Q, E) float, or (Q, V, E)
    text_QE:     (Q, E) float
    keys_Q3:     (Q, 3) int64: group, picture and caption of each pair
    captions_QC: (Q, C) int64: all captions of its picture; C is 0 until the first pairs come
    """

    image_QE: Tensor
    text_QE: Tensor
    keys_Q3: Tensor
    captions_QC: Tensor

    def __init__(
        self, size: int, *, image: tuple[int, ...], width: int, noise: torch.Generator | None
    ) -> None:
        """Makes a queue of `size` places for texts of `width` and images of the shape `image`, (E,)
        or (V, E). With `noise` it starts full of random unit vectors, drawn with that generator,
        that match nothing; with None it starts empty.
        """
        super().__init__()
        self.size, self.place, self.filled = size, 0, 0 if noise is None else size

        def start(*shape: int) -> Tensor:
            if noise is None:
                return torch.zeros(shape)
            return F.normalize(torch.randn(shape, generator=noise), dim=-1)

        # Texts first: their noise is the same beside images of one vector and of several.
        self.register_buffer("text_QE", start(size, width))
        self.register_buffer("image_QE", start(size, *image))
        self.register_buffer("keys_Q3", torch.full((size, 3), NOBODY))
        self.register_buffer("captions_QC", torch.full((size, 0), NOBODY))

    def kept(self) -> Pairs:
        """Returns the pairs that the queue holds; places that are still empty are left out."""
        group, picture, caption = self.keys_Q3[: self.filled].unbind(1)
        return Pairs(
            image_NE=self.image_QE[: self.filled],
            text_NE=self.text_QE[: self.filled],
            identity=Identity(
                group_B=group,
                picture_B=picture,
                caption_B=caption,
                captions_BC=self.captions_QC[: self.filled],
            ),
        )

    @torch.no_grad()
    def push(self, pairs: Pairs) -> None:
        """Writes N pairs over the oldest ones; of more than Q pairs only the last Q are kept."""
        identity = pairs.identity
        count = min(len(pairs), self.size)
        places_N = torch.arange(self.place, self.place + count, device=identity.group_B.device)
        places_N %= self.size
        captions = identity.captions_BC.shape[1]
        if not self.captions_QC.shape[1]:  # the first pairs tell C
            self.captions_QC = self.captions_QC.new_full((self.size, captions), NOBODY)
        three_N3 = torch.stack([identity.group_B, identity.picture_B, identity.caption_B], dim=1)
        for buffer, new in (
            (self.image_QE, pairs.image_NE),
            (self.text_QE, pairs.text_NE),
            (self.keys_Q3, three_N3),
            (self.captions_QC, identity.captions_BC),
        ):
            buffer.index_copy_(0, places_N, new[-count:].to(buffer.dtype))
        self.filled = max(self.filled, min(self.place + count, self.size))
        self.place = (self.place + count) % self.size

    def get_extra_state(self) -> dict[str, int]:
        return {"place": self.place, "filled": self.filled}

    def set_extra_state(self, state: Any) -> None:
        self.place, self.filled = state["place"], state["filled"]

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        self.captions_QC = torch.empty_like(
            state_dict[f"{prefix}captions_QC"], device=self.captions_QC.device
        )
        super()._load_from_state_dict(state_dict, prefix, *rest)
