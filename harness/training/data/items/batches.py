"""Batches of items by step number: the same batch whatever ran before, for every design.

Letters: N items, B rows, I pictures of a row, C channels, H W height and width, L tokens, K labels,
A answers of all rows, S tokens of an answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from architectures.frozen import SettingError
from harness.training.data.items.items import Items
from harness.training.data.transforms import normalised
from harness.training.randomness import stream


@dataclass(frozen=True, kw_only=True)
class ItemBatch:
    """B items with what is right to say of each."""

    rows_B: Tensor
    """int64 (B,); which items of the split."""
    image_BICHW: Tensor
    """uint8 (B, I, C, H, W)."""
    ids_BL: Tensor
    """int64 (B, L); sentences or questions."""
    text_is_real_BL: Tensor
    """bool (B, L); False at padding."""
    right: Mapping[str, Tensor]
    """Name of a target -> its rows, (B, ...), as the task's loss reads them."""

    def __len__(self) -> int:
        return len(self.rows_B)

    def to(self, device: torch.device | str) -> ItemBatch:
        """Moves the batch to a device."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        moved = {n: value.to(device) for n, value in values.items() if isinstance(value, Tensor)}
        right = {name: value.to(device) for name, value in self.right.items()}
        return replace(self, **moved, right=right)

    def pixels(self) -> Tensor:
        """Gives the images as float32 from -1 to 1, (B, I, C, H, W)."""
        rows, images = self.image_BICHW.shape[:2]
        return normalised(self.image_BICHW.flatten(0, 1)).unflatten(0, (rows, images))


@dataclass(frozen=True, kw_only=True)
class ReadyItems:
    """Items with their tokens and targets, ready to be fed."""

    items: Items
    ids_NL: np.ndarray
    """int (N, L), padded."""
    pad_id: int
    right: Mapping[str, np.ndarray]
    """Name of a target -> its rows, (N, ...)."""

    def batch(self, rows_B: np.ndarray) -> ItemBatch:
        """Makes the batch of some items."""
        items = self.items
        shown_BIHWC = items.images_PHWC[items.picture_NI[rows_B]]
        ids_BL = torch.from_numpy(self.ids_NL[rows_B].astype(np.int64))
        return ItemBatch(
            rows_B=torch.from_numpy(np.array(rows_B, dtype=np.int64)),
            image_BICHW=torch.from_numpy(
                np.ascontiguousarray(shown_BIHWC.transpose(0, 1, 4, 2, 3))
            ),
            ids_BL=ids_BL,
            text_is_real_BL=ids_BL != self.pad_id,
            right={name: torch.from_numpy(all_N[rows_B]) for name, all_N in self.right.items()},
        )

    def pieces(self, size: int, most: int | None = None) -> list[ItemBatch]:
        """Divides the items, or `most` of them spread evenly, into batches of nearly equal size."""
        count = len(self.items) if most is None else min(most, len(self.items))
        if not count:
            return []
        rows = np.linspace(0, len(self.items) - 1, count).round().astype(np.int64)
        return [self.batch(rows_B) for rows_B in np.array_split(rows, -(-count // size))]


class ItemBatches:
    """Training batches of items, drawn without replacement in every epoch; its incomplete last
    batch is dropped. The order is keyed by (seed, epoch), never by the design.
    """

    def __init__(self, ready: ReadyItems, batch_size: int, seed: int) -> None:
        """Raises `SettingError` for a batch size that does not fit."""
        if batch_size > len(ready.items):
            raise SettingError(
                f"finetune.batch_size {batch_size} does not fit {len(ready.items)} training items"
            )
        self.ready, self.batch_size, self.seed = ready, batch_size, seed
        self.steps_per_epoch = len(ready.items) // batch_size
        self._order = lru_cache(maxsize=2)(self._permutation)

    def _permutation(self, epoch: int) -> np.ndarray:
        return stream(self.seed, "items order", epoch).permutation(len(self.ready.items))

    def at(self, step: int) -> ItemBatch:
        """Makes the batch of a step, counted from 0."""
        epoch, place = divmod(step, self.steps_per_epoch)
        return self.ready.batch(
            self._order(epoch)[place * self.batch_size : (place + 1) * self.batch_size]
        )

    def after(self, digest: str, batch: ItemBatch) -> str:
        """Continues the digest chain by one batch; it starts from an empty string."""
        chain = hashlib.blake2b(digest.encode(), digest_size=16)
        fed = {"image": batch.image_BICHW, "ids": batch.ids_BL, **batch.right}
        for name, tensor in fed.items():
            fed_N = tensor.cpu().contiguous().numpy()
            chain.update(f"{name}{fed_N.shape}".encode())
            chain.update(fed_N.data)
        return chain.hexdigest()
