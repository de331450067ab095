"""One rule says what counts as the same thing, for ITC targets, ITM negatives and R@k alike.

Letters: B rows, I images, T texts, C most captions of one picture.
A picture is known by its group, its pixels and its captions, each hashed to a non-negative int64,
so that a batch, a whole split and a queue of earlier batches compare directly.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from unicodedata import normalize

import torch
from torch import Tensor
from torch.nn.functional import pad


def hashed(content: bytes) -> int:
    """Hashes bytes (BLAKE2b) to a non-negative int63; -1 stays free for padding."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little") >> 1


def caption_hash(caption: str) -> int:
    """Hashes a caption; case, spacing and the way in which an accent is encoded do not make another
    caption."""
    composed = normalize("NFC", normalize("NFC", caption).casefold())
    return hashed(" ".join(composed.split()).encode())


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What B image-text pairs are, so that any image can be compared with any text.

    Everything is int64 on one device.
    """

    group_B: Tensor
    """(B,); equal values are the same thing."""
    picture_B: Tensor
    """(B,); equal values are the same picture."""
    caption_B: Tensor
    """(B,); the caption drawn for this row."""
    captions_BC: Tensor
    """(B, C); all captions of the picture, padded with -1."""

    def __len__(self) -> int:
        return len(self.group_B)

    def map(self, change: Callable[[Tensor], Tensor]) -> Identity:
        """Makes the same change to every tensor."""
        return Identity(**{f.name: change(getattr(self, f.name)) for f in fields(self)})

    def take(self, rows: Tensor) -> Identity:
        """Takes the rows named, in that order."""
        return self.map(lambda tensor: tensor[rows])

    @staticmethod
    def join(pieces: Sequence[Identity]) -> Identity:
        """Puts the rows of several one after another; C becomes the widest."""
        widest = max(piece.captions_BC.shape[1] for piece in pieces)
        captions = [pad(p.captions_BC, (0, widest - p.captions_BC.shape[1]), value=-1)
                    for p in pieces]  # fmt: skip
        return Identity(
            group_B=torch.cat([piece.group_B for piece in pieces]),
            picture_B=torch.cat([piece.picture_B for piece in pieces]),
            caption_B=torch.cat([piece.caption_B for piece in pieces]),
            captions_BC=torch.cat(captions),
        )


def matches(images: Identity, texts: Identity) -> Tensor:
    """Says which text describes which image: bool (I, T).

    True where both belong to one group, come from one picture, or where the text is word for word
    one of the image's captions. The last makes the table asymmetric: an image has several
    captions, a text is the one that was drawn.
    """
    same_IT = images.group_B[:, None] == texts.group_B
    same_IT |= images.picture_B[:, None] == texts.picture_B
    for caption_I in images.captions_BC.unbind(1):  # one column at a time: C x I x T may be large
        same_IT |= caption_I[:, None] == texts.caption_B
    return same_IT
