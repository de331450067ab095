"""Folders and stores of format 1, written before records had a number, are still read.

`format_1/` holds two runs of the study `smoke` as the last version of that format wrote them: all
their files but weights and predictions, the certificates cut to a few roles.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, RunTag

from architectures.frozen import SettingError
from harness.endpoint import Endpoint
from harness.export.export import export
from harness.lab import Lab
from harness.outputs.find import find_run
from harness.outputs.folder import RunFolder
from harness.outputs.records import (
    Certificate,
    DamagedFile,
    LedgerRecord,
    Record,
    ScoresRecord,
    Status,
    StudyRecord,
)
from harness.outputs.tuning_records import TuningChoice
from harness.results.folders import load, record_of
from harness.results.from_mlflow import load_from_mlflow
from harness.results.pairing import pairing
from harness.results.store import default_uri
from harness.results.tables import Results
from reports.build import build

HERE = Path(__file__).with_name("format_1")
SPLIT, DUAL = "c916a286661ef7e4", "4feb377d9fc54127"
LAST = "4e2ab8ea5c6502808e8dff532f2859ff"
SCORES = {
    (SPLIT, "retrieval", "mean_recall"): (13.411458333333334, "re-ranked", "percent", True),
    (SPLIT, "retrieval", "mean_recall_itc"): (12.890625, "ITC alone", "percent", True),
    (SPLIT, "retrieval", "mean_recall_reranked"): (
        13.411458333333334,
        "re-ranked",
        "percent",
        True,
    ),
    (SPLIT, "retrieval", "t2i_r_at_10"): (22.65625, "re-ranked", "percent", True),
    (SPLIT, "validation", "itm_accuracy"): (66.66666666666666, "", "percent", True),
    (SPLIT, "validation", "mlm_loss"): (4.434342013060592, "", "nats", False),
    (DUAL, "retrieval", "mean_recall"): (9.765625, "ITC alone", "percent", True),
    (DUAL, "validation", "itc_loss"): (3.4471216201782227, "", "nats", False),
}
LEVELS = {
    (SPLIT, "retrieval", "r_at_1"): (9, 256, 0.0142822265625),
    (SPLIT, "retrieval", "r_at_5"): (37, 256, 0.07002724268841393),
    (SPLIT, "retrieval", "r_at_10"): (57, 256, 0.1366680159853065),
    (SPLIT, "validation", "itm_accuracy"): (256, 384, 2 / 3),
    (SPLIT, "validation", "mlm_accuracy"): (14, 131, 0.10687022900763359),
    (DUAL, "retrieval", "r_at_1"): (6, 256, 0.0142822265625),
    (DUAL, "retrieval", "r_at_5"): (21, 256, 0.07002724268841393),
    (DUAL, "retrieval", "r_at_10"): (48, 256, 0.1366680159853065),
}


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    """A copy that can be written to."""
    shutil.copytree(HERE, tmp_path / "outputs")
    return tmp_path / "outputs"


def right(results: Results) -> None:
    """The tables hold what stands in the files."""
    study = results.study
    assert (study.name, study.control, study.primary) == ("smoke", "6+6", "retrieval/mean_recall")
    assert study.question == "Does a study run from plan to report?"
    assert (study.equal_within, study.alpha, study.looks) == (1.0, 0.05, 1)
    assert study.endpoints == () and study.endpoint_order == "equals"
    assert study.judged == (Endpoint(score="retrieval/mean_recall", equal_within=1.0),)
    assert (study.axis, study.seeds, study.budget_unit) == ("text_layers", (0, 1), "steps")
    assert study.settings["batch_size"] == 32 and study.notes == ()

    runs = results.runs.set_index("cell")
    assert list(runs.index) == ["6+6", "dual_encoder"]
    split, dual = runs.loc["6+6"], runs.loc["dual_encoder"]
    assert (split["run"], split["role"], split["seed"]) == (SPLIT, "compared", 0)
    assert (dual["run"], dual["role"], dual["seed"]) == (DUAL, "floor", 0)
    assert (split["status"], split["message"], split["design"]) == ("done", "", "split_bert")
    assert (split["text_layers"], split["fusion_layers"]) == (6, 6)
    assert dual["itc_reads"] == "[CLS] after text layer 11"
    assert split["config.fusion_from"] == "last" and split["not_applicable"] == ""
    assert dual["not_applicable"].startswith("itm: its towers meet only in the contrastive loss; ")
    assert split["ledger.parameters"] == 943359 and split["ledger.steps"] == 20
    assert dual["ledger.device_seconds"] == 2.3189568519592285
    assert split["batches"] == dual["batches"] == LAST
    assert split["code"] == dual["code"] == "cb6a70a08d7eb15a"
    assert results.runs[["commit", "libraries", "device"]].isna().all(axis=None)  # nobody knew

    scores = results.scores.set_index(["run", "task", "score"]).sort_index()
    assert len(scores) == (9 + 6) + (8 + 2)
    for place, (value, protocol, unit, higher) in SCORES.items():
        assert tuple(scores.loc[place]) == (protocol, value, higher, unit), place
    levels = results.levels.set_index(["run", "task", "level"]).sort_index()
    assert len(levels) == len(LEVELS)
    for place, (successes, items, chance) in LEVELS.items():
        assert tuple(levels.loc[place]) == (successes, items, pytest.approx(chance)), place

    curves = results.curves
    last = curves[(curves["run"] == SPLIT) & (curves["step"] == 20)].set_index("name")
    assert last.loc["val/itm_loss", "value"] == 0.6368256012598673
    assert last.loc["val/itm_loss", "samples"] == 640
    assert set(curves["step"]) == {0, 10, 20}
    digests = results.digests[results.digests["run"] == SPLIT]
    batches = digests[digests["kind"] == "batches"].set_index("name")["digest"].to_dict()
    assert batches == {"0": "", "10": "7d07851d027c3a7558ec7eb2ee782fd8", "20": LAST}
    role = digests.set_index("name").loc["layers.6.cross_norm.bias"]
    assert tuple(role[["kind", "size", "digest", "drawn_as"]]) == (
        "roles",
        64,
        "8af5f01519980807740531ab4a549a48",
        "layers.6.cross_norm.bias",
    )
    assert {cell: graph["design"] for cell, graph in results.graphs.items()} == {
        "6+6": "split_bert",
        "dual_encoder": "dual_encoder",
    }


def test_folders_of_format_1_are_read_with_their_values() -> None:
    right(load(HERE, "smoke"))


def test_the_pairing_of_format_1_holds_and_a_report_is_built(
    tmp_path: Path, without_figures: None
) -> None:
    results = load(HERE, "smoke")
    findings = pairing(results)
    assert all(finding.ok for finding in findings)
    assert findings[0].text == "seed 0: 2 cells have the same batches (the first 20 steps)"
    assert "(5 shared roles" in findings[1].text
    report = build(results, tmp_path / "report")
    assert report.pairing_ok and "dual_encoder" in report.page.read_text()


def test_a_run_of_format_1_is_found_and_its_export_says_what_to_do(
    outputs: Path, tmp_path: Path
) -> None:
    assert find_run(outputs, "smoke/dual_encoder/0").key == DUAL
    (outputs / "runs" / DUAL / "weights.pt").touch()
    with pytest.raises(SettingError, match=r"spec\.json was written by an earlier fuselab.*"):
        export(outputs, DUAL, tmp_path / "out")


def test_tables_are_the_same_after_they_were_written_anew(outputs: Path) -> None:
    """What is read as format 1 can be written as the format of now."""
    before = load(outputs, "smoke")
    path = outputs / "studies" / "smoke" / "study.json"
    StudyRecord.read(path).write(path)
    for key in (SPLIT, DUAL):
        folder = RunFolder(outputs, key)
        for kind, file in FILES.items():
            kind.read(folder.path / file).write(folder.path / file)
        for record in folder.score_records():
            record.write(folder.score_file(record.task))
    after = load(outputs, "smoke")
    assert before.study == after.study
    for name in ("runs", "scores", "levels", "curves", "digests"):
        pd.testing.assert_frame_equal(getattr(before, name), getattr(after, name), obj=name)


# -- damage

FILES: dict[type[Record], str] = {
    Status: "status.json",
    LedgerRecord: "ledger.json",
    Certificate: "certificate.json",
}
DAMAGED = [
    *((kind, f"runs/{SPLIT}/{name}") for kind, name in FILES.items()),
    (ScoresRecord, f"runs/{SPLIT}/scores/retrieval.json"),
    (StudyRecord, "studies/smoke/study.json"),
]


@pytest.mark.parametrize(("kind", "name"), DAMAGED, ids=lambda value: str(value)[-12:])
def test_a_damaged_file_of_format_1_is_named(kind: type[Record], name: str, outputs: Path) -> None:
    """Each value within replaced by one of another type, and each field left out: read, or told."""
    path = outputs / name
    whole = json.loads(path.read_text())
    outcomes = []
    for changed in variants(whole):
        path.write_text(json.dumps(changed))
        try:
            kind.read(path)
        except DamagedFile as error:
            assert str(path) in str(error) and kind.remedy in str(error)
            outcomes.append("damaged")
        else:
            outcomes.append("read")
    assert "damaged" in outcomes
    path.write_text(path.read_text()[:-20])
    with pytest.raises(DamagedFile):
        kind.read(path)


def variants(content: object) -> Iterator[object]:
    """Copies of a JSON value, each with one part changed or left out, two levels deep."""
    yield from (None, 3.5, "text", [], [None], {"x": None})
    if not isinstance(content, dict):
        return
    for name, inner in content.items():
        yield {key: value for key, value in content.items() if key != name}
        deeper = variants(inner) if isinstance(inner, dict) else [None, "text", [3], {"x": []}]
        for changed in deeper:
            yield content | {name: changed}


def test_a_run_of_which_a_file_is_damaged_is_a_row_that_says_so(outputs: Path) -> None:
    folder = RunFolder(outputs, SPLIT)
    folder.certificate.write_text('{"roles": 3}')
    row = load(outputs, "smoke").runs.set_index("run").loc[SPLIT]
    assert row["status"] == "damaged" and str(folder.certificate) in row["message"]
    assert "delete the run's folder to train it again" in row["message"]


def test_code_that_changed_half_way_was_joined_by_a_plus(outputs: Path) -> None:
    path = RunFolder(outputs, SPLIT).certificate
    path.write_text(json.dumps(json.loads(path.read_text()) | {"code": "old+new"}))
    assert Certificate.read(path).code == ("old", "new")


def test_a_choice_of_format_1_is_read(tmp_path: Path) -> None:
    cell = {"trials": 2, "done": 1, "device_seconds": 3.5, "score": 0.5, "chosen": {"a": 1e-3}}
    trial = {"cell": "6+6", "number": 0, "values": {"a": 1e-3}, "run": "r", "status": "done",
             "score": 0.5, "seconds": 3.5}  # fmt: skip
    file = tmp_path / "choice.json"
    file.write_text(
        json.dumps(
            {"score": "val/loss", "note": "n", "digests": {"6+6": "d"}, "cells": {"6+6": cell},
             "trials": [trial]}
        )
    )  # fmt: skip
    choice = TuningChoice.read(file)
    assert choice.cells["6+6"].chosen == {"a": 1e-3} and choice.trials[0].seconds == 3.5


# -- MLflow


def publish_as_before(outputs: Path) -> None:
    """What the publisher of format 1 wrote: protocols in tags, all else of scores in names."""
    client = MlflowClient(tracking_uri=default_uri(outputs))
    experiment = client.create_experiment("smoke", (outputs / "mlartifacts" / "smoke").as_uri())
    parent = client.create_run(experiment, tags={"fuselab.kind": "study"}, run_name="smoke")
    client.log_artifact(parent.info.run_id, str(outputs / "studies" / "smoke" / "study.json"))
    for key in (SPLIT, DUAL):
        folder, run = RunFolder(outputs, key), client.create_run(experiment)
        scored = {path.stem: json.loads(path.read_text()) for path in folder.score_files()}
        values = {
            **{f"final/{t}/{n}": v for t, s in scored.items() for n, v in s["values"].items()},
            **{
                f"level/{task}/{level}/{part}": value
                for task, scores in scored.items()
                for level, parts in scores["levels"].items()
                for part, value in parts.items()
            },
            **{f"ledger/{n}": v for n, v in json.loads(folder.ledger.read_text()).items()},
        }
        tags = {
            **{"fuselab.kind": "run", "fuselab.run": key, "status": "done", "message": ""},
            **{f"protocol.{t}": s["protocol"] for t, s in scored.items() if "protocol" in s},
        }
        client.log_batch(
            run.info.run_id,
            [Metric(name, value, 1_700_000_000_000, 20) for name, value in values.items()],
            tags=[RunTag(name, value) for name, value in tags.items()],
        )
        for path in (folder.certificate, folder.graph, folder.spec):
            client.log_artifact(run.info.run_id, str(path))
        curves = outputs / "curves.parquet"
        record_of(folder).curves.to_parquet(curves, index=False)
        client.log_artifact(run.info.run_id, str(curves))


@pytest.fixture
def with_schema(outputs: Path, schema: bytes) -> Path:
    (outputs / "mlflow.db").write_bytes(schema)
    return outputs


def test_a_store_of_format_1_is_read_with_its_values(with_schema: Path) -> None:
    publish_as_before(with_schema)
    right(load_from_mlflow(default_uri(with_schema), "smoke"))


def test_a_folder_of_format_1_can_be_published(with_schema: Path) -> None:
    assert Lab(with_schema).publish() == ["smoke"]
    right(load_from_mlflow(default_uri(with_schema), "smoke"))
