"""Pictures in a folder for each class, as torchvision's ImageFolder reads them."""

from __future__ import annotations

from pathlib import Path

from harness.training.data.cache import DataError
from harness.training.data.folder_pictures import missing
from harness.training.data.items.rows import Listed, Row
from harness.training.data.json_lines import BadLines


def read_classes(path: Path, folder: Path) -> Listed:
    """Lists the pictures below each folder of `path`, which is below `folder`; the folder's name is
    the label. Hidden files, and files beside the classes, are no pictures.

    Raises DataError where there is no class, or one without a picture.
    """
    try:
        classes = sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
        files = {
            its: sorted(file for file in its.rglob("*") if _may_be_picture(file, path))
            for its in classes
        }
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})") from error
    bad, rows = BadLines(path, "pictures"), []
    for its, of_class in files.items():
        if not of_class:
            raise DataError(f"{its} has no picture; put some in, or take the folder away")
        for file in of_class:
            image = file.relative_to(folder).as_posix()
            if problem := missing(image, folder):
                bad.add(problem)
            rows.append(Row(file.relative_to(path).as_posix(), (image,), label=its.name))
    bad.complain(len(rows))
    return Listed(path=path, rows=rows, label="folder")


def _may_be_picture(file: Path, below: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(below).parts)
    return not hidden and not file.is_dir()
