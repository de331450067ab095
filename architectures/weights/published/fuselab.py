"""Folders of `fuselab export`: roles are names already, digests say that nothing was altered."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from architectures.frozen import SettingError
from architectures.weights.published.format import Config, Format, Roles

FORMAT = 1
"""Raised when a folder of before would be read wrongly."""
CONFIG, WEIGHTS = "config.json", "model.safetensors"


def record(folder: Path) -> dict[str, Any]:
    """What an exported folder says of itself. Raises `SettingError` where it is none or altered."""
    path = folder / CONFIG
    try:
        said = json.loads(path.read_text())
    except FileNotFoundError:
        what = "holds no config.json" if folder.is_dir() else "does not exist"
        raise SettingError(f"{folder} {what}; give a folder that `fuselab export` wrote") from None
    except ValueError as error:
        raise SettingError(f"{path} is no JSON ({error}); export the run again") from None
    found = said.get("fuselab") if isinstance(said, dict) else None
    if not isinstance(found, dict):
        raise SettingError(f"{path} is not from `fuselab export`{_seems(said)}")
    if found.get("format") != FORMAT:
        raise SettingError(
            f"{path} has format {found.get('format')!r}, this fuselab reads {FORMAT}; use the "
            "fuselab that wrote it"
        )
    if digest({k: v for k, v in found.items() if k != "digest"}) != found.get("digest"):
        raise SettingError(
            f"{path} was altered after the export, so what the weights belong to is not known; "
            "export the run again"
        )
    return found


def check(folder: Path) -> dict[str, Any]:
    """The same, where the weights too are, bit for bit, those that were exported.

    Raises `SettingError` where they are not.
    """
    found, path = record(folder), folder / WEIGHTS
    if not path.is_file():
        raise SettingError(f"{path} is missing; export the run again")
    if digest_of_file(path) != found["weights"]:
        raise SettingError(
            f"{path} is not the file that was exported: it is cut off, damaged or another one; "
            "export the run again"
        )
    return found


def _sizes(config: Config, roles: Roles) -> dict[str, Any]:
    said, parts = config["fuselab"], ("vision", "image_", "patch_size", "text", "max_", "itc_")
    sizes = {
        field: value
        for field, value in said["backbone"].items()
        if field.startswith(parts) and not field.endswith("_weights") and value is not None
    }
    return {**sizes, "vocabulary": said["vocabulary"]}


def _design(config: Config, roles: Roles) -> tuple[str, dict[str, Any]]:
    return config["fuselab"]["design"], config["fuselab"]["config"]


WHOLE = Format(kind="fuselab", roles=dict, sizes=_sizes, design=_design)


def _seems(said: Any) -> str:
    """What else a configuration seems to be, as the end of a sentence."""
    kinds = {"model_type": "a folder of transformers", "architecture": "a folder of timm"}
    for key, kind in kinds.items():
        if isinstance(said, dict) and key in said:
            return f"; it seems to be {kind} ({said[key]})"
    return ""


def digest(said: Mapping[str, Any]) -> str:
    """Of a record, whatever its layout in the file."""
    return hashlib.blake2b(json.dumps(said, sort_keys=True).encode(), digest_size=16).hexdigest()


def digest_of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
