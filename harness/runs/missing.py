"""Says which scores a run lacks or failed to make; without torch, so that a driver can ask."""

from __future__ import annotations

import contextlib

from harness.outputs.copies import removed
from harness.outputs.folder import RunFolder
from harness.outputs.records import DamagedFile, ScoresRecord, read_if_there
from harness.training.settings.spec import RunSpec
from harness.training.settings.tasks import TaskSpec


def missing_scores(folder: RunFolder, spec: RunSpec) -> list[TaskSpec]:
    """Returns the tasks that a spec asks for and whose scores are not there, are of other settings,
    or cannot be read: a damaged file is made again."""
    return [task for task in spec.asked.tasks if _key(folder, task) != spec.score_key(task)]


def failed_scores(folder: RunFolder) -> dict[str, str]:
    """Returns task -> why its scores could not be made. Damaged files are no failures."""
    failures = {}
    for path in folder.score_files():
        with contextlib.suppress(DamagedFile):
            if failure := ScoresRecord.read(path).failure:
                failures[path.stem] = failure
    return failures


def forget_failures(folder: RunFolder) -> None:
    """Lets the scores that failed be tried again."""
    for task in failed_scores(folder):
        removed(folder.score_file(task))


def _key(folder: RunFolder, task: TaskSpec) -> str:
    try:
        record = read_if_there(ScoresRecord, folder.score_file(task.title))
    except DamagedFile:
        return ""
    return record.score_key if record else ""
