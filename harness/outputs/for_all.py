"""A finished folder that is made once for all machines, as a warm start, which other machines would
make with other bits.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from harness.outputs.copies import WorkingCopy, copy_of
from harness.training.data.cache import MANIFEST, stored


def stored_for_all(root: Path, name: str, fill: Callable[[Path], None]) -> Path:
    """Opens the finished folder `root/name` as `cache.stored` does. Of outputs at a URL it is taken
    from the bucket where it is there, else filled by one process of all machines and put there."""
    copy = copy_of(root)
    if copy is None:
        return stored(root, name, fill)
    place = f"{copy.name(root)}/{name}"

    def taken_or_filled(folder: Path) -> None:
        if not _take(copy, place, folder):
            fill(folder)

    if copy.bucket.has(f"{place}/{MANIFEST}"):
        return stored(root, name, taken_or_filled)
    with copy.leases.waited(place, f"{name} is being made"):
        entry = stored(root, name, taken_or_filled)
        _give(copy, place, entry)
    return entry


def _take(copy: WorkingCopy, place: str, folder: Path) -> bool:
    """Copies a finished folder from the bucket, but for its manifest, which is written anew; says
    whether it is there."""
    listed = copy.bucket.list(place)
    if f"{place}/{MANIFEST}" not in listed:
        return False
    names = [name for name in listed if name != f"{place}/{MANIFEST}"]
    copy.bucket.get({name: folder / name.removeprefix(f"{place}/") for name in names})
    return True


def _give(copy: WorkingCopy, place: str, folder: Path) -> None:
    """Puts a finished folder into the bucket, its manifest last; nothing where it is there."""
    if copy.bucket.has(f"{place}/{MANIFEST}"):
        return
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    for file in sorted(files, key=lambda file: file.name == MANIFEST):
        copy.bucket.put(f"{place}/{file.relative_to(folder).as_posix()}", file)
