"""Published sets of one picture a group: SugarCrepe, SugarCrepe++, VALSE, VSR, ARO."""

from __future__ import annotations

from pathlib import Path

from harness.training.data.cache import DataError
from harness.training.data.published.found import (
    FIRST_RIGHT,
    Box,
    Finder,
    Found,
    Items,
    LeftOut,
    Picture,
    Row,
    file_of,
    files_of,
    number,
    rows_of,
    text,
)

VOTES = 2
"""Annotators of three who must have chosen VALSE's caption and not its foil."""


def sugarcrepe(source: Path, images: Path | None) -> Items:
    """Reads the JSON files of SugarCrepe (RAIVNLab/sugar-crepe): `filename` of COCO val2017,
    `caption`, `negative_caption`; a file is a tag (`swap_obj`).
    """
    find = Finder(images, source)
    for path in files_of(source, "*.json"):
        for place, (where, row) in enumerate(rows_of(path)):
            yield Found(
                where=where,
                name=f"{path.stem} {place}",
                pictures=(Picture(path=find(text(row, "filename", where), where)),),
                captions=(text(row, "caption", where), text(row, "negative_caption", where)),
                match=FIRST_RIGHT,
                tag=path.stem,
            )


def sugarcrepe_pp(source: Path, images: Path | None) -> Items:
    """Reads the JSON files of SugarCrepe++ (Sri-Harsha/scpp): SugarCrepe's fields, and `caption2`,
    a second right caption.
    """
    find = Finder(images, source)
    for path in files_of(source, "*.json"):
        for place, (where, row) in enumerate(rows_of(path)):
            fields = ("caption", "caption2", "negative_caption")
            yield Found(
                where=where,
                name=f"{path.stem} {place}",
                pictures=(Picture(path=find(text(row, "filename", where), where)),),
                captions=tuple(text(row, field, where) for field in fields),
                match=((True, True, False),),
                tag=path.stem,
            )


def valse(source: Path, images: Path | None) -> Items:
    """Reads the JSON files of VALSE (Heidelberg-NLP/VALSE): `caption` and `foil` of `image_file`,
    which may lie in a folder called as `dataset`. Only what two of three annotators confirmed
    (`mturk.caption`), as its authors ask.
    """
    find = Finder(images, source)
    for path in files_of(source, "*.json"):
        for place, (where, row) in enumerate(rows_of(path)):
            votes = row.get("mturk")
            if not isinstance(votes, dict):
                raise DataError(f"{where}, field 'mturk': no votes of annotators")
            if number(votes, "caption", f"{where}, field 'mturk'") < VOTES:
                yield LeftOut(f"fewer than {VOTES} annotators chose the caption alone")
                continue
            inside = str(row.get("dataset", ""))
            yield Found(
                where=where,
                name=f"{path.stem} {place}",
                pictures=(Picture(path=find(text(row, "image_file", where), where, inside)),),
                captions=(text(row, "caption", where), text(row, "foil", where)),
                match=FIRST_RIGHT,
                tag=path.stem,
            )


def vsr(source: Path, images: Path | None) -> Items:
    """Reads a split of VSR (cambridgeltl/visual-spatial-reasoning), JSON lines: one caption of one
    COCO picture with `label` 1, true, or 0; a relation is a tag.
    """
    path = file_of(source, "test.jsonl")
    find = Finder(images, path.parent)
    for place, (where, row) in enumerate(rows_of(path)):
        label = number(row, "label", where)
        if label not in (0, 1):
            raise DataError(f"{where}, field 'label': {label} is neither 0 nor 1")
        yield Found(
            where=where,
            name=str(place),
            pictures=(Picture(path=find(text(row, "image", where), where)),),
            captions=(text(row, "caption", where),),
            match=((label == 1,),),
            tag=text(row, "relation", where),
        )


def _box(row: Row, where: str) -> Box:
    """Reads the box of ARO. Raises DataError where it holds no pixel."""
    left, top = (number(row, f"bbox_{side}", where) for side in "xy")
    width, high = (number(row, f"bbox_{side}", where) for side in "wh")
    for side, start, size in (("w", left, width), ("h", top, high)):
        if size < 1 or round(start + size) <= round(start):  # as Pillow cuts it
            raise DataError(f"{where}, field 'bbox_{side}': {size} is less than a pixel")
    return (left, top, left + width, top + high)


def aro(source: Path, images: Path | None) -> Items:
    """Reads `visual_genome_relation.json` or `visual_genome_attribution.json` of ARO
    (mertyg/vision-language-models-are-bows): `true_caption`, `false_caption`, and the box of the
    picture that is meant. Words alone beat CLIP on it, so its tag says `hackable`.
    """
    for path in files_of(source, "visual_genome_*.json"):
        find = Finder(images, path.parent / "images", path.parent)
        for place, (where, row) in enumerate(rows_of(path)):
            box = _box(row, where)
            file = find(text(row, "image_path", where), where)
            kind = "attribute" if "attributes" in row else "relation"
            yield Found(
                where=where,
                name=f"{path.stem} {place}",
                pictures=(Picture(path=file, box=box),),
                captions=(text(row, "true_caption", where), text(row, "false_caption", where)),
                match=FIRST_RIGHT,
                tag=f"hackable {kind}",
            )
