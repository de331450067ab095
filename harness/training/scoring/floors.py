"""A floor is what a classifier gets right that reads only the text of an item, or only its picture.

Both are trained, not assumed: a score that stands no higher says nothing about joint reading. Text
is a bag of its words and pairs of neighbours, read by a logistic regression; pictures are read by
a small convolution net. The same rows give the same floor.

Letters: N items, H W C height, width, channels, K labels, E words and pairs of all items.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.training.scoring.chance import majority_level

Label = TypeVar("Label", bound=Hashable)

_STEPS = 150
_RATE = 0.1
_DECAY = 1e-3
"""Weight of the squared weights in the loss of the logistic regression."""
_SIDE = 32
"""Pixels along a side that the convolution net reads; larger pictures are averaged down to it."""
_EPOCHS = 10
_BATCH = 100


@dataclasses.dataclass(frozen=True, kw_only=True)
class Floors:
    """Floors stand below a score: shares of items in [0, 1]."""

    items: int
    """Items of the floors' own test, none of which was trained on."""
    majority: float
    """Of the most common label of the test items."""
    text_only: float
    picture_only: float


def floors(
    train: tuple[Sequence[str], np.ndarray, Sequence[Hashable]],
    test: tuple[Sequence[str], np.ndarray, Sequence[Hashable]],
) -> Floors:
    """Measures the floors of one task: trained on the first rows, scored on the second.

    Each is texts, pictures (N, H, W, C) and labels; several pictures of an item stand in its
    channels.
    """
    return Floors(
        items=len(test[2]),
        majority=majority_level(test[2]),
        text_only=text_only_accuracy(train[0], train[2], test[0], test[2]),
        picture_only=picture_only_accuracy(train[1], train[2], test[1], test[2]),
    )


def text_only_accuracy(
    train_texts: Sequence[str],
    train_labels: Sequence[Hashable],
    texts: Sequence[str],
    labels: Sequence[Hashable],
) -> float:
    """Trains the text classifier on some rows and returns its accuracy on others, in [0, 1].

    A label that training does not have counts as wrong. Raises ValueError without rows.
    """
    return _accuracy(text_only_guesses(train_texts, train_labels, texts), labels)


@torch.enable_grad()  # scores are made without
def text_only_guesses(
    train_texts: Sequence[str], train_labels: Sequence[Label], texts: Sequence[str]
) -> list[Label]:
    """Trains the text classifier on some rows and returns the label that it gives each of others.

    Raises ValueError without rows.
    """
    classes = _classes(train_labels, texts)
    vocabulary = _vocabulary(train_texts)
    seen, unseen = _bag(train_texts, vocabulary), _bag(texts, vocabulary)
    right = torch.tensor([classes[label] for label in train_labels])
    weight = torch.zeros(len(vocabulary) + 1, len(classes), requires_grad=True)
    adam = torch.optim.Adam([weight], lr=_RATE)
    with one_thread():
        for _ in range(_STEPS):
            adam.zero_grad()
            loss = F.cross_entropy(_logits(seen, weight), right) + _DECAY * weight.square().sum()
            loss.backward()
            adam.step()
    with torch.no_grad():
        return _likeliest(_logits(unseen, weight), classes)


def k_fold_text_only_accuracy(
    texts: Sequence[str],
    labels: Sequence[Hashable],
    *,
    folds: int = 5,
    groups: Sequence[Hashable] | None = None,
    seed: int = 0,
) -> float:
    """Returns the accuracy of the text classifier on rows it was not trained on, each once.

    `groups`: rows of one group are in the same fold, as the two captions of one picture must be.
    Raises ValueError where there are fewer groups than folds, or fewer than two folds.
    """
    members = list(range(len(texts))) if groups is None else list(groups)
    names = list(dict.fromkeys(members))
    if not 2 <= folds <= len(names):
        raise ValueError(f"{folds} folds of {len(names)} groups: at least 2, and one group each")
    order = np.random.default_rng(seed).permutation(len(names))
    fold_of = {names[group]: place % folds for place, group in enumerate(order)}
    right = 0.0
    for fold in range(folds):
        held = [row for row, group in enumerate(members) if fold_of[group] == fold]
        kept = [row for row, group in enumerate(members) if fold_of[group] != fold]
        right += len(held) * text_only_accuracy(
            [texts[row] for row in kept],
            [labels[row] for row in kept],
            [texts[row] for row in held],
            [labels[row] for row in held],
        )
    return right / len(texts)


def picture_only_accuracy(
    train_images_NHWC: np.ndarray,
    train_labels: Sequence[Hashable],
    images_NHWC: np.ndarray,
    labels: Sequence[Hashable],
    *,
    seed: int = 0,
) -> float:
    """Trains the convolution net on some rows and returns its accuracy on others, in [0, 1].

    Pictures are uint8. A label that training does not have counts as wrong. Raises ValueError
    without rows.
    """
    guesses = picture_only_guesses(train_images_NHWC, train_labels, images_NHWC, seed=seed)
    return _accuracy(guesses, labels)


@torch.enable_grad()  # scores are made without
def picture_only_guesses(
    train_images_NHWC: np.ndarray,
    train_labels: Sequence[Label],
    images_NHWC: np.ndarray,
    *,
    seed: int = 0,
) -> list[Label]:
    """Trains the convolution net on some rows and returns the label that it gives each of others.

    Pictures are uint8. Raises ValueError without rows.
    """
    classes = _classes(train_labels, images_NHWC)
    seen_NCHW, unseen_NCHW = _pixels(train_images_NHWC), _pixels(images_NHWC)
    right = torch.tensor([classes[label] for label in train_labels])
    with torch.random.fork_rng(devices=[]), one_thread():
        torch.manual_seed(seed)
        net = _net(seen_NCHW, len(classes))
        adam = torch.optim.Adam(net.parameters(), lr=2e-3)
        for _ in range(_EPOCHS):
            for rows in torch.randperm(len(right)).split(_BATCH):
                adam.zero_grad()
                F.cross_entropy(net(seen_NCHW[rows]), right[rows]).backward()
                adam.step()
    with torch.no_grad():
        logits_NK = torch.cat([net(piece) for piece in unseen_NCHW.split(512)])
    return _likeliest(logits_NK, classes)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Computes on one thread: as fast for nets so small, and the same bits on every machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _classes(
    train_labels: Sequence[Label], rows: Sequence[object] | np.ndarray
) -> dict[Label, int]:
    if not len(train_labels) or not len(rows):
        raise ValueError("a floor needs rows to train on and rows to score")
    return {label: number for number, label in enumerate(dict.fromkeys(train_labels))}


def _likeliest(logits_NK: Tensor, classes: dict[Label, int]) -> list[Label]:
    label_of = list(classes)
    return [label_of[number] for number in logits_NK.argmax(dim=1).tolist()]


def _accuracy(guesses: Sequence[Hashable], labels: Sequence[Hashable]) -> float:
    pairs = zip(guesses, labels, strict=True)
    return float(np.mean([guess == label for guess, label in pairs]))


def _features(text: str) -> Iterator[str]:
    """Yields the words of a text and its pairs of neighbours, its ends marked."""
    words = ["", *text.lower().split(), ""]
    yield from words[1:-1]
    for left, right in itertools.pairwise(words):
        yield f"{left} {right}"


def _vocabulary(texts: Sequence[str]) -> dict[str, int]:
    """Numbers what at least two texts have, from 1; 0 is in every text."""
    counts = Counter(feature for text in texts for feature in set(_features(text)))
    kept = [feature for feature, count in counts.items() if count > 1]
    return {feature: number for number, feature in enumerate(sorted(kept), start=1)}


def _bag(texts: Sequence[str], vocabulary: dict[str, int]) -> tuple[Tensor, Tensor]:
    """Returns the numbers of all texts one after another (E,), and where each text starts (N,)."""
    rows = [
        [0, *sorted({vocabulary[word] for word in _features(text) if word in vocabulary})]
        for text in texts
    ]
    starts_N = np.cumsum([0, *map(len, rows[:-1])])
    return torch.tensor([number for row in rows for number in row]), torch.from_numpy(starts_N)


def _logits(bag: tuple[Tensor, Tensor], weight: Tensor) -> Tensor:
    return F.embedding_bag(bag[0], weight, bag[1], mode="sum")


def shrunk(images_NHWC: np.ndarray) -> np.ndarray:
    """Averages pictures down to what the convolution net reads: uint8 (N, side, side, C); pictures
    that are small already stay as they are.
    """
    if images_NHWC.shape[1] <= _SIDE:
        return images_NHWC
    images_NCHW = torch.from_numpy(np.array(images_NHWC)).permute(0, 3, 1, 2).float()
    small_NCHW = F.adaptive_avg_pool2d(images_NCHW, _SIDE)
    return small_NCHW.permute(0, 2, 3, 1).round().to(torch.uint8).numpy()


def _pixels(images_NHWC: np.ndarray) -> Tensor:
    """Returns float32 (N, C, H, W) in [-1, 1]."""
    images_NCHW = torch.from_numpy(np.array(shrunk(images_NHWC))).permute(0, 3, 1, 2)
    return images_NCHW.float() / 127.5 - 1


def _net(images_NCHW: Tensor, classes: int) -> nn.Sequential:
    net = nn.Sequential(
        nn.Conv2d(images_NCHW.shape[1], 16, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
    )
    width = net(images_NCHW[:1]).shape[1]
    return net.append(nn.Linear(width, 64)).append(nn.ReLU()).append(nn.Linear(64, classes))
