"""RunSpec: one run, described whole, and the keys that its folder and scores are known by."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from architectures.backbone import Backbone
from architectures.frozen import Frozen
from harness.training.settings.data import Data
from harness.training.settings.loop import Budget, Measure, Numerics, Optimizer
from harness.training.settings.objectives import (
    Objectives,
)
from harness.training.settings.tasks import TaskSpec
from harness.training.settings.warm_start import WarmStart


class RunSpec(Frozen):
    """One run, described whole. Its folder is named by the train key."""

    design: str
    """Name in the registry."""
    config: dict[str, Any]
    """Every field of the design's config, defaults written out."""
    backbone: Backbone
    data: Data
    objectives: Objectives
    """Weights of objectives that the design cannot serve are 0 here; see `not_applicable`."""
    optimizer: Optimizer
    budget: Budget
    batch_size: int
    seed: int
    numerics: Numerics
    measure: Measure
    tasks: tuple[TaskSpec, ...]
    versions: dict[str, str]
    """Declared versions of the parts that train, `design`, `objectives`, ..., and of the tasks."""
    warm_start: WarmStart | None = None
    """What the towers start from; null: what the backbone says."""
    data_content: str
    """Digest of the data's content; stands in the train key for paths."""
    weights: dict[str, str] = {}
    """File or folder that a field `..._weights` of backbone or config names -> digest of its
    content, which stands in the train key for the path."""
    not_applicable: dict[str, str] = {}
    """Objective asked for by the study -> why this design cannot serve it."""
    design_file: str = ""
    """The user's own file that defines the design."""

    def train_key(self) -> str:
        """Hex digest (16 characters) of everything that shapes the trained weights."""
        parts = self.model_dump(
            mode="json", exclude={"tasks", "not_applicable", "design_file", "versions", "weights"}
        )
        for part in ("backbone", "config"):
            for field, value in weights_named(parts[part]).items():
                parts[part][field] = self.weights.get(value, value)
        del parts["data"]["text"]["tokenizer"]  # its content is part of the data's
        if self.warm_start is None:
            del parts["warm_start"]
        elif "text_stage" not in self.versions:
            del parts["warm_start"]["text_stage_samples"]
        for path in ("train", "val", "test"):
            if parts["data"]["kind"] == "pictures":
                parts["data"].pop(path)
        parts["versions"] = {k: v for k, v in self.versions.items() if not k.startswith("task/")}
        return digest(parts)

    def score_key(self, task: TaskSpec) -> str:
        """Hex digest of the trained weights, the task's settings and its version."""
        version = self.versions.get(f"task/{task.name}", "")
        return digest([self.train_key(), task.model_dump(mode="json"), version])


def weights_named(fields: Mapping[str, Any]) -> dict[str, str]:
    """Fields that name weights, and what they name."""
    return {f: v for f, v in fields.items() if f.endswith("_weights") and isinstance(v, str)}


def digest(value: Any) -> str:
    """Sixteen hex characters of the SHA-256 of the canonical JSON of a value."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
