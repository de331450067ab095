"""Which scores a run still lacks, and making them."""

from __future__ import annotations

from harness.outputs.folder import RunFolder, read_json
from harness.training.settings.spec import RunSpec


def scored(folder: RunFolder, spec: RunSpec) -> bool:
    """Whether every task that the spec asks for has its score."""
    return all(
        read_json(folder.scores / f"{task.name}.json", {}).get("score_key") == spec.score_key(task)
        for task in spec.tasks
    )
