"""Pairs: groups of pictures and captions that only a joint reading tells apart.

Groups of as many pictures as captions, the same words in another arrangement (Winoground's form):
margin, group match, text, picture and group score. Groups of one picture: its right captions above
its wrong ones (SugarCrepe's form), or one caption that is right or wrong (VSR's). The rules, with
their chance levels, stand in `scoring.groups`; ties earn chance.

Two protocols, both reported where the design serves both: the ITM head's logit of "match" of every
pair (the design's own where it can fuse), and ITC alone, cosines of the two towers. They are
compared group by group: what fusion adds within one model, descriptive.

A set of groups of one picture can be solved without the picture, so it has blind floors: the same
design with the mean picture in place of each, and a classifier of words alone, trained on the
groups by folds. A score that is not above the higher of the two is not evidence of binding.

Letters: N items.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import torch

from architectures.contract import Facts, FusionDesign
from architectures.frozen import path_named
from harness.training.data.at_urls import local
from harness.training.data.corpus import Corpus
from harness.training.data.group_files import read_lines
from harness.training.data.group_sets import check_tags, groups_of
from harness.training.data.groups import Group, Groups, tag_name
from harness.training.data.scenes.swaps import swap_tags
from harness.training.objectives.compared import group_tables
from harness.training.scoring.blind import words_alone
from harness.training.scoring.contract import Level, Score, TaskScores, percent
from harness.training.scoring.groups import (
    RULES,
    Shares,
    margins,
    paired,
    rules_of,
    shares_of,
)
from harness.training.settings.data import Data, Scenes
from harness.training.settings.objectives import Objectives
from harness.training.settings.tasks import Pairs

VERSION = "1"
"""Raised when the same weights score differently than before."""

PROTOCOLS = {"itm": "every pair by ITM", "itc": "ITC alone"}
"""Protocol -> what the report calls it; a design's own is the first of those that it can serve."""
UNITS = {"itm": "logit", "itc": "cosine"}
"""Protocol -> the unit of its margins."""
FLOORS = ("mean_picture", "words_alone")
BLIND = "blind_floor"
SHOWN = 4
"""Groups that are kept whole."""


def why_not(facts: Facts, objectives: Objectives, task: Pairs) -> str:
    """Returns why a run cannot be scored, as the end of 'not applicable, because ...', or "" where
    it can.
    """
    if (objectives.itc.weight and facts.can_align) or (objectives.itm.weight and facts.can_fuse):
        return ""
    return facts.no_align or facts.no_fuse or "pairs compares by ITC or ITM, and neither is on"


def refuse(facts: Facts, objectives: Objectives, corpus: Corpus, task: Pairs) -> None:
    """Raises `SettingError` or `DataError` where the groups cannot be used, before a run trains."""
    groups_of(corpus, task)


def names(task: Pairs, data: Data) -> tuple[str, ...]:
    """Returns the names of the scores that some design gets, so that a study may ask for one: those
    of the groups in the folder, or of what can be swapped in the scenes. Raises `DataError` as
    `read_lines` does, and `SettingError` as `check_tags`.
    """
    sizes = set(_sizes(task, data))
    of_tags = {(t, k, count) for tag, k, count in sizes for t in {"", tag and f"{tag_name(tag)}_"}}
    some = {(t, rule) for t, k, count in of_tags for rule in rules_of(k, count)}
    some |= {(t, "margin") for t, k, count in of_tags if k == count == 2}
    suffixes = ("", *(f"_{name}" for name in PROTOCOLS))
    blind = {rule for _, k, count in sizes if k == 1 and task.floors for rule in rules_of(k, count)}
    return (
        *(f"{t}{rule}{suffix}" for t, rule in sorted(some) for suffix in suffixes),
        *("itm_only", "itc_only", "mcnemar_p"),
        *(f"{rule}_{floor}" for rule in sorted(blind) for floor in (*FLOORS, BLIND)),
    )


def _sizes(task: Pairs, data: Data) -> Iterator[tuple[str, int, int]]:
    """Yields tag, pictures and captions of the groups; of scenes, of a group of each tag."""
    if task.groups:
        lines = read_lines(path_named(local(task.groups)))
        check_tags(task, lines)
        for line in lines:
            if not task.tags or line.tag in task.tags:
                yield line.tag, len(line.images), len(line.captions)
    elif isinstance(data, Scenes):
        for tag in (task.tags or swap_tags(data))[: task.count]:
            yield tag, 2, 2


def score(design: FusionDesign, corpus: Corpus, task: Pairs, device: torch.device) -> TaskScores:
    """Scores all groups. Levels are those of the design's own protocol: of every rule over all
    groups, and of the main one for each tag, where the other rules have the same chances as there.
    """
    groups = groups_of(corpus, task)
    matches = [group.match_kl for group in groups.groups]
    tables = group_tables(design, groups, corpus.tokenizer, device)
    own = next(name for name in PROTOCOLS if name in tables)
    shares = {name: shares_of(its, matches) for name, its in tables.items()}
    scores: list[Score] = []
    levels: list[Level] = []
    predictions: dict[str, np.ndarray] = {}
    for name in (own, *tables):
        suffix = "" if name == own and not scores else f"_{name}"
        for tag, wanted_G in _tags(groups.groups):
            for rule, every in shares[name].items():
                some = every.take(wanted_G[every.group_N])
                if not len(some.share_N):
                    continue
                scores.append(_percent(f"{tag}{rule}{suffix}", some, name))
                if not suffix and (not tag or rule == main_rule(shares[own])):
                    levels.append(level_of(f"{tag}{rule}", some))
            margin_N = [m for g, m in margins(tables[name], matches) if wanted_G[g]]
            if margin_N:
                scores.append(_margin(f"{tag}margin{suffix}", margin_N, name))
        if suffix:
            predictions |= _predictions(shares[name], tables[name], matches, name)
    if len(tables) == 2:
        scores += _side_by_side(shares["itm"], shares["itc"])
    if task.floors:
        more, floors = _floors(design, groups, corpus, task, device, shares[own])
        scores, levels = scores + more, levels + floors
    predictions |= _shown(groups, tables[own])
    return TaskScores(
        protocol=PROTOCOLS[own],
        scores=tuple(scores),
        levels=tuple(levels),
        predictions=predictions,
    )


def _tags(groups: tuple[Group, ...]) -> Iterator[tuple[str, np.ndarray]]:
    """Yields "" with all groups, then every tag with its groups: bool (G,)."""
    names_G = np.array([tag_name(group.tag) for group in groups])
    yield "", np.ones(len(groups), dtype=bool)
    for tag in sorted({*names_G.tolist()} - {""}):
        yield f"{tag}_", names_G == tag


def main_rule(shares: Mapping[str, Shares]) -> str:
    """Returns the rule that says most of a set: the first of `RULES` that it has."""
    return next(rule for rule in RULES if rule in shares)


def _percent(name: str, shares: Shares, protocol: str) -> Score:
    return percent(name, 100 * float(shares.share_N.mean()), PROTOCOLS[protocol])


def _margin(name: str, margin_N: list[float], protocol: str) -> Score:
    return Score(
        name=name,
        value=math.fsum(margin_N) / len(margin_N),
        unit=UNITS[protocol],
        higher_is_better=True,
        protocol=PROTOCOLS[protocol],
    )


def level_of(name: str, shares: Shares, chance: float | None = None) -> Level:
    """Returns the level of some items beside their mean chance, or beside `chance`."""
    successes = math.floor(shares.share_N.sum() + 1e-6)  # shares may add up to just below a whole
    chance = float(shares.chance_N.mean()) if chance is None else chance
    return Level(name=name, successes=successes, items=len(shares.share_N), chance=chance)


def _predictions(
    shares: Mapping[str, Shares],
    tables: list[np.ndarray],
    matches: list[np.ndarray],
    protocol: str,
) -> dict[str, np.ndarray]:
    """Returns what every item earned, and every group's margin, by rule and protocol."""
    items = {f"{rule}_{protocol}": its.share_N.astype(np.float32) for rule, its in shares.items()}
    margin_N = [value for _, value in margins(tables, matches)]
    return items | ({f"margin_{protocol}": np.array(margin_N)} if margin_N else {})


def _shown(groups: Groups, tables: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Keeps a few groups of two pictures and two captions whole, evenly spread, to be drawn without
    the model: pictures, captions, the scores of all four pairs, and which groups they are
    (`shown_group`); nothing where there are none.
    """
    square = [g for g, each in enumerate(groups.groups) if np.array_equal(each.match_kl, np.eye(2))]
    if not square:
        return {}
    places = np.unique(np.linspace(0, len(square) - 1, SHOWN).round().astype(np.int64))
    rows = [square[place] for place in places]
    some = [groups.groups[row] for row in rows]
    return {
        "shown_group": np.array(rows),
        "shown_pictures": groups.images_PHWC[np.array([group.pictures for group in some])],
        "shown_captions": np.array([group.captions for group in some]),
        "shown_scores": np.stack([tables[row] for row in rows]).astype(np.float32),
    }


def _side_by_side(itm: Mapping[str, Shares], itc: Mapping[str, Shares]) -> Iterator[Score]:
    """Yields the comparison of both protocols by the set's main score, item by item: percent of
    items that the one alone gets right, and McNemar's p, which says nothing of other seeds.
    """
    main = main_rule(itm)
    more, less, p = paired(itm[main].share_N, itc[main].share_N)
    protocol = f"{main.replace('_', ' ')}, ITM beside ITC"
    yield percent("itm_only", 100 * more, protocol)
    yield replace(percent("itc_only", 100 * less, protocol), higher_is_better=False)
    yield Score(
        name="mcnemar_p", value=p, unit="probability", higher_is_better=False, protocol=protocol
    )


def _floors(
    design: FusionDesign,
    groups: Groups,
    corpus: Corpus,
    task: Pairs,
    device: torch.device,
    own: Mapping[str, Shares],
) -> tuple[list[Score], list[Level]]:
    """Returns both floors of the groups of one picture, the higher of them, and what the design got
    right beside it; nothing where there is no such group.
    """
    alone = [number for number, group in enumerate(groups.groups) if len(group.pictures) == 1]
    if not alone:
        return [], []
    one = replace(groups, groups=tuple(groups.groups[number] for number in alone))
    matches = [group.match_kl for group in one.groups]
    tables = group_tables(design, without_pictures(one), corpus.tokenizer, device)
    blind = {
        "mean_picture": shares_of(next(iter(tables.values())), matches),
        "words_alone": shares_of(_words_alone(one, task.folds), matches),
    }
    scores: list[Score] = []
    levels: list[Level] = []
    for rule in blind["words_alone"]:
        values = {floor: 100 * float(blind[floor][rule].share_N.mean()) for floor in FLOORS}
        some = own[rule].take(np.isin(own[rule].group_N, alone))
        floor = max(values.values())
        level = level_of(f"{rule}_{BLIND}", some, chance=floor / 100)
        above = 100 * float(some.share_N.mean()) > floor
        verdict = "below the score" if above else "the score is not evidence of binding"
        scores += [percent(f"{rule}_{name}", value, "blind") for name, value in values.items()]
        scores.append(percent(f"{rule}_{BLIND}", floor, f"blind: {verdict}"))
        levels.append(level)
    return scores, levels


def without_pictures(groups: Groups) -> Groups:
    """Returns the same groups with the mean picture in place of each."""
    shown = sorted({row for group in groups.groups for row in group.pictures})
    mean_HWC = np.rint(groups.images_PHWC[shown].mean(axis=0, dtype=np.float64))
    same = tuple(replace(group, pictures=(0,) * len(group.pictures)) for group in groups.groups)
    return Groups(images_PHWC=mean_HWC.astype(np.uint8)[None], groups=same)


def _words_alone(groups: Groups, folds: int) -> list[np.ndarray]:
    """Returns scores (1, l) of every group by the classifier; a picture's groups share a fold."""
    captions = [caption for group in groups.groups for caption in group.captions]
    right_C = np.concatenate([group.match_kl[0] for group in groups.groups])
    family_C = [group.pictures[0] for group in groups.groups for _ in group.captions]
    odds = iter(words_alone(captions, right_C, family_C, folds).tolist())
    return [np.array([[next(odds) for _ in group.captions]]) for group in groups.groups]
