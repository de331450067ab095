"""Batches by step number: the same batch whatever ran before, on any worker, after any restart.

Letters: B rows, C channels, H W height and width, L tokens, R predictions of a row, N predictions
of a batch, S rows that bring their caption in another arrangement too.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from architectures.frozen import SettingError
from harness.training.data.identity import Identity, matches
from harness.training.data.masking import Masked, mask_words
from harness.training.data.splits import Split
from harness.training.data.tokenizer import Tokenizer
from harness.training.data.transforms import Augment, augmented, normalised
from harness.training.randomness import stream
from harness.training.settings.objectives import MLM


@dataclass(frozen=True, kw_only=True)
class Batch:
    """B pictures, each with one caption, and everything the objectives ask of them."""

    step: int
    """Number of the batch."""
    rows_B: Tensor
    """int64 (B,); which pictures of the split."""
    image_BCHW: Tensor
    """uint8 (B, C, H, W); see `pixels`."""
    ids_BL: Tensor
    """int64 (B, L); the captions."""
    text_is_real_BL: Tensor
    """bool (B, L); False at padding."""
    masked_ids_BL: Tensor
    """int64 (B, L); the captions with words hidden for MLM."""
    mask_positions_BR: Tensor
    """int64 (B, R); where MLM predicts, padded with 0."""
    mask_labels_BR: Tensor
    """int64 (B, R); what stood there, padded with -100."""
    hidden_N: Tensor
    """int64 (N,); which of the B x R places hold a prediction."""
    identity: Identity
    """What the rows are."""
    match_BB: Tensor
    """bool (B images, B texts): the text describes the image; always True on the diagonal."""
    match_NN: Tensor | None = None
    """bool (N, N), of one worker's part of a batch: `match_BB` of all N rows."""
    swapped_ids_SL: Tensor | None = None
    """int64 (S, L); captions of S rows with the same words in another arrangement."""
    swapped_at_B: Tensor | None = None
    """int64 (B,); where in `swapped_ids_SL` that of each row stands, -1 where it has none."""
    swapped_is_real_SL: Tensor | None = None
    """bool (S, L); False at padding."""
    prefix_B: Tensor | None = None
    """int64 (B,); how many tokens of each caption LM is given, [CLS] among them; None: that one."""
    negative_image_B: Tensor | None = None
    """Validation: for each text an image it does not describe, -1 where there is none."""
    negative_text_B: Tensor | None = None
    """Validation: for each image a text that does not describe it, -1 where there is none."""

    def __len__(self) -> int:
        return len(self.rows_B)

    def to(self, device: torch.device | str) -> Batch:
        """Moves the batch to a device; a GPU takes it while it works on what it was sent before."""

        def moved(value: Tensor) -> Tensor:
            if torch.device(device).type == "cuda" and not value.is_cuda:
                return value.pin_memory().to(device, non_blocking=True)
            return value.to(device)

        values = {f.name: getattr(self, f.name) for f in fields(self)}
        for name, value in values.items():
            if isinstance(value, Tensor):
                values[name] = moved(value)
            elif isinstance(value, Identity):
                values[name] = value.map(moved)
        return replace(self, **values)

    def part(self, place: int, parts: int) -> Batch:
        """Returns one of equally many rows, as a view: what one of several workers trains on."""
        rows = len(self) // parts
        own = slice(place * rows, (place + 1) * rows)
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        for name, value in values.items():
            if isinstance(value, Tensor) and name.endswith(("_B", "_BL", "_BR", "_BCHW")):
                values[name] = value[own]
        values |= {
            "identity": self.identity.map(lambda each: each[own]),
            "match_BB": self.match_BB[own, own],
            "match_NN": self.match_BB,
            "hidden_N": (values["mask_labels_BR"].flatten() != -100).nonzero().squeeze(1),
        }
        if self.swapped_at_B is not None:
            assert self.swapped_ids_SL is not None and self.swapped_is_real_SL is not None
            at_B = self.swapped_at_B[own]
            brought = at_B[at_B >= 0]
            values |= {
                "swapped_ids_SL": self.swapped_ids_SL[brought],
                "swapped_is_real_SL": self.swapped_is_real_SL[brought],
                "swapped_at_B": torch.where(at_B < 0, -1, (at_B >= 0).cumsum(0) - 1),
            }
        return replace(self, **values)

    def pixels(self) -> Tensor:
        """Gives the images as float32 from -1 to 1, (B, C, H, W)."""
        return normalised(self.image_BCHW)


def words_to_hide(split: Split, tokenizer: Tokenizer) -> float:
    """Returns the mean number of words of a caption that MLM may hide."""
    return float(tokenizer.is_word_V[split.ids_KL].sum(axis=1).mean())


class Batches:
    """Training batches, drawn without replacement in every epoch.

    An epoch is a permutation keyed by (seed, epoch); its incomplete last batch is dropped.
    Captions, augmentation and masks are keyed by (seed, step), never by the design.
    """

    def __init__(
        self,
        split: Split,
        tokenizer: Tokenizer,
        batch_size: int,
        seed: int,
        mlm: MLM,
        augment: Augment = Augment(),  # noqa: B008 - frozen
        *,
        swap_share: float = 0.0,
        prefix: float = 0.0,
    ) -> None:
        """`swap_share`: chance that a row brings its caption in another arrangement, where it has
        one (`ITM.swap_share`); `prefix`: `LM.prefix`. Raises `SettingError` for a batch size that
        does not fit.
        """
        if not 1 <= batch_size <= len(split):
            raise SettingError(
                f"batch size {batch_size} does not fit {len(split)} {split.name} pictures"
            )
        self.split, self.tokenizer, self.mlm, self.augment = split, tokenizer, mlm, augment
        self.batch_size, self.seed = batch_size, seed
        self.swap_share, self.prefix = swap_share, prefix
        self.steps_per_epoch = len(split) // batch_size
        self._order = lru_cache(maxsize=2)(self._permutation)

    @property
    def words(self) -> float:
        """Mean number of words of a caption that MLM may hide."""
        return words_to_hide(self.split, self.tokenizer)

    def _permutation(self, epoch: int) -> np.ndarray:
        return stream(self.seed, "order", epoch).permutation(len(self.split))

    def at(self, step: int) -> Batch:
        """Makes the batch of a step, counted from 0."""
        epoch, place = divmod(step, self.steps_per_epoch)
        rows_B = self._order(epoch)[place * self.batch_size : (place + 1) * self.batch_size]
        choice_B = _captions(self.split, rows_B, stream(self.seed, "captions", step))
        images_BHWC = augmented(
            self.split.images_NHWC[rows_B], self.augment, stream(self.seed, "augment", step)
        )
        masked = mask_words(
            self.split.ids(rows_B, choice_B),
            self.tokenizer,
            self.mlm,
            stream(self.seed, "masks", step),
        )
        batch = _batch(
            self.split, _Drawn(step, rows_B, choice_B, images_BHWC), masked, self.tokenizer
        )
        batch = self._with_prefixes(batch) if self.prefix else batch
        return self._with_swaps(batch, rows_B, choice_B) if self.swap_share else batch

    def different(self, steps: int) -> int:
        """Returns how many different pictures the first `steps` batches show."""
        rows: set[int] = set()
        for epoch in range(-(-steps // self.steps_per_epoch)):
            here = min(steps - epoch * self.steps_per_epoch, self.steps_per_epoch)
            rows.update(self._order(epoch)[: here * self.batch_size].tolist())
            if len(rows) == len(self.split):
                break
        return len(rows)

    def _with_prefixes(self, batch: Batch) -> Batch:
        """Draws how many tokens of each caption are given, after [CLS]."""
        most_B = (self.prefix * (batch.text_is_real_BL.sum(1).numpy() - 2)).astype(np.int64)
        given_B = stream(self.seed, "prefixes", batch.step).integers(most_B, endpoint=True)
        return replace(batch, prefix_B=torch.from_numpy(1 + given_B))

    def _with_swaps(self, batch: Batch, rows_B: np.ndarray, choice_B: np.ndarray) -> Batch:
        """Draws which rows bring their caption in another arrangement."""
        assert self.split.swapped_ids_KL is not None
        ids_BL = self.split.swapped_ids_KL[self.split.first_N[rows_B] + choice_B].astype(np.int64)
        draw_B = stream(self.seed, "swaps", batch.step).random(len(rows_B))
        brings_B = (draw_B < self.swap_share) & (ids_BL != self.tokenizer.pad_id).any(axis=1)
        at_B = np.where(brings_B, brings_B.cumsum() - 1, -1)
        return replace(
            batch,
            swapped_ids_SL=torch.from_numpy(ids_BL[brings_B]),
            swapped_is_real_SL=torch.from_numpy(ids_BL[brings_B] != self.tokenizer.pad_id),
            swapped_at_B=torch.from_numpy(at_B),
        )

    def after(self, digest: str, batch: Batch) -> str:
        """Continues the digest chain by one batch; it starts from an empty string."""
        return digest_after(digest, batch)


def digest_after(digest: str, batch: Batch) -> str:
    """Hashes the chain so far and all that this batch feeds to the model and the losses. Captions
    in another arrangement and prefixes are left out: cells may differ in `ITM.swap_share` and
    `LM.prefix`, and are paired in all else.
    """
    chain = hashlib.blake2b(digest.encode(), digest_size=16)
    for name in (
        "image_BCHW", "ids_BL", "text_is_real_BL", "masked_ids_BL",
        "mask_positions_BR", "mask_labels_BR", "match_BB",
    ):  # fmt: skip
        fed = getattr(batch, name).cpu().contiguous().numpy()
        chain.update(f"{name}{fed.shape}".encode())
        chain.update(fed.data)
    return chain.hexdigest()


def validation_batches(
    split: Split, tokenizer: Tokenizer, items: int, batch_size: int, mlm: MLM
) -> list[Batch]:
    """Makes the same batches for every design and seed: fixed pictures, captions, masks, negatives.

    `items` pictures (none: no batches), or all where there are fewer, in batches of nearly equal
    size. Negatives are uniform over the rows of the batch that do not match.
    """
    rows = stream(0, "validation order").permutation(len(split))[:items]
    batches: list[Batch] = []
    if not len(rows):
        return batches
    for step, rows_B in enumerate(np.array_split(rows, -(-len(rows) // batch_size))):
        choice_B = _captions(split, rows_B, stream(0, "validation captions", step))
        rng = stream(0, "validation masks", step)
        masked = mask_words(split.ids(rows_B, choice_B), tokenizer, mlm, rng)
        drawn = _Drawn(step, rows_B, choice_B, split.images_NHWC[rows_B])
        batch = _batch(split, drawn, masked, tokenizer)
        draw_BB = stream(0, "validation negatives", step).random((2, len(rows_B), len(rows_B)))
        batches.append(
            replace(
                batch,
                negative_text_B=_other(batch.match_BB, draw_BB[0]),
                negative_image_B=_other(batch.match_BB.T, draw_BB[1]),
            )
        )
    return batches


def _captions(split: Split, rows_B: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return (rng.random(len(rows_B)) * split.count_N[rows_B]).astype(np.int64)


class _Drawn(NamedTuple):
    step: int
    rows_B: np.ndarray
    choice_B: np.ndarray
    images_BHWC: np.ndarray


def _batch(split: Split, drawn: _Drawn, masked: Masked, tokenizer: Tokenizer) -> Batch:
    ids_BL = torch.from_numpy(split.ids(drawn.rows_B, drawn.choice_B))
    identity = split.identity(drawn.rows_B, drawn.choice_B)
    image_BCHW = np.ascontiguousarray(drawn.images_BHWC.transpose(0, 3, 1, 2))
    return Batch(
        step=drawn.step,
        rows_B=torch.from_numpy(drawn.rows_B.copy()),
        image_BCHW=torch.from_numpy(image_BCHW),
        ids_BL=ids_BL,
        text_is_real_BL=ids_BL != tokenizer.pad_id,
        masked_ids_BL=torch.from_numpy(masked.ids_BL),
        mask_positions_BR=torch.from_numpy(masked.positions_BR),
        mask_labels_BR=torch.from_numpy(masked.labels_BR),
        hidden_N=torch.from_numpy(np.flatnonzero(masked.labels_BR != -100)),
        identity=identity,
        match_BB=matches(identity, identity),
    )


def _other(match_BB: Tensor, draw_BB: np.ndarray) -> Tensor:
    """Picks for each row a column that does not match, uniformly; -1 where every column does."""
    draw_BB = np.where(match_BB.numpy(), -1.0, draw_BB)
    column_B = draw_BB.argmax(axis=1)
    none_B = draw_BB.max(axis=1) < 0
    return torch.from_numpy(np.where(none_B, -1, column_B))
