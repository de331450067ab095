"""Swap groups of two coloured halves, until the scenes bring their own: goes with the merge."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.training.data.groups import Group, Groups
from harness.training.data.scenes.draft import COLOURS
from harness.training.data.scenes.pixels import RGB
from harness.training.settings.data import Scenes


def swap_groups(
    data: Scenes,
    split: str,
    count: int,
    image_size: int,
    channels: int = 3,
    tags: Sequence[str] = (),
) -> Groups:
    rng = np.random.default_rng([data.seed, split == "val"])
    groups, images = [], []
    tags = tags or ("colour", "relation")
    for number in range(count):
        tag = tags[number % len(tags)]
        one, other = (COLOURS[place] for place in rng.permutation(len(COLOURS))[:2])
        half = np.full((image_size, image_size // 2, 3), RGB[one], dtype=np.uint8)
        rest = np.full((image_size, image_size - image_size // 2, 3), RGB[other], dtype=np.uint8)
        images += [np.hstack([half, rest]), np.hstack([rest, half])]
        captions = f"{one} square left of {other} square", f"{other} square left of {one} square"
        groups.append(
            Group(
                name=f"{tag} {number}",
                tag=tag,
                pictures=(2 * number, 2 * number + 1),
                captions=captions,
                match_kl=np.eye(2, dtype=bool),
            )
        )
    return Groups(images_PHWC=np.stack(images)[..., :channels], groups=tuple(groups))
