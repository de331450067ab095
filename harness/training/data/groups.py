"""Groups of pictures and captions that only a joint reading tells apart: the same words in another
arrangement (swap groups, as in Winoground), or one picture with a right and a wrong caption.

Letters: P pictures of all groups, H W C height, width, channels, k pictures and l captions of one
group.
"""

from __future__ import annotations

import re
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


def tag_name(tag: str) -> str:
    """Returns a tag as a part of a score's name: small letters, digits and `_`."""
    return re.sub(r"[^a-z0-9]+", "_", tag.casefold()).strip("_")


class TagNames:
    """Sees to it that each tag of a set has a name of its own, under which it is scored."""

    def __init__(self) -> None:
        self._first: dict[str, tuple[str, str]] = {}

    def problem(self, tag: str, where: str) -> str:
        """Says why a tag cannot be scored beside those before it; empty: it can. `where`: what
        names its place.
        """
        name = tag_name(tag)
        if tag and not name:
            return f"{tag!r} has no letter a-z and no digit, which the name of its scores needs"
        first, place = self._first.setdefault(name, (tag, where))
        if first != tag:
            return f"{tag!r} and {first!r} ({place}) both have scores called {name!r}"
        return ""
