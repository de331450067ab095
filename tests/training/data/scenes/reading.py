"""What a caption says, read from its words alone: knows nothing of how captions are made."""

import re
from typing import Any

from harness.training.data.scenes.draft import COLOURS, DIRECTIONS, PLACES, SHAPES, SIZES
from harness.training.data.scenes.words import SYNONYMS

PLAIN = {other: word for word, others in SYNONYMS.items() for other in others}
NUMBERS = {"one": 1, "two": 2, "three": 3, "four": 4}
LOOK = re.compile(rf"(?:({'|'.join(SIZES)}) )?({'|'.join(COLOURS)}) ({'|'.join(SHAPES)})\b")
SIDE = re.compile("|".join(sorted(DIRECTIONS.values(), key=len, reverse=True)))
PLACE = re.compile("|".join(sorted(PLACES, key=len, reverse=True)))
SIDES = {name: side for side, name in DIRECTIONS.items()}


def plain(caption: str) -> str:
    """The caption with synonyms and plurals taken back."""
    words = [re.sub("^(cross|box|plus|rhombus)es$", r"\1", word) for word in caption.split()]
    words = [word[:-1] if word[:-1] in (*SHAPES, *PLAIN) else word for word in words]
    return " ".join(PLAIN.get(word, word) for word in words)


def read(caption: str) -> tuple[Any, ...]:
    """Returns what is said in a form that is equal for captions that say the same: `count` with
    numbers of looks, `places` with places of looks, or `relation` with a side between two looks,
    the smaller first, and other looks. A look is (size or "", colour, shape).
    """
    text = plain(caption)
    looks = LOOK.findall(text)
    assert looks, caption
    if any(word in NUMBERS for word in text.split()):
        numbers = [NUMBERS[word] for word in text.split() if word in NUMBERS]
        return "count", tuple(sorted(zip(looks, numbers, strict=True)))
    side = SIDE.search(text)
    if not side:
        places = PLACE.findall(text)
        return "places", tuple(sorted(zip(looks, places, strict=True)))
    first, second, *others = looks
    comes_first = side.start() < text.index(" ".join(filter(None, first)))
    if comes_first or text[side.end() :].startswith(" it"):
        first, second = second, first
    down, right = SIDES[side.group()]
    if second < first:
        first, second, down, right = second, first, -down, -right
    return "relation", (first, second), (down, right), tuple(sorted(others))


def is_true(caption: str, truth: dict[str, Any]) -> bool:
    """Says by positions in the picture whether a caption is true; also of what `only` says."""
    kind, things, *rest = read(caption)
    objects = truth["objects"]

    def alike(look: tuple[str, str, str]) -> list[dict[str, Any]]:
        return [o for o in objects if look[1:] == (o["colour"], o["shape"])
                and look[0] in ("", o["size"])]  # fmt: skip

    if kind == "relation":
        side, others = rest
        pairs = [(a, b) for a in alike(things[0]) for b in alike(things[1])]
        true = any(side == _side(a, b) for a, b in pairs) and all(map(alike, others))
        number = 2 + len(others)
    elif kind == "places":
        true = all(any(o["place"] == place for o in alike(look)) for look, place in things)
        number = len(things)
    else:
        true = all(len(alike(look)) == number for look, number in things)
        number = sum(number for _, number in things)
    return true and not (caption.startswith("only ") and number != len(objects))


def _side(one: dict[str, Any], other: dict[str, Any]) -> tuple[int, int]:
    down, right = one["y"] - other["y"], one["x"] - other["x"]
    return tuple(int(d > 0.2) - int(d < -0.2) for d in (down, right))
