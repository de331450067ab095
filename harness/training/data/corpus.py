"""Settings in, decoded and tokenised splits out.

Two entries on disk: the pixels (one per data source and image size) and, apart, the tokenizer with
its ids, so that another vocabulary does not decode the pictures again. Both are named by content,
never by a path.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import JsonValue

from architectures.frozen import path_named
from harness.training.data.at_urls import local
from harness.training.data.cache import DataError, stored
from harness.training.data.pictures import write_pictures
from harness.training.data.scenes.scenes import version, write_scenes
from harness.training.data.sources.opening import source_digest
from harness.training.data.splits import (
    NAMES,
    Split,
    read_captions,
    read_families,
    read_split,
    read_swapped,
    write_ids,
    write_swapped_ids,
)
from harness.training.data.swapping import swapped_captions
from harness.training.data.tokenized import tokenized
from harness.training.data.tokenizer import Tokenizer, encoded
from harness.training.data.transforms import Augment
from harness.training.settings.data import Pictures, Scenes, Text

_FORMAT = "2"
"""Raised when the files of an entry change, or what the same source and settings give."""


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Everything that batches are made of, opened."""

    train: Split
    val: Split
    test: Split
    tokenizer: Tokenizer
    augment: Augment
    """For training batches."""
    content: str
    """Digest of pixels, captions, groups and tokens of all splits."""
    training: str
    """Digest of what training reads: the same of the training split alone, and the tokenizer."""
    facts: dict[str, float]
    """What the tokenizer did to the captions (`tokenizer.tokenized`)."""
    notes: tuple[str, ...]
    """Sentences that a reader of the results needs: leaks between splits, captions cut."""
    data: Scenes | Pictures
    """The settings that it was made of."""
    cache: Path
    """Folder of its entries, where a task keeps what it decodes besides."""


def load_corpus(
    data: Scenes | Pictures, image_size: int, cache: Path, channels: int = 3, *, swaps: bool = False
) -> Corpus:
    """Opens the corpus, building it first where `cache` does not have it.

    `swaps`: also the training captions with their words in another arrangement, for negatives.
    Raises DataError that names file, row and column for data that cannot be used.
    """
    pictures = stored(
        cache, _pixels_key(data, image_size, channels), _writer(data, image_size, channels)
    )
    text_key = _digest([pictures.name, _text(data.text), *(["swaps"] if swaps else [])])
    text = stored(cache, text_key, lambda folder: _write_text(data.text, pictures, folder, swaps))
    train, val, test = (read_split(pictures, text, name) for name in NAMES)
    if swaps and not train.swapped_share:
        raise DataError(
            "objectives.itm.swap_share: no training caption has its words in another arrangement; "
            "scenes need two objects (data.objects), other captions two words that change places"
        )
    about = json.loads((text / "about.json").read_text())
    return Corpus(
        train=train,
        val=val,
        test=test,
        tokenizer=Tokenizer.load(text),
        augment=_augment(data),
        content=about["content"],
        training=about["training"],
        facts=about["facts"],
        notes=(
            *_leaks(train, val, test),
            *_text_notes((train, val, test), about["facts"], data),
            *_swap_notes(train, swaps),
            *_hub_notes(data),
        ),
        data=data,
        cache=cache,
    )


def content_key(data: Scenes | Pictures, image_size: int, channels: int = 3) -> str:
    """Digests what the data of a run are, before anything is decoded.

    Settings that do not stand at their defaults, with every path replaced by the content of its
    files; a hub dataset is known by its name only. Raises DataError where a path cannot be read.
    """
    return _key(data, _options(data), image_size, channels)


def training_key(data: Scenes | Pictures, image_size: int, channels: int = 3) -> str:
    """Digests what training and its validation curves read, as `content_key` does with all splits:
    test counts only where it is held out of the training source. Raises DataError where a path
    cannot be read.
    """
    options = _options(data, NAMES[:2])
    if isinstance(data, Scenes) or data.test:
        options.pop("test_share", None)
        options.pop("test", None)
    return _key(data, options, image_size, channels)


def _key(
    data: Scenes | Pictures, options: dict[str, JsonValue], image_size: int, channels: int
) -> str:
    text = data.text.changed_fields()
    if (tokenizer := _text(data.text)["tokenizer"]) != data.text.tokenizer:
        text["tokenizer"] = tokenizer
    augment = _augment(data).changed_fields()
    return _digest([_FORMAT, options, text, augment, image_size, channels])


def _pixels_key(data: Scenes | Pictures, image_size: int, channels: int) -> str:
    if channels not in (1, 3):
        raise DataError(f"channels={channels}: pictures have 1 (grey) or 3 (red, green, blue)")
    return _digest([_FORMAT, _options(data), image_size, channels])


def _options(data: Scenes | Pictures, read: tuple[str, ...] = NAMES) -> dict[str, JsonValue]:
    """Dumps the settings of pixels, captions and groups; the paths of the splits to `read`, and the
    pictures that they name, are replaced by their content.
    """
    elsewhere = ("text", "augment", "smallest_crop", "root")
    options = {n: value for n, value in data.changed_fields().items() if n not in elsewhere}
    if isinstance(data, Scenes):
        return options | {"version": version(data)}
    named = {name: getattr(data, name) for name in read if getattr(data, name)}
    return options | {n: source_digest(w, n, data.image, data.root) for n, w in named.items()}


def _writer(data: Scenes | Pictures, image_size: int, channels: int) -> Callable[[Path], None]:
    def build(folder: Path) -> None:
        if isinstance(data, Scenes):
            write_scenes(data, image_size, channels, folder)
        else:
            before = _options(data)
            write_pictures(data, image_size, channels, folder)
            if _options(data) != before:
                raise DataError(f"files of {data.train} changed while they were read; start again")
        (folder / "content").write_text(_files_digest(folder, "*"))

    return build


def _augment(data: Scenes | Pictures) -> Augment:
    if isinstance(data, Scenes):
        return Augment()
    return Augment(kind=data.augment, smallest_crop=data.smallest_crop)


def _text(text: Text) -> dict[str, JsonValue]:
    """Dumps the text settings, a tokenizer's folder replaced by what is in it."""
    folder = path_named(local(text.tokenizer))
    settings = text.model_dump()
    if text.alphabet == "captions":  # entries of before there was the field stay good
        del settings["alphabet"]
    if text.tokenizer == "wordpiece" or not folder.is_dir():
        return settings
    return settings | {"tokenizer": _files_digest(folder, "*.json", "*.txt", "*.model")}


def _write_text(text: Text, pictures: Path, folder: Path, swaps: bool) -> None:
    captions = {name: [c for own in read_captions(pictures, name) for c in own] for name in NAMES}
    tokenizer, ids, facts = tokenized(text, captions)
    for name in NAMES:
        write_ids(folder, name, ids[name])
    if swaps:
        _write_swapped(tokenizer, pictures, folder)
    tokenizer.save(folder)
    own = ("tokenizer.json", "special.json", "train.*")
    about = {
        "content": _digest([(pictures / "content").read_text(), _files_digest(folder, "*")]),
        "training": _digest([_files_digest(pictures, "train.*"), _files_digest(folder, *own)]),
        "facts": facts,
    }
    (folder / "about.json").write_text(json.dumps(about))


def _write_swapped(tokenizer: Tokenizer, pictures: Path, folder: Path) -> None:
    """Writes tokens of the training captions in another arrangement. A caption keeps none where an
    arrangement has the caption's own tokens, or is too long.
    """
    captions = read_captions(pictures, "train")
    swapped = read_swapped(pictures, "train")
    if swapped is None:
        swapped = swapped_captions(captions, read_families(pictures, "train"))
    texts = [text for of_picture in swapped for text in of_picture]
    originals = [text for of_picture in captions for text in of_picture]
    pairs = zip(*(encoded(tokenizer.backend, each) for each in (texts, originals)), strict=True)
    rows = [
        ids if text and ids != of_caption and len(ids) <= tokenizer.length else []
        for text, (ids, of_caption) in zip(texts, pairs, strict=True)
    ]
    write_swapped_ids(folder, "train", tokenizer.padded(rows))


def _leaks(train: Split, val: Split, test: Split) -> list[str]:
    """Says what splits have in common."""
    notes = []
    for seen, held in ((train, val), (train, test), (val, test)):
        shared = {
            "group": np.isin(held.group_N, seen.group_N),
            "picture": np.isin(held.picture_N, seen.picture_N),
            "caption": (np.isin(held.caption_NC, seen.caption_NC) & (held.caption_NC >= 0)).any(1),
        }
        for what, shared_N in shared.items():
            if shared_N.any():
                count = f"{int(shared_N.sum())} of {len(held)}"
                notes.append(f"{count} {held.name} pictures share a {what} with {seen.name}")
    return notes


def _text_notes(
    splits: tuple[Split, ...], facts: dict[str, float], data: Scenes | Pictures
) -> list[str]:
    """Says what the tokenizer lost of the captions: their ends, or what tells two apart."""
    notes, length = [], splits[0].ids_KL.shape[1]
    why = ("data.text.max_tokens" if length == data.text.max_tokens
           else "the longest training caption has no more")  # fmt: skip
    for split in splits:
        if cut := int(facts[f"{split.name}_cut"]):
            count = f"{cut} of {len(split.ids_KL)} {split.name} captions"
            notes.append(f"{count} are cut to {length} tokens ({why})")
    if alike := int(facts["captions_alike"]):
        notes.append(
            f"{alike} captions are written differently than another one with the same tokens: "
            "letters are unknown, or data.text.normaliser takes marks off"
        )
    return notes


def _swap_notes(train: Split, swaps: bool) -> list[str]:
    """Says how many captions have another arrangement, where that was asked."""
    share = f"{train.swapped_share:.0%} of the training captions have their words in another"
    return [f"{share} arrangement too (objectives.itm.swap_share)"] if swaps else []


def _hub_notes(data: Scenes | Pictures) -> list[str]:
    """Says which data are known by their name alone."""
    sources = (data.train, data.val, data.test) if isinstance(data, Pictures) else ()
    return [
        f"{source} is known by its name, not by its content: name a revision, "
        "hub:NAME@REVISION:SPLIT, or other data there would go unnoticed"
        for source in dict.fromkeys(sources)
        if source.startswith("hub:") and "@" not in source
    ]


def _files_digest(folder: Path, *patterns: str) -> str:
    parts = []
    for path in sorted({path for pattern in patterns for path in folder.glob(pattern)}):
        with path.open("rb") as file:
            parts.append([path.name, hashlib.file_digest(file, "blake2b").hexdigest()])
    return _digest(parts)


def _digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
