"""New pictures and texts are checked here and read as those of training were.

Letters: N items or pictures, L tokens, S pixels along a side, C channels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from architectures.frozen import SettingError, path_named
from harness.training.data.decoding import Decoded, Square, decode
from harness.training.data.items.batches import ReadyItems
from harness.training.data.items.items import SECOND, Items
from harness.training.data.items.lines import text_problem
from harness.training.data.items.tokens import tokens_of
from harness.training.data.tokenizer import Tokenizer
from harness.training.data.transforms import normalised

Picture = str | Path | bytes | Image.Image
"""A path, the bytes of a file, or a picture of Pillow."""


class NewItem(NamedTuple):
    """Pictures with a text about them."""

    pictures: tuple[tuple[str, Picture], ...]
    """Each with its place in the list, as `pictures[3]`."""
    text: str


@dataclass(frozen=True, kw_only=True)
class Reader:
    """What turns pictures and texts into the input of one model."""

    square: Square
    tokenizer: Tokenizer
    longest: int
    """Tokens that the model has positions for."""

    def pixels(self, pictures: Iterable[tuple[str, Picture]]) -> Tensor:
        """Reads pictures, each named by its place: float32 (N, C, S, S). Raises `SettingError` with
        the place of one that cannot be read.
        """
        return normalised(torch.from_numpy(self._images(pictures)).permute(0, 3, 1, 2))

    def items(self, items: Sequence[NewItem]) -> ReadyItems:
        """Reads items, all of equally many pictures. Raises as `pixels` does."""
        shown = [picture for item in items for picture in item.pictures]
        texts = tuple(item.text for item in items)
        return ReadyItems(
            items=Items(
                images_PHWC=self._images(shown),
                picture_NI=np.arange(len(shown)).reshape(len(items), -1),
                texts=texts,
            ),
            ids_NL=tokens_of(self.tokenizer, texts, self.longest),
            pad_id=self.tokenizer.pad_id,
            right={},
        )

    def _images(self, pictures: Iterable[tuple[str, Picture]]) -> np.ndarray:
        side = self.square.side
        images_NSSC = [self.decoded(*each).image_SSC for each in pictures]
        nothing = np.zeros((0, side, side, self.square.channels), dtype=np.uint8)
        return np.stack(images_NSSC) if images_NSSC else nothing

    def decoded(self, place: str, picture: Picture) -> Decoded:
        """Decodes a picture, named by its place. Raises `SettingError` as `pixels` does."""
        where = place
        decoded: Decoded
        if isinstance(picture, str | Path):
            path, where = path_named(picture), f"{place} ({picture})"
            decoded = decode(path.name or ".", path.parent, self.square, named=True)
        else:
            decoded = decode(picture, Path(), self.square)
        if decoded.problem:
            raise SettingError(f"{where}: {decoded.problem}")
        return decoded


def listed(values: object, name: str) -> list[object]:
    """Returns a list that was handed over, as one. Raises `SettingError` where it is a single text
    or picture.
    """
    if isinstance(values, str | bytes | Path | Image.Image) or not isinstance(values, Iterable):
        raise SettingError(f"{name} is one {type(values).__name__}; give a list, as [it]")
    return list(values)


def new_items(
    pictures: object, texts: object, name: str, *, images: int, parts: int = 1
) -> list[NewItem]:
    """Puts pictures and texts together, one text for each.

    images: of an item; of several `pictures` holds tuples, of none it is None
    name: what the texts are called
    parts: texts of an item; of several `texts` holds tuples
    Raises `SettingError` with the place of what cannot be used.
    """
    if not images and pictures is not None and listed(pictures, "pictures"):
        raise SettingError(f"pictures: the model reads {name} alone; give None")
    worded = list(checked_texts(texts, name, parts))
    shown = listed(pictures, "pictures") if images else [None] * len(worded)
    if len(shown) != len(worded):
        raise SettingError(
            f"{len(shown)} pictures and {len(worded)} {name}: item by item each has its own"
        )
    return [
        NewItem(tuple(_placed(each, f"pictures[{row}]", images)), text)
        for row, (each, text) in enumerate(zip(shown, worded, strict=True))
    ]


def _placed(item: object, place: str, images: int) -> Iterator[tuple[str, Picture]]:
    """Yields the pictures of one item with their places."""
    if images > 1:
        several = listed(item, place)
        if len(several) != images:
            raise SettingError(f"{place} has {len(several)} pictures; an item has {images}")
        yield from ((f"{place}[{i}]", _picture(each, place)) for i, each in enumerate(several))
    elif images:
        yield place, _picture(item, place)


def _picture(value: object, place: str) -> Picture:
    if not isinstance(value, Picture):
        raise SettingError(
            f"{place} is no picture but a {type(value).__name__}: give a path, the bytes of a "
            "file, or a picture of Pillow"
        )
    return value


def placed_pictures(pictures: object) -> list[tuple[str, Picture]]:
    """Returns pictures with their places. Raises `SettingError` where one is none."""
    every = enumerate(listed(pictures, "pictures"))
    return [(f"pictures[{row}]", _picture(each, f"pictures[{row}]")) for row, each in every]


def checked_texts(texts: object, name: str, parts: int = 1) -> Iterator[str]:
    """Yields texts as training read them; several of one item with `SECOND` between. Raises
    `SettingError` with the place of one that cannot be read.
    """
    for row, item in enumerate(listed(texts, name)):
        several = [item] if parts == 1 else listed(item, f"{name}[{row}]")
        if len(several) != parts:
            raise SettingError(f"{name}[{row}] has {len(several)} texts; an item has {parts}")
        yield SECOND.join(_text(text, f"{name}[{row}]") for text in several)


def _text(value: object, place: str) -> str:
    if not isinstance(value, str):
        raise SettingError(f"{place} is no text but a {type(value).__name__}")
    if problem := text_problem(value):
        raise SettingError(f"{place} {problem}")
    return value.strip()
