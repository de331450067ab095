"""Every cell tries the same settings, a restart changes none, and the lowest score wins."""

import math
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from architectures.frozen import SettingError
from harness.outputs.files import State
from harness.outputs.folder import RunFolder
from harness.outputs.measured import MeasuredLine
from harness.outputs.records import LedgerRecord
from harness.planning.plan import Plan
from harness.study import Budget, Cell, Range, Scenes, Study, Tuning, Variant
from harness.training.loop.ledger import Ledger
from harness.training.settings.spec import RunSpec
from harness.tuning.choice import TuningResult, tuned
from harness.tuning.tune import draws_of, tune

SPACE = {
    "optimizer.learning_rate": Range(low=1e-4, high=1e-2, log=True),
    "optimizer.warmup_share": Range(low=0.02, high=0.3),
}
STUDY = Study(
    name="few",
    question="Is it so?",
    cells=(
        Cell(variant=Variant("split_bert", text_layers=2)),
        Cell(variant=Variant("dual_encoder"), role="floor"),
    ),
    control="split_bert text_layers=2",
    data=Scenes(train=64, val=16, test=16),
    budget=Budget(steps=4),
    tuning=Tuning(space=SPACE, trials=5, seed=77),
)
CONTROL, FLOOR = (cell.name for cell in STUDY.cells)


def loss(spec: RunSpec) -> float:
    """Best at a learning rate of 0.001, but for the dual encoder at 0.01."""
    best = 1e-3 if spec.train.design == "split_bert" else 1e-2
    return abs(math.log(spec.train.optimizer.learning_rate / best))


def runner(
    outputs: Path, *, diverges: Callable[[RunSpec], bool] = lambda _: False, calls: list[Plan]
) -> Callable[[Plan], Mapping[str, State]]:
    """Stands in for `schedule.run_all`: writes what runs would have measured."""

    def run(planned: Plan) -> dict[str, State]:
        calls.append(planned)
        states: dict[str, State] = {}
        for spec in planned.specs:
            folder = RunFolder(outputs, spec.train_key())
            state: State = "diverged" if diverges(spec) else "done"
            folder.set_status(state)
            folder.metrics.unlink(missing_ok=True)
            values = {"val/loss": loss(spec), "val/itc_loss": 1.0}
            folder.append_metrics(
                MeasuredLine(step=4, samples=256, seconds=1.5, time=9.0, values=values)
            )
            LedgerRecord(spent=Ledger(device_seconds=2.0)).write(folder.ledger)
            states[folder.key] = state
        return states

    return run


def tune_few(outputs: Path, study: Study = STUDY, **more: object) -> TuningResult:
    return tune(study, outputs, runner(outputs, calls=[], **more))  # type: ignore[arg-type]


def test_draws_are_one_table_inside_the_space() -> None:
    table = draws_of(STUDY.tuning)
    assert len(table) == 5 and table == draws_of(STUDY.tuning)
    assert table != draws_of(STUDY.tuning.model_copy(update={"seed": 78}))
    assert all(span.low <= row[path] <= span.high for row in table for path, span in SPACE.items())
    many = draws_of(STUDY.tuning.model_copy(update={"trials": 64}))
    below = sum(row["optimizer.learning_rate"] < 1e-3 for row in many)
    assert below == 32, "half of the draws below the middle of a logarithmic range"


def test_every_cell_tries_the_same_and_keeps_its_own_best(tmp_path: Path) -> None:
    result = tune_few(tmp_path)
    tried = {
        name: [dict(t.values) for t in result.trials if t.cell == name] for name in result.chosen
    }
    assert tried[CONTROL] == tried[FLOOR] == draws_of(STUDY.tuning)
    rates = sorted(row["optimizer.learning_rate"] for row in tried[CONTROL])
    chosen = {cell: choice.chosen for cell, choice in tuned(STUDY, tmp_path).items()}
    assert {choice.trials for choice in tuned(STUDY, tmp_path).values()} == {5}
    assert {choice.device_seconds for choice in tuned(STUDY, tmp_path).values()} == {10.0}
    nearest = min(rates, key=lambda rate: abs(math.log(rate / 1e-3)))
    assert chosen[CONTROL]["optimizer.learning_rate"] == nearest
    assert chosen[FLOOR]["optimizer.learning_rate"] == rates[-1]
    assert len(result.rows[0]) == len(result.columns)


def test_trials_use_their_own_seed_and_no_test_data(tmp_path: Path) -> None:
    calls: list[Plan] = []
    tune(STUDY, tmp_path, runner(tmp_path, calls=calls))
    (planned,) = calls
    assert planned.study.name == "few-tuning" and len(planned.specs) == 10
    assert {spec.train.seed for spec in planned.specs} == {77}
    assert not any(spec.asked.tasks for spec in planned.specs)


def test_a_kill_while_trials_run_changes_no_draw(tmp_path: Path) -> None:
    def killed(planned: Plan) -> dict[str, State]:
        raise SystemExit(130)

    with pytest.raises(SystemExit):
        tune(STUDY, tmp_path, killed)
    with pytest.raises(SettingError, match="not tuned: run `fuselab tune few` first"):
        tuned(STUDY, tmp_path)
    again = tune_few(tmp_path)
    choice = tmp_path / "studies" / "few" / "tuning" / "choice.json"
    before = choice.read_text()
    assert tune_few(tmp_path) == again and choice.read_text() == before
    journal = (choice.parent / "journal.log").read_text()
    assert [dict(t.values) for t in again.trials[:5]] == draws_of(STUDY.tuning)
    assert journal.count('"run"') == 10, "each trial stands in the journal once"


def test_diverged_trials_stay_and_are_not_chosen(tmp_path: Path) -> None:
    first = tune_few(tmp_path).chosen[CONTROL].number
    fast = [row["optimizer.learning_rate"] for row in draws_of(STUDY.tuning)][first]
    study = STUDY.model_copy(update={"name": "other"})
    result = tune_few(
        tmp_path, study, diverges=lambda spec: spec.train.optimizer.learning_rate == fast
    )
    lost = [trial for trial in result.trials if trial.status == "diverged"]
    assert len(lost) == 2 and all(trial.score is None for trial in lost)
    assert result.chosen[CONTROL].number != first


def test_a_cell_without_a_finished_trial_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="no trial of dual_encoder came to an end"):
        tune_few(tmp_path, diverges=lambda spec: spec.train.design == "dual_encoder")
    with pytest.raises(SettingError, match="no trial of cell 'dual_encoder'"):
        tuned(STUDY, tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"budget": Budget(steps=5)},
        {"tuning": STUDY.tuning.model_copy(update={"trials": 6})},
    ],
)
def test_a_choice_made_for_another_question_is_refused(
    tmp_path: Path, change: dict[str, object]
) -> None:
    tune_few(tmp_path)
    assert set(tuned(STUDY, tmp_path)) == {CONTROL, FLOOR}
    with pytest.raises(SettingError, match="not tuned with its settings of now"):
        tuned(STUDY.model_copy(update=change), tmp_path)
    assert tuned(STUDY.model_copy(update={"seeds": (0, 1, 2, 3)}), tmp_path)


def test_unknown_names_are_told(tmp_path: Path) -> None:
    tuning = STUDY.tuning.model_copy(update={"score": "val/los"})
    with pytest.raises(SettingError, match="did you mean 'val/loss'"):
        tune_few(tmp_path, STUDY.model_copy(update={"tuning": tuning}))
    tuning = STUDY.tuning.model_copy(
        update={"space": {"data.seed": SPACE["optimizer.warmup_share"]}}
    )
    with pytest.raises(SettingError, match=r"'data\.seed'"):
        tune_few(tmp_path, STUDY.model_copy(update={"tuning": tuning}))


def test_to_read_a_choice_needs_no_optuna() -> None:
    code = "import sys, harness.tuning.tune; sys.exit(bool({'optuna', 'torch'} & set(sys.modules)))"
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root).returncode == 0
