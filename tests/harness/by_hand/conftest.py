"""Run folders made by hand: what a study leaves behind, without a single run."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from architectures.backbone import SCALES
from harness.outputs.files import read_json, write_json
from harness.outputs.folder import RunFolder
from harness.study import Cell, Study, Variant
from harness.training.settings.data import Data, Scenes
from harness.training.settings.loop import Budget, Measure, Numerics, Optimizer
from harness.training.settings.objectives import Objectives
from harness.training.settings.spec import RunSpec

BEGUN = 1_700_000_000.25
CURVES = ("train/loss", "val/loss", "val/itm_accuracy")


def _spec(layers: int, seed: int, data: Data) -> RunSpec:
    return RunSpec(
        design="split_bert", config={"text_layers": layers}, backbone=SCALES["nano"], data=data,
        objectives=Objectives(), optimizer=Optimizer(), budget=Budget(samples=160), batch_size=16,
        seed=seed, numerics=Numerics(), measure=Measure(), tasks=(), versions={},
        data_content="",
    )  # fmt: skip


def write_run(
    outputs: Path, spec: RunSpec, *, state: str = "done", points: int = 5, names: Any = CURVES
) -> RunFolder:
    """A run's folder; one that is not done has measured one point more than it keeps."""
    folder, key = RunFolder(outputs, spec.train_key()), spec.train_key()
    done = state == "done"
    write_json(folder.spec, spec.model_dump(mode="json"))
    steps = [10 * i for i in range(points + (not done))]
    folder.set_status(state, "" if done else "as asked", step=steps[-1], steps=10 * (points - 1),
                      checkpoint_step=10 * (points - 1))  # fmt: skip
    folder.metrics.unlink(missing_ok=True)
    for step in steps:
        values = {name: int(key[:6], 16) / (step + 1 + i) for i, name in enumerate(names)}
        if state == "diverged" and step == 10 * (points - 1):
            values[names[0]], values[names[1]] = math.nan, math.inf
        folder.append_metrics(
            {"step": step, "samples": step * 16, "seconds": step / 7, "time": BEGUN + step / 3,
             "values": values}
        )  # fmt: skip
    write_json(folder.ledger, {"steps": steps[-1], "samples": steps[-1] * 16, "peak_mib": 812.5})
    chain = {str(step): f"{spec.seed}-{step}" for step in steps}
    facts = {"text_layers": spec.config["text_layers"], "fusion_layers": 6, "itc_reads": "towers"}
    roles = {f"text.{i}.weight": f"{spec.seed}.{i}" for i in range(spec.config["text_layers"])}
    write_json(folder.certificate, {"batches": chain, "roles": roles, "code": "c0de",
                                    "facts": facts})  # fmt: skip
    write_json(folder.graph, {"nodes": []})
    if done:
        levels = {"r_at_1": {"successes": 40, "items": 512, "chance": 1 / 512}}
        values = {"mean_recall": int(key[:4], 16) / 1000, "i2t_r_at_1": 12.5}
        score = {"values": values, "levels": levels, "protocol": "re-ranked", "score_key": "s"}
        write_json(folder.scores / "retrieval.json", score)
        itm = {"itm_accuracy": {"successes": 300, "items": 512, "chance": 2 / 3}}
        write_json(folder.scores / "validation.json", {"values": {}, "levels": itm})
    return folder


def write_study(
    outputs: Path,
    *,
    layers: tuple[int, ...] = (2, 6),
    seeds: tuple[int, ...] = (0, 1),
    states: dict[tuple[int, int], str] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """A study `by_hand` and its run folders; `states`: (layers, seed) -> state, else done. Returns
    the content of its study.json."""
    cells = tuple(
        Cell(variant=Variant("split_bert", text_layers=n), label=f"{n} text layers",
             settings={"batch_size": 16}) for n in layers
    )  # fmt: skip
    study = Study(name="by_hand", question="Is it so?", cells=cells, control=cells[-1].name,
                  budget=Budget(samples=160), seeds=seeds)  # fmt: skip
    rows = []
    for cell, n in zip(cells, layers, strict=True):
        for seed in seeds:
            spec, state = _spec(n, seed, Scenes()), (states or {}).get((n, seed), "done")
            if state != "waiting":
                write_run(outputs, spec, state=state, **more)
            rows.append(
                {"cell": cell.name, "role": cell.role, "seed": seed, "run": spec.train_key(),
                 "design": spec.design, "config": spec.config, "settings": cell.settings,
                 "not_applicable": {}, "tuning": {"trials": 8, "device_seconds": 60.5}}
            )  # fmt: skip
    path = outputs / "studies" / study.name / "study.json"
    write_json(path, json.loads(json.dumps({"study": study.model_dump(mode="json"), "rows": rows})))
    return read_json(path)


@pytest.fixture
def by_hand() -> Callable[..., dict[str, Any]]:
    """Writes a study and its run folders under an outputs folder."""
    return write_study
