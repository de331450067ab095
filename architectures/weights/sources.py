"""A setting names weights as a local file or folder, or a name on a hub, which are opened here.

Nothing is looked up on a hub unless a setting names one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from architectures.frozen import SettingError, path_named
from architectures.weights import checkpoints
from architectures.weights.weight_files import CONFIG, PROCESSORS


def published(source: str, field: str) -> checkpoints.Published:
    """Reads what a local file or folder holds, or a name on the hub, which is downloaded.

    `field`: the setting that named it. Raises `SettingError` that names it too.
    """
    try:
        return checkpoints.read(source if path_named(source).exists() else _hub(source))
    except SettingError as error:
        raise SettingError(f"{field} {source!r}: {error}") from None


def with_text(source: str, field: str) -> checkpoints.Published:
    """Reads a source that must have a text encoder. Raises `SettingError` where it has none."""
    encoder = published(source, field)
    if not encoder.has_text:
        raise SettingError(f"{field} {source!r} is a {encoder.kind} without a text encoder")
    return encoder


def _hub(name: str) -> str:
    """Returns the local folder of a model on the hub, downloaded where it is not there yet.

    Raises `SettingError` where there is none.
    """
    import huggingface_hub

    for weights in ("model*.safetensors*", "pytorch_model*"):
        try:
            folder = huggingface_hub.snapshot_download(
                name, allow_patterns=[CONFIG, *PROCESSORS, weights]
            )
        except (OSError, ValueError) as error:
            first = str(error).strip().partition("\n")[0]
            raise SettingError(
                f"there is no such file or folder, nor on the hub ({first})"
            ) from None
        if any(Path(folder).glob(weights)):
            break
    return folder


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silences the library's own report and progress bars: what is wrong is raised instead."""
    from transformers.utils import logging

    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()
