"""Results made by hand: a plausible study without a single run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import pandas as pd
import pytest

from harness.outputs.records import StudyRecord, StudyRow
from harness.results.tables import SCORES, Results
from reports import build as building
from reports.build import Report, build

POINTS = np.linspace(0, 16_000, 11)
Row = dict[str, object]


def _study(cells: Mapping[str, str], control: str, seeds: range) -> StudyRecord:
    return StudyRecord(
        name="by_hand",
        question="Does the split of layers matter?",
        control=control,
        primary="retrieval/mean_recall",
        equal_within=1.0,
        alpha=0.05,
        looks=1,
        axis="text_layers",
        seeds=tuple(seeds),
        budget_unit="samples",
        rows=tuple(
            StudyRow(
                cell=cell, role=role, seed=seed, run=f"{i:02d}{seed:014d}", design="any",
                config={}, settings={}, not_applicable=_not_applicable(role),
            )
            for i, (cell, role) in enumerate(cells.items())
            for seed in seeds
        ),
        settings={"budget": {"samples": 16_000, "steps": None}, "batch_size": 64},
    )  # fmt: skip


def _not_applicable(role: str) -> dict[str, str]:
    return {"itm": "it has no fusion"} if role == "floor" else {}


def _run(row: StudyRow, layers: float) -> Row:
    flops = 2e8 if row.role == "floor" else 3e8
    ledger = {
        "steps": 250, "samples": 16_000, "text_tokens": 0, "image_tokens": 272_000,
        "flops": 16_000 * flops, "train_seconds": 40 + layers, "device_seconds": 60 + layers,
        "peak_mib": 700.0, "parameters": 900_000 - 20_000 * layers, "trainable": 900_000,
        "flops_per_sample": flops * (2 - layers / 12),
        "forward_flops": flops * (0.4 - layers / 60),
        "tuning_trials": 0, "tuning_seconds": 0, "attempts": 1,
        "finetuning_flops": 0.0, "finetuning_seconds": 0.0,
    }  # fmt: skip
    return {
        **{key: getattr(row, key) for key in ("cell", "role", "seed", "run", "design")},
        **{"study": "by_hand", "status": "done", "message": "", "text_layers": layers},
        **{"code": "abc", "libraries": "python 3", "device": "cpu", "commit": "c0ffee"},
        **{f"ledger.{name}": value for name, value in ledger.items()},
    }


def _scores(row: StudyRow, layers: float, rng: np.random.Generator) -> list[Row]:
    alone = 30 + row.seed + rng.normal()
    score, protocol = alone, "ITC alone"
    if row.role != "floor":
        score = 50 - 0.3 * (layers - 6) ** 2 + row.seed + rng.normal()
        protocol = "re-ranked"
    scores = {
        "mean_recall": (score, protocol),
        "mean_recall_itc": (alone, "ITC alone"),
        "i2t_r_at_1": (score / 2, protocol),
    }
    if row.role != "floor":
        scores["mean_recall_reranked"] = (score, "re-ranked")
    return [
        {"run": row.run, "task": "retrieval", "score": name, "protocol": how, "value": value,
         "higher_is_better": True, "unit": "percent"}
        for name, (value, how) in scores.items()
    ]  # fmt: skip


def _levels(row: StudyRow) -> list[Row]:
    recall = {"level": "r_at_1", "successes": 40, "items": 512, "chance": 1 / 512}
    itm = {"level": "itm_accuracy", "successes": 480, "items": 512, "chance": 2 / 3}
    levels = [{"run": row.run, "task": "retrieval", **recall}]
    return levels + [{"run": row.run, "task": "validation", **itm}] * (row.role != "floor")


def _curves(run: Row, rng: np.random.Generator) -> list[Row]:
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
    placed = [(row, layers.get(row.cell, 12.0)) for row in study.rows]
    scores = [line for row, place in placed for line in _scores(row, place, rng)]
    runs = [_run(row, place) for row, place in placed]
    curves = [line for run in runs for line in _curves(run, rng)]
    digests = [
        {"run": run["run"], "kind": kind, "name": name, "digest": f"{kind} of seed {run['seed']}",
         "size": 100, "drawn_as": name}
        for run in runs
        for kind, name in (("batches", "250"), ("roles", "image.patch"))
    ]  # fmt: skip
    return Results(
        study=study,
        runs=pd.DataFrame(runs),
        scores=pd.DataFrame(scores, columns=list(SCORES)),
        levels=pd.DataFrame([line for row in study.rows for line in _levels(row)]),
        curves=pd.DataFrame(curves),
        digests=pd.DataFrame(digests),
    )


def asking(results: Results, **changed: object) -> Results:
    """The same results of a study that asks something else."""
    study = results.study.model_copy(update=changed)
    return dataclasses.replace(results, study=study)


def set_scores(results: Results, cell: str, values: object, score: str = "mean_recall") -> None:
    """Gives the runs of a cell these values, seed by seed."""
    keys = results.runs.loc[results.runs["cell"] == cell, "run"]
    by_run = dict(zip(keys, values, strict=True))  # type: ignore[call-overload]
    scores = results.scores
    own = scores["run"].isin(list(by_run)) & (scores["score"] == score)
    scores.loc[own, "value"] = scores.loc[own, "run"].map(by_run)


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
    runs.loc[lost, [name for name in runs.columns if name.startswith("ledger.")]] = np.nan
    late = (curves["cell"] == "10+2") & (curves["seed"] == 2) & (curves["step"] > 120)
    key = runs.loc[lost, "run"].item()
    return dataclasses.replace(
        made,
        scores=of_others(made.scores, key),
        levels=of_others(made.levels, key),
        curves=curves[~late].reset_index(drop=True),
    )


def lost(results: Results, places: Iterable[int]) -> Results:
    """The same results, where the runs in these rows failed before they measured anything."""
    for place in places:
        results.runs.loc[place, "status"] = "failed"
        key = str(results.runs.loc[place, "run"])
        scores, curves = of_others(results.scores, key), of_others(results.curves, key)
        results = dataclasses.replace(results, scores=scores, curves=curves)
    return results


def of_others(table: pd.DataFrame, key: str) -> pd.DataFrame:
    """The rows of all runs but one."""
    return table[table["run"] != key].reset_index(drop=True)
