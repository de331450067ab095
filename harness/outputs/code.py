"""A digest of the sources that train: recorded with every run, so that a study whose cells were
trained by different code can be told.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

from architectures.registry import outside

_TRAIN = ("architectures", "harness/training", "harness/warm_start", "harness/study.py")


@functools.cache
def code_digest(design_file: str = "") -> str:
    """Sixteen hex characters over the training sources' names and bytes, the user's own file where
    there is one, and the files of designs that installed packages bring.
    """
    root = Path(__file__).parents[2]
    found = hashlib.sha256(Path(design_file).read_bytes() if design_file else b"")
    for file in outside():
        found.update(file.read_bytes())
    for part in _TRAIN:
        path = root / part
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            found.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes())
    return found.hexdigest()[:16]
