"""A cell of a study may be given the size at which it costs what another cell costs."""

from __future__ import annotations

from typing import Literal

from architectures.frozen import Frozen

Cost = Literal["flops", "parameters"]
IN_WORDS: dict[Cost, str] = {"flops": "training FLOPs a sample", "parameters": "parameters"}


class Matched(Frozen):
    """What of a cell is made equal to another cell's, by depth and then by width."""

    what: Cost
    """`flops`: training FLOPs a sample, forward and backward; `parameters`: all of the design's."""
    to: str
    """Name of the other cell, which is not matched itself."""


def matched(what: Cost, *, to: str) -> Matched:
    """Says that a cell shall cost what the cell named `to` costs:
    `Cell(variant=Variant("co_attention"), matched=matched("flops", to="split_bert"))`.
    """
    return Matched(what=what, to=to)


class Match(Frozen):
    """What a matched cell was given, and how close that comes."""

    matched: Matched
    fields: dict[str, int] = {}
    """Fields of the design's config that were solved for."""
    settings: dict[str, int] = {}
    """Settings that were solved for, by dotted path."""
    ratio: float
    """The cell's cost over that of the other cell."""
    asked: str
    """Digest of both cells as the study has them: what was solved."""
