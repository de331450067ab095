"""One decoded split: pixels, captions and identity on disk, opened as memory maps.

Letters: N pictures, H W C height, width, channels, K captions of all pictures one after another,
L tokens, B rows; in `caption_NC` C is the most captions of one picture.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import JsonValue

from harness.training.data.cache import write_array
from harness.training.data.holding_out import families
from harness.training.data.identity import Identity, caption_hash, hashed

NAMES = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True)
class Split:
    """One split, decoded: its arrays are read-only and shared by all processes."""

    name: str
    """train, val or test."""
    images_NHWC: np.ndarray
    """uint8 (N, H, W, C), square."""
    captions: tuple[tuple[str, ...], ...]
    """One or more of each picture."""
    group_N: np.ndarray
    """int64 (N,); equal values are the same thing."""
    picture_N: np.ndarray
    """int64 (N,), a hash of the pixels; equal values are the same picture."""
    truth: tuple[dict[str, JsonValue], ...] | None
    """Scenes: objects (shape, colour, size, place, x, y, radius) and relations of each picture,
    also of objects that no caption names."""
    caption_NC: np.ndarray
    """int64 (N, C), a hash of each caption, padded with -1."""
    ids_KL: np.ndarray
    """int32 (K, L), token ids of every caption, padded to the tokenizer's length."""

    swapped: tuple[tuple[str, ...], ...] | None = None
    """Of each caption the same words in an arrangement that is not true of its picture, empty where
    there is none; None where the source has none at all."""
    swapped_ids_KL: np.ndarray | None = None
    """int32 (K, L), tokens of those, all padding where there is none; None where nobody asked."""

    def __len__(self) -> int:
        return len(self.captions)

    @cached_property
    def count_N(self) -> np.ndarray:
        """int64 (N,): how many captions each picture has."""
        return (self.caption_NC >= 0).sum(axis=1)

    @cached_property
    def first_N(self) -> np.ndarray:
        """int64 (N,): where each picture's captions start in `ids_KL`."""
        return np.cumsum(self.count_N) - self.count_N

    @cached_property
    def swapped_share(self) -> float:
        """Share of the captions that have another arrangement; 0 where nobody asked."""
        if self.swapped_ids_KL is None:
            return 0.0
        # A row without an arrangement is padding throughout; others begin with another token.
        return float((self.swapped_ids_KL != self.swapped_ids_KL[:, -1:]).any(axis=1).mean())

    def texts(self, which: Literal["first", "all"]) -> tuple[np.ndarray, np.ndarray]:
        """Names each picture's first caption, or all captions in order, by row and number among
        the row's: int64 (T,) twice.
        """
        if which == "first":
            return np.arange(len(self)), np.zeros(len(self), dtype=np.int64)
        rows_T = np.repeat(np.arange(len(self)), self.count_N)
        return rows_T, np.arange(len(rows_T)) - self.first_N[rows_T]

    def ids(self, rows_B: np.ndarray, choice_B: np.ndarray) -> np.ndarray:
        """Takes the tokens of caption `choice` of picture `row`: int64 (B, L)."""
        return self.ids_KL[self.first_N[rows_B] + choice_B].astype(np.int64)

    def identity(self, rows_B: np.ndarray, choice_B: np.ndarray) -> Identity:
        """Says what these pictures with these captions are."""
        captions_BC = self.caption_NC[rows_B]
        return Identity(
            group_B=torch.from_numpy(self.group_N[rows_B]),
            picture_B=torch.from_numpy(self.picture_N[rows_B]),
            caption_B=torch.from_numpy(captions_BC[np.arange(len(rows_B)), choice_B]),
            captions_BC=torch.from_numpy(captions_BC),
        )


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Everything that a source says of N pictures besides their pixels."""

    captions: Sequence[Sequence[str]]
    groups: Sequence[str]
    truth: Sequence[dict[str, JsonValue]] | None = None
    swapped: Sequence[Sequence[str]] | None = None
    """Parallel to `captions`, as in `Split`."""


Pieces = Iterable[tuple[np.ndarray, np.ndarray]]
"""Pixels, uint8 [n, H, W, C], and picture hashes, int64 [n], of some pictures after others."""


def write_split(
    folder: Path, name: str, pieces: Pieces, shape_hwc: tuple[int, ...], rows: Rows
) -> None:
    """Stores one split."""
    picture_hashes: list[np.ndarray] = []

    def pixels() -> Iterator[np.ndarray]:
        for images_nHWC, picture_n in pieces:
            picture_hashes.append(picture_n)
            yield images_nHWC

    shape = (len(rows.captions), *shape_hwc)
    write_array(folder / f"{name}.images.npy", pixels(), shape, np.uint8)
    _write(folder / f"{name}.picture.npy", np.concatenate(picture_hashes))
    _write(folder / f"{name}.group.npy", np.array([hashed(g.encode()) for g in rows.groups]))
    _write(folder / f"{name}.caption.npy", _caption_hashes(rows.captions))
    record = {"captions": rows.captions, "truth": rows.truth}
    (folder / f"{name}.rows.json").write_text(json.dumps(record))
    if rows.swapped is not None:
        (folder / f"{name}.swapped.json").write_text(json.dumps(rows.swapped))


def write_ids(folder: Path, name: str, ids_KL: np.ndarray) -> None:
    """Stores the tokens of one split, apart from the pixels: a tokenizer has its own entry."""
    write_array(folder / f"{name}.ids.npy", [ids_KL], ids_KL.shape, np.int32)


def write_swapped_ids(folder: Path, name: str, ids_KL: np.ndarray) -> None:
    """Stores the tokens of the captions in another arrangement of one split."""
    write_array(folder / f"{name}.swapped.npy", [ids_KL], ids_KL.shape, np.int32)


def read_swapped(folder: Path, name: str) -> tuple[tuple[str, ...], ...] | None:
    """Reads the captions of a stored split in another arrangement, None where it has none."""
    path = folder / f"{name}.swapped.json"
    return tuple(map(tuple, json.loads(path.read_text()))) if path.exists() else None


def read_families(folder: Path, name: str) -> list[int]:
    """Reads a number of each picture of a stored split, equal where pictures are the same thing."""
    groups = [str(group) for group in _open(folder / f"{name}.group.npy").tolist()]
    return families(groups, _open(folder / f"{name}.picture.npy")).tolist()


def read_captions(folder: Path, name: str) -> tuple[tuple[str, ...], ...]:
    """Reads the captions of a stored split, of each picture."""
    record = json.loads((folder / f"{name}.rows.json").read_text())
    return tuple(map(tuple, record["captions"]))


def read_split(pictures: Path, text: Path, name: str) -> Split:
    """Opens a stored split from its two entries, pixels and text."""
    record = json.loads((pictures / f"{name}.rows.json").read_text())
    swapped_ids = text / f"{name}.swapped.npy"
    return Split(
        name=name,
        images_NHWC=_open(pictures / f"{name}.images.npy"),
        captions=tuple(map(tuple, record["captions"])),
        group_N=_open(pictures / f"{name}.group.npy"),
        picture_N=_open(pictures / f"{name}.picture.npy"),
        truth=None if record["truth"] is None else tuple(record["truth"]),
        caption_NC=_open(pictures / f"{name}.caption.npy"),
        ids_KL=_open(text / f"{name}.ids.npy"),
        swapped=read_swapped(pictures, name),
        swapped_ids_KL=_open(swapped_ids) if swapped_ids.exists() else None,
    )


def _open(path: Path) -> np.ndarray:
    return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))  # plain view of the map


def _write(path: Path, hashes: np.ndarray) -> None:
    write_array(path, [hashes], hashes.shape, np.int64)


def _caption_hashes(captions: Sequence[Sequence[str]]) -> np.ndarray:
    hash_NC = np.full((len(captions), max(map(len, captions))), -1, dtype=np.int64)
    for row, own in enumerate(captions):
        hash_NC[row, : len(own)] = [caption_hash(caption) for caption in own]
    return hash_NC
