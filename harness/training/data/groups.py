"""Groups of pictures and captions that only a joint reading tells apart: the same words in another
arrangement (swap groups, as in Winoground), or one picture with a right and a wrong caption.

Letters: P pictures of all groups, H W C height, width, channels, k pictures and l captions of one
group.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Group:
    """k pictures and l captions, and which of them belong together."""

    name: str
    """Names the group in predictions and messages."""
    tag: str
    """What was swapped, or another kind that is scored apart: `colour`, `shape`, `relation`, ..."""
    pictures: tuple[int, ...]
    """Its k rows of `Groups.images_PHWC`."""
    captions: tuple[str, ...]
    """Its l captions."""
    match_kl: np.ndarray
    """bool (k, l): the caption is right for the picture."""


@dataclass(frozen=True, kw_only=True)
class Groups:
    """All groups of one set, with their decoded pictures."""

    images_PHWC: np.ndarray
    """uint8 (P, H, W, C), square; a picture that several groups show stands here once."""
    groups: tuple[Group, ...]

    def __len__(self) -> int:
        return len(self.groups)
