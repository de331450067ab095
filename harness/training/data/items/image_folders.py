"""Pictures in a folder for each class, as torchvision's ImageFolder reads them."""

from __future__ import annotations

from pathlib import Path

from harness.training.data.cache import DataError
from harness.training.data.folder_pictures import missing
from harness.training.data.items.rows import Listed, Row
from harness.training.data.json_lines import BadLines
from harness.training.data.picture_files import ENDINGS


def read_classes(path: Path, folder: Path) -> Listed:
    """Lists the pictures below each folder of `path`, which is below `folder`; the folder's name is
    the label. Files that are hidden, stand beside the classes or do not end as pictures do
    (`Thumbs.db`, `README`) are passed over.

    Raises DataError where there is no class, or one without a picture.
    """
    files = classes_of(path)
    bad, rows = BadLines(path, "pictures"), []
    for its, of_class in files.items():
        if not of_class:
            raise DataError(
                f"{its} has no picture (a file whose name ends as .png or .jpg does); put some in, "
                "or take the folder away"
            )
        for file in of_class:
            image = file.relative_to(folder).as_posix()
            if problem := missing(image, folder):
                bad.add(problem)
            rows.append(Row(file.relative_to(path).as_posix(), (image,), label=its.name))
    bad.complain(len(rows))
    return Listed(path=path, rows=rows, label="folder")


def classes_of(path: Path) -> dict[Path, list[Path]]:
    """Lists the folders of a folder, and the files below each. Raises DataError where it cannot be
    read."""
    try:
        classes = sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
        return {
            its: sorted(file for file in its.rglob("*") if _may_be_picture(file, path))
            for its in classes
        }
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})") from error


def _may_be_picture(file: Path, below: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(below).parts)
    return not hidden and file.suffix.casefold() in ENDINGS and not file.is_dir()
