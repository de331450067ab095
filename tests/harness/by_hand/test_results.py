"""Run folders in, tidy tables out: every row there, every column explained, pairing judged."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from architectures.frozen import SettingError
from harness.outputs.files import read_json, write_json
from harness.outputs.folder import RunFolder
from harness.results.folders import load
from harness.results.pairing import Finding, pairing
from harness.results.tables import CURVES, DIGESTS, SCHEMA, Results

ByHand = Callable[..., dict[str, Any]]
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


def test_values_are_where_the_schema_says(mixed: Results) -> None:
    done = mixed.runs[mixed.runs["status"] == "done"].iloc[0]
    assert done["retrieval/i2t_r_at_1"] == 12.5
    assert done["retrieval/protocol"] == "re-ranked"
    assert done["level.validation.itm_accuracy.successes"] == 300
    assert done["ledger.peak_mib"] == 812.5
    assert done["config.text_layers"] == done["text_layers"] == 6
    assert done["set.batch_size"] == 16
    assert done["batches"] == "1-40"
    failed = mixed.runs[mixed.runs["status"] == "failed"].iloc[0]
    assert failed["message"] == "as asked" and np.isnan(failed["retrieval/mean_recall"])


def test_only_what_a_checkpoint_covers_is_read(mixed: Results) -> None:
    failed = mixed.curves[(mixed.curves["cell"] == "6 text layers") & (mixed.curves["seed"] == 0)]
    assert failed["step"].max() == 40
    assert mixed.digests["name"].isin(["40"]).any() and not mixed.digests["name"].eq("50").any()


def test_a_study_of_which_nothing_ran_has_its_columns(tmp_path: Path, by_hand: ByHand) -> None:
    by_hand(tmp_path, states={(n, s): "waiting" for n in (2, 6) for s in (0, 1)})
    empty = load(tmp_path, "by_hand")
    assert len(empty.runs) == 4 and not len(empty.curves)
    assert empty.runs["retrieval/mean_recall"].isna().all()
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


def change(outputs: Path, study: dict[str, Any], row: int, **changes: Any) -> list[Finding]:
    """Findings after parts of one run's certificate or ledger were changed."""
    folder = RunFolder(outputs, study["rows"][row]["run"])
    for name, path in (("certificate", folder.certificate), ("ledger", folder.ledger)):
        if name in changes:
            old = read_json(path)
            for part, value in changes[name].items():
                old[part] = old[part] | value if isinstance(value, dict) else value
            write_json(path, old)
    return [finding for finding in pairing(load(outputs, "by_hand")) if not finding.ok]


def test_paired_runs_are_found_paired(tmp_path: Path, by_hand: ByHand) -> None:
    by_hand(tmp_path)
    found = pairing(load(tmp_path, "by_hand"))
    assert all(finding.ok for finding in found) and len(found) == 2 + 2 + 1 + 1
    assert "5 measured steps" in found[0].text and "2 shared roles" in found[2].text


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"certificate": {"batches": {"20": "x", "30": "y"}}},
            "seed 1: batches differ from step 20",
        ),
        (
            {"certificate": {"roles": {"text.1.weight": "x"}}},
            "seed 1: initial weights differ in 1 role",
        ),
        ({"certificate": {"code": "beef"}}, "different code: c0de: .*; beef: 2 text layers"),
        ({"ledger": {"samples": 700}}, "2 text layers: 670 samples, .* 640"),
    ],
)
def test_what_breaks_the_pairing_is_named(
    tmp_path: Path, by_hand: ByHand, changes: dict[str, Any], said: str
) -> None:
    found = change(tmp_path, by_hand(tmp_path), 1, **changes)
    assert len(found) == 1 and re.search(said, found[0].text), found


def test_half_a_percent_of_the_budget_is_no_difference(tmp_path: Path, by_hand: ByHand) -> None:
    assert change(tmp_path, by_hand(tmp_path), 1, ledger={"samples": 643}) == []


def test_a_head_of_another_width_is_another_head(tmp_path: Path, by_hand: Any) -> None:
    """Its bias has the same size and other bounds, so a difference is none of the pairing."""
    by_hand(tmp_path, layers=(2, 6), seeds=(0,))
    for run, width in zip(sorted((tmp_path / "runs").iterdir()), (64, 128), strict=True):
        certificate = read_json(run / "certificate.json")
        certificate["roles"] = {"words": "same", "itm.weight": run.name, "itm.bias": run.name}
        certificate["sizes"] = {"words": 75, "itm.weight": 2 * width, "itm.bias": 2}
        write_json(run / "certificate.json", certificate)
    found = [finding for finding in pairing(load(tmp_path, "by_hand")) if "initial" in finding.text]
    assert [finding.ok for finding in found] == [True] and "1 shared roles, 23%" in found[0].text


def test_slots_are_paired_by_where_they_start(tmp_path: Path, by_hand: Any) -> None:
    """The same name starts from a pretrained layer in one cell and fresh in the other."""
    by_hand(tmp_path, layers=(2, 6), seeds=(0,))
    one, other = (run / "certificate.json" for run in sorted((tmp_path / "runs").iterdir()))
    copy = {"layers.6": "six", "fusion.0": "six"}
    write_json(one, read_json(one) | {"roles": copy, "drawn_as": {"fusion.0": "layers.6"}})
    for fresh, same in (({"fusion.0": "drawn"}, True), ({"layers.6": "seven"}, False)):
        write_json(other, read_json(other) | {"roles": {"words": "same"} | fresh})
        write_json(one, read_json(one) | {"roles": {"words": "same"} | copy})
        found = [f for f in pairing(load(tmp_path, "by_hand")) if "initial" in f.text]
        assert [finding.ok for finding in found] == [same], found
        assert ("1 shared roles" if same else "differ in 1 roles, layers.6") in found[0].text


def test_the_share_of_paired_parameters_is_said(tmp_path: Path, by_hand: Any) -> None:
    by_hand(tmp_path, layers=(2, 6), seeds=(0,))
    for run, extra in zip(sorted((tmp_path / "runs").iterdir()), ("own.a", "own.b"), strict=True):
        certificate = read_json(run / "certificate.json")
        certificate["roles"] = {"embeddings": "same", extra: run.name}
        certificate["sizes"] = {"embeddings": 75, extra: 25}
        write_json(run / "certificate.json", certificate)
    said = [finding.text for finding in pairing(load(tmp_path, "by_hand"))]
    assert any("1 shared roles, 75% of a cell's parameters or more" in text for text in said)
