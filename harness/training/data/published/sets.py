"""The published sets that can be converted, by name: who reads each, and what to know of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from architectures.frozen import nearest
from harness.training.data.published import arrangements, one_sided
from harness.training.data.published.found import Items


@dataclass(frozen=True)
class PublishedSet:
    """A set of groups that others publish."""

    read: Callable[[Path, Path | None], Items]
    """Reads a local copy: its file or folder, and the folder of its pictures."""
    note: str
    """What a reader of its scores needs to know."""


_BLIND = "its wrong captions can be told by words alone: read it beside its blind floors"
SETS = {
    "winoground": PublishedSet(
        arrangements.winoground, "400 groups, for research only; part of them ask for more than "
        "binding (Diwan et al. 2022)"
    ),
    "colorswap": PublishedSet(arrangements.colorswap, "generated pictures; has a train split"),
    "bivlc": PublishedSet(
        arrangements.bivlc, "the negative of each pair of pictures is generated, which shows"
    ),
    "whats_up": PublishedSet(
        arrangements.whats_up, "of the controlled sets `caption` is the individual accuracy, "
        "`text_score` that of whole sets"
    ),
    "sugarcrepe": PublishedSet(
        one_sided.sugarcrepe, f"{_BLIND}; in add_* the wrong one is longer. Its own evaluation "
        "counts a tie as wrong"
    ),
    "sugarcrepe_pp": PublishedSet(one_sided.sugarcrepe_pp, f"{_BLIND}; chance is 1/3"),
    "valse": PublishedSet(one_sided.valse, f"{_BLIND}; pictures come from five sources"),
    "vsr": PublishedSet(
        one_sided.vsr, "one caption a picture: as many are called right as are; its own accuracy "
        "is that of a trained classifier, with the majority at .54"
    ),
    "aro": PublishedSet(
        one_sided.aro, "hackable: a model of words alone beats CLIP on it, so no evidence of "
        "binding without its blind floors"
    ),
}  # fmt: skip


def find(name: str) -> PublishedSet:
    """Returns a set by its name. Raises `SettingError` with the nearest one."""
    if name not in SETS:
        raise nearest(name, SETS, "published set")
    return SETS[name]
