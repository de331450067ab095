"""Which scores a run still lacks; without torch, so that a driver can ask."""

from __future__ import annotations

from harness.outputs.folder import RunFolder
from harness.outputs.records import DamagedFile, ScoresRecord, read_if_there
from harness.training.settings.spec import RunSpec
from harness.training.settings.tasks import TaskSpec


def missing_scores(folder: RunFolder, spec: RunSpec) -> list[TaskSpec]:
    """The tasks that a spec asks for and whose scores are not there, are of other settings, or
    cannot be read: a damaged file is made again."""
    return [task for task in spec.asked.tasks if _key(folder, task) != spec.score_key(task)]


def _key(folder: RunFolder, task: TaskSpec) -> str:
    try:
        record = read_if_there(ScoresRecord, folder.score_file(task.name))
    except DamagedFile:
        return ""
    return record.score_key if record else ""
