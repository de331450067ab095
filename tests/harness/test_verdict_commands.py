"""`fuselab verdict`, its alpha ledger, `compare` and `noise`, over real runs."""

import json
import os
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from architectures.frozen import SettingError
from harness.commands.main import app
from harness.commands.noise import pilot_of
from harness.outputs.folder import study_file
from harness.outputs.reads import read_at
from harness.outputs.records import DamagedFile, StudyRecord
from harness.planning.endpoints import level_of_first
from harness.results import alpha_ledger
from harness.results.alpha_ledger import ask, question_of
from harness.results.folders import load
from harness.study import Endpoint, Study, WarmStart


def said(*words: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == code, result.output
    return result.output


# -- the ledger


def test_a_question_takes_its_share_once(tmp_path: Path) -> None:
    file = tmp_path / "night.jsonl"
    first = ask(file, "a", "d1", 0.1)
    second = ask(file, "b", "d2")
    again = ask(file, "renamed", "d1")
    assert (first.place, second.place, again.place) == (1, 2, 1)
    assert again.repeated and not second.repeated and again.level == first.level
    assert first.level == pytest.approx(0.1 * 6 / 3.14159265**2)
    assert again.left == second.left == pytest.approx(0.1 - first.level - second.level)
    assert len(file.read_text().splitlines()) == 3


def test_declared_questions_have_equal_shares_and_an_end(tmp_path: Path) -> None:
    file = tmp_path / "night.jsonl"
    assert [ask(file, "a", f"d{k}", 0.05, 2).level for k in range(2)] == [0.025, 0.025]
    before = file.read_text()
    with pytest.raises(SettingError, match="all 2 declared questions are asked"):
        ask(file, "a", "d3")
    assert ask(file, "a", "d0").left == 0 and file.read_text() == before


def test_a_rule_never_changes_and_a_damaged_line_is_named(tmp_path: Path) -> None:
    file = tmp_path / "night.jsonl"
    with pytest.raises(SettingError, match="alpha lies between 0 and 1"):
        ask(file, "a", "d", 1.5)
    assert not file.exists()
    ask(file, "a", "d")
    with pytest.raises(SettingError, match=r"--alpha 0.1: .* was begun with 0.05; a rule never"):
        ask(file, "a", "d2", 0.1)
    file.write_text(file.read_text() + '{"study": "b"')
    with pytest.raises(DamagedFile, match=r"night.jsonl line 3 is no JSON; mend the line"):
        ask(file, "a", "d2")
    file.write_text("")
    with pytest.raises(DamagedFile, match="is empty"):
        ask(file, "a", "d2")


def test_an_entry_is_on_the_disk_before_the_verdict_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda number: synced.append(number))
    ask(tmp_path / "night.jsonl", "a", "d")
    assert synced and alpha_ledger.DEFAULT_ALPHA == 0.05


def test_a_question_is_known_by_its_data_and_not_by_its_name(ran: Path) -> None:
    results = load(ran, "tiny")
    scores = ["retrieval/mean_recall"]
    other = load(ran, "tiny")
    other.scores.loc[other.scores["score"] == "mean_recall", "value"] += 1e-9
    assert question_of(results, scores) == question_of(load(ran, "tiny"), scores)
    assert question_of(other, scores) != question_of(results, scores)


# -- verdict


def test_verdict_of_real_runs(ran: Path, tmp_path: Path) -> None:
    place = ["--outputs", str(ran)]
    plain = said("verdict", "tiny", *place, code=3)
    assert plain.startswith("tiny: undecided") and "against k1" in plain
    whole = json.loads(said("verdict", "tiny", "--json", *place, code=3))
    assert whole["ledger"] is None and whole["endpoints"][0]["contrasts"][0]["cell"] == "k2"
    ledger = ["--ledger", str(tmp_path / "night.jsonl")]
    once = json.loads(said("verdict", "tiny", "--json", *ledger, *place, code=3))
    twice = json.loads(said("verdict", "tiny", "--json", *ledger, *place, code=3))
    assert once["endpoints"] == twice["endpoints"] and twice["ledger"]["repeated"]
    level = once["ledger"]["level"]
    assert once["endpoints"][0]["level"] == pytest.approx(1 - level)
    assert once["ledger"]["left"] == twice["ledger"]["left"] == pytest.approx(0.05 - level)
    widths = [
        each["endpoints"][0]["contrasts"][0]["upper"]
        - each["endpoints"][0]["contrasts"][0]["lower"]
        for each in (whole, once)
    ]
    assert widths[1] > widths[0]
    assert "name it too" in said("verdict", "tiny", "--alpha", "0.1", *place, code=2)
    assert "did you mean 'tiny'" in said("verdict", "tinny", *place, code=2)


def test_a_broken_study_costs_nothing(ran: Path, tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    shutil.copytree(ran / "studies", outputs / "studies")
    shutil.copytree(ran / "runs", outputs / "runs", ignore=shutil.ignore_patterns("*.pt", "*.npz"))
    lost = StudyRecord.read(study_file(outputs, "tiny")).rows[0].run
    shutil.rmtree(outputs / "runs" / lost)
    ledger = tmp_path / "night.jsonl"
    words = ["verdict", "tiny", "--ledger", str(ledger), "--outputs", str(outputs)]
    assert "k1, seed 0: waiting" in said(*words, code=1)
    assert json.loads(said(*words, "--json", code=1))["endpoints"] == [] and not ledger.exists()


WAYS_TO_READ = (
    ("verdict", "tiny"),
    ("verdict", "tiny", "--json"),
    ("verdict", "tiny", "--ledger", "NIGHT"),
    ("compare", "tiny", "tiny"),
    ("compare", "tiny:k1", "tiny:k2"),
    ("index",),
)


@pytest.mark.parametrize("words", WAYS_TO_READ)
def test_whoever_shows_verdicts_notes_that_they_were_read(
    words: tuple[str, ...], ran: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reports.index._picture", lambda results: None)
    outputs = tmp_path / "outputs"
    shutil.copytree(ran / "studies", outputs / "studies")
    study_file(outputs, "tiny").with_name("reads.json").unlink(missing_ok=True)
    (outputs / "runs").symlink_to(ran / "runs")
    there = [str(tmp_path / "night.jsonl") if word == "NIGHT" else word for word in words]
    said(*there, "--outputs", str(outputs), code=3 if words[0] == "verdict" else 0)
    assert read_at(outputs, "tiny") == (2,)


# -- compare


def test_compare_runs_variants_and_studies(ran: Path) -> None:
    place = ["--outputs", str(ran)]
    runs = said("compare", "tiny/k1/0", "tiny/k2/0", *place)
    assert "config.text_layers" in runs and "nothing is tested" in runs
    assert "seed" not in runs.split("descriptive")[0]
    variants = said("compare", "tiny:k1", "tiny:k2", *place)
    assert "k2 against k1: undecided" in variants and "config.text_layers" in variants
    assert "retrieval/mean_recall" in variants and "--all" in variants
    assert "retrieval/i2t_r_at_1" in said("compare", "tiny:k1", "tiny:k2", "--all", *place)
    assert "cannot be tested: a floor" in said("compare", "tiny:k2", "tiny:dual_encoder", *place)
    assert "both are the same cell" in said("compare", "tiny:k1", "tiny:k1", *place)
    studies = said("compare", "tiny", "tiny", *place)
    assert "specs are the same" in studies and "1 of 1 verdicts agree" in studies


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("tinny", "tiny"), "did you mean 'tiny'"),
        (("tiny:k3", "tiny:k1"), "unknown cell of study 'tiny' 'k3'; did you mean"),
        (("tiny/k1/7", "tiny/k1/0"), "unknown seed of cell 'k1' '7'"),
        (("tiny", "tiny:k1"), "compare two of a kind"),
    ],
)
def test_what_cannot_be_compared_is_said_in_a_line(
    words: tuple[str, str], message: str, ran: Path
) -> None:
    output = said("compare", *words, "--outputs", str(ran), code=2)
    assert message in output and len(output.strip().splitlines()) == 1


# -- report


def test_an_unknown_format_of_tables_gets_the_nearest(ran: Path) -> None:
    output = said("report", "tiny", "--tables", "markdwn", "--outputs", str(ran), code=2)
    assert "unknown format of --tables 'markdwn'; did you mean 'markdown'" in output


# -- noise


def test_noise_is_about_the_first_endpoint_at_its_share_of_alpha(tiny: Study) -> None:
    ends = tuple(Endpoint(score=score, equal_within=1.0) for score in ("a/b", "c/d"))
    equals = tiny.model_copy(update={"endpoints": ends})
    assert level_of_first(equals) == level_of_first(tiny) / 2
    ordered = equals.model_copy(update={"endpoint_order": "ordered"})
    assert level_of_first(ordered) == level_of_first(tiny)


def test_pilot_seeds_are_none_that_the_study_uses(tiny: Study) -> None:
    assert pilot_of(tiny, "k2", None).seeds == tiny.seeds
    busy = tiny.model_copy(update={"seeds": (100, 102), "warm_start": WarmStart(seed=101)})
    pilot = pilot_of(busy, "dual_encoder", 3)
    assert pilot.seeds == (103, 104, 105) and pilot.name == "tiny_noise"
    assert [cell.role for cell in pilot.cells] == ["compared"]
    with pytest.raises(SettingError, match="did you mean 'k1'"):
        pilot_of(tiny, "k11", None)
    with pytest.raises(SettingError, match="has one seed: give --seeds 3"):
        pilot_of(tiny.model_copy(update={"seeds": (0,)}), "k1", None)


def test_noise_of_runs_that_are_done(
    ran: Path, outputs: Path, schema: bytes, tiny: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(ran / "runs", outputs / "runs")
    (outputs / "mlflow.db").write_bytes(schema)
    monkeypatch.setattr("harness.commands.noise.study_of", lambda name, changes: tiny)
    output = said("noise", "tiny:k2", "--local", "--outputs", str(outputs))
    assert "k2: 2 of 2 seeds done" in output and "it finds the runs done" in output
    first = next(line for line in output.splitlines() if line.split()[:1] == [tiny.primary])
    values = load(ran, "tiny").values(tiny.primary)[load(ran, "tiny").runs["cell"] == "k2"]
    assert float(first.split()[3]) == pytest.approx(values.std(ddof=1), rel=5e-3)
    assert "seconds_" not in output
