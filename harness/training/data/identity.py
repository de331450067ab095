"""What counts as the same thing: one rule for ITC targets, ITM negatives and R@k alike.

Letters: B rows, I images, T texts, C most captions of one picture.
A picture is known by its group, its pixels and its captions, each hashed to a non-negative int64,
so that the identity of a batch, of a whole split and of a queue of earlier batches compare directly.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn.functional import pad


def hashed(content: bytes) -> int:
    """A non-negative 63-bit hash; -1 stays free for padding."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little") >> 1


def caption_hash(caption: str) -> int:
    """Hash of a caption; case and spacing do not make another caption."""
    return hashed(" ".join(caption.casefold().split()).encode())


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What B image-text pairs are, for comparing any image with any text."""

    group_B: Tensor
    """int64; equal values are the same thing."""
    picture_B: Tensor
    """int64; equal values are the same picture."""
    caption_B: Tensor
    """int64; the caption drawn for this row."""
    captions_BC: Tensor
    """int64; all captions of the picture, padded with -1."""

    def __len__(self) -> int:
        return len(self.group_B)

    def map(self, change: Callable[[Tensor], Tensor]) -> Identity:
        """The same change of every tensor."""
        return Identity(**{f.name: change(getattr(self, f.name)) for f in fields(self)})

    def take(self, rows: Tensor) -> Identity:
        """The rows named, in that order."""
        return self.map(lambda each: each[rows])

    @staticmethod
    def join(parts: Sequence[Identity]) -> Identity:
        """Rows of all parts, one after another; C becomes the widest."""
        widest = max(part.captions_BC.shape[1] for part in parts)
        captions = [pad(p.captions_BC, (0, widest - p.captions_BC.shape[1]), value=-1)
                    for p in parts]  # fmt: skip
        return Identity(
            group_B=torch.cat([part.group_B for part in parts]),
            picture_B=torch.cat([part.picture_B for part in parts]),
            caption_B=torch.cat([part.caption_B for part in parts]),
            captions_BC=torch.cat(captions),
        )


def matches(images: Identity, texts: Identity) -> Tensor:
    """bool [I, T]: text t describes image i.

    True where both belong to one group, come from one picture, or where the text is word for word
    one of the image's captions. The last makes the table asymmetric: an image has several
    captions, a text is the one that was drawn.
    """
    same_IT = images.group_B[:, None] == texts.group_B
    same_IT |= images.picture_B[:, None] == texts.picture_B
    for caption_I in images.captions_BC.unbind(1):  # one column at a time: C x I x T may be large
        same_IT |= caption_I[:, None] == texts.caption_B
    return same_IT
