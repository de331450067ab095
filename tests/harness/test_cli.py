"""The command line as a user types it."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.cli import app

HEAVY = ("torch", "ray", "optuna", "mlflow", "matplotlib", "timm", "transformers", "pandas")

OWN = """
from harness.study import Budget, Cell, Measure, Scenes, Study, Variant, grid, scale

NANO = scale("nano").model_copy(update={"text_layers": 2, "image_layers": 1})
STUDY = Study(
    name="own",
    question="Does my own file run?",
    cells=grid(Variant("split_bert"), text_layers=(0, 1)),
    control="split_bert text_layers=1",
    backbone=NANO,
    data=Scenes(train=64, val=16, test=16),
    budget=Budget(steps=2),
    batch_size=8,
    seeds=(0, 1),
    measure=Measure(points=1, items=16),
)
"""


def said(*words: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == code, result.output
    return result.output


@pytest.mark.parametrize("words", [["--help"], ["designs"], ["studies"]])
def test_quick_commands_load_nothing_heavy(words: list[str]) -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from harness.cli import app;"
        f"result = CliRunner().invoke(app, {words!r}); assert result.exit_code == 0, result.output;"
        f"print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_designs_and_one_design() -> None:
    assert "split_bert" in said("designs") and "dual_encoder" in said("designs")
    one = said("designs", "split_bert")
    assert "text_layers = 6" in one and "layers.11" in one
    assert "objectives" in said("designs", "--cost")


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["designs", "split_bret"], "did you mean 'split_bert'"),
        (["designs", "--cost", "--scale", "nono"], "did you mean 'nano'"),
        (["plan", "dmo"], "did you mean 'demo'"),
        (["plan", "nowhere/own.py"], "there is no such file"),
        (["plan", "demo", "--set", "batch_sise=4"], "did you mean 'batch_size'"),
        (["plan", "demo", "--set", "batch_size"], "write it as field=value"),
        (["report", "nothing"], "unknown study"),
    ],
)
def test_what_a_user_mistypes_is_said_in_a_line(
    words: list[str], wanted: str, tmp_path: Path
) -> None:
    more = [] if words[0] == "designs" else ["--outputs", str(tmp_path)]
    assert wanted in said(*words, *more, code=2)


def test_a_study_file_that_raises_is_told_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text("from harness.study import Study\n\nSTUDY = Study(name='x', 1 / 0)\n")
    assert f"{file}:3" in said("plan", str(file), code=2).replace("\n", "")
    file.write_text("x = 1\n\ny = x / 0\n")
    assert f"{file}:3: ZeroDivisionError" in said("plan", str(file), code=2).replace("\n", "")
    file.write_text("x = 1\n")
    assert "must define STUDY" in said("plan", str(file), code=2)


@pytest.mark.slow
def test_plan_run_status_report_clean(tmp_path: Path) -> None:
    file, out = tmp_path / "own.py", str(tmp_path / "outputs")
    file.write_text(OWN)
    plan = said("plan", str(file), "--outputs", out)
    assert "4 runs" in plan and "residual SDs" in plan
    assert "4 done" in said("run", str(file), "--local", "--outputs", out)
    assert "4 done" in said("run", str(file), "--local", "--outputs", out)
    assert said("status", str(file), "--outputs", out).count("done") == 4
    report = said("report", "own", "--strict", "--outputs", out)
    page = tmp_path / "outputs" / "reports" / "own" / "page.html"
    assert page.exists() and "undecided" in report
    said("report", "own", "--require-learned", "--outputs", out, code=1)
    again = said("report", "own", "--from-tracking", "--outputs", out)
    assert again.splitlines()[:2] == report.splitlines()[:2]
    weights = list((tmp_path / "outputs" / "runs").glob("*/weights.pt"))
    assert len(weights) == 4
    said("clean", "--outputs", out)
    assert all(w.exists() for w in weights)
    said("clean", "--weights", "--cache", "--outputs", out)
    assert not any(w.exists() for w in weights)
    assert said("status", str(file), "--outputs", out).count("done") == 4


@pytest.mark.slow
def test_only_and_set_choose_runs(tmp_path: Path) -> None:
    file, out = tmp_path / "own.py", str(tmp_path / "outputs")
    file.write_text(OWN)
    common = ["run", str(file), "--local", "--outputs", out, "--set", "seeds=[3]"]
    assert "1 done" in said(*common, "--only", "*=0")
    assert "fits no cell" in said(*common, "--only", "*=7", code=2)
    assert "waiting" in said("status", "own", "--outputs", out)
