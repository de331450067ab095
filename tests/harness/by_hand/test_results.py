"""Run folders in, tidy tables out: every row there, every column explained, pairing judged."""

import dataclasses
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from architectures.frozen import SettingError
from harness.outputs.folder import RunFolder
from harness.outputs.records import Certificate, Environment, LedgerRecord, Role, StudyRecord
from harness.results.folders import load
from harness.results.pairing import Finding, pairing
from harness.results.tables import CURVES, DIGESTS, LEVELS, SCHEMA, SCORES, Results

ByHand = Callable[..., StudyRecord]
Edit = Callable[[RunFolder], None]
STATES = {(2, 0): "waiting", (2, 1): "diverged", (6, 0): "failed"}


@pytest.fixture
def mixed(tmp_path: Path, by_hand: ByHand) -> Results:
    by_hand(tmp_path, states=STATES)
    return load(tmp_path, "by_hand")


def test_every_cell_and_seed_has_a_row(mixed: Results) -> None:
    rows = mixed.runs.set_index(["cell", "seed"])["status"].to_dict()
    assert rows == {
        ("2 text layers", 0): "waiting",
        ("2 text layers", 1): "diverged",
        ("6 text layers", 0): "failed",
        ("6 text layers", 1): "done",
    }


def test_every_column_is_explained_once(mixed: Results) -> None:
    patterns = [re.sub(r"<\w+>", r"[^/<>]+", re.escape(name)) for name in SCHEMA]
    patterns = [p.replace(r"\<", "<") for p in patterns]
    for column in mixed.runs.columns:
        assert any(re.fullmatch(p, column) for p in patterns), column
    assert set(mixed.curves.columns) == set(CURVES)
    assert set(mixed.digests.columns) == set(DIGESTS)
    assert list(mixed.scores.columns) == list(SCORES)
    assert list(mixed.levels.columns) == list(LEVELS)


def test_values_are_where_the_schema_says(mixed: Results) -> None:
    done = mixed.runs[mixed.runs["status"] == "done"].iloc[0]
    score = {"value": 12.5, "protocol": "re-ranked", "unit": "percent", "higher_is_better": True}
    assert one(mixed.scores, run=done["run"], task="retrieval", score="i2t_r_at_1") == score
    level = {"successes": 300, "items": 512, "chance": 2 / 3}
    assert one(mixed.levels, run=done["run"], task="validation", level="itm_accuracy") == level
    assert mixed.values("retrieval/i2t_r_at_1")[done.name] == 12.5
    assert done["ledger.peak_mib"] == 812.5
    assert done["config.text_layers"] == done["text_layers"] == 6
    assert done["set.batch_size"] == 16
    assert done["batches"] == "1-40"
    assert (done["commit"], done["libraries"]) == ("c0ffee+", "python 3.12, torch 2.9")
    assert done["device"] == "cpu: slow, 1 threads"
    failed = mixed.runs[mixed.runs["status"] == "failed"].iloc[0]
    assert failed["message"] == "as asked"
    assert np.isnan(mixed.values("retrieval/mean_recall")[failed.name])


def one(table: pd.DataFrame, **where: object) -> dict[str, object]:
    """The other columns of the one row with these values."""
    fits = table[np.logical_and.reduce([table[name] == value for name, value in where.items()])]
    assert len(fits) == 1
    return fits.drop(columns=list(where)).iloc[0].to_dict()


def test_only_what_a_checkpoint_covers_is_read(mixed: Results) -> None:
    failed = mixed.curves[(mixed.curves["cell"] == "6 text layers") & (mixed.curves["seed"] == 0)]
    assert failed["step"].max() == 40
    assert mixed.digests["name"].isin(["40"]).any() and not mixed.digests["name"].eq("50").any()


def test_a_study_of_which_nothing_ran_has_its_columns(tmp_path: Path, by_hand: ByHand) -> None:
    by_hand(tmp_path, states={(n, s): "waiting" for n in (2, 6) for s in (0, 1)})
    empty = load(tmp_path, "by_hand")
    assert len(empty.runs) == 4 and not len(empty.curves)
    assert empty.values("retrieval/mean_recall").isna().all()
    assert list(empty.scores.columns) == list(SCORES) and not len(empty.scores)
    assert list(empty.levels.columns) == list(LEVELS) and not len(empty.levels)
    assert empty.runs["ledger.samples"].dtype == float
    assert pairing(empty) == []


def test_an_unknown_study_names_the_known(tmp_path: Path, by_hand: ByHand) -> None:
    by_hand(tmp_path)
    with pytest.raises(SettingError, match="did you mean 'by_hand'"):
        load(tmp_path, "byhand")


def test_no_torch_and_no_mlflow_to_read_folders() -> None:
    code = (
        "import sys, harness.results.tables; sys.exit(bool({'torch', 'mlflow'} & set(sys.modules)))"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3]).returncode == 0
    )


# -- pairing


def broken(outputs: Path, study: StudyRecord, edit: Edit) -> list[str]:
    """Findings that do not hold after the files of the second run were changed."""
    edit(RunFolder(outputs, study.rows[1].run))
    return [finding.text for finding in pairing(load(outputs, "by_hand")) if not finding.ok]


def certified(folder: RunFolder, **changed: object) -> None:
    """Writes a run's certificate with other fields."""
    Certificate.read(folder.certificate).model_copy(update=changed).write(folder.certificate)


def other_batches(folder: RunFolder) -> None:
    chains = {20: "x", 30: "y"}
    lines = folder.metric_lines()
    folder.rewrite_metrics(
        dataclasses.replace(line, chain=chains.get(line.step, line.chain)) for line in lines
    )


def other_weights(folder: RunFolder) -> None:
    roles = Certificate.read(folder.certificate).roles
    changed = roles["text.1.weight"].model_copy(update={"digest": "x"})
    certified(folder, roles={**roles, "text.1.weight": changed})


def other_code(folder: RunFolder) -> None:
    certified(folder, code=("beef",))


def other_versions(folder: RunFolder) -> None:
    record = Environment.read(folder.environment)
    record.model_copy(update={"libraries": {"torch": "2.8"}}).write(folder.environment)


def other_device(folder: RunFolder) -> None:
    record = Environment.read(folder.environment)
    record.model_copy(update={"device": "cuda: fast"}).write(folder.environment)


def spent(samples: int) -> Edit:
    """Another number of samples in a run's ledger."""

    def edit(folder: RunFolder) -> None:
        ledger = LedgerRecord.read(folder.ledger).spent
        ledger.samples = samples
        LedgerRecord(spent=ledger).write(folder.ledger)

    return edit


def test_paired_runs_are_found_paired(tmp_path: Path, by_hand: ByHand) -> None:
    by_hand(tmp_path)
    findings = pairing(load(tmp_path, "by_hand"))
    assert all(finding.ok for finding in findings) and len(findings) == 2 + 2 + 1 + 2 + 1
    assert "the first 40 steps" in findings[0].text and "2 shared roles" in findings[2].text
    texts = [finding.text for finding in findings[5:7]]
    assert texts == [
        "all runs were trained under the same versions (python 3.12, torch 2.9)",
        "all runs were trained under the same kind of device (cpu: slow, 1 threads)",
    ]


@pytest.mark.parametrize(
    ("edit", "text"),
    [
        (other_batches, "seed 1: batches differ from step 20"),
        (other_weights, "seed 1: initial weights differ in 1 role"),
        (other_code, "different code: c0de: .*; beef: 2 text layers"),
        (other_versions, r"different versions: .*torch 2\.9: .*; .*torch 2\.8: 2 text layers"),
        (other_device, "different kind of device: cpu: slow, .*; cuda: fast, .*: 2 text layers"),
        (spent(700), "2 text layers: 670 samples, .*: 640"),
    ],
)
def test_what_breaks_the_pairing_is_named(
    tmp_path: Path, by_hand: ByHand, edit: Edit, text: str
) -> None:
    texts = broken(tmp_path, by_hand(tmp_path), edit)
    assert len(texts) == 1 and re.search(text, texts[0]), texts


def test_half_a_percent_of_the_budget_is_no_difference(tmp_path: Path, by_hand: ByHand) -> None:
    assert broken(tmp_path, by_hand(tmp_path), spent(643)) == []


def folders(outputs: Path, by_hand: ByHand) -> list[RunFolder]:
    """Two runs of one seed."""
    return [RunFolder(outputs, row.run) for row in by_hand(outputs, seeds=(0,)).rows]


def same_role(name: str, size: int = 0, digest: str = "same", drawn_as: str = "") -> Role:
    return Role(digest=digest, size=size, drawn_as=drawn_as or name)


def of_weights(outputs: Path) -> list[Finding]:
    """Findings about initial weights."""
    return [f for f in pairing(load(outputs, "by_hand")) if "initial" in f.text]


def test_a_head_of_another_width_is_another_head(tmp_path: Path, by_hand: ByHand) -> None:
    """Its bias has the same size and other bounds, so a difference is none of the pairing."""
    for folder, width in zip(folders(tmp_path, by_hand), (64, 128), strict=True):
        roles = {
            "words": same_role("words", 75),
            "itm.weight": same_role("itm.weight", 2 * width, digest=folder.key),
            "itm.bias": same_role("itm.bias", 2, digest=folder.key),
        }
        certified(folder, roles=roles)
    (finding,) = of_weights(tmp_path)
    assert finding.ok and "1 shared roles, 23%" in finding.text


def test_slots_are_paired_by_where_they_start(tmp_path: Path, by_hand: ByHand) -> None:
    """The same name starts from a pretrained layer in one cell and fresh in the other."""
    one, other = folders(tmp_path, by_hand)
    copied = {
        "words": same_role("words"),
        "layers.6": same_role("layers.6", digest="six"),
        "fusion.0": same_role("fusion.0", digest="six", drawn_as="layers.6"),
    }
    certified(one, roles=copied)
    for name, digest, same in (("fusion.0", "drawn", True), ("layers.6", "seven", False)):
        fresh = {"words": same_role("words"), name: same_role(name, digest=digest)}
        certified(other, roles=fresh)
        (finding,) = of_weights(tmp_path)
        assert finding.ok == same, finding
        assert ("1 shared roles" if same else "differ in 1 roles, layers.6") in finding.text


def test_the_share_of_paired_parameters_is_said(tmp_path: Path, by_hand: ByHand) -> None:
    for folder, own in zip(folders(tmp_path, by_hand), ("own.a", "own.b"), strict=True):
        roles = {
            "embeddings": same_role("embeddings", 75),
            own: same_role(own, 25, digest=folder.key),
        }
        certified(folder, roles=roles)
    (finding,) = of_weights(tmp_path)
    assert "1 shared roles, 75% of a cell's parameters or more" in finding.text
