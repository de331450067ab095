"""Every record that crosses a process: what is written is read, and what is damaged is named."""

import dataclasses
import json
import math
import time
from pathlib import Path

import pytest
from pydantic import BaseModel

from harness.commands.show import _silent
from harness.endpoint import Endpoint
from harness.outputs.folder import RunFolder
from harness.outputs.measured import MeasuredLine
from harness.outputs.reads import Read, ReadsRecord
from harness.outputs.records import (
    FORMAT,
    Certificate,
    DamagedFile,
    Environment,
    FactsRecord,
    LedgerRecord,
    Record,
    Role,
    ScoresRecord,
    Status,
    StudyRecord,
    StudyRow,
    TuningSpent,
    WeightsRecord,
    read_if_there,
)
from harness.outputs.tuning_records import CellChoice, TrialRecord, TuningChoice
from harness.planning.budgets import StepCost
from harness.planning.extension import Added, Extension
from harness.planning.threads import Threads
from harness.study import Cell, Variant
from harness.training.loop.ledger import Ledger
from harness.training.scoring.contract import Level, Score
from harness.training.settings.matched import Match, matched

STUDY = StudyRecord(
    name="s",
    question="Is it so?",
    control="6+6",
    primary="retrieval/mean_recall",
    margin_declared=False,
    left_over=("b" * 16,),
    matched={"2+10": Match(matched=matched("flops", to="6+6"), ratio=0.99, asked="cd")},
    equal_within=0.5,
    endpoints=(
        Endpoint(score="retrieval/mean_recall", equal_within=0.5),
        Endpoint(score="validation/itm_loss", equal_within=0.1, better="lower"),
    ),
    endpoint_order="ordered",
    alpha=0.01,
    looks=(3, 5),
    axis="text_layers",
    seeds=(3, 4),
    budget_unit="samples",
    rows=(
        StudyRow(
            cell="6+6",
            role="compared",
            seed=3,
            run="0123456789abcdef",
            design="split_bert",
            config={"text_layers": 6, "pooler": False, "places": [1, None]},
            settings={"objectives.mlm.weight": 0.5},
            not_applicable={"itm": "no fusion"},
            tuning=TuningSpent(trials=8, device_seconds=60.5),
        ),
    ),
    notes=("3 captions are cut",),
    settings={"name": "s", "budget": {"steps": 4, "samples": None}},
)
SPENT = Ledger(**{f.name: i + 1 for i, f in enumerate(dataclasses.fields(Ledger))})
EXAMPLES: tuple[Record, ...] = (
    StepCost(unit="flops", amount=2.0, design="split_bert", timed=3, load=1.5, device="cpu"),
    Threads(
        threads=1,
        samples_a_second={1: 5.5, 2: 4.0},
        processors=2,
        design="split_bert",
        load=1.5,
    ),
    Extension(
        added=(
            Added(seeds=(5,), cells=(Cell(variant=Variant("bridge")),), when=1.0, done=2, runs=3),
        )
    ),
    Status(
        state="failed",
        message="why: ü",
        updated=9.5,
        step=3,
        steps=8,
        checkpoint_step=2,
        process="host:1234",
    ),
    LedgerRecord(spent=SPENT),
    Certificate(
        roles={"text.0.weight": Role(digest="ab", size=12, drawn_as="layers.0.weight")},
        code=("old", "new"),
        data="da7a",
        facts=FactsRecord(text_layers=2, fusion_layers=6, image_layers=4, itc_reads="towers"),
        batches={0: "", 10: "c4a1"},
    ),
    Environment(
        commit="c0ffee",
        dirty=True,
        python="3.12",
        libraries={"torch": "2.9"},
        device="cpu: fast",
        threads=2,
        workers=3,
    ),
    ScoresRecord(
        failure="no memory",
        task="retrieval",
        score_key="k",
        protocol="re-ranked",
        scores=(
            Score(name="a", value=12.5, unit="percent", higher_is_better=True, protocol="p"),
            Score(name="b", value=math.inf, unit="nats", higher_is_better=False, protocol="q"),
        ),
        levels=(Level(name="r_at_1", successes=4, items=9, chance=0.25),),
        seconds={"itc": 0.5},
        finetuning="f",
    ),
    WeightsRecord(digest="d"),
    ReadsRecord(
        reads=(Read(date="2026-01-31T12:00:00+00:00", seeds=3, verdicts={"a/b": {"6+6": "equal"}}),)
    ),
    STUDY,
    TuningChoice(
        score="val/loss",
        note="another note",
        digests={"6+6": "d1"},
        cells={"6+6": CellChoice(trials=2, done=1, device_seconds=3.5, score=0.5, chosen={"a": 1})},
        trials=(
            TrialRecord(
                cell="6+6",
                number=1,
                values={"a": 1.0},
                run="r",
                status="diverged",
                score=None,
                seconds=1.5,
            ),
        ),
    ),
)
every_record = pytest.mark.parametrize("record", EXAMPLES, ids=lambda record: type(record).__name__)


def test_every_kind_of_record_has_an_example() -> None:
    assert {type(example) for example in EXAMPLES} == set(Record.__subclasses__())


@every_record
def test_no_field_of_an_example_stands_at_its_default(record: Record) -> None:
    """Else a field that is never written would read back all the same."""
    for name, field in type(record).model_fields.items():
        default = field.get_default(call_default_factory=True)
        assert name == "format" or getattr(record, name) != default, name


@every_record
@pytest.mark.parametrize("durable", [False, True])
def test_every_field_is_written_and_read(record: Record, durable: bool, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.json"
    record.write(path, durable=durable)
    assert type(record).read(path) == record
    assert read_if_there(type(record), path) == record
    content = json.loads(path.read_text())
    assert content["format"] == FORMAT and content.keys() == type(record).model_fields.keys()
    assert type(record).of(record.as_json()) == record
    assert [file.name for file in path.parent.iterdir()] == ["file.json"]


def test_what_is_not_there_is_none_and_no_damage(tmp_path: Path) -> None:
    assert read_if_there(Status, tmp_path / "status.json") is None
    with pytest.raises(FileNotFoundError):
        Status.read(tmp_path / "status.json")


def refused(record: Record, path: Path, content: bytes) -> str:
    """The message of the damage that reading this content must raise."""
    path.write_bytes(content)
    with pytest.raises(DamagedFile) as caught:
        type(record).read(path)
    message = str(caught.value)
    assert caught.value.path == path and message.startswith(f"{path} is damaged (")
    assert message.endswith(f"; {type(record).remedy}") and "\n" not in message
    with pytest.raises(DamagedFile):
        read_if_there(type(record), path)
    return message


@every_record
def test_a_torn_file_is_named_with_what_to_do(record: Record, tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    record.write(path)
    whole = path.read_bytes()
    for length in range(len(whole) - 2):  # the last two are the brace and the line's end
        refused(record, path, whole[:length])


RUBBISH = (
    b"", b" ", b"\x00" * 40, b"\xff\xfe\x00garbage\x80", b"null", b"true", b"3", b'"text"', b"[]",
    b'[{"format": 2}]', b"{", b"NaN", b'{"format": 2}}', b"[" * 100_000, b"9" * 5000,
)  # fmt: skip


@every_record
@pytest.mark.parametrize("content", RUBBISH, ids=lambda content: repr(content[:12]))
def test_what_is_no_record_is_named_with_what_to_do(
    record: Record, content: bytes, tmp_path: Path
) -> None:
    refused(record, tmp_path / "file.json", content)


@every_record
def test_fields_that_lack_are_of_another_type_or_unknown(record: Record, tmp_path: Path) -> None:
    path, whole = tmp_path / "file.json", record.as_json()
    for name, field in type(record).model_fields.items():
        if field.is_required():
            lacking = {key: value for key, value in whole.items() if key != name}
            assert name in refused(record, path, json.dumps(lacking).encode())
        wrong = whole | {name: [{"no": None}]}
        message = refused(record, path, json.dumps(wrong).encode())
        assert name in message
    unknown = json.dumps(whole | {"futur": 1}).encode()
    assert "unknown field of" in refused(record, path, unknown)


@every_record
def test_a_newer_format_is_refused(record: Record, tmp_path: Path) -> None:
    newer = json.dumps(record.as_json() | {"format": FORMAT + 1, "more": 1}).encode()
    message = refused(record, tmp_path / "file.json", newer)
    assert f"format {FORMAT + 1}, but this fuselab reads up to {FORMAT}" in message


def test_a_folder_in_the_place_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(DamagedFile, match=f"{tmp_path} is a folder; delete it"):
        Status.read(tmp_path)


def test_a_run_that_notes_nothing_any_more_is_silent() -> None:
    long_ago = time.time() - 720
    assert Status(state="running", updated=long_ago).silence() == pytest.approx(720, abs=5)
    assert not Status(state="running", updated=time.time() - 9).silence()
    assert not Status(state="done", updated=long_ago).silence()
    shown = _silent(Status(state="running", updated=long_ago))
    assert shown.startswith("silent for 12 min")


# -- the lines of metrics.jsonl

LINE = MeasuredLine(
    step=4, samples=64, seconds=1.5, time=9.25, values={"a": 0.1, "b": math.inf}, chain="c4a1"
)


def folder_with(outputs: Path, *lines: MeasuredLine) -> RunFolder:
    folder = RunFolder(outputs, "k")
    folder.path.mkdir(parents=True)
    for line in lines:
        folder.append_metrics(line)
    return folder


def test_measured_lines_are_written_and_read(tmp_path: Path) -> None:
    first = dataclasses.replace(LINE, step=0, chain="")
    folder = folder_with(tmp_path, first, LINE)
    assert folder.metric_lines() == [first, LINE]
    folder.set_status("running", checkpoint_step=3)
    assert folder.covered_lines() == [first]
    folder.rewrite_metrics([LINE])
    assert folder.metric_lines() == [LINE]
    folder.append_metrics(dataclasses.replace(LINE, values={"a": math.nan}))
    assert math.isnan(folder.metric_lines()[1].values["a"])


def test_a_line_cut_off_at_the_end_is_left_out(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, LINE, LINE)
    whole = folder.metrics.read_bytes()
    first = len(whole) // 2
    for length in range(first, len(whole)):
        folder.metrics.write_bytes(whole[:length])
        assert folder.metric_lines() == [LINE]


@pytest.mark.parametrize("line", [b"{}", b"null", b"", b'{"step": 1', b"\xff\x00", b"[1]"])
def test_a_damaged_line_is_named_with_what_to_do(line: bytes, tmp_path: Path) -> None:
    folder = folder_with(tmp_path, LINE)
    folder.metrics.write_bytes(line + b"\n" + folder.metrics.read_bytes())
    with pytest.raises(DamagedFile, match="delete the run's folder to train it again") as caught:
        folder.metric_lines()
    assert caught.value.path == folder.metrics


@every_record
def test_records_within_refuse_unknown_fields(record: Record, tmp_path: Path) -> None:
    for name, value in vars(record).items():
        changed = record.as_json()
        within = changed[name]
        if isinstance(value, tuple) and isinstance(value[0], BaseModel):
            within[0]["futur"] = 1
        elif isinstance(value, dict) and isinstance(next(iter(value.values())), BaseModel):
            next(iter(within.values()))["futur"] = 1
        elif isinstance(value, BaseModel):
            within["futur"] = 1
        else:
            continue
        refused(record, tmp_path / "file.json", json.dumps(changed).encode())
