"""Results made by hand: a plausible study without a single run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness.results.tables import Results
from reports import build as building
from reports.build import Report, build

POINTS = np.linspace(0, 16_000, 11)


def _study(cells: dict[str, str], control: str, seeds: range) -> dict[str, Any]:
    settings = {
        "name": "by_hand",
        "question": "Does the split of layers matter?",
        "cells": [{"label": cell, "role": role} for cell, role in cells.items()],
        "control": control,
        "budget": {"samples": 16_000, "steps": None},
        "batch_size": 64,
        "seeds": list(seeds),
        "primary": "retrieval/mean_recall",
        "equal_within": 1.0,
        "alpha": 0.05,
        "looks": 1,
        "axis": "text_layers",
    }
    rows = [
        {"cell": cell, "role": role, "seed": seed, "run": f"{i:02d}{seed:014d}", "design": "any"}
        | {"config": {}, "settings": {}, "not_applicable": _not_applicable(role)}
        for i, (cell, role) in enumerate(cells.items())
        for seed in seeds
    ]
    return {"study": settings, "rows": rows}


def _not_applicable(role: str) -> dict[str, str]:
    return {"itm": "it has no fusion"} if role == "floor" else {}


def _run(row: dict[str, Any], layers: float, rng: np.random.Generator) -> dict[str, Any]:
    fuses = row["role"] != "floor"
    alone = 30 + row["seed"] + rng.normal()
    score = 50 - 0.3 * (layers - 6) ** 2 + row["seed"] + rng.normal() if fuses else alone
    itm = {"successes": 480, "items": 512, "chance": 2 / 3} if fuses else {}
    flops = 3e8 if fuses else 2e8
    return (
        {key: row[key] for key in ("cell", "role", "seed", "run", "design")}
        | {"study": "by_hand", "status": "done", "message": "", "text_layers": layers}
        | {"retrieval/mean_recall": score, "retrieval/mean_recall_itc": alone}
        | {"retrieval/mean_recall_reranked": score if fuses else np.nan}
        | {"retrieval/i2t_r_at_1": score / 2}
        | {"retrieval/protocol": "re-ranked" if fuses else "ITC alone", "code": "abc"}
        | {"level.retrieval.r_at_1.successes": 40, "level.retrieval.r_at_1.items": 512}
        | {"level.retrieval.r_at_1.chance": 1 / 512}
        | {f"level.validation.itm_accuracy.{k}": v for k, v in itm.items()}
        | {f"ledger.{k}": 0 for k in ("tuning_trials", "tuning_seconds", "text_tokens")}
        | {"ledger.steps": 250, "ledger.samples": 16_000, "ledger.image_tokens": 272_000}
        | {"ledger.flops": 16_000 * flops, "ledger.train_seconds": 40 + layers}
        | {"ledger.device_seconds": 60 + layers, "ledger.peak_mib": 700.0, "ledger.attempts": 1}
        | {"ledger.parameters": 900_000 - 20_000 * layers, "ledger.trainable": 900_000}
        | {"ledger.flops_per_sample": flops * (2 - layers / 12)}
        | {"ledger.forward_flops": flops * (0.4 - layers / 60)}
    )


def _curves(run: dict[str, Any], rng: np.random.Generator) -> list[dict[str, Any]]:
    names = {
        "train/loss": 6,
        "train/temperature": 0.07,
        "gap/itc_loss": 0.3,
        "val/itc_loss": 4,
        "val/itm_loss": 1,
        "val/itm_accuracy": 1,
    }
    rows = []
    for name, start in (names | {"val/mlm_loss": 5, "val/mlm_accuracy": 1}).items():
        if run["role"] == "floor" and ("itm" in name or "mlm" in name):
            continue
        level = start * np.exp(-POINTS / 8000) + 0.05 * rng.normal(size=len(POINTS))
        for samples, value in zip(POINTS, level, strict=True):
            who = {key: run[key] for key in ("study", "cell", "role", "run", "seed")}
            when = {"step": int(samples // 64), "samples": int(samples), "seconds": samples / 400}
            rows.append(who | when | {"name": name, "value": float(value)})
    return rows


def _make(layers: dict[str, float], *, seeds: int = 3, floor: str = "", control: str) -> Results:
    rng = np.random.default_rng(0)
    roles = dict.fromkeys(layers, "compared") | ({floor: "floor"} if floor else {})
    study = _study(roles, control, range(seeds))
    runs = [_run(row, layers.get(row["cell"], 12.0), rng) for row in study["rows"]]
    curves = [line for run in runs for line in _curves(run, rng)]
    digests = [
        {"run": run["run"], "kind": kind, "name": name, "digest": f"{kind} of seed {run['seed']}",
         "size": 100, "drawn_as": name}
        for run in runs
        for kind, name in (("batches", "250"), ("roles", "image.patch"))
    ]  # fmt: skip
    tables = (pd.DataFrame(rows) for rows in (runs, curves, digests))
    return Results(study, *tables)


@pytest.fixture
def make() -> Callable[..., Results]:
    """Cell -> text layers, seeds, floor, control: a study whose every run is done."""
    return _make


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """The report of `results`, built once."""
    return build(one_run_lost(), tmp_path_factory.mktemp("reports") / "by_hand")


@pytest.fixture
def without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Builds that are about something else draw nothing, to be quick."""
    monkeypatch.setattr(building, "pictures", lambda: ())


@pytest.fixture
def results() -> Results:
    """Three splits and a floor at three seeds; one run diverged half-way."""
    return one_run_lost()


def one_run_lost() -> Results:
    """Three splits and a floor at three seeds; one run diverged half-way."""
    layers = {"2+10": 2.0, "6+6": 6.0, "10+2": 10.0}
    made = _make(layers, floor="dual encoder", control="6+6")
    runs, curves = made.runs, made.curves
    lost = (runs["cell"] == "10+2") & (runs["seed"] == 2)
    runs.loc[lost, "status"] = "diverged"
    runs.loc[lost, "message"] = "loss <nan> at step 120 & gone"
    known = [c for c in runs.columns if "/" in c or c.startswith(("level.", "ledger."))]
    runs.loc[lost, known] = np.nan
    late = (curves["cell"] == "10+2") & (curves["seed"] == 2) & (curves["step"] > 120)
    return Results(made.study, runs, curves[~late].reset_index(drop=True), made.digests)
