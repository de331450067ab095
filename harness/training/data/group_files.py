"""Groups of pictures and captions in a folder: `groups.jsonl`, a line a group, and its pictures.

    {"group": "12", "images": ["12_a.png", "12_b.png"], "captions": ["a red ...", "a blue ..."],
     "match": [[1, 0], [0, 1]], "tag": "colour"}

`match` has a row for each picture and a value for each caption: whether it is right. A group has
one picture and one or more captions, or as many pictures as captions, each with one right partner.
Paths begin at the folder, and nothing outside it is read.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BeforeValidator, Field

from architectures.frozen import Frozen, SettingError, checked, path_named
from harness.training.data.at_urls import local
from harness.training.data.cache import DataError, stored
from harness.training.data.decoding import Square
from harness.training.data.files import sha256
from harness.training.data.folder_pictures import missing, write_pictures
from harness.training.data.groups import Group, Groups, TagNames
from harness.training.data.identity import caption_hash
from harness.training.data.json_lines import BadLines, numbered_lines, object_of
from harness.training.settings.data import Name

FILE = "groups.jsonl"
MOST = 8
"""Pictures or captions of one group: their orders are counted out."""
LONGEST_TAG = 100
"""Characters of a tag, which is a part of its scores' names: MLflow's end at 250."""
_FORMAT = "1"
"""Raised when the same folder and sizes give another cache entry."""


class GroupLine(Frozen):
    """One line of `groups.jsonl`."""

    group: Annotated[
        Name, BeforeValidator(lambda name: str(name) if isinstance(name, int) else name)
    ]
    """Names the group, once in a file."""
    images: Annotated[tuple[Name, ...], Field(min_length=1, max_length=MOST)]
    """Its k pictures, as paths that begin at the folder."""
    captions: Annotated[tuple[Name, ...], Field(min_length=1, max_length=MOST)]
    """Its l captions."""
    match: tuple[tuple[bool, ...], ...]
    """k rows of l values: the caption is right for the picture."""
    tag: Annotated[str, Field(max_length=LONGEST_TAG)] = ""
    """What was swapped, or another kind that is scored apart."""

    @property
    def match_kl(self) -> np.ndarray:
        """bool (k, l)."""
        return np.array(self.match, dtype=bool)

    def problem(self) -> str:
        """Says what is wrong with the line by itself, its field first; empty: nothing."""
        k, count = len(self.images), len(self.captions)
        if k not in (1, count):
            return (
                f"field 'images': {k} images and {count} captions; a group has one image, or as "
                "many images as captions"
            )
        if len(self.match) != k or any(len(row) != count for row in self.match):
            shape = " and ".join(dict.fromkeys(str(len(row)) for row in self.match)) or "none"
            return (
                f"field 'match': {len(self.match)} rows of {shape} values, where {k} images and "
                f"{count} captions need {k} of {count}"
            )
        if len({caption_hash(caption) for caption in self.captions}) < count:
            return "field 'captions': two of them are equal but for case and spacing"
        if not all(caption.strip() for caption in self.captions):
            return "field 'captions': one of them is blank"
        if len({posixpath.normpath(image) for image in self.images}) < k:
            return "field 'images': the same image twice"
        if k > 1 and not ((self.match_kl.sum(0) == 1) & (self.match_kl.sum(1) == 1)).all():
            return "field 'match': every image needs exactly one right caption of its own"
        if k == 1 < count and self.match_kl.all():
            return "field 'match': no caption is wrong, so there is no negative to tell apart"
        if k == 1 < count and not self.match_kl.any():
            return "field 'match': no caption is right"
        return ""


def read_lines(folder: Path) -> list[GroupLine]:
    """Reads and checks `groups.jsonl`; pictures must be there, and are not opened.

    Raises DataError that names file, line and field of the first bad lines, and how many there are.
    """
    path = folder / FILE
    bad, count = BadLines(path, "groups"), 0
    lines: list[GroupLine] = []
    first: dict[str, int] = {}
    tags = TagNames()
    for number, text in numbered_lines(path, "; `fuselab convert` writes such folders"):
        count += 1
        try:
            line = checked(GroupLine, object_of(text, "group"), "field ")
            problem = line.problem() or _missing(line, folder)
            if not problem and (before := first.setdefault(line.group, number)) != number:
                problem = f"field 'group': {line.group!r} stands in line {before} already"
            if not problem and (why := tags.problem(line.tag, f"line {number}")):
                problem = f"field 'tag': {why}"
        except (ValueError, SettingError) as error:
            problem = str(error)
        if problem:
            bad.add(f"line {number}, {problem}")
        else:
            lines.append(line)
    bad.complain(count)
    if problem := statements_problem(lines):
        raise DataError(f"{path}, {problem}")
    return lines


def _missing(line: GroupLine, folder: Path) -> str:
    for image in line.images:
        if problem := missing(image, folder):
            return f"field 'images': {problem}"
    return ""


def statements_problem(lines: Sequence[GroupLine]) -> str:
    """Says so where all groups of one caption are right, or all wrong; empty: they are not."""
    statements = {line.match[0][0] for line in lines if len(line.captions) == 1}
    if len(statements) == 1:
        only = "right" if statements.pop() else "wrong"
        return (
            f"field 'match': every group of one caption is {only}, so there is no "
            f"{'negative' if only == 'right' else 'positive'} to tell apart"
        )
    return ""


def folder_digest(where: str) -> str:
    """Digests the groups of a folder and the pictures that they name. Raises DataError as
    `read_lines` does.
    """
    folder = path_named(local(where))
    content = hashlib.sha256(sha256(folder / FILE) if (folder / FILE).is_file() else b"")
    for image in _images(read_lines(folder)):
        content.update(image.encode() + b"\0" + sha256(folder / image))
    return content.hexdigest()


def _images(lines: Sequence[GroupLine]) -> list[str]:
    """Lists every picture once, in the order in which they are named."""
    return list(dict.fromkeys(image for line in lines for image in line.images))


def read_groups(where: str, square: Square, cache: Path) -> Groups:
    """Opens the groups of a folder; their pictures are decoded once and kept in `cache`.

    Raises DataError that names file, line and field, of pictures that cannot be read too.
    """
    folder = path_named(local(where))
    lines = read_lines(folder)
    images = _images(lines)
    named = [_FORMAT, folder_digest(where), square.side, square.channels, square.fit]
    key = hashlib.blake2b(json.dumps(named).encode(), digest_size=16).hexdigest()
    entry = stored(cache, key, lambda into: _decode(folder, lines, images, square, into))
    place = {image: row for row, image in enumerate(images)}
    return Groups(
        images_PHWC=np.asarray(np.load(entry / "images.npy", mmap_mode="r")),
        groups=tuple(
            Group(
                name=line.group,
                tag=line.tag,
                pictures=tuple(place[image] for image in line.images),
                captions=line.captions,
                match_kl=line.match_kl,
            )
            for line in lines
        ),
    )


def _decode(
    folder: Path, lines: Sequence[GroupLine], images: Sequence[str], square: Square, into: Path
) -> None:
    seen = dict(
        zip(images, write_pictures(into / "images.npy", folder, images, square), strict=True)
    )
    bad = BadLines(folder / FILE, "groups")
    for number, line in enumerate(lines, 1):
        for image in line.images:
            if seen[image].problem:
                bad.add(f"line {number}, field 'images': {image!r} is {seen[image].problem}")
    for number, line in enumerate(lines, 1):
        its = [seen[image] for image in line.images]
        alike = len({picture.picture_hash for picture in its}) < len(its)
        if alike and not any(picture.problem for picture in its):
            bad.add(f"line {number}, field 'images': two of them show the same picture")
    bad.complain(len(lines))
