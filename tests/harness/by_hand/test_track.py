"""What run folders say, into MLflow and back: the same tables, nothing twice."""

import contextlib
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient

from architectures.frozen import SettingError
from harness.endpoint import Endpoint
from harness.lab import Lab
from harness.outputs.files import TrackingError
from harness.outputs.folder import RunFolder, study_file
from harness.outputs.records import ScoresRecord, StudyRecord
from harness.results import entries, to_mlflow
from harness.results.folders import load
from harness.results.from_mlflow import all_runs, load_from_mlflow
from harness.results.store import default_uri, ui_command
from harness.results.tables import Results
from harness.results.to_mlflow import Tracker
from harness.training.scoring.contract import Score

pytestmark = pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning",  # mlflow 3.17
)
ByHand = Callable[..., StudyRecord]
STATES = {(2, 0): "waiting", (2, 1): "diverged", (6, 0): "interrupted"}


@pytest.fixture
def outputs(tmp_path: Path, schema: bytes) -> Path:
    (tmp_path / "mlflow.db").write_bytes(schema)
    return tmp_path


def read_back(outputs: Path) -> Results:
    return load_from_mlflow(default_uri(outputs), "by_hand")


def same(one: Results, other: Results) -> None:
    assert one.study == other.study
    for name in ("runs", "scores", "levels", "curves", "digests"):
        pd.testing.assert_frame_equal(getattr(one, name), getattr(other, name), obj=name)
    assert one.graphs == other.graphs


def rows_of_store(outputs: Path) -> dict[str, int]:
    with sqlite3.connect(outputs / "mlflow.db") as store:
        count = {
            table: store.execute(f"select count(*) from {table}").fetchone()[0]
            for table in ("experiments", "runs", "metrics", "params", "tags")
        }
    store.close()
    return count


def test_folders_and_store_give_the_same_tables(outputs: Path, by_hand: ByHand) -> None:
    study = by_hand(outputs, states=STATES)
    Tracker(outputs).publish(study)
    folders = load(outputs, "by_hand")
    assert folders.curves["value"].isna().any(), "a run that diverged is among them"
    assert set(folders.runs["status"]) == {"waiting", "diverged", "interrupted", "done"}
    assert set(folders.graphs) == {"2 text layers", "6 text layers"}
    same(folders, read_back(outputs))


@pytest.mark.parametrize("count", [300, 3])
def test_many_scores_come_back_whole(outputs: Path, by_hand: ByHand, count: int) -> None:
    """MLflow cuts a tag after 8,000 characters; fewer scores later leave no old part behind."""
    study = by_hand(outputs, states={})
    files = [RunFolder(outputs, row.run).score_file("many") for row in study.rows]
    for many in dict.fromkeys((300, count)):
        scores = tuple(
            Score(name=f"score_{i}", value=i, unit="percent", higher_is_better=True, protocol="p")
            for i in range(many)
        )
        for file in files:
            ScoresRecord(task="many", scores=scores).write(file)
        Tracker(outputs).publish(study)
    same(read_back(outputs), load(outputs, "by_hand"))
    assert (read_back(outputs).scores["task"] == "many").sum() == count * len(study.rows)


def test_a_run_that_was_never_built_has_no_graph(outputs: Path, by_hand: ByHand) -> None:
    study = by_hand(outputs, states={(2, 0): "waiting", (2, 1): "failed"})
    run = next(row.run for row in study.rows if (row.cell[0], row.seed) == ("2", 1))
    RunFolder(outputs, run).graph.unlink()
    Tracker(outputs).publish(study)
    assert (
        set(load(outputs, "by_hand").graphs) == set(read_back(outputs).graphs) == {"6 text layers"}
    )


def test_a_damaged_run_is_published_as_such_and_mended_later(
    outputs: Path, by_hand: ByHand
) -> None:
    study = by_hand(outputs)
    folder = RunFolder(outputs, study.rows[0].run)
    for file in (folder.ledger, folder.status_file, folder.metrics, folder.score_file("retrieval")):
        whole = file.read_bytes()
        file.write_bytes(whole[:9] + b"\n")
        Tracker(outputs).publish(study)
        back = read_back(outputs).runs.set_index("run").loc[folder.key]
        assert back["status"] == "damaged" and str(file) in back["message"]
        file.write_bytes(whole)
        Tracker(outputs).publish(study)
        same(load(outputs, "by_hand"), read_back(outputs))


@pytest.mark.parametrize("few", [0, 10])  # all runs are read, or each is looked for
def test_publishing_again_changes_nothing(
    outputs: Path, by_hand: ByHand, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(to_mlflow, "FEW", few)
    study = by_hand(outputs, states=STATES)
    Tracker(outputs).publish(study)
    before = rows_of_store(outputs)
    Tracker(outputs).publish(study)
    assert rows_of_store(outputs) == before


def test_a_kill_between_metrics_and_tags_repeats_nothing(outputs: Path, by_hand: ByHand) -> None:
    study = by_hand(outputs)
    Tracker(outputs).publish(study)
    before = rows_of_store(outputs)
    with sqlite3.connect(outputs / "mlflow.db") as store:
        store.execute("delete from tags where key in ('fuselab.digest', 'fuselab.step')")
    store.close()
    Tracker(outputs).publish(study)
    assert rows_of_store(outputs) == before


def test_a_run_that_went_on_has_every_step_once(outputs: Path, by_hand: ByHand) -> None:
    tracker = Tracker(outputs)
    tracker.publish(by_hand(outputs, seeds=(0,), layers=(6,), states={(6, 0): "interrupted"},
                            points=3))  # fmt: skip
    half = read_back(outputs)
    assert half.curves["step"].max() == 20 and half.runs["status"].tolist() == ["interrupted"]
    study = by_hand(outputs, seeds=(0,), layers=(6,))
    tracker.publish(study, [study.rows[0].run])
    same(load(outputs, "by_hand"), read_back(outputs))
    with sqlite3.connect(outputs / "mlflow.db") as store:
        steps = store.execute("select step from metrics where key = 'val/loss' order by step")
        assert [step for (step,) in steps] == [0, 10, 20, 30, 40]
    store.close()


def test_the_store_can_be_rebuilt(outputs: Path, by_hand: ByHand, schema: bytes) -> None:
    study = by_hand(outputs, states=STATES)
    Tracker(outputs).publish(study)
    before = rows_of_store(outputs)
    (outputs / "mlflow.db").write_bytes(schema)
    assert Lab(outputs).publish() == ["by_hand"]
    assert rows_of_store(outputs) == before


def test_endpoints_are_read_from_folders_and_store(outputs: Path, by_hand: ByHand) -> None:
    endpoints = (
        Endpoint(score="retrieval/mean_recall", equal_within=1.0),
        Endpoint(score="validation/itc_loss", equal_within=0.1, better="lower"),
    )
    asked = {"endpoints": endpoints, "endpoint_order": "ordered"}
    study = by_hand(outputs).model_copy(update=asked)
    study.write(study_file(outputs, study.name))
    Tracker(outputs).publish(study)
    for results in (load(outputs, "by_hand"), read_back(outputs)):
        assert results.study == study and results.study.judged == endpoints


def test_a_report_stands_beside_its_study(outputs: Path, by_hand: ByHand, tmp_path: Path) -> None:
    tracker = Tracker(outputs)
    study = by_hand(outputs)
    tracker.publish(study)
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "index.html").write_text("<p>so it is</p>")
    verdicts = {study.primary: {"2 text layers": "worse"}, "a/b": {"2 text layers": "equal"}}
    scores = {study.primary: {"2 text layers": 1.5}, "a/b": {"2 text layers": 2.5}}
    tracker.log_answer(study, verdicts, scores, tmp_path / "report")
    client = MlflowClient(tracking_uri=default_uri(outputs))
    (experiment,) = client.search_experiments(filter_string="name = 'by_hand'")
    (parent,) = client.search_runs([experiment.experiment_id], "tags.`fuselab.kind` = 'study'")
    assert parent.data.metrics == {"primary/2 text layers": 1.5, "endpoint/a/b/2 text layers": 2.5}
    said = {name: text for name, text in parent.data.tags.items() if name.startswith("verdict")}
    assert said == {"verdict.2 text layers": "worse", "verdict/a/b.2 text layers": "equal"}
    assert list(outputs.glob("mlartifacts/by_hand/*/artifacts/report/index.html"))


def test_answers_of_many_cells_with_long_names_are_published(
    outputs: Path, by_hand: ByHand
) -> None:
    study, cells = by_hand(outputs), [f"{'long ' * 60}{number}" for number in range(120)]
    Tracker(outputs).log_answer(study, {study.primary: dict.fromkeys(cells, "worse")}, {})
    client = MlflowClient(tracking_uri=default_uri(outputs))
    (experiment,) = client.search_experiments(filter_string="name = 'by_hand'")
    (parent,) = client.search_runs([experiment.experiment_id], "tags.`fuselab.kind` = 'study'")
    assert sum(name.startswith("verdict.long") for name in parent.data.tags) == len(cells)


def test_an_unknown_study_names_the_known(outputs: Path, by_hand: ByHand) -> None:
    Tracker(outputs).publish(by_hand(outputs))
    with pytest.raises(SettingError, match="did you mean 'by_hand'"):
        load_from_mlflow(default_uri(outputs), "by-hand")


def test_a_store_out_of_reach_is_said_after_one_more_try(tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match=r"127\.0\.0\.1:9 .*fuselab publish"):
        Tracker(tmp_path, "http://127.0.0.1:9")
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "1"
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "10"


def test_the_page_is_served_to_this_machine_only(tmp_path: Path) -> None:
    command = " ".join(ui_command(tmp_path, port=5001))
    assert "--host 127.0.0.1 --port 5001" in command
    assert f"sqlite:///{tmp_path}/mlflow.db" in command


def test_history_is_what_the_client_writes(outputs: Path, by_hand: ByHand) -> None:
    """Earlier values go straight into our own store's table; to any other store by the client."""
    study = by_hand(outputs, states=STATES)
    schema = (outputs / "mlflow.db").read_bytes()
    other = outputs / "other.db"
    other.write_bytes(schema)
    Tracker(outputs).publish(study)
    Tracker(outputs, f"sqlite:///{other}").publish(study)
    tables = []
    for file in (outputs / "mlflow.db", other):
        with contextlib.closing(sqlite3.connect(file)) as store:
            which = "select run_uuid, value from tags where key = 'fuselab.run'"
            keys = dict(store.execute(which).fetchall())
            rows = {}
            for table in ("metrics", "latest_metrics"):
                wanted = f"select run_uuid, key, value, timestamp, step, is_nan from {table}"
                rows[table] = {(keys.get(run), *row) for run, *row in store.execute(wanted)}
            tables.append(rows)
    assert tables[0] == tables[1] and len(tables[0]["metrics"]) > len(tables[0]["latest_metrics"])
    assert any(row[-1] for row in tables[0]["metrics"]), "a value that is no number is among them"


def test_of_many_points_every_so_many_are_in_the_store(
    outputs: Path, by_hand: ByHand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entries, "POINTS", 2)
    study = by_hand(outputs)
    tracker = Tracker(outputs)
    tracker.publish(study)
    measured = load(outputs, "by_hand").curves
    steps = sorted(measured["step"].unique())
    client = MlflowClient(tracking_uri=default_uri(outputs))
    run = next(r for r in all_runs(client, "1") if "fuselab.run" in r.data.tags)
    history = client.get_metric_history(run.info.run_id, measured["name"].iloc[0])
    assert {m.step for m in history} < set(steps) and max(m.step for m in history) == steps[-1]
    same(load(outputs, "by_hand"), read_back(outputs))
