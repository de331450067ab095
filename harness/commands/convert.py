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

    from harness.training.data.published.found import Box, Items, Picture


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
            kept, left_out = _written(published.read(source, images and images.expanduser()), part)
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


def _written(items: Items, folder: Path) -> tuple[Counter[str], Counter[str]]:
    """Writes `groups.jsonl` and the pictures, each once; returns how many groups of each tag there
    are, and how many were left out for which reason. Raises DataError for a group that is none.
    """
    from harness.training.data.cache import DataError
    from harness.training.data.group_files import FILE, GroupLine, read_lines
    from harness.training.data.published.found import LeftOut

    kept: Counter[str] = Counter()
    left_out: Counter[str] = Counter()
    names: dict[object, str] = {}
    folder.mkdir(parents=True)
    with (folder / FILE).open("w", encoding="utf-8") as file:
        for item in items:
            if isinstance(item, LeftOut):
                left_out[item.why] += 1
                continue
            images = tuple(f"{len(names)}.{place}" for place, _ in enumerate(item.pictures))
            line = GroupLine(
                group=item.name,
                images=images,
                captions=item.captions,
                match=item.match,
                tag=item.tag,
            )
            if problem := line.problem():
                if "'captions'" not in problem:
                    raise DataError(f"{item.name}, {problem}")
                left_out["captions are equal but for case and spacing"] += 1
                continue
            for picture in item.pictures:
                if picture.identity not in names:
                    names[picture.identity] = _copied(picture, folder, len(names))
            paths = tuple(names[picture.identity] for picture in item.pictures)
            file.write(line.model_copy(update={"images": paths}).model_dump_json() + "\n")
            kept[item.tag] += 1
    read_lines(folder)
    return kept, left_out


def _copied(picture: Picture, folder: Path, number: int) -> str:
    """Puts a picture into the folder, by a hard link where that can be; returns its path there."""
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
        cut = _cut(picture.path, picture.box)
        cut.save(folder / path)
    return path


def _cut(path: Path, box: Box) -> Image:
    from harness.training.data.cache import DataError
    from harness.training.data.picture_files import upright_rgb

    try:
        return upright_rgb(path.read_bytes()).crop(box)
    except Exception as error:  # Pillow raises nearly anything on damaged bytes
        raise DataError(f"{path} is not a picture that can be read ({error})") from error
