"""Run folders made by hand: what a study leaves behind, without a single run."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.outputs.files import State, write_json
from harness.outputs.folder import RunFolder, study_file
from harness.outputs.measured import MeasuredLine
from harness.outputs.records import (
    Certificate,
    Environment,
    FactsRecord,
    LedgerRecord,
    Role,
    ScoresRecord,
    StudyRecord,
    StudyRow,
    TuningSpent,
)
from harness.study import Cell, Study, Variant
from harness.training.loop.ledger import Ledger
from harness.training.scoring.contract import Level, Score
from harness.training.settings.data import Scenes
from harness.training.settings.loop import Budget
from harness.training.settings.spec import Asked, RunSpec, TrainSpec

BEGUN = 1_700_000_000.25
CURVES = ("train/loss", "val/loss", "val/itm_accuracy")
ByHand = Callable[..., StudyRecord]


def _spec(layers: int, seed: int) -> RunSpec:
    train = TrainSpec(
        design="split_bert", config={"text_layers": layers}, budget=Budget(samples=160),
        batch_size=16, data="", seed=seed,
    )  # fmt: skip
    return RunSpec(train=train, asked=Asked(data=Scenes()))


def write_run(
    outputs: Path, spec: RunSpec, layers: int, *, state: State = "done", points: int = 5
) -> RunFolder:
    """A run's folder; one that is not done has measured one point more than it keeps."""
    folder, seed = RunFolder(outputs, spec.train_key()), spec.train.seed
    done = state == "done"
    write_json(folder.spec, spec.model_dump(mode="json"))
    steps = [10 * i for i in range(points + (not done))]
    folder.set_status(state, "" if done else "as asked", step=steps[-1], steps=10 * (points - 1),
                      checkpoint_step=10 * (points - 1))  # fmt: skip
    folder.metrics.unlink(missing_ok=True)
    for step in steps:
        values = {name: int(folder.key[:6], 16) / (step + 1 + i) for i, name in enumerate(CURVES)}
        if state == "diverged" and step == 10 * (points - 1):
            values[CURVES[0]], values[CURVES[1]] = math.nan, math.inf
        folder.append_metrics(
            MeasuredLine(
                step=step, samples=step * 16, seconds=step / 7, time=BEGUN + step / 3,
                values=values, chain=f"{seed}-{step}",
            )
        )  # fmt: skip
    spent = Ledger(steps=steps[-1], samples=steps[-1] * 16, peak_mib=812.5)
    LedgerRecord(spent=spent).write(folder.ledger)
    names = [f"text.{i}.weight" for i in range(layers)]
    Certificate(
        roles={n: Role(digest=f"{seed}.{n}", size=100, drawn_as=n) for n in names},
        code=("c0de",),
        data="da7a",
        facts=FactsRecord(text_layers=layers, fusion_layers=6, image_layers=4, itc_reads="towers"),
    ).write(folder.certificate)
    Environment(
        commit="c0ffee", dirty=True, python="3.12", libraries={"torch": "2.9"}, device="cpu: slow",
        threads=1,
    ).write(folder.environment)  # fmt: skip
    write_json(folder.graph, {"nodes": []})
    if done:
        _write_scores(folder)
    return folder


def _write_scores(folder: RunFolder) -> None:
    values = {"mean_recall": int(folder.key[:4], 16) / 1000, "i2t_r_at_1": 12.5}
    ScoresRecord(
        task="retrieval",
        score_key="s",
        protocol="re-ranked",
        scores=tuple(
            Score(name=n, value=v, unit="percent", higher_is_better=True, protocol="re-ranked")
            for n, v in values.items()
        ),
        levels=(Level(name="r_at_1", successes=40, items=512, chance=1 / 512),),
    ).write(folder.score_file("retrieval"))
    itm = Level(name="itm_accuracy", successes=300, items=512, chance=2 / 3)
    ScoresRecord(task="validation", levels=(itm,)).write(folder.score_file("validation"))


def write_study(
    outputs: Path,
    *,
    layers: tuple[int, ...] = (2, 6),
    seeds: tuple[int, ...] = (0, 1),
    states: dict[tuple[int, int], State] | None = None,
    points: int = 5,
) -> StudyRecord:
    """A study `by_hand` and its run folders; `states`: (layers, seed) -> state, else done."""
    cells = tuple(
        Cell(variant=Variant("split_bert", text_layers=n), label=f"{n} text layers",
             settings={"batch_size": 16}) for n in layers
    )  # fmt: skip
    study = Study(name="by_hand", question="Is it so?", cells=cells, control=cells[-1].name,
                  budget=Budget(samples=160), seeds=seeds)  # fmt: skip
    rows = []
    for cell, n in zip(cells, layers, strict=True):
        for seed in seeds:
            spec, state = _spec(n, seed), (states or {}).get((n, seed), "done")
            if state != "waiting":
                write_run(outputs, spec, n, state=state, points=points)
            rows.append(
                StudyRow(
                    cell=cell.name, role=cell.role, seed=seed, run=spec.train_key(),
                    design=spec.train.design, config=spec.train.config, settings=cell.settings,
                    tuning=TuningSpent(trials=8, device_seconds=60.5),
                )
            )  # fmt: skip
    same = ("name", "question", "control", "primary", "alpha", "looks", "axis")
    record = StudyRecord(
        **{name: getattr(study, name) for name in same},
        seeds=seeds,
        equal_within=study.margin,
        budget_unit="samples",
        rows=tuple(rows),
        settings=study.model_dump(mode="json"),
    )
    record.write(study_file(outputs, study.name))
    return record


@pytest.fixture
def by_hand() -> ByHand:
    """Writes a study and its run folders under an outputs folder."""
    return write_study
