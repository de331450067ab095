"""Published sets of as many pictures as captions: Winoground, ColorSwap, BiVLC, What's Up."""

from __future__ import annotations

from pathlib import Path

from harness.training.data.cache import DataError
from harness.training.data.published.found import (
    FIRST_RIGHT,
    IN_ORDER,
    Finder,
    Found,
    Items,
    LeftOut,
    Picture,
    file_of,
    rows_of,
    text,
    values_of,
)
from harness.training.data.sources.cells import values
from harness.training.data.sources.opening import open_tables
from harness.training.data.sources.table import check_column


def winoground(source: Path, images: Path | None) -> Items:
    """Reads `examples.jsonl` and `images/` of Winoground (Thrush et al. 2022; the set is gated, so
    the layout is that of public readers of it): `image_0` is `ex_0_img_0`, its file a PNG.
    """
    path = file_of(source, "examples.jsonl")
    find = Finder(images, path.parent / "images", path.parent)
    for where, row in rows_of(path):
        names = [text(row, f"image_{side}", where) for side in (0, 1)]
        files = [name if Path(name).suffix else f"{name}.png" for name in names]
        yield Found(
            where=where,
            name=str(row.get("id", where)),
            pictures=tuple(Picture(path=find(name, where)) for name in files),
            captions=(text(row, "caption_0", where), text(row, "caption_1", where)),
            match=IN_ORDER,
            tag=str(row.get("collapsed_tag") or row.get("tag") or ""),
        )


def colorswap(source: Path, images: Path | None) -> Items:
    """Reads `train.json` or `test.json` of ColorSwap (Top34051/colorswap), images beside it."""
    path = file_of(source, "test.json")
    find = Finder(images, path.parent)
    for where, row in rows_of(path):
        yield Found(
            where=where,
            name=str(row.get("id", where)),
            pictures=tuple(
                Picture(path=find(text(row, f"image_{n}", where), where)) for n in (1, 2)
            ),
            captions=(text(row, "caption_1", where), text(row, "caption_2", where)),
            match=IN_ORDER,
            tag="colour",
        )


def bivlc(source: Path, images: Path | None) -> Items:
    """Reads the parquet files, or a folder saved by `datasets`, of BiVLC (IMirandaM/BiVLC), with
    both pictures in each row.
    """
    fields = ("image", "negative_image", "caption", "negative_caption", "type", "subtype")
    pattern = source / "*.parquet" if any(source.glob("*.parquet")) else source
    for table in open_tables(str(pattern), "SOURCE"):
        for field in fields:
            check_column(table, field, "of BiVLC")
        place = 0
        for batch in table.batches(list(fields)):
            for cells in zip(*(values(batch, field) for field in fields), strict=True):
                row = dict(zip(fields, cells, strict=True))
                where = f"{table.name}, row {place}"
                yield Found(
                    where=where,
                    name=f"{Path(table.name).stem} {place}",
                    pictures=tuple(_encoded(row[field], field, where) for field in fields[:2]),
                    captions=(text(row, "caption", where), text(row, "negative_caption", where)),
                    match=IN_ORDER,
                    tag=f"{text(row, 'type', where)} {text(row, 'subtype', where)}",
                )
                place += 1


def _encoded(cell: object, field: str, where: str) -> Picture:
    content = cell.get("bytes") if isinstance(cell, dict) else cell
    if not isinstance(content, bytes) or not content:
        raise DataError(f"{where}, field {field!r}: no encoded picture")
    return Picture(content=content)


def whats_up(source: Path, images: Path | None) -> Items:
    """Reads one file of What's Up (amitakamath/whatsup_vlms).

    The controlled sets, four pictures of one pair of things with four captions, become groups of
    four; the pictures' names say the pair (`mug_left_of_plate.jpeg`). COCO-QA and VG-QA, a picture
    with a right and a wrong caption, become groups of one picture.
    """
    path = file_of(source, "*.json")
    find = Finder(images, path.parent)
    tag = path.stem.removesuffix("_dataset")
    sets: dict[tuple[str, str], list[tuple[Path, str]]] = {}
    places: dict[tuple[str, str], str] = {}
    for number, (where, value) in enumerate(values_of(path)):
        if isinstance(value, list):
            yield _question(value, find, where, tag, number)
            continue
        row = value if isinstance(value, dict) else {}
        file = find(Path(text(row, "image_path", where)).name, where)
        options = row.get("caption_options")
        if not isinstance(options, list) or not options or not isinstance(options[0], str):
            raise DataError(f"{where}, field 'caption_options': no list of captions")
        first, *between = file.stem.split("_")
        if not between:
            raise DataError(
                f"{where}, field 'image_path': {file.name!r} does not name two things, as "
                "mug_left_of_plate.jpeg does"
            )
        pair = (first, between[-1])
        places.setdefault(pair, where)
        sets.setdefault(pair, []).append((file, options[0].strip()))
    for pair, its in sets.items():
        if len(its) != 4:
            yield LeftOut("not four pictures of its pair of things")
            continue
        yield Found(
            where=places[pair],
            name=" ".join(pair),
            pictures=tuple(Picture(path=file) for file, _ in its),
            captions=tuple(caption for _, caption in its),
            match=tuple(tuple(i == j for j in range(4)) for i in range(4)),
            tag=tag,
        )


def _question(value: list[object], find: Finder, where: str, tag: str, number: int) -> Found:
    if len(value) != 3:
        raise DataError(f"{where}: {len(value)} values where image, right and wrong caption stand")
    image, *_ = value
    name = f"{str(image).zfill(12)}.jpg" if tag.startswith("coco") else f"{image}.jpg"
    row = {"1": value[1], "2": value[2]}
    return Found(
        where=where,
        name=f"{tag} {number}",
        pictures=(Picture(path=find(name, where, "val2017", "vg_images")),),
        captions=(text(row, "1", where), text(row, "2", where)),
        match=FIRST_RIGHT,
        tag=tag,
    )
