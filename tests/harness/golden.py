"""What keys must not forget: the keys of the studies that come with fuselab, and all defaults.

    python -m tests.harness.golden

writes `golden.json` anew, unless something changed whose version was not raised: it then says so.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypedDict

import studies
from architectures import registry
from architectures.backbone import SCALES, Backbone
from architectures.frozen import Frozen
from harness.planning.plan import plan
from harness.planning.shelf import load, names
from harness.study import RunSettings
from harness.training.settings import data, loop, objectives, task, tasks, versions, warm_start

FILE = Path(__file__).with_name("golden.json")
SHELF = Path(studies.__file__).parent
VERSIONS = ("KEYS", "SETTINGS", "OBJECTIVES", "TRAINER", "WARM_START", "ALIGNMENT", "TEXT_STAGE",
            "FINETUNE")  # fmt: skip

Defaults = dict[str, Any]
"""Name of a field -> its default as JSON; `required` where it has none."""


class StudyKeys(TypedDict):
    """The train keys of one study."""

    rows: int
    first: str
    digest: str
    """Of all keys, with cells and seeds."""


class DesignDefaults(TypedDict):
    """A design's config."""

    version: str
    defaults: Defaults


class Golden(TypedDict):
    """All that is kept."""

    versions: dict[str, str]
    studies: dict[str, StudyKeys]
    settings: dict[str, Defaults]
    designs: dict[str, DesignDefaults]


def kinds() -> dict[str, type[Frozen]]:
    """Every record of settings that a key depends on, by name."""
    found = {"Backbone": Backbone, "RunSettings": RunSettings}
    for module in (data, loop, objectives, task, tasks, warm_start):
        for name, kind in vars(module).items():
            if isinstance(kind, type) and issubclass(kind, Frozen) and kind is not Frozen:
                found[name] = kind
    return {name: found[name] for name in sorted(found)}


def defaults_of(kind: type[Frozen]) -> Defaults:
    """Every field's default, records within written out."""
    return {
        name: "required" if field.is_required() else _plain(field.get_default())
        for name, field in kind.model_fields.items()
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Frozen):
        return value.model_dump(mode="json")
    if isinstance(value, tuple):
        return [_plain(inner) for inner in value]
    return value


def keys_of(name: str) -> StudyKeys:
    """The train keys of a study that comes with fuselab."""
    with tempfile.TemporaryDirectory() as empty:
        rows = plan(load(name, SHELF), Path(empty)).rows
    lines = [f"{row.cell.name} {row.seed} {row.spec.train_key()}" for row in rows]
    whole = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
    return {"rows": len(rows), "first": rows[0].spec.train_key(), "digest": whole}


def now() -> Golden:
    """What the sources of now give."""
    scales = {f"scale {name}": scale.model_dump(mode="json") for name, scale in SCALES.items()}
    return {
        "versions": {name: getattr(versions, name) for name in VERSIONS},
        "studies": {name: keys_of(name) for name in names(SHELF)},
        "settings": {name: defaults_of(kind) for name, kind in kinds().items()} | scales,
        "designs": {
            name: {
                "version": registry.version(name),
                "defaults": defaults_of(registry.find(name).Config),
            }
            for name in registry.names()
            if registry.find(name).__module__.startswith("architectures.")
        },
    }


def kept() -> Golden:
    """What was written down."""
    return json.loads(FILE.read_text())


def unraised(old: Golden, new: Golden) -> Iterator[str]:
    """Changes that train other weights under old keys, with the version to raise."""
    if old["versions"]["SETTINGS"] == new["versions"]["SETTINGS"]:
        for name, defaults in old["settings"].items():
            for line in _differences(defaults, new["settings"].get(name, {})):
                yield f"{name}.{line}; raise versions.SETTINGS"
    for name, design in old["designs"].items():
        other = new["designs"].get(name)
        if other and other["version"] == design["version"]:
            for line in _differences(design["defaults"], other["defaults"]):
                yield f"{name}.Config.{line}; raise the version of {name}"


def _differences(old: Defaults, new: Defaults) -> Iterator[str]:
    """Fields whose default changed or that went; a field that came at its default is none."""
    for name, value in old.items():
        if name not in new:
            yield f"{name} is gone"
        elif not _same(value, new[name]):
            yield f"{name} has the default {new[name]!r}, it was {value!r}"


def _same(old: Any, new: Any) -> bool:
    """Equal, but for fields of records within that came later."""
    if isinstance(old, dict) and isinstance(new, dict):
        return all(name in new and _same(value, new[name]) for name, value in old.items())
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(map(_same, old, new))
    return old == new


if __name__ == "__main__":
    current = now()
    if FILE.exists() and (problems := list(unraised(kept(), current))):
        sys.exit("\n".join(problems))
    FILE.write_text(json.dumps(current, indent=1) + "\n")
