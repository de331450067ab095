"""The pictures that items show, each decoded once and kept in the cache: the same file named twice,
or copied, is one, and so are files with the same pixels. Letters: P pictures.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.training.data.cache import stored
from harness.training.data.decoding import Square
from harness.training.data.files import sha256
from harness.training.data.folder_pictures import write_pictures

_FORMAT = "1"
"""Raised when the same files and sizes give another cache entry."""


@dataclass(frozen=True, kw_only=True)
class KeptPictures:
    """Decoded pictures of a folder, opened as a memory map."""

    images_PHWC: np.ndarray
    """uint8 (P, H, W, C), square."""
    row: Mapping[str, int]
    """Path from the folder -> row of the picture; equal for equal pixels."""
    size: Mapping[str, tuple[int, int]]
    """Path from the folder -> width and height in the file, upright, in pixels."""
    content: str
    """Digest of the files and of how they become square."""


def kept_pictures(
    folder: Path,
    images: Iterable[str],
    square: Square,
    cache: Path,
    complain: Callable[[Mapping[str, str]], None],
) -> KeptPictures:
    """Opens the pictures named, and decodes them first where the cache does not have them.

    complain: gets path -> why it cannot be read, of those that cannot, and raises; nothing is kept
    then
    """
    digests = {image: sha256(folder / image) for image in dict.fromkeys(images)}
    file_of = {digest: image for image, digest in reversed(digests.items())}
    files = [image for image, digest in digests.items() if file_of[digest] == image]
    named = [_FORMAT, square.side, square.channels, square.fit]
    content = hashlib.blake2b(json.dumps(named).encode(), digest_size=16)
    for image in files:
        content.update(digests[image])
    place = {digests[image]: place for place, image in enumerate(files)}

    def build(into: Path) -> None:
        seen = write_pictures(into / "images.npy", folder, files, square)
        problems = {
            image: seen[place[digest]].problem
            for image, digest in digests.items()
            if seen[place[digest]].problem
        }
        if problems:
            complain(problems)
        first: dict[int, int] = {}
        rows = [first.setdefault(its.picture_hash, row) for row, its in enumerate(seen)]
        about = {"rows": rows, "sizes": [its.size for its in seen]}
        (into / "pictures.json").write_text(json.dumps(about))

    entry = stored(cache, content.hexdigest(), build)
    about = json.loads((entry / "pictures.json").read_text())
    return KeptPictures(
        images_PHWC=np.asarray(np.load(entry / "images.npy", mmap_mode="r")),
        row={image: about["rows"][place[digest]] for image, digest in digests.items()},
        size={image: tuple(about["sizes"][place[digest]]) for image, digest in digests.items()},
        content=entry.name,
    )
