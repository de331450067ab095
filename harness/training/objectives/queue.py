"""Features of earlier batches, as more negatives for ITC (MoCo, He et al. 2020; ALBEF).

Letters: Q places, N pairs that come in, E width of a feature, V vectors of one image, C captions.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.training.data.identity import Identity
from harness.training.objectives.pairs import Pairs

NOBODY = -2
"""Identity of an empty place and of noise: equal to no pair's, nor to the padding of captions."""


class Queue(nn.Module):
    """The last Q pairs that came in, the oldest overwritten first; it need not be a multiple of the
    batch. State, like a parameter: it is in checkpoints and changes only by `push`.
    """

    image_QE: Tensor
    text_QE: Tensor
    keys_Q3: Tensor
    captions_QC: Tensor

    def __init__(
        self, size: int, *, image: tuple[int, ...], width: int, noise: torch.Generator | None
    ) -> None:
        """`image`: shape of one image's feature, (E,) or (V, E). `noise`: it starts full of random
        unit vectors that match nothing, drawn with this; None: it starts empty.
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
        """The pairs it holds; places that are still empty are left out."""
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
        """Puts pairs in, over the oldest; of more than Q the last."""
        identity = pairs.identity
        count = min(len(pairs), self.size)
        places_N = torch.arange(self.place, self.place + count, device=identity.group_B.device)
        places_N %= self.size
        captions = identity.captions_BC.shape[1]
        if not self.captions_QC.shape[1]:  # its width is known when the first pairs come
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
