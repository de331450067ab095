"""Swap groups: two pictures and two captions of the same words in two arrangements, each true of
one picture only, so that no reading of words or of pictures alone tells which belong together.

After Winoground (Thrush et al., CVPR 2022), with both arrangements drawn from one ground truth:
positions, shades and noise are those of the other picture, only what is swapped differs. Neither
caption's meaning occurs in another split, under any wording.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from architectures.frozen import nearest
from harness.training.data.cache import DataError
from harness.training.data.groups import Group, Groups
from harness.training.data.scenes.arranging import drafted, draw_scenes, in_split, most_objects
from harness.training.data.scenes.grammar import (
    DRAWS,
    sentence,
    swapped_sentence,
    templates,
    wording,
)
from harness.training.data.scenes.pixels import draw, in_channels, place
from harness.training.data.scenes.statements import SWAPPED, Scene, swapped_scene
from harness.training.data.splits import NAMES
from harness.training.randomness import stream
from harness.training.settings.data import Scenes


def swap_tags(data: Scenes) -> tuple[str, ...]:
    """Lists what can be swapped in these scenes: `colour`, `shape`, `size` between two things,
    the sides of a `relation`, the `place` of each, the `count` of each. Empty where captions name
    one thing, and, in scenes of the first version, not exactly two.
    """
    fewest, most = data.objects
    if most < 2 or (data.is_first_version and fewest > 2):
        return ()
    several = {name for name in ("colours", "shapes", "sizes") if len(data.names(name)) > 1}
    if data.repeat_colours == 1 and most + data.distractors[1] == 2:
        several -= {"colours"}
    swaps_looks = len(several) > 1  # what differs in one thing alone changes sides with it
    possible = {
        **{name.removesuffix("s"): swaps_looks for name in several},
        "relation": data.counting < 1,
        "place": data.counting < 1 and data.grammar == "wide",
        "count": data.counting > 0,
    }
    return tuple(tag for tag in SWAPPED if possible.get(tag))


def swap_groups(
    data: Scenes,
    split: str,
    count: int,
    image_size: int,
    channels: int = 3,
    tags: Sequence[str] = (),
) -> Groups:
    """Draws groups of two pictures and two captions, equally many of each tag in turn.

    The same settings give the same groups, and fewer are the first of more. `tags`: which swaps, of
    `swap_tags`; empty: all that are possible. Raises `DataError` where none is.

    Few colours and shapes make few descriptions, and groups repeat them in other pictures: of four
    and four, 200 groups of one tag have 80 to 120; with `directions="two"` 16 to 26.
    """
    if split not in NAMES:
        raise DataError(str(nearest(split, NAMES, "split")))
    possible = swap_tags(data)
    if not possible:
        raise DataError(
            f"data.objects={data.objects}: swap groups need captions of two things; "
            "let data.objects be (2, 2)"
        )
    for tag in tags:
        if tag not in possible:
            raise DataError(str(nearest(tag, possible, "swap in these scenes")))
    tags = tags or possible
    groups: list[Group | None] = [None] * count
    images: list[np.ndarray] = [np.empty(0)] * count
    for i, tag in enumerate(tags):
        rows = range(i, count, len(tags))
        scenes = draw_scenes(
            data, split, len(rows), f"{tag} swaps", partial(_can_swap, data, split, tag)
        )
        for number, (row, scene) in enumerate(zip(rows, scenes, strict=True)):
            own = partial(stream, data.seed, f"scenes {tag} swaps", split, number)
            pair = [scene, swapped_scene(scene, tag)]
            pictures = [_drawn(data, each, image_size, own("pixels")) for each in pair if each]
            images[row] = in_channels(np.stack(pictures), channels)
            groups[row] = Group(
                name=f"{tag} {number}",
                tag=tag,
                pictures=(2 * row, 2 * row + 1),
                captions=_captions(data, scene, tag, own("words")),
                match_kl=np.eye(2, dtype=bool),
            )
    shape = (0, image_size, image_size, channels)
    return Groups(
        images_PHWC=np.concatenate([np.empty(shape, dtype=np.uint8), *images]),
        groups=tuple(group for group in groups if group),
    )


def captions_and_swaps(
    data: Scenes, scenes: Sequence[Scene], rng: np.random.Generator
) -> tuple[list[list[str]], list[list[str]]]:
    """Words C captions for each of M scenes and, of the same words, a caption that is not true of
    the picture: two lists of M lists of C. Empty where no such one is; what is swapped is drawn
    from what can be. Templates repeat only where C is more than there are.
    """
    tags = swap_tags(data)
    captions_MC, swapped_MC = [], []
    for scene in scenes:
        ways = templates(scene.statement, data.grammar)
        order = rng.permutation(len(ways)).tolist()
        draws_CD = rng.random((data.captions, DRAWS)).tolist()
        tags_C = [rng.permutation(tags).tolist() for _ in range(data.captions)]
        ways_C = [
            wording(ways[order[c % len(ways)]], iter(draws_CD[c])) for c in range(data.captions)
        ]
        captions_MC.append([sentence(scene.statement, way) for way in ways_C])
        swapped_MC.append(
            [
                next(filter(None, (swapped_sentence(scene, tag, way) for tag in own)), "")
                for own, way in zip(tags_C, ways_C, strict=True)
            ]
        )
    return captions_MC, swapped_MC


def _can_swap(data: Scenes, split: str, tag: str, scene: Scene) -> bool:
    swapped = swapped_scene(scene, tag)
    bare = wording(templates(scene.statement, data.grammar)[0], iter([0.0] * DRAWS))
    return (
        swapped is not None
        and in_split(data, swapped.statement, split)
        and bool(swapped_sentence(scene, tag, bare))
    )


def _captions(data: Scenes, scene: Scene, tag: str, rng: np.random.Generator) -> tuple[str, str]:
    """Words a statement and its swap in the same way; a way that needs other articles is passed."""
    ways = templates(scene.statement, data.grammar)
    order, draws = rng.permutation(len(ways)).tolist(), rng.random(DRAWS).tolist()
    for template in order:
        way = wording(ways[template], iter(draws))
        if other := swapped_sentence(scene, tag, way):
            return sentence(scene.statement, way), other
    raise AssertionError("a scene that can be swapped has bare words")


def _drawn(data: Scenes, scene: Scene, side: int, rng: np.random.Generator) -> np.ndarray:
    """Draws a picture, uint8 (S, S, 3); equal streams give equal positions, shades and noise,
    whatever is in it.
    """
    draft = drafted([scene], most_objects(data))
    ((image_SS3,),) = draw(draft, place(draft, rng), side, rng)
    return image_SS3
