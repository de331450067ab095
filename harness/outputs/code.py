"""A digest of the sources that train is recorded with every run, so that a study whose cells were
trained by different code can be told.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

from architectures.registry import outside, own_file

TRAINS = ("architectures", "harness/training", "harness/warm_start", "harness/runs")
"""Folders of all that shapes a trained bit. A run imports `harness/outputs` too, but to write its
folder and to find it again. What planning and studies decide stands in the run's spec, and so in
its key."""


def training_files() -> list[Path]:
    """Returns every source that trains, in the order in which it is digested."""
    root = Path(__file__).parents[2]
    return [file for folder in TRAINS for file in sorted((root / folder).rglob("*.py"))]


@functools.cache
def code_digest(design_file: str = "") -> str:
    """Returns sixteen hex characters over the training sources' names and bytes, the user's own
    file where there is one, and the files of designs that installed packages bring.
    """
    root = Path(__file__).parents[2]
    digest = hashlib.sha256(own_file(design_file).read_bytes() if design_file else b"")
    for file in outside():
        digest.update(file.read_bytes())
    for file in training_files():
        digest.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]
