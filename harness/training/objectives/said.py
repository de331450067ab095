"""What a trained design says of one picture: does a text fit, which words, which captions.

Letters: N rows, D width, L tokens, V vocabulary, T captions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from architectures.contract import FusionDesign, ImageStates, TextStates, WritesCaptions
from architectures.frozen import SettingError
from harness.training.data.items.tokens import tokens_of
from harness.training.data.tokenizer import Tokenizer
from harness.training.data.transforms import normalised
from harness.training.objectives.compared import alike
from harness.training.objectives.term import full

BATCH = 128
SAID = 64
"""Tokens of a caption that is said, at most."""
RANKED = 16
"""Captions of ITC's ranking that ITM scores again."""


@dataclass(frozen=True, kw_only=True)
class Match:
    """How well a text fits a picture."""

    text: str
    match: float | None
    """Probability in [0, 1] by ITM; None: it has no ITM head."""
    cosine: float | None
    """By ITC, where tokens are added up (`late_sum`) up to the number of words; None: it has no ITC
    head."""


@dataclass(frozen=True, kw_only=True)
class Filled:
    """A word that was hidden, and the words that the design puts in its place."""

    word: str
    guesses: tuple[tuple[str, float], ...]
    """Words, or pieces of such, with their probability in [0, 1], the likeliest first."""


@torch.no_grad()
def matches(
    design: FusionDesign, tokenizer: Tokenizer, image_HWC: np.ndarray, texts: Sequence[str]
) -> list[Match]:
    """Says how well each text fits the picture."""
    image = _image(design, image_HWC)
    scores: list[Match] = []
    for start in range(0, len(texts), BATCH):
        some = texts[start : start + BATCH]
        text = _text(design, tokenizer, some)
        nothing: list[float | None] = [None] * len(some)
        odds = _odds(design, image, text) if "itm" in design.heads else nothing
        closest = _cosines(design, image, text) if "itc" in design.heads else nothing
        scores += [
            Match(text=each, match=match, cosine=cosine)
            for each, match, cosine in zip(some, odds, closest, strict=True)
        ]
    return scores


def best_captions(
    design: FusionDesign,
    tokenizer: Tokenizer,
    image_HWC: np.ndarray,
    captions: Sequence[str],
    count: int,
) -> list[Match]:
    """Returns the captions that fit best: the first `RANKED` by ITC, ranked again by ITM; by the
    one of them that the design has alone. Of equal scores the first caption comes first.
    """
    listed = captions
    if "itc" in design.heads:
        cosine_T = _closeness(design, tokenizer, image_HWC, captions)
        order = np.argsort(-cosine_T, kind="stable")[: RANKED if "itm" in design.heads else count]
        listed = [captions[row] for row in order]
    scored = matches(design, tokenizer, image_HWC, listed)
    if "itm" in design.heads:
        scored.sort(key=lambda each: -(each.match or 0.0))
    return scored[:count]


@torch.no_grad()
def _closeness(
    design: FusionDesign, tokenizer: Tokenizer, image_HWC: np.ndarray, captions: Sequence[str]
) -> np.ndarray:
    """Returns the cosine (T,) of the picture with every caption."""
    image = _image(design, image_HWC)
    pieces = [captions[start : start + BATCH] for start in range(0, len(captions), BATCH)]
    return np.concatenate([_cosines(design, image, _text(design, tokenizer, s)) for s in pieces])


@torch.no_grad()
def filled(
    design: FusionDesign, tokenizer: Tokenizer, image_HWC: np.ndarray, text: str, top: int = 3
) -> list[Filled]:
    """Hides every word of a text in turn, as one [MASK], and says what the design puts there; where
    the text holds masks of its own, these alone.
    """
    words = hidden_words(tokenizer, text)
    if not words:
        return []
    rows = [ids for _, ids, _ in words]
    padded_NL = tokenizer.with_length(max(map(len, rows))).padded(rows)
    ids_NL = torch.from_numpy(padded_NL).long()
    text_states = design.encode_text(ids_NL, ids_NL != tokenizer.pad_id)
    places_N1 = torch.tensor([[place] for *_, place in words])
    rows_N = torch.zeros(len(words), dtype=torch.int64)
    image = _image(design, image_HWC).take(rows_N)
    fused = design.fuse(image, text_states, read_at_BR=places_N1)
    odds_NV = full(design.heads["mlm"](fused.text_BRD[:, 0])).softmax(-1)
    may_V = torch.from_numpy(tokenizer.is_word_V)
    best_N = odds_NV.masked_fill(~may_V[: odds_NV.shape[1]], -1.0).topk(top)
    return [
        Filled(
            word=word,
            guesses=tuple((_spelled(tokenizer, i), p) for i, p in zip(ids, odds, strict=True)),
        )
        for (word, *_), ids, odds in zip(
            words, best_N.indices.tolist(), best_N.values.tolist(), strict=True
        )
    ]


def caption(design: FusionDesign, tokenizer: Tokenizer, image_HWC: np.ndarray) -> str:
    """Returns the caption that the design says of a picture, as `written` does."""
    return written(design, tokenizer, _image(design, image_HWC))[0]


@torch.no_grad()
def written(design: FusionDesign, tokenizer: Tokenizer, image: ImageStates) -> list[str]:
    """Returns the caption that the design says of each picture by LM: at every place the word, or
    the end, that is likeliest after those before it (greedy), up to `SAID` tokens.

    Raises `SettingError` for a design without the head of LM.
    """
    if "lm" not in design.heads:
        why = design.facts(design.config, design.backbone).why_not("lm")
        raise SettingError(
            f"{design.name} says no caption, because {why or 'it was trained without LM'}"
        )
    assert isinstance(design, WritesCaptions)
    device, rows = image.distinct_UPD.device, len(image.tokens_BPD)
    may_V = torch.from_numpy(tokenizer.is_word_V).to(device)
    may_V = may_V | (torch.arange(len(may_V), device=device) == tokenizer.sep_id)
    ids_NL = torch.full((rows, 1), tokenizer.cls_id, device=device)
    ended_N = torch.zeros(rows, dtype=torch.bool, device=device)
    while ids_NL.shape[1] < min(SAID, design.longest_text) and not ended_N.all():
        one_N = ids_NL.new_ones(rows)
        text = design.encode_caption(ids_NL, torch.ones_like(ids_NL, dtype=torch.bool), one_N)
        last_ND = design.fuse(image, text).text_BRD[:, -1]
        logits_NV = full(design.heads["lm"](last_ND))
        next_N = logits_NV.masked_fill(~may_V, -torch.inf).argmax(-1)
        next_N = next_N.masked_fill(ended_N, tokenizer.sep_id)
        ids_NL = torch.cat([ids_NL, next_N[:, None]], dim=1)
        ended_N = ended_N | (next_N == tokenizer.sep_id)
    return [tokenizer.decode(ids_L) for ids_L in ids_NL]


def hidden_words(tokenizer: Tokenizer, text: str) -> list[tuple[str, list[int], int]]:
    """Returns every word of a text, the tokens of the text with one mask in its place, and where
    the mask stands; of a text with masks these alone, each with the others left as they are.
    """
    encoding = tokenizer.backend.encode(text)
    ids = list(encoding.ids)
    masks = [place for place, i in enumerate(ids) if i == tokenizer.mask_id]
    if masks:
        return [("[MASK]", ids, place) for place in masks]
    words: dict[int, list[int]] = {}
    for place, word in enumerate(encoding.word_ids):
        if word is not None and ids[place] not in (tokenizer.cls_id, tokenizer.sep_id):
            words.setdefault(word, []).append(place)
    rows = []
    for places in words.values():
        start, end = encoding.offsets[places[0]][0], encoding.offsets[places[-1]][1]
        hidden = [*ids[: places[0]], tokenizer.mask_id, *ids[places[-1] + 1 :]]
        rows.append((text[start:end].strip(), hidden, places[0]))
    return rows


def unknown_words(tokenizer: Tokenizer, text: str) -> list[str]:
    """Lists the words of a text that the tokenizer cannot spell."""
    encoding = tokenizer.backend.encode(text)
    pairs = zip(encoding.ids, encoding.offsets, strict=True)
    return [text[start:end] for i, (start, end) in pairs if i == tokenizer.unknown_id]


def _image(design: FusionDesign, image_HWC: np.ndarray) -> ImageStates:
    image_1CHW = torch.from_numpy(np.array(image_HWC)).permute(2, 0, 1)[None]
    return design.encode_image(normalised(image_1CHW))


def _text(design: FusionDesign, tokenizer: Tokenizer, texts: Sequence[str]) -> TextStates:
    """Encodes texts, cut to the positions that the design has."""
    ids_NL = torch.from_numpy(tokens_of(tokenizer, texts, design.longest_text)).long()
    return design.encode_text(ids_NL, ids_NL != tokenizer.pad_id)


def _odds(design: FusionDesign, image: ImageStates, text: TextStates) -> list[float | None]:
    """Returns the probability of a match of one image with each text."""
    rows_N = torch.zeros(len(text.text_is_real_BL), dtype=torch.int64)
    fused = design.fuse(image.take(rows_N), text, read_at_BR=rows_N[:, None][:, :0])
    return full(design.heads["itm"](fused.pooled_BD)).softmax(-1)[:, 1].tolist()


def _cosines(design: FusionDesign, image: ImageStates, text: TextStates) -> list[float | None]:
    return alike(design, image, text)[0].tolist()


def _spelled(tokenizer: Tokenizer, number: int) -> str:
    return tokenizer.backend.decode([number], skip_special_tokens=False).strip()
