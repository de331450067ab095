"""Grounding: where in the picture is what an expression names? No box is trained on.

As on RefCOCO+ with ALBEF (Li et al. 2021): Grad-CAM maps of the match, upsampled to the picture by
cubic interpolation. Two scores. Pointing: the pixel of the map's maximum has its centre in the box
(no margin around it). Proposals: of the boxes to choose from, the one with the highest sum of the
map inside, divided by the square root of its area, overlaps the right box by half or more
(intersection over union). Ties count as their mean, so that a constant map earns chance: the share
of the picture that the box covers, and the share of the proposals that fit.

A map may point well without having read the words. So floors stand below: the middle of the
picture, or the largest proposal; the mean of the maps that the same pictures get for the
expressions of other items; and, on scenes, classifiers of the expression alone and of the picture
alone, trained to say which proposal is meant, in reading order.

Letters: N items, h w rows and columns of patches, S pixels along a side, K proposals.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from architectures.contract import Facts, FusionDesign
from architectures.downstream import gradcam
from architectures.frozen import SettingError
from harness.training.data.corpus import Corpus
from harness.training.data.items.as_split import as_split
from harness.training.data.items.item_floors import item_floors
from harness.training.data.items.item_sets import item_sets
from harness.training.data.items.items import Items
from harness.training.data.items.tokens import tokens_of
from harness.training.loop.contrast import contrast_loop
from harness.training.loop.trainer import Trainer
from harness.training.objectives.maps import maps_of
from harness.training.scoring import pointing
from harness.training.scoring.contract import Level, Score, TaskScores, percent
from harness.training.settings.data import Data
from harness.training.settings.objectives import Objectives
from harness.training.settings.spec import TrainSpec
from harness.training.settings.tasks import Grounding

VERSION = "1"
"""Raised when the same weights score differently than before."""

FLOORS = {
    "pointing": {
        "centre": "the middle of every picture",
        "other_words": "maps of other expressions",
    },
    "proposals": {
        "largest": "the largest proposal",
        "other_words": "maps of other expressions",
        "text_only": "trained on expressions alone: which proposal in reading order",
        "picture_only": "trained on pictures alone: which proposal in reading order",
    },
}
"""Score -> its floors, in the words of a table."""
RULES = {
    "pointing": "maximum in the box",
    "proposals": "best proposal overlaps by half",
}
BLIND = "blind_floor"
OTHERS = 3
"""Other expressions whose maps make one floor."""
SHOWN = 8
"""Items that are kept whole, to be drawn without the model."""


def why_not(facts: Facts, objectives: Objectives, task: Grounding) -> str:
    """Returns why a run cannot be scored, as the end of 'not applicable, because ...', or "" where
    it can.
    """
    return gradcam.why_neither(facts, objectives.active())


def refuse(facts: Facts, objectives: Objectives, corpus: Corpus, task: Grounding) -> None:
    """Raises `SettingError` or `DataError` where items or layer cannot be, before a run trains."""
    sets = item_sets(corpus, task)
    pictures = len(np.unique(sets.train.picture_NI)) if len(sets.train) else 0
    if task.finetune and task.finetune.batch_size > pictures:
        raise SettingError(
            f"{task.title}: finetune.batch_size {task.finetune.batch_size} is more than the "
            f"{pictures} pictures of its training expressions"
        )
    by = gradcam.way(facts, objectives.active(), task.by)
    most = facts.fusion_layers + (facts.image_layers if by == "itc" else 0)
    if by and task.layer is not None and not -most <= task.layer < most:
        raise SettingError(
            f"{task.title}: layer is {task.layer}, but a design of the study has at most {most} "
            f"layers that show a map by {by.upper()}: take 0 to {most - 1}, or leave it out"
        )


def names(task: Grounding, data: Data) -> tuple[str, ...]:
    """Returns the names of its scores; those of proposals where the items have some."""
    return tuple(
        name for rule in RULES for name in (rule, *(f"{rule}_{f}" for f in (*FLOORS[rule], BLIND)))
    )


def loop(design: FusionDesign, corpus: Corpus, task: Grounding, train: TrainSpec) -> Trainer:
    """Makes the loop that fine-tunes ITC and ITM on pictures with expressions."""
    assert task.finetune is not None
    sets = item_sets(corpus, task)
    seen, held_out = (
        as_split(items, name, corpus.tokenizer, design.longest_text)
        for name, items in (("train", sets.train), ("val", sets.val))
    )
    return contrast_loop(design, corpus, task.finetune, train, seen, held_out)


def score(
    design: FusionDesign, corpus: Corpus, task: Grounding, device: torch.device
) -> TaskScores:
    """Scores every item, and measures the floors."""
    sets = item_sets(corpus, task)
    items = sets.test
    facts = design.facts(design.config, design.backbone)
    by = gradcam.way(facts, list(design.heads), task.by)
    if by is None:
        raise SettingError(f"{task.title}: {design.name} has neither an ITM nor an ITC map")
    ids_NL = tokens_of(corpus.tokenizer, items.texts, design.longest_text)
    maps = [
        maps_of(
            design,
            items.images_PHWC,
            items.picture_NI[:, 0],
            np.roll(ids_NL, -step, axis=0),
            corpus.tokenizer.pad_id,
            device,
            by=by,
            layer=task.layer,
        )
        for step in range(min(OTHERS + 1, len(items)))
    ]
    others_Nhw = np.mean(maps[1:], axis=0) if maps[1:] else np.zeros_like(maps[0])
    trained = item_floors(sets, corpus.cache)
    shares = trained and {"text_only": trained.text_only, "picture_only": trained.picture_only}
    where = f"Grad-CAM by {by.upper()} on {gradcam.layer_of(design, by, task.layer)}"
    return scores_of(items, maps[0], others_Nhw, where, shares or {})


def scores_of(
    items: Items,
    map_Nhw: np.ndarray,
    others_Nhw: np.ndarray,
    where: str,
    trained: Mapping[str, float],
) -> TaskScores:
    """Scores the maps (N, h, w) of items beside those that other expressions gave them.

    where: how the maps were made, in the words of a table
    trained: accuracies, in [0, 1], of the classifiers of expressions alone and of pictures alone;
        empty where they are not known
    """
    side = items.images_PHWC.shape[1]
    marks = _marks(items, pointing.upsampled(map_Nhw, side))
    blind = _marks(items, pointing.upsampled(others_Nhw, side))
    floors: dict[str, dict[str, float]] = {
        "pointing": {
            "centre": float(np.mean([_holds(box, (0.5, 0.5)) for box in items.box])),
            "other_words": float(blind["pointing"].mean()),
        },
        "proposals": {},
    }
    chances = {"pointing": marks["box_share"]}
    if len(marks["proposals"]):
        choices = [(k, box) for k, box in zip(items.proposals, items.box, strict=True) if k]
        fitting = [pointing.fitting(boxes, box) for boxes, box in choices]
        largest = [pointing.largest(boxes) for boxes, _ in choices]
        chances["proposals"] = np.array([fits_K.mean() for fits_K in fitting])
        floors["proposals"] = {
            "largest": float(np.mean([a @ b for a, b in zip(largest, fitting, strict=True)])),
            "other_words": float(blind["proposals"].mean()),
            **trained,
        }
    scores: list[Score] = []
    levels: list[Level] = []
    for rule, chance_N in chances.items():
        more, its_levels = _beside_floors(rule, marks[rule], chance_N, floors[rule], where)
        scores, levels = scores + more, levels + its_levels
    return TaskScores(
        protocol=where,
        scores=tuple(scores),
        levels=tuple(levels),
        predictions={**marks, **_shown(items, map_Nhw)},
    )


def _marks(items: Items, map_NSS: np.ndarray) -> dict[str, np.ndarray]:
    """Returns what every item earned: `pointing`; the point (`point_x`, `point_y`) as shares of the
    side, the mean of those that tie; `box_share`, what the box covers of the picture; of the items
    with proposals `proposals`, and `overlap` of the preferred one with the right box.
    """
    marks: dict[str, list[float]] = {
        name: [] for name in ("pointing", "point_x", "point_y", "box_share", "proposals", "overlap")
    }
    side = map_NSS.shape[1]
    for number, (map_SS, box) in enumerate(zip(map_NSS, items.box, strict=True)):
        points_SS, inside_SS = pointing.points(map_SS), pointing.inside(box, side)
        x, y = pointing.pointed(map_SS)
        marks["pointing"].append(float(inside_SS[points_SS].mean()))
        marks["point_x"].append(x)
        marks["point_y"].append(y)
        marks["box_share"].append(float(inside_SS.mean()))
        boxes = items.proposals[number] if items.proposals else ()
        if boxes:
            share_K = pointing.preferred(map_SS, boxes)
            marks["proposals"].append(float(share_K @ pointing.fitting(boxes, box)))
            overlap_K = np.array([pointing.overlap(each, box) for each in boxes])
            marks["overlap"].append(float(share_K @ overlap_K))
    return {name: np.array(values, dtype=np.float64) for name, values in marks.items()}


def _holds(box: pointing.Box, point: tuple[float, float]) -> bool:
    return box[0] <= point[0] <= box[2] and box[1] <= point[1] <= box[3]


def _beside_floors(
    rule: str,
    share_N: np.ndarray,
    chance_N: np.ndarray,
    floors: Mapping[str, float],
    where: str,
) -> tuple[list[Score], list[Level]]:
    """Returns a score with its floors and the highest of them, and how it stands beside chance and
    beside that floor.
    """
    value, floor = float(share_N.mean()), max(floors.values())
    above = "below the score" if value > floor else "the score is not evidence of reading"
    scores = [
        percent(rule, 100 * value, f"{where}: {RULES[rule]}"),
        *(percent(f"{rule}_{n}", 100 * its, FLOORS[rule][n]) for n, its in floors.items()),
        percent(f"{rule}_{BLIND}", 100 * floor, f"blind: {above}"),
    ]
    successes = int(share_N.sum() + 1e-6)  # shares may add up to just below a whole
    levels = [
        Level(name=name, successes=successes, items=len(share_N), chance=min(chance, 1.0))
        for name, chance in ((rule, float(chance_N.mean())), (f"{rule}_{BLIND}", floor))
    ]
    return scores, levels


def _shown(items: Items, map_Nhw: np.ndarray) -> dict[str, np.ndarray]:
    """Keeps a few items whole, evenly spread: pictures, maps, boxes, expressions, and which items
    they are (`shown_item`).
    """
    rows = np.unique(np.linspace(0, len(items) - 1, SHOWN).round().astype(np.int64))
    return {
        "shown_item": rows,
        "shown_image": np.asarray(items.images_PHWC[items.picture_NI[rows, 0]]),
        "shown_map": map_Nhw[rows].astype(np.float32),
        "shown_box": np.array([items.box[row] for row in rows], dtype=np.float32),
        "shown_text": np.array([items.texts[row] for row in rows]),
    }
