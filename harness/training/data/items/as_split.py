"""Pictures with expressions become a split with captions. Letters: N items, M pictures."""

from __future__ import annotations

import numpy as np

from harness.training.data.identity import caption_hash, hashed
from harness.training.data.items.items import Items
from harness.training.data.items.tokens import tokens_of
from harness.training.data.splits import Split
from harness.training.data.tokenizer import Tokenizer


def as_split(items: Items, name: str, tokenizer: Tokenizer, most: int) -> Split:
    """Returns the pictures of items, each with all its texts as captions. A text is right for every
    picture that some item pairs it with. `most`: tokens of the longest text.
    """
    picture_N = items.picture_NI[:, 0]
    texts: dict[int, dict[str, None]] = {int(row): {} for row in np.unique(picture_N)}
    for row, text in zip(picture_N.tolist(), items.texts, strict=True):
        texts[row][text] = None
    captions = tuple(tuple(of_picture) for of_picture in texts.values())
    widest = max(map(len, captions), default=0)
    caption_MC = np.full((len(captions), widest), -1, dtype=np.int64)
    for row, of_picture in enumerate(captions):
        caption_MC[row, : len(of_picture)] = [caption_hash(text) for text in of_picture]
    images_MHWC = items.images_PHWC[list(texts)]
    hash_M = np.array([hashed(image.tobytes()) for image in images_MHWC], dtype=np.int64)
    return Split(
        name=name,
        images_NHWC=images_MHWC,
        captions=captions,
        group_N=hash_M,
        picture_N=hash_M,
        truth=None,
        caption_NC=caption_MC,
        ids_KL=tokens_of(tokenizer, [t for of_picture in captions for t in of_picture], most),
    )
