"""Solves the depth or width at which a cell costs what another cell costs.

Costs are the house's own, counted on torch's meta device (`runs.assemble`). Depth is tried first,
field by field in the order of `DEPTHS`, of those that the cell does not set itself; then, at the
depth that came closest, the inner width of the MLPs. The first that comes within `CLOSE` is taken.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence

from architectures import registry
from architectures.frozen import SettingError
from harness.runs.assemble import counted_cost, counted_flops
from harness.study import Cell, Variant
from harness.training.data.corpus import Corpus
from harness.training.settings.matched import IN_WORDS, Match
from harness.training.settings.spec import RunSpec, digest

CLOSE = 0.02
"""A cost within this share of the other's is equal to it."""
DEPTHS = ("fusion_layers", "layers", "text_layers")
"""Fields of designs that say how many layers they have, in the order in which they are tried."""
DEEPEST = 24
"""Most layers that are tried."""
WIDTHS = ("text_mlp", "image_mlp")
"""Fields of the backbone by which a cell is widened or narrowed, to a quarter or to four times."""
STEPS = 64
"""A width is tried in steps of this part of its own."""

SpecOf = Callable[[Cell], RunSpec]


def resized(cell: Cell, match: Match) -> Cell:
    """Returns a cell with what was solved for it, under the name that it has."""
    fields = {**cell.variant.fields, **match.fields}
    return cell.model_copy(
        update={
            "variant": Variant(cell.variant.design, fields=fields),
            "settings": {**cell.settings, **match.settings},
            "label": cell.name,
        }
    )


def solved(
    cell: Cell,
    other: Cell,
    spec_of: SpecOf,
    corpus_of: Callable[[RunSpec], Corpus],
    before: Match | None,
) -> Match:
    """Returns what makes `cell` cost what `other` costs. `spec_of`: plans a cell; `corpus_of`:
    loads its data. `before`: what an earlier plan solved, taken where it was the same question.

    Raises `SettingError` where neither depth nor width of the cell can be changed.
    """
    assert cell.matched is not None
    target, start = spec_of(other), spec_of(cell)
    asked = digest([cell.matched.what, target.train_key(), start.train_key()])
    if before is not None and before.asked == asked and before.matched == cell.matched:
        return before
    cost = _cost_of(cell, corpus_of)
    wanted = cost(target)
    served = start.train.objectives.active()
    bare, matches = Match(matched=cell.matched, ratio=0.0, asked=asked), list[Match]()

    def ratio(fields: Mapping[str, int], settings: Mapping[str, int]) -> float | None:
        """Returns the cost at these sizes over the wanted one; None: it cannot be built so, or
        serves other objectives.
        """
        match = bare.model_copy(update={"fields": dict(fields), "settings": dict(settings)})
        try:
            spec = spec_of(resized(cell, match))
            same = spec.train.objectives.active() == served
            return cost(spec) / wanted if same else None
        except SettingError:
            return None

    def keep(fields: Mapping[str, int], settings: Mapping[str, int], value: float) -> bool:
        sizes = {"fields": dict(fields), "settings": dict(settings), "ratio": value}
        matches.append(bare.model_copy(update=sizes))
        return abs(value - 1) <= CLOSE

    def deeper(field: str, layers: int) -> float | None:
        return ratio({field: layers}, {})

    def wider(path: str, width: int) -> float | None:
        return ratio(deep, {path: width})

    unchanged = ratio({}, {})
    if unchanged is not None and keep({}, {}, unchanged):
        return matches[-1]
    for field in _free_depths(cell):
        best = _nearest(range(1, DEEPEST + 1), functools.partial(deeper, field))
        if best and keep({field: best[0]}, {}, best[1]):
            return matches[-1]
    deep = _closest(matches).fields if matches else {}
    for width in _free_widths(cell, start):
        usual = getattr(start.backbone, width) or 4 * start.backbone.image_width
        step = max(1, usual // STEPS)
        path = f"backbone.{width}"
        sizes = range(max(step, usual // 4), 4 * usual + 1, step)
        best = _nearest(sizes, functools.partial(wider, path))
        if best and keep(deep, {path: best[0]}, best[1]):
            return matches[-1]
    if not any(match.fields or match.settings for match in matches):
        raise SettingError(
            f"it cannot be matched to {other.name!r}: the cell sets its depth itself, and its "
            "width is that of its weights; leave one of them open"
        )
    return _closest(matches)


def _closest(matches: Sequence[Match]) -> Match:
    return min(matches, key=lambda match: abs(match.ratio - 1))


def _cost_of(cell: Cell, corpus_of: Callable[[RunSpec], Corpus]) -> Callable[[RunSpec], float]:
    assert cell.matched is not None
    if cell.matched.what == "flops":
        return lambda spec: counted_flops(spec, corpus_of(spec))
    return lambda spec: float(counted_cost(spec, corpus_of(spec)).parameters)


def _free_depths(cell: Cell) -> list[str]:
    known = registry.find(cell.variant.design).Config.model_fields
    return [field for field in DEPTHS if field in known and field not in cell.variant.fields]


def _free_widths(cell: Cell, spec: RunSpec) -> Iterator[str]:
    """Yields widths that the cell leaves open: those of towers without weights of their own."""
    for width, weights in zip(WIDTHS, ("text_weights", "vision_weights"), strict=True):
        given = spec.train.warm_start is not None or getattr(spec.backbone, weights) != "random"
        if not given and f"backbone.{width}" not in cell.settings:
            yield width


def _nearest(
    sizes: Sequence[int], ratio: Callable[[int], float | None]
) -> tuple[int, float] | None:
    """Returns the size whose ratio is nearest to 1, with its ratio, by halving: the ratio goes one
    way with the size. None: no size can be built.
    """
    low, high = 0, len(sizes) - 1
    seen: dict[int, float | None] = {}

    def at(place: int) -> float | None:
        if place not in seen:
            seen[place] = ratio(sizes[place])
        return seen[place]

    while high > low and at(high) is None:
        high = (low + high) // 2
    while high > low and at(low) is None:
        low += 1
    first, last = at(low), at(high)
    if first is None or last is None:
        return None
    upwards = last >= first
    while high - low > 1:
        middle = (low + high) // 2
        value = at(middle)
        if value is None:
            break
        low, high = (middle, high) if (value < 1) == upwards else (low, middle)
    there = {place: value for place, value in seen.items() if value is not None}
    place = min(there, key=lambda place: (abs(there[place] - 1), place))
    return sizes[place], there[place]


def match_notes(matches: Mapping[str, Match]) -> list[str]:
    """Says what was chosen for each matched cell, and how close it comes."""
    return [_in_words(cell, match) for cell, match in matches.items()]


def _in_words(cell: str, match: Match) -> str:
    sizes = {**match.fields, **match.settings}
    chosen = ", ".join(f"{name} = {size}" for name, size in sizes.items()) or "unchanged"
    equal = abs(match.ratio - 1) <= CLOSE
    result = "" if equal else f"; no size that was tried comes within {CLOSE:.0%}"
    what = IN_WORDS[match.matched.what]
    return (
        f"cell {cell}: {chosen}: {match.ratio:.3f} times the {what} of {match.matched.to}{result}"
    )
