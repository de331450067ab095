"""`fuselab convert` makes a folder of groups for the task pairs of a copy of a published set."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.commands.options import app, plain_errors

if TYPE_CHECKING:
    from PIL.Image import Image

    from harness.training.data.group_files import GroupLine
    from harness.training.data.published.found import Box, Found, Items, Picture


@app.command()
def convert(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="winoground, colorswap, bivlc, whats_up, sugarcrepe, sugarcrepe_pp, valse, vsr or "
            "aro.",
        ),
    ],
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="Its file or folder, as its authors lay it.")
    ],
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="A new or empty folder.")],
    images: Annotated[
        Path | None,
        typer.Option("--images", metavar="DIR", help="Folder of its pictures, where apart."),
    ] = None,
) -> None:
    """Make groups for the task `pairs` of a local copy of a published set."""
    with plain_errors():
        from architectures.frozen import SettingError
        from harness.training.data.published import sets

        published = sets.find(name)
        source, target = source.expanduser(), target.expanduser().absolute()
        if images is not None and not images.expanduser().is_dir():
            raise SettingError(f"--images {images} is no folder")
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise SettingError(f"{target} is there already; name a new or an empty folder")
        part = target.with_name(f".{target.name}.{os.getpid()}.part")
        try:
            items = published.read(source, images and images.expanduser())
            kept, left_out = _written(items, part, source)
            if target.exists():
                target.rmdir()
            part.rename(target)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        tags = ", ".join(f"{count} {tag}" for tag, count in kept.items())
        typer.echo(f"{target}: {kept.total()} groups ({tags})")
        for why, count in left_out.items():
            typer.echo(f"{count} left out: {why}")
        typer.echo(f"{name}: {published.note}")


def _written(items: Items, folder: Path, source: Path) -> tuple[Counter[str], Counter[str]]:
    """Writes `groups.jsonl` and the pictures, each once; returns how many groups of each tag there
    are, and how many were left out for which reason. Raises DataError, which names file and item of
    the source, for a group that is none or cannot stand beside another.
    """
    from harness.training.data.cache import DataError
    from harness.training.data.group_files import FILE, statements_problem
    from harness.training.data.groups import TagNames
    from harness.training.data.published.found import LeftOut

    left_out: Counter[str] = Counter()
    names: dict[object, str] = {}
    lines: list[GroupLine] = []
    places: dict[str, str] = {}
    tags = TagNames()
    folder.mkdir(parents=True)
    for item in items:
        if isinstance(item, LeftOut):
            left_out[item.why] += 1
            continue
        line = _line(item)
        if problem := line.problem():
            if "'captions'" not in problem:
                raise DataError(f"{item.where}, {problem}")
            left_out["captions are equal but for case and spacing"] += 1
            continue
        if (before := places.setdefault(line.group, item.where)) != item.where:
            raise DataError(f"{item.where}: the group {line.group!r} is that of {before} too")
        if problem := tags.problem(line.tag, places[line.group]):
            raise DataError(f"{item.where}, its tag: {problem}")
        for picture in item.pictures:
            if picture.identity not in names:
                names[picture.identity] = _copied(picture, folder, len(names), item.where)
        images = tuple(names[picture.identity] for picture in item.pictures)
        lines.append(line.model_copy(update={"images": images}))
    if not lines:
        reasons = "; ".join(f"{count} left out: {why}" for why, count in left_out.items())
        raise DataError(f"{source}: no group left; {reasons or 'it holds none'}")
    if problem := statements_problem(lines):
        raise DataError(f"{source}, {problem}")
    content = "".join(line.model_dump_json() + "\n" for line in lines)
    (folder / FILE).write_text(content, encoding="utf-8")
    return Counter(line.tag for line in lines), left_out


def _line(item: Found) -> GroupLine:
    """Returns the line of a group, its equal pictures with equal names. Raises DataError."""
    from architectures.frozen import SettingError
    from harness.training.data.cache import DataError
    from harness.training.data.group_files import GroupLine

    identities = [picture.identity for picture in item.pictures]
    try:
        return GroupLine(
            group=item.name,
            images=tuple(str(identities.index(identity)) for identity in identities),
            captions=item.captions,
            match=item.match,
            tag=item.tag,
        )
    except SettingError as error:
        raise DataError(f"{item.where}: {error}") from None


def _copied(picture: Picture, folder: Path, number: int, where: str) -> str:
    """Puts a picture into the folder, by a hard link where that can be; returns its path there.
    Raises DataError, which begins with `where`, for one that cannot be used.
    """
    from harness.training.data.cache import DataError
    from harness.training.data.sources.cells import picture_file

    path = f"images/{number:06d}{picture.path.suffix if picture.path else ''}"
    (folder / "images").mkdir(exist_ok=True)
    if picture.path is None:
        (folder / path).write_bytes(picture.content)
    elif picture.box is None:
        try:
            os.link(picture.path.resolve(), folder / path)
        except OSError:  # another file system, or one without links
            shutil.copyfile(picture.path, folder / path)
    else:
        path = f"images/{number:06d}.png"
        _cut(picture.path, picture.box, where).save(folder / path)
    try:
        picture_file(path, folder, named=False)
    except ValueError as error:
        raise DataError(
            f"{where}: {picture.path or 'its picture'} cannot be used ({error})"
        ) from error
    return path


def _cut(path: Path, box: Box, where: str) -> Image:
    from harness.training.data.cache import DataError
    from harness.training.data.picture_files import upright_rgb

    try:
        picture = upright_rgb(path.read_bytes())
        width, high = picture.size
        if box[0] < width and box[1] < high and box[2] > 0 and box[3] > 0:
            return picture.crop(box)
    except Exception as error:  # Pillow raises nearly anything on damaged bytes
        raise DataError(f"{where}: {path} is not a picture that can be read ({error})") from error
    sides = ", ".join(f"{side:g}" for side in box)
    raise DataError(
        f"{where}: the box ({sides}) of the fields 'bbox_x' to 'bbox_h' lies outside {path}, which "
        f"is {width} wide and {high} high"
    )
