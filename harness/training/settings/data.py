"""These settings say what pictures and captions a study trains on, and how they become arrays."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from architectures.frozen import Frozen
from harness.training.settings.looks import ALLOWED, EVERY, check_names, sides

Share = Annotated[float, Field(ge=0.0, lt=1.0)]

Positive = Annotated[int, Field(gt=0)]

Portion = Annotated[float, Field(ge=0.0, le=1.0)]

NonNegative = Annotated[int, Field(ge=0)]

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
    alphabet: Literal["captions", "latin"] = "captions"
    """Letters that a trained WordPiece can spell with: those of the training captions, or `latin`,
    also a to z, A to Z and 0 to 9, so that no word of a downstream task becomes [UNK]."""
    normaliser: Literal["bert", "lower", "none"] = "bert"
    """What a trained WordPiece does to letters: `bert` makes them small and takes marks off, also
    those that are letters of their own (Hindi, Thai); `lower` makes them small; `none` neither."""

    @model_validator(mode="after")
    def _only_of_wordpiece(self) -> Text:
        for field in ("alphabet", "normaliser"):
            default = type(self).model_fields[field].default
            if self.tokenizer != "wordpiece" and getattr(self, field) != default:
                raise ValueError(
                    f"text.{field} is for a trained wordpiece; another tokenizer has its own"
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
    colours: tuple[str, ...] = ()
    """Which colours occur; empty: all nine. Few make batches of pairs that are easily confused."""
    shapes: tuple[str, ...] = ()
    """Which shapes occur; empty: all eight."""
    sizes: tuple[str, ...] = ()
    """Which sizes occur; empty: both. A single one is not said in captions."""
    places: tuple[str, ...] = ()
    """Where objects stand; empty: in all nine places."""
    distractors: tuple[NonNegative, NonNegative] = (0, 0)
    """Fewest and most objects in a picture besides `objects`, which its captions do not name."""
    repeat_colours: Portion = 0.0
    """Share of the pictures with several objects in which all but one, or both of two, are made to
    have the same colour; in the others colours are alike by chance only."""
    counting: Portion = 0.0
    """Share of the pictures that hold up to four objects of one look, and whose captions say how
    many there are of each look; `objects` counts looks there."""
    directions: Literal["eight", "four", "two"] = "eight"
    """Where the two objects of a relation stand: anywhere, in one row or column, or in one row."""
    grammar: Literal["plain", "wide"] = "plain"
    """`wide`: more ways to say a relation (passive, relative clause, place first), and a quarter of
    the pictures with several objects say the place of each instead of a relation."""
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

    @field_validator("colours", "shapes", "sizes", "places")
    @classmethod
    def _known(cls, names: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        check_names(str(info.field_name), names)
        return names

    @model_validator(mode="after")
    def _can_be_drawn(self) -> Scenes:
        if not self.is_first_version and (why := self._why_not()):
            raise ValueError(why)
        return self

    @property
    def is_first_version(self) -> bool:
        """Says that no field asks for what scenes had not at first: descriptions are split another
        way where one does (`scenes.arranging`)."""
        fields = type(self).model_fields
        return all(getattr(self, name) == fields[name].default for name in LATER_FIELDS)

    def names(self, field: Literal["colours", "shapes", "sizes", "places"]) -> tuple[str, ...]:
        """Lists what occurs of one kind."""
        return getattr(self, field) or EVERY[field]

    def _why_not(self) -> str:
        """Says why there are no such scenes; empty where there are."""
        for field in ("objects", "distractors"):
            fewest, most = getattr(self, field)
            if fewest > most:
                return f"data.{field}=({fewest}, {most}): the fewest come first"
        most, places = self.objects[1] + self.distractors[1], self.names("places")
        kinds = len(self.names("shapes")) * len(self.names("sizes"))
        looks, colours = kinds * len(self.names("colours")), len(self.names("colours"))
        if most + bool(self.counting) > len(places):
            more = ", and data.counting one more" if self.counting else ""
            return (f"data.objects and data.distractors need {most} places{more}, and "
                    f"data.places has {len(places)}")  # fmt: skip
        if most > looks:
            return (f"data.objects and data.distractors need {most} looks, and data.colours, "
                    f"data.shapes and data.sizes make {looks}")  # fmt: skip
        alike = max(2, most - 1)
        if self.repeat_colours and (most < 2 or kinds < alike or colours < 2):
            return (f"data.repeat_colours needs two objects, two colours and here {alike} looks of "
                    f"one colour; data.shapes and data.sizes make {kinds}")  # fmt: skip
        cells = [EVERY["places"].index(place) for place in places]
        if self.directions != "eight" and not (self.objects[1] > 1 and any(
            ALLOWED[self.directions](*sides(a, b)) for a in cells for b in cells if a != b
        )):  # fmt: skip
            return (f"data.directions={self.directions!r} needs two of data.objects, and two of "
                    "data.places in one row or column")  # fmt: skip
        return ""


LATER_FIELDS = {
    "colours", "shapes", "sizes", "places", "distractors", "repeat_colours", "counting",
    "directions", "grammar",
}  # fmt: skip
"""Fields of `Scenes` that scenes had not at first."""


class Pictures(Frozen):
    """Image-caption rows in parquet files, JSON lists, a Hugging Face `datasets` folder or a hub
    dataset."""

    kind: Literal["pictures"] = "pictures"
    train: Name
    """Parquet file or JSON list (`.json`), several by a glob, a folder saved by `datasets`, or
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
