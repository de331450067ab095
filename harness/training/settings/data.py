"""These settings say what pictures and captions a study trains on, and how they become arrays."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from architectures.frozen import Frozen

Share = Annotated[float, Field(ge=0.0, lt=1.0)]

Positive = Annotated[int, Field(gt=0)]

Name = Annotated[str, Field(min_length=1)]

Count = Annotated[int, Field(gt=0, le=1_000_000)]
"""Of scenes: all descriptions of a split are held in memory while it is drawn."""

MOST_CAPTIONS = 5_000_000
"""Captions of a split of scenes, about 10 GB of memory while they are worded."""


class Text(Frozen):
    """How captions become token ids."""

    tokenizer: str = "wordpiece"
    """`wordpiece` trains one on the training captions; else a Hugging Face folder or hub name."""
    vocabulary: Annotated[int, Field(gt=0, le=1_000_000)] = 512
    """Largest vocabulary of a trained WordPiece, special tokens included."""
    max_tokens: Annotated[int, Field(ge=3, le=100_000)] = 16
    """Longest caption in tokens, [CLS] and [SEP] included; longer ones are cut, and in val and test
    also what is longer than the longest training caption."""
    normaliser: Literal["bert", "lower", "none"] = "bert"
    """What a trained WordPiece does to letters: `bert` makes them small and takes marks off, also
    those that are letters of their own (Hindi, Thai); `lower` makes them small; `none` neither."""

    @model_validator(mode="after")
    def _only_of_wordpiece(self) -> Text:
        if self.tokenizer != "wordpiece" and self.normaliser != "bert":
            raise ValueError(
                "text.normaliser is for a trained wordpiece; another tokenizer has its own"
            )
        return self


class Scenes(Frozen):
    """Built-in pictures of coloured shapes, drawn from a seed, with full ground truth."""

    kind: Literal["scenes"] = "scenes"
    train: Count = 20_000
    """Pictures to train on."""
    val: Count = 512
    """Pictures for validation curves, tuning and selection."""
    test: Count = 512
    """Pictures for final scores."""
    objects: tuple[Positive, Positive] = (1, 1)
    """Fewest and most objects in a picture."""
    captions: Annotated[int, Field(gt=0, le=100)] = 3
    """Captions of every picture, worded differently."""
    seed: int = 0
    """Which corpus; independent of the training seed."""
    text: Text = Text()
    """Tokenizer and length."""

    @model_validator(mode="after")
    def _fits_memory(self) -> Scenes:
        for split in ("train", "val", "test"):
            count = getattr(self, split)
            if count * self.captions > MOST_CAPTIONS:
                raise ValueError(
                    f"data.{split} {count} times data.captions {self.captions} is more than "
                    f"{MOST_CAPTIONS} captions: with so many of each picture data.{split} may be "
                    f"{MOST_CAPTIONS // self.captions}"
                )
        return self


class Pictures(Frozen):
    """Image-caption rows in parquet files, a Hugging Face `datasets` folder or a hub dataset."""

    kind: Literal["pictures"] = "pictures"
    train: Name
    """Parquet file, several by a glob, a folder saved by `datasets`, or
    `hub:NAME[@REVISION][:SPLIT]`."""
    val: str = ""
    """The same for validation; empty: `val_share` of the training groups is held out."""
    test: str = ""
    """The same for final scores; empty: `test_share` of the training groups is held out."""
    val_share: Share = 0.05
    """Share of the groups held out for validation where `val` is empty."""
    test_share: Share = 0.1
    """Share of the groups held out for the test where `test` is empty."""
    image: Name = "image"
    """Column with the picture: encoded bytes, a `{bytes, path}` record, or a path to a file."""
    root: str = ""
    """Folder in which pictures named by path lie and relative paths start; empty: the table's own.
    Files outside it are refused; links inside it are followed only where it is named."""
    caption: Name = "caption"
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
    """Tokenizer and length. Fields that are not written are as here, not as in `Text`."""

    @field_validator("text", mode="before")
    @classmethod
    def _as_of_pictures(cls, text: Any) -> Any:
        if isinstance(text, Text):
            text = {name: getattr(text, name) for name in text.model_fields_set}
        own = {"vocabulary": 4096, "max_tokens": 24}
        return own | text if isinstance(text, dict) else text


Data = Annotated[Scenes | Pictures, Field(discriminator="kind")]
