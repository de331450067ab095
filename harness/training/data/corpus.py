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
from typing import Any

import numpy as np

from harness.training.data.cache import DataError, stored
from harness.training.data.pictures import write_pictures
from harness.training.data.scenes.scenes import VERSION, write_scenes
from harness.training.data.sources.opening import source_digest
from harness.training.data.splits import NAMES, Split, read_captions, read_split, write_ids
from harness.training.data.tokenizer import Tokenizer, tokenized
from harness.training.data.transforms import Augment
from harness.training.settings.data import Pictures, Scenes, Text

_FORMAT = "1"
"""Raised when the files of an entry change."""


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Everything that batches are made of."""

    train: Split
    val: Split
    test: Split
    tokenizer: Tokenizer
    augment: Augment
    """For training batches."""
    content: str
    """Digest of pixels, captions, groups and tokens of all splits."""
    facts: dict[str, float]
    """What the tokenizer did to the captions (`tokenizer.tokenized`)."""
    notes: tuple[str, ...]
    """What a reader of the results should know: leaks between splits, captions cut."""


def load_corpus(data: Scenes | Pictures, image_size: int, cache: Path, channels: int = 3) -> Corpus:
    """Opens the corpus, building it first where `cache` does not have it.

    Raises DataError that names file, row and column for data that cannot be used.
    """
    pictures = stored(
        cache, _pixels_key(data, image_size, channels), _writer(data, image_size, channels)
    )
    text_key = _digest([pictures.name, _text(data.text)])
    text = stored(cache, text_key, lambda folder: _write_text(data.text, pictures, folder))
    train, val, test = (read_split(pictures, text, name) for name in NAMES)
    about = json.loads((text / "about.json").read_text())
    return Corpus(
        train=train,
        val=val,
        test=test,
        tokenizer=Tokenizer.load(text),
        augment=_augment(data),
        content=about["content"],
        facts=about["facts"],
        notes=_notes(train, val, test, about["facts"]),
    )


def content_key(data: Scenes | Pictures, image_size: int, channels: int = 3) -> str:
    """What the data of a run are, known before anything is decoded.

    Settings that do not stand at their defaults, with every path replaced by the content of its
    files; a hub dataset is known by its name only. Raises DataError where a path cannot be read.
    """
    options = data.changed_fields() | {"text": data.text.changed_fields()}
    if (tokenizer := _text(data.text)["tokenizer"]) != data.text.tokenizer:
        options["text"]["tokenizer"] = tokenizer
    if isinstance(data, Scenes):
        options["version"] = VERSION
    else:
        options |= {n: _source(getattr(data, n), n, data.image) for n in NAMES}
    return _digest([_FORMAT, options, image_size, channels])


def _pixels_key(data: Scenes | Pictures, image_size: int, channels: int) -> str:
    if channels not in (1, 3):
        raise DataError(f"channels={channels}: pictures have 1 (grey) or 3 (red, green, blue)")
    return _digest([_FORMAT, _options(data), image_size, channels])


def _options(data: Scenes | Pictures) -> dict[str, Any]:
    options = data.model_dump(mode="json", exclude={"text", "augment", "smallest_crop"})
    if isinstance(data, Scenes):
        return options | {"version": VERSION}
    sources = {n: _source(getattr(data, n), n, data.image) for n in NAMES}
    return options | sources


def _source(where: str, role: str, image: str) -> str:
    return source_digest(where, role, image) if where else ""


def _writer(data: Scenes | Pictures, image_size: int, channels: int) -> Callable[[Path], None]:
    def build(folder: Path) -> None:
        if isinstance(data, Scenes):
            write_scenes(data, image_size, channels, folder)
        else:
            write_pictures(data, image_size, channels, folder)
        (folder / "content").write_text(_files_digest(folder, "*"))

    return build


def _augment(data: Scenes | Pictures) -> Augment:
    if isinstance(data, Scenes):
        return Augment()
    return Augment(kind=data.augment, smallest_crop=data.smallest_crop)


def _text(text: Text) -> dict[str, Any]:
    """The text settings, a tokenizer's folder replaced by what is in it."""
    folder = Path(text.tokenizer).expanduser()
    if text.tokenizer == "wordpiece" or not folder.is_dir():
        return text.model_dump()
    return text.model_dump() | {"tokenizer": _files_digest(folder, "*.json", "*.txt", "*.model")}


def _write_text(text: Text, pictures: Path, folder: Path) -> None:
    captions = {
        name: [c for spoken in read_captions(pictures, name) for c in spoken] for name in NAMES
    }
    tokenizer, ids, facts = tokenized(text, captions)
    for name in NAMES:
        write_ids(folder, name, ids[name])
    tokenizer.save(folder)
    content = _digest([(pictures / "content").read_text(), _files_digest(folder, "*")])
    (folder / "about.json").write_text(json.dumps({"content": content, "facts": facts}))


def _notes(train: Split, val: Split, test: Split, facts: dict[str, float]) -> tuple[str, ...]:
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
    if facts["captions_cut"]:
        cut, length = int(facts["captions_cut"]), train.ids_KL.shape[1]
        notes.append(f"{cut} of {int(facts['captions'])} captions are cut to {length} tokens")
    return tuple(notes)


def _files_digest(folder: Path, *patterns: str) -> str:
    parts = []
    for path in sorted({path for pattern in patterns for path in folder.glob(pattern)}):
        with path.open("rb") as file:
            parts.append([path.name, hashlib.file_digest(file, "blake2b").hexdigest()])
    return _digest(parts)


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
