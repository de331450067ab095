"""What pictures and captions a study trains on, and how they become arrays."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from architectures.frozen import Frozen

Share = Annotated[float, Field(ge=0.0, lt=1.0)]

Positive = Annotated[int, Field(gt=0)]


class Text(Frozen):
    """How captions become token ids."""

    tokenizer: str = "wordpiece"
    """`wordpiece` trains one on the training captions; else a Hugging Face folder or hub name."""
    vocabulary: Positive = 512
    """Largest vocabulary of a trained WordPiece, special tokens included."""
    max_tokens: Annotated[int, Field(ge=3)] = 16
    """Longest caption in tokens, [CLS] and [SEP] included; longer ones are cut."""


class Scenes(Frozen):
    """Built-in pictures of coloured shapes, drawn from a seed, with full ground truth."""

    kind: Literal["scenes"] = "scenes"
    train: Positive = 20_000
    """Pictures to train on."""
    val: Positive = 512
    """Pictures for validation curves, tuning and selection."""
    test: Positive = 512
    """Pictures for final scores."""
    objects: tuple[Positive, Positive] = (1, 1)
    """Fewest and most objects in a picture."""
    captions: Positive = 3
    """Captions of every picture, worded differently."""
    seed: int = 0
    """Which corpus; independent of the training seed."""
    text: Text = Text()
    """Tokenizer and length."""


class Pictures(Frozen):
    """Image-caption rows in parquet files, a Hugging Face `datasets` folder or a hub dataset."""

    kind: Literal["pictures"] = "pictures"
    train: str
    """Parquet file, several by a glob, a folder saved by `datasets`, or `hub:NAME[:SPLIT]`."""
    val: str = ""
    """The same for validation; empty: `val_share` of the training groups is held out."""
    test: str = ""
    """The same for final scores; empty: `test_share` of the training groups is held out."""
    val_share: Share = 0.05
    """Share of the groups held out for validation where `val` is empty."""
    test_share: Share = 0.1
    """Share of the groups held out for the test where `test` is empty."""
    image: str = "image"
    """Column with the picture: encoded bytes, a `{bytes, path}` record, or a path to a file."""
    caption: str = "caption"
    """Column with the caption or the list of captions."""
    group: str = ""
    """Column whose equal values mean the same thing; empty: only equal pictures or captions do."""
    fit: Literal["squash", "crop", "pad"] = "squash"
    """How a picture becomes square: stretched, cut in the centre, or put on white."""
    augment: Literal["none", "crop", "crop_flip"] = "none"
    """Training augmentation: random resized crop, and a flip (wrong for `left` and `right`)."""
    smallest_crop: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Smallest area of a random crop, as a share of the picture."""
    seed: int = 0
    """Which groups are held out; independent of the training seed."""
    text: Text = Text(vocabulary=4096, max_tokens=24)
    """Tokenizer and length."""


Data = Annotated[Scenes | Pictures, Field(discriminator="kind")]
