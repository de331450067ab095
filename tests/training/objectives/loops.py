"""The losses written with loops over rows and columns of plain numbers: nothing of ours in it, and
nothing of torch. Gradients are derived by hand, for they have a plain form: softmax less target.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

Vector = list[float]


@dataclasses.dataclass
class Pair:
    """A picture with its caption, as ITC sees it."""

    image: list[Vector]
    """Unit vectors; most designs have one for a picture."""
    text: Vector
    group: int = -9
    picture: int = -9
    captions: tuple[int, ...] = ()
    """All captions of the picture; the one drawn is first. Noise has none."""


def same_thing(image: Pair, text: Pair) -> bool:
    """The caption that was drawn for one pair describes the picture of the other."""
    if not image.captions or not text.captions:
        return False
    same = image.group == text.group or image.picture == text.picture
    return same or text.captions[0] in image.captions


def cosine(image: Pair, text: Pair) -> tuple[float, int]:
    """The largest over the picture's vectors, and which vector that is."""
    found = [sum(a * b for a, b in zip(v, text.text, strict=True)) for v in image.image]
    best = max(range(len(found)), key=found.__getitem__)
    return found[best], best


def softmax(logits: Sequence[float]) -> list[float]:
    total = sum(math.exp(x - max(logits)) for x in logits)
    return [math.exp(x - max(logits)) / total for x in logits]


def one_item(logits: Sequence[float], wanted: Sequence[float]) -> tuple[float, list[float]]:
    """Cross-entropy with what is wanted (sums to 1), and its derivative for each logit."""
    top = max(logits)
    below = top + math.log(sum(math.exp(x - top) for x in logits))
    loss = sum(share * (below - x) for share, x in zip(wanted, logits, strict=True))
    return loss, [p - share for p, share in zip(softmax(logits), wanted, strict=True)]


@dataclasses.dataclass
class Rule:
    """What ITC is to do with a row, and by what cosines are divided."""

    same: str
    temperature: float
    alpha: float = 0.0


def one_row(
    cosines: list[float], matching: list[bool], own: int, rule: Rule, taught: list[float] | None
) -> tuple[float, list[float]]:
    """Cross-entropy of one picture over all captions, or of one caption over all pictures, and its
    derivative for each logit. `taught`: the teacher's cosines.
    """
    kept = [j for j in range(len(cosines)) if j == own or rule.same != "masked" or not matching[j]]
    right = [j for j in kept if j == own or (rule.same == "positive" and matching[j])]
    wanted = [1 / len(right) if j in right else 0.0 for j in kept]
    if taught is not None:
        soft = softmax([taught[j] / rule.temperature for j in kept])
        both = zip(soft, wanted, strict=True)
        wanted = [rule.alpha * said + (1 - rule.alpha) * hard for said, hard in both]
    loss, slope = one_item([cosines[j] / rule.temperature for j in kept], wanted)
    by_key = dict(zip(kept, slope, strict=True))
    return loss, [by_key.get(j, 0.0) for j in range(len(cosines))]


@dataclasses.dataclass
class Slopes:
    """Derivatives of the loss."""

    images: list[list[Vector]]
    texts: list[Vector]
    temperature: float = 0.0

    @staticmethod
    def none(rows: list[Pair]) -> Slopes:
        zero = [[[0.0] * len(v) for v in row.image] for row in rows]
        return Slopes(zero, [[0.0] * len(row.text) for row in rows])


def itc(
    rows: list[Pair], keys: list[Pair], rule: Rule, teacher: list[Pair] | None, *, learn: bool
) -> tuple[float, Slopes]:
    """Mean over pictures and captions, and its derivatives. `keys`: row i's own is key i; where
    they `learn` they are the rows. `teacher`: what the teacher makes of the keys, its rows first;
    None: hard targets alone.
    """
    total, slopes, count = 0.0, Slopes.none(rows), 2 * len(rows)
    for i, row in enumerate(rows):
        for from_image in (True, False):
            ends = [(row, key) if from_image else (key, row) for key in keys]
            found = [cosine(*pair) for pair in ends]
            matching = [same_thing(*pair) for pair in ends]
            taught = None
            if teacher is not None:
                own = teacher[i]
                taught = [cosine(*((own, k) if from_image else (k, own)))[0] for k in teacher]
            loss, slope = one_row([c for c, _ in found], matching, i, rule, taught)
            total += loss / count
            for j, (image, text) in enumerate(ends):
                value, best = found[j]
                by_cosine = slope[j] / rule.temperature / count
                slopes.temperature -= by_cosine * value / rule.temperature
                if from_image or learn:
                    into = slopes.images[i if from_image else j][best]
                    for e, x in enumerate(text.text):
                        into[e] += by_cosine * x
                if not from_image or learn:
                    into = slopes.texts[j if from_image else i]
                    for e, x in enumerate(image.image[best]):
                        into[e] += by_cosine * x
    return total, slopes


def itm_weights(
    logits: list[list[float]], matching: list[list[bool]], same: str, hard_share: float
) -> list[list[float]]:
    """With what weight each column is drawn for each row, as plain numbers."""
    found = []
    for i, row in enumerate(logits):
        free = [j for j in range(len(row)) if j != i and (same == "negative" or not matching[i][j])]
        counted = range(len(row)) if same == "negative" else free
        total = sum(math.exp(row[j] - max(row)) for j in counted)
        hard = [math.exp(x - max(row)) / total if free else 0.0 for x in row]
        uniform = 1 / len(free) if free else 0.0
        found.append(
            [
                hard_share * hard[j] + (1 - hard_share) * uniform if j in free else 0.0
                for j in range(len(row))
            ]
        )
    return found


def words(
    logits: list[list[float]],
    labels: list[int],
    taught: list[list[float]] | None = None,
    alpha: float = 0.0,
) -> tuple[float, list[list[float]]]:
    """Mean cross-entropy over the rows whose label is not -100, 0 where there are none, and its
    derivative for each logit. With a teacher alpha of the target is its softmax over the columns.
    """
    count = max(sum(label != -100 for label in labels), 1)
    total, slopes = 0.0, []
    for n, (row, label) in enumerate(zip(logits, labels, strict=True)):
        wanted = [float(column == label) for column in range(len(row))]
        if taught is not None:
            both = zip(softmax(taught[n]), wanted, strict=True)
            wanted = [alpha * said + (1 - alpha) * hard for said, hard in both]
        loss, slope = one_item(row, wanted)
        counts = label != -100
        total += loss / count if counts else 0.0
        slopes.append([x / count if counts else 0.0 for x in slope])
    return total, slopes
