"""Results read from run folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from architectures.frozen import nearest
from harness.outputs.folder import RunFolder, read_json
from harness.results.tables import LONGEST_MESSAGE, Record, Results, assembled, curves_of


def load(outputs: Path, study: str) -> Results:
    """The results of a study from its run folders. Raises SettingError for an unknown study."""
    path = outputs / "studies" / study / "study.json"
    if not path.exists():
        known = sorted(p.parent.name for p in outputs.glob("studies/*/study.json"))
        raise nearest(study, known, f"study under {outputs / 'studies'}")
    asked = read_json(path)
    keys = dict.fromkeys(row["run"] for row in asked["rows"])
    folders = {key: RunFolder(outputs, key) for key in keys}
    records = {key: record_of(folder) for key, folder in folders.items()}
    return assembled(asked, records, lambda key: read_json(folders[key].graph, {}))


def record_of(folder: RunFolder) -> Record:
    """What a run folder says, up to its last checkpoint."""
    status = folder.status()
    covered = status.get("checkpoint_step", -1)
    found = {path.stem: read_json(path) for path in sorted(folder.scores.glob("*.json"))}
    scores = {f"{task}/{k}": v for task, s in found.items() for k, v in s["values"].items()}
    levels = {
        f"level.{task}.{name}.{k}": v
        for task, s in found.items()
        for name, level in s["levels"].items()
        for k, v in level.items()
    }
    ledger = {f"ledger.{k}": v for k, v in read_json(folder.ledger, {}).items()}
    certificate = read_json(folder.certificate, {})
    chain = certificate.get("batches", {})
    batches = {step: digest for step, digest in chain.items() if int(step) <= covered}
    return Record(
        status=status["state"],
        message=status["message"][:LONGEST_MESSAGE],
        values={k: float(v) for k, v in (scores | levels | ledger).items()},
        protocols={task: s["protocol"] for task, s in found.items() if "protocol" in s},
        certificate=certificate | {"batches": batches},
        curves=curves_of(covered_lines(folder)),
    )


def covered_lines(folder: RunFolder) -> list[dict[str, Any]]:
    """Measurements up to the last checkpoint, in order."""
    covered = folder.status().get("checkpoint_step", -1)
    return [line for line in folder.metric_lines() if line["step"] <= covered]
