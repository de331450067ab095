"""Results of a study that really ran: the same from folders and from MLflow, paired, reported."""

import math
import re
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from harness.commands.main import app
from harness.outputs.environment import LIBRARIES
from harness.outputs.folder import RunFolder
from harness.outputs.records import Environment, LedgerRecord
from harness.planning import price
from harness.planning.plan import plan
from harness.planning.prepare import prepared
from harness.results.folders import load
from harness.results.from_mlflow import load_from_mlflow
from harness.results.pairing import pairing
from harness.results.store import default_uri
from harness.results.tables import CURVES, DIGESTS, LEVELS, SCHEMA, SCORES, Results
from harness.runs.run import execute
from harness.study import Study
from harness.training.loop.trainer import Trainer
from reports.build import build, figure
from tests.harness.conftest import TINY


@pytest.fixture(scope="module")
def results(ran: Path) -> Results:
    return load(ran, "tiny")


def test_folders_and_store_give_the_same_tables(ran: Path, results: Results) -> None:
    published = load_from_mlflow(default_uri(ran), "tiny")
    assert published.study == results.study
    for name in ("runs", "scores", "levels", "curves", "digests"):
        ours, theirs = getattr(results, name), getattr(published, name)
        assert len(ours)
        pd.testing.assert_frame_equal(ours, theirs, obj=name)
    assert published.graphs == results.graphs and len(results.graphs) == 3


def test_every_table_has_its_columns_and_every_run_its_rows(results: Results) -> None:
    always = {name for name in SCHEMA if "<" not in name}
    patterns = tuple(name.partition("<")[0] for name in SCHEMA if "<" in name)
    assert always <= set(results.runs) and all(
        name in always or name.startswith(patterns) for name in results.runs
    )
    assert list(results.scores) == list(SCORES) and list(results.levels) == list(LEVELS)
    assert list(results.curves) == list(CURVES) and list(results.digests) == list(DIGESTS)
    assert list(results.runs["cell"]) == ["k1", "k1", "k2", "k2", *["dual_encoder"] * 2]
    assert results.study.settings == TINY.model_dump(mode="json")
    keys = set(results.runs["run"])
    for table in (results.scores, results.levels, results.curves, results.digests):
        assert set(table["run"]) == keys and len(keys) == 6
    assert results.scores["value"].map(math.isfinite).all()
    assert set(results.curves["step"]) == {0, 2, 4, 6}


def test_values_of_the_primary_score(results: Results) -> None:
    values = results.values("retrieval/mean_recall")
    recalls = results.scores[results.scores["task"] == "retrieval"].set_index(["run", "score"])
    for run, value in zip(results.runs["run"], values, strict=True):
        names = [f"{way}_r_at_{k}" for way in ("i2t", "t2i") for k in (1, 5, 10)]
        assert value == pytest.approx(recalls.loc[run].loc[names, "value"].mean())
    assert results.values("retrieval/no_such").isna().all()


def test_levels_are_counts_of_what_scores_are_shares_of(results: Results) -> None:
    """R@1 of a level counts both ways; 24 pictures and 24 captions were asked."""
    levels = results.levels[results.levels["level"] == "r_at_1"].set_index("run")
    assert set(levels["items"]) == {48} and levels["chance"].between(1 / 25, 1 / 8).all()
    scores = results.scores.set_index(["run", "score"])["value"]
    for run, level in levels.iterrows():
        shares = scores[run, "i2t_r_at_1"] + scores[run, "t2i_r_at_1"]
        assert level["successes"] == pytest.approx(24 * shares / 100)


def test_pairing_holds(results: Results) -> None:
    findings = pairing(results)
    assert all(finding.ok for finding in findings), findings
    texts = [finding.text for finding in findings]
    for seed in TINY.seeds:
        assert f"seed {seed}: 3 cells have the same batches (the first 6 steps)" in texts
    assert sum("have the same initial weights" in text for text in texts) == len(TINY.seeds)
    assert any("same versions (python" in text for text in texts)


def test_the_environment_is_that_of_the_run(ran: Path, results: Results) -> None:
    import torch

    record = Environment.read(RunFolder(ran, results.runs["run"].iloc[0]).environment)
    assert set(record.libraries) == set(LIBRARIES) and record.threads == 1
    assert record.libraries["torch"] == torch.__version__.partition("+")[0]
    assert record.device.startswith("cpu: ") and len(record.device) > len("cpu: ")


def test_a_report_is_built_and_says_the_scores(ran: Path, results: Results, tmp_path: Path) -> None:
    report = build(results, tmp_path / "report")
    assert report.pairing_ok and len(report.answer.lines) == 1
    table = pd.read_csv(report.folder / "comparison.csv").set_index("cell")
    values = results.values("retrieval/mean_recall").groupby(results.runs["cell"]).mean()
    for cell in ("k1", "k2", "dual_encoder"):
        assert table.loc[cell, "score"] == pytest.approx(values[cell])
    page = report.page.read_text()
    assert "Does it run?" in page and "k2 against k1" in page


def test_the_example_of_the_readme_reads_a_study(
    ran: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = Path(__file__).parents[2] / "README.md"
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    (text,) = (block for block in blocks if 'view.figure("allocation")' in block)
    (tmp_path / "outputs").symlink_to(ran)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(text.replace('"demo"', '"tiny"'), names)
    shown = capsys.readouterr().out
    assert re.search(r"k2 +\? undecided", shown) and "dual_encoder" in shown
    losses = names["losses"]
    assert isinstance(losses, pd.DataFrame) and set(losses) == {"k1", "k2", "dual_encoder"}
    assert (tmp_path / "allocation.pdf").read_bytes().startswith(b"%PDF")
    with pytest.raises(ValueError, match="known: allocation, forest"):
        figure(load(ran, "tiny"), "allocatoin")


def test_status_shows_every_run(ran: Path) -> None:
    result = CliRunner().invoke(app, ["status", "tiny", "--outputs", str(ran)])
    assert result.exit_code == 0 and result.output.count("6/6") == 6, result.output


# -- what a plan says beforehand, against what the runs left


def test_the_disk_that_a_plan_names_is_what_the_weights_take(tiny: Study, outputs: Path) -> None:
    """Of a model of a million parameters, names and shapes in the file are a few percent."""
    changed = {"cells": tiny.cells[:1], "seeds": (0,), "tasks": ()}
    study = tiny.model_copy(update=changed).with_fields({"backbone": "nano", "budget.steps": 1})
    planned = plan(study, outputs)
    (estimate,) = price.estimates(planned, prepared(planned, outputs))
    assert execute(planned.specs[0], outputs) == "done"
    weights = RunFolder(outputs, planned.specs[0].train_key()).weights
    assert 1 <= weights.stat().st_size / 2**20 / estimate.disk_mib < 1.04


def test_the_cost_that_a_plan_names_is_what_the_ledger_says(ran: Path) -> None:
    planned = plan(TINY, ran)
    keys = {row.cell.name: row.spec.train_key() for row in planned.rows}
    for estimate in price.estimates(planned, prepared(planned, ran)):
        spent = LedgerRecord.read(RunFolder(ran, keys[estimate.cell]).ledger).spent
        assert estimate.parameters == spent.parameters
        assert estimate.flops_per_sample * 6 * 8 == pytest.approx(spent.flops)


@pytest.mark.parametrize(("comfortable", "rows"), [(1e12, 8), (7e6, 3), (1.0, 2)])
def test_the_seconds_that_a_plan_names(
    tiny: Study, outputs: Path, monkeypatch: pytest.MonkeyPatch, comfortable: float, rows: int
) -> None:
    """On a clock that a step moves on by half a second a row: a run of 6 steps of 8 pairs takes 24,
    on however many rows its step is measured."""
    now, warm = [100.0], [True]

    def one_step(self: Trainer) -> None:
        now[0] += 77 if warm[0] else self.batches.batch_size / 2  # the first one says nothing
        warm[0] = False

    class Clock:
        @staticmethod
        def perf_counter() -> float:
            return now[0]

    one_cell = tiny.model_copy(update={"cells": tiny.cells[:1]})
    monkeypatch.setattr(price, "time", Clock)
    monkeypatch.setattr(price, "COMFORTABLE_FLOPS", comfortable)
    monkeypatch.setattr(Trainer, "one_step", one_step)
    planned = plan(one_cell, outputs)
    (estimate,) = price.estimates(planned, prepared(planned, outputs))
    assert estimate.seconds == pytest.approx(24.0)
    assert estimate.measured_rows == rows
