"""Captions become ids, by a tokenizer trained on them or by a pretrained one."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tokenizers

from architectures.frozen import SettingError
from harness.training.data.at_urls import local
from harness.training.data.cache import DataError
from harness.training.data.tokenizer import Tokenizer, encoded
from harness.training.data.wordpiece import train_wordpiece
from harness.training.settings.data import Text


def tokenized(
    text: Text, captions: Mapping[str, Sequence[str]]
) -> tuple[Tokenizer, dict[str, np.ndarray], dict[str, float]]:
    """Makes the tokenizer of a corpus, the ids (K, L) of each split's captions, and facts.

    Words and length come from the training captions only, so that no other split reaches training.
    The length is that of the longest, so that padding, and with it time and bits, does not depend
    on which rows meet. Facts: captions, mean tokens, captions cut of each split, captions written
    differently than another one with the same tokens, share of unknown words. Raises `SettingError`
    for a tokenizer that cannot serve and `DataError` for a caption without a token.
    """
    if text.tokenizer == "wordpiece":
        kind = (text.normaliser, text.alphabet)
        tokenizer = train_wordpiece(captions["train"], text.vocabulary, *kind)
    else:
        tokenizer = pretrained(local(text.tokenizer))
    rows = {name: encoded(tokenizer.backend, texts) for name, texts in captions.items()}
    _check_tokens(tokenizer, rows, captions)
    tokens_K = np.array([len(ids) for split in rows.values() for ids in split])
    unknown_id = tokenizer.unknown_id
    unknown = sum(ids.count(unknown_id) for split in rows.values() for ids in split)
    facts = {
        "captions": len(tokens_K),
        "tokens_mean": float(tokens_K.mean()),
        "captions_alike": _alike(rows, captions),
        "unknown_share": unknown / int(tokens_K.sum()),
    }
    length = min(max(map(len, rows["train"])), text.max_tokens)
    for name, split in rows.items():
        facts[f"{name}_cut"] = sum(len(ids) > length for ids in split)
    tokenizer = tokenizer.with_length(length)
    return tokenizer, {name: tokenizer.padded(split) for name, split in rows.items()}, facts


def _check_tokens(
    tokenizer: Tokenizer,
    rows: Mapping[str, Sequence[Sequence[int]]],
    captions: Mapping[str, Sequence[str]],
) -> None:
    """Raises DataError for a caption of which the tokenizer leaves nothing but [CLS] and [SEP]."""
    nothing = len(encoded(tokenizer.backend, [""])[0])
    for name, split in rows.items():
        for caption, ids in zip(captions[name], split, strict=True):
            if len(ids) <= nothing:
                raise DataError(
                    f"{name}: of the caption {caption[:80]!a} the tokenizer leaves nothing; take "
                    "it out, or choose another tokenizer or data.text.normaliser"
                )


def _alike(
    rows: Mapping[str, Sequence[Sequence[int]]], captions: Mapping[str, Sequence[str]]
) -> int:
    """Counts different captions that have the same tokens as another one; case, spacing and how
    Unicode composes letters make no difference.
    """
    written: dict[tuple[int, ...], set[str]] = {}
    for name, split in rows.items():
        for caption, ids in zip(captions[name], split, strict=True):
            composed = unicodedata.normalize("NFC", caption.casefold())
            written.setdefault(tuple(ids), set()).add("".join(composed.split()))
    return sum(len(texts) for texts in written.values() if len(texts) > 1)


def _special_of_clip(theirs: Any, backend: tokenizers.Tokenizer) -> dict[str, int | None] | None:
    """Special ids of a tokenizer like CLIP's: texts stand between its first and last token, bytes
    spell all words, nothing masks, and padding is the last token again, which would hide the text's
    own. The byte 0xFF, which is in no text, pads instead; None: there is no such byte.
    """
    byte = backend.token_to_id("\u00ff")
    if byte is None:
        return None
    ends = {"cls": theirs.bos_token_id, "sep": theirs.eos_token_id}
    return {"pad": byte, "unk": None, **ends, "mask": byte}


def pretrained(name: str) -> Tokenizer:
    """Opens a tokenizer of transformers, by folder or hub name; its length is to be set. Raises
    `SettingError` where it cannot serve.
    """
    from architectures.weights.from_transformers import load_tokenizer  # loads transformers

    theirs: Any = load_tokenizer(name)
    if not getattr(theirs, "is_fast", False):
        raise SettingError(
            f"tokenizer {name!r} ({type(theirs).__name__}) has no fast form, a tokenizer.json; "
            "convert it with transformers, or take another"
        )
    roles = ("pad", "unk", "cls", "sep", "mask")
    special = {role: getattr(theirs, f"{role}_token_id") for role in roles}
    backend = tokenizers.Tokenizer.from_str(theirs.backend_tokenizer.to_str())
    backend.no_padding()
    backend.no_truncation()
    if special["mask"] is None and special["pad"] == theirs.eos_token_id:
        special = _special_of_clip(theirs, backend) or special
    for word, value in special.items():
        if value is None and word != "unk":
            raise SettingError(f"tokenizer {name!r} has no {word} token; BERT-like ones have it")
    if backend.encode("a").ids[-1] != special["sep"] or special["pad"] == special["sep"]:
        raise SettingError(
            f"tokenizer {name!r} must end texts with its sep token, and not pad by it"
        )
    return Tokenizer(
        backend=backend,
        length=0,
        pad_id=special["pad"],
        unknown_id=-1 if special["unk"] is None else special["unk"],
        cls_id=special["cls"],
        sep_id=special["sep"],
        mask_id=special["mask"],
        special_ids=tuple(sorted(theirs.all_special_ids)),
    )
