"""In folders of `fuselab export` names are roles, and digests show that nothing was altered."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from architectures.frozen import SettingError
from architectures.weights.pixels import Pixels, of
from architectures.weights.published.format import Config, Format, Roles

FORMAT = 1
"""Raised when a folder of before would be read wrongly."""
CONFIG, WEIGHTS = "config.json", "model.safetensors"
WITHIN = "design."
"""Prefix of the design's roles in the model of a task."""
TASK = "task"
"""Where a record says what the model was fine-tuned for; not there in that of a design alone."""


def record(folder: Path) -> dict[str, Any]:
    """Reads what an exported folder says of itself. Raises `SettingError` where it is none or
    altered.
    """
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text())
    except FileNotFoundError:
        what = "holds no config.json" if folder.is_dir() else "does not exist"
        raise SettingError(f"{folder} {what}; give a folder that `fuselab export` wrote") from None
    except ValueError as error:
        raise SettingError(f"{path} is no JSON ({error}); export the run again") from None
    exported = config.get("fuselab") if isinstance(config, dict) else None
    if not isinstance(exported, dict):
        raise SettingError(f"{path} is not from `fuselab export`{_seems(config)}")
    if exported.get("format") != FORMAT:
        raise SettingError(
            f"{path} has format {exported.get('format')!r}, this fuselab reads {FORMAT}; use the "
            "fuselab that wrote it"
        )
    if digest({k: v for k, v in exported.items() if k != "digest"}) != exported.get("digest"):
        raise SettingError(
            f"{path} was altered after the export, so what the weights belong to is not known; "
            "export the run again"
        )
    return exported


def check(folder: Path) -> dict[str, Any]:
    """Reads what an exported folder says of itself, and checks that its weights are, bit for bit,
    those that were exported.

    Raises `SettingError` where they are not.
    """
    exported, path = record(folder), folder / WEIGHTS
    if not path.is_file():
        raise SettingError(f"{path} is missing; export the run again")
    if digest_of_file(path) != exported["weights"]:
        raise SettingError(
            f"{path} is not the file that was exported: it is cut off, damaged or another one; "
            "export the run again"
        )
    return exported


def _sizes(config: Config, roles: Roles) -> dict[str, Any]:
    exported = config["fuselab"]
    parts = ("vision", "image_", "patch_size", "text", "max_", "itc_", "parameterisation")
    sizes = {
        field: value
        for field, value in exported["backbone"].items()
        if field.startswith(parts) and not field.endswith("_weights") and value is not None
    }
    return {**sizes, "vocabulary": exported["vocabulary"]}


def _design(config: Config, roles: Roles) -> tuple[str, dict[str, Any]]:
    return config["fuselab"]["design"], config["fuselab"]["config"]


def _pixels(config: Config) -> Pixels:
    own = config["fuselab"]["pixels"]
    return of(own["mean"], own["std"], "its config.json")


def _roles(tensors: Roles) -> dict[str, Tensor]:
    """Names the weights of a task's model as the design within does, and what the task adds as the
    heads of tasks, which no design takes (`format.LEFT_OUT`).
    """
    if not any(role.startswith(WITHIN) for role in tensors):
        return dict(tensors)
    return {
        role.removeprefix(WITHIN) if role.startswith(WITHIN) else f"heads.task.{role}": value
        for role, value in tensors.items()
    }


WHOLE = Format(kind="fuselab", roles=_roles, sizes=_sizes, pixels=_pixels, design=_design)


def _seems(config: object) -> str:
    """Says what else a configuration seems to be, as the end of a sentence."""
    kinds = {"model_type": "a folder of transformers", "architecture": "a folder of timm"}
    for key, kind in kinds.items():
        if isinstance(config, dict) and key in config:
            return f"; it seems to be {kind} ({config[key]})"
    return ""


def digest(exported: Mapping[str, object]) -> str:
    """Digests a record (32 hex characters), whatever its layout in the file."""
    return hashlib.blake2b(
        json.dumps(exported, sort_keys=True).encode(), digest_size=16
    ).hexdigest()


def digest_of_file(path: Path) -> str:
    """Digests the bytes of a file (32 hex characters)."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
