"""How a trained design reads pictures with captions: ITC's cosine, ITM's match logit, masked words.

Letters: I images, T texts, N pairs or masked words; k pictures and l captions of one group.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from architectures.contract import FusionDesign, ImageStates, TextStates
from architectures.layers.heads import itc_head
from architectures.layers.similarity import Asks, similarities
from harness.training.data.groups import Group, Groups
from harness.training.data.masked_kinds import MaskedKind, batches_of
from harness.training.data.tokenizer import Tokenizer, encoded
from harness.training.data.transforms import normalised
from harness.training.objectives.term import full

BATCH = 128
GROUPS_AT_ONCE = 32
UNSCORED = -100.0
"""What stands for a pair that was not scored, as in ALBEF."""


@torch.no_grad()
def match_logits(
    design: FusionDesign, image: ImageStates, text: TextStates, wanted_IT: np.ndarray
) -> np.ndarray:
    """Returns the ITM head's logit of "match" (I, T) for the pairs that are wanted, as ALBEF scores
    them, and `UNSCORED` for the rest.

    The logit of "no match" plays no part: ALBEF ranks by this logit alone, and the order by the
    difference of the two is another one.
    """
    device = image.pooled_BD.device
    image_N, text_N = (torch.from_numpy(rows).to(device) for rows in np.nonzero(wanted_IT))
    logits = []
    for images, texts in zip(image_N.split(4 * BATCH), text_N.split(4 * BATCH), strict=True):
        fused = design.fuse(
            image.take(images), text.take(texts), read_at_BR=images.new_zeros(len(images), 0)
        )
        logits.append(full(design.heads["itm"](fused.pooled_BD)[:, 1]).cpu())
    logits_N = torch.cat(logits).numpy()
    logits_IT = np.full(wanted_IT.shape, UNSCORED, dtype=logits_N.dtype)
    logits_IT[wanted_IT] = logits_N
    return logits_IT


@torch.no_grad()
def alike(
    design: FusionDesign, image: ImageStates, text: TextStates, asks: Asks | None = None
) -> np.ndarray:
    """Returns the similarities (I, T) by ITC; `asks` as `layers.similarity` has it."""
    head = itc_head(design)
    image_F, text_F = (full(each) for each in head.features(image, text))
    return similarities(image_F, text_F, head.similarity, asks).cpu().numpy()


def alike_both_ways(
    design: FusionDesign, image: ImageStates, text: TextStates
) -> tuple[np.ndarray, np.ndarray]:
    """Returns two tables (I, T) by ITC: for images that ask, and for texts; where both are one, one
    table twice.
    """
    by_image_IT = alike(design, image, text, "image")
    if itc_head(design).similarity != "late_mean":
        return by_image_IT, by_image_IT
    return by_image_IT, alike(design, image, text, "text")


@torch.no_grad()
def group_tables(
    design: FusionDesign, groups: Groups, tokenizer: Tokenizer, device: torch.device
) -> dict[str, list[np.ndarray]]:
    """Returns `itm` and `itc`, those whose heads the design has, -> the scores (k, l) of each
    group: logits of "match", similarities. Captions of the same tokens have the same scores.
    """
    tables: dict[str, list[np.ndarray]] = {n: [] for n in ("itm", "itc") if n in design.heads}
    for some in _pieces(groups.groups):
        pictures = sorted({row for group in some for row in group.pictures})
        ids_TL, caption_rows = _tokens(design, some, tokenizer)
        image_BCHW = torch.from_numpy(groups.images_PHWC[pictures]).permute(0, 3, 1, 2)
        image = design.encode_image(normalised(image_BCHW.to(device)))
        ids_TL = ids_TL.to(device)
        text = design.encode_text(ids_TL, ids_TL != tokenizer.pad_id)
        place = {row: number for number, row in enumerate(pictures)}
        at = [
            np.ix_([place[row] for row in group.pictures], texts)
            for group, texts in zip(some, caption_rows, strict=True)
        ]
        scores = {}
        if "itm" in tables:
            wanted_IT = np.zeros((len(pictures), len(ids_TL)), dtype=bool)
            for pairs in at:
                wanted_IT[pairs] = True
            scores["itm"] = match_logits(design, image, text, wanted_IT)
        if "itc" in tables:
            scores["itc"] = alike(design, image, text)
        for name, score_IT in scores.items():
            tables[name] += [score_IT[pairs] for pairs in at]
    return tables


def _pieces(groups: Sequence[Group]) -> Iterator[Sequence[Group]]:
    for start in range(0, len(groups), GROUPS_AT_ONCE):
        yield groups[start : start + GROUPS_AT_ONCE]


def _tokens(
    design: FusionDesign, groups: Sequence[Group], tokenizer: Tokenizer
) -> tuple[torch.Tensor, list[list[int]]]:
    """Returns the different token rows (T, L) of the groups' captions, and which of them each
    caption of each group is. They may be longer than the longest training caption, up to the
    positions that the design has.
    """
    rows = encoded(tokenizer.backend, [c for group in groups for c in group.captions])
    room = max(design.longest_text, tokenizer.length)
    length = min(max(tokenizer.length, *map(len, rows)), room)
    ids_KL = tokenizer.with_length(length).padded(rows).astype(np.int64)
    ids_TL, text_K = np.unique(ids_KL, axis=0, return_inverse=True)
    numbers = iter(text_K.ravel().tolist())
    return torch.from_numpy(ids_TL), [[next(numbers) for _ in g.captions] for g in groups]


@torch.no_grad()
def words_right(
    design: FusionDesign,
    images_NHWC: np.ndarray,
    words: MaskedKind,
    tokenizer: Tokenizer,
    device: torch.device,
) -> np.ndarray:
    """Returns bool (N,): every piece of the masked word has the highest logit of all tokens, read
    beside the word's own picture. `images_NHWC`: uint8, all pictures of the split.
    """
    right = []
    for some in batches_of(words, BATCH):
        shown, rows_N = np.unique(some.rows_N, return_inverse=True)
        image_BCHW = torch.from_numpy(images_NHWC[shown]).permute(0, 3, 1, 2)
        image = design.encode_image(normalised(image_BCHW.to(device)))
        ids_NL = torch.from_numpy(some.ids_NL).to(device)
        text = design.encode_text(ids_NL, ids_NL != tokenizer.pad_id)
        at_NR, labels_NR = (
            torch.from_numpy(its).to(device) for its in (some.positions_NR, some.labels_NR)
        )
        fused = design.fuse(
            image.take(torch.from_numpy(rows_N.ravel()).to(device)), text, read_at_BR=at_NR
        )
        best_NR = design.heads["mlm"](fused.text_BRD).argmax(dim=-1)
        right.append(((best_NR == labels_NR) | (labels_NR == -100)).all(dim=1).cpu().numpy())
    return np.concatenate(right)
