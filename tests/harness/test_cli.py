"""The command line as a user types it."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Literal

import pandas as pd
import pytest
import torch
from pydantic import Field
from typer.testing import CliRunner

from architectures import build, registry
from architectures.backbone import scale
from architectures.contract import DesignConfig
from harness.commands.main import app
from harness.commands.show import console
from harness.commands.show_designs import slot_rows
from harness.commands.show_fields import words_of
from harness.outputs.folder import RunFolder, studies
from harness.outputs.reads import read_at
from harness.outputs.tuning_records import TuningChoice
from harness.training.settings.spec import RunSpec

README = Path(__file__).parents[2] / "README.md"
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

PICKY = """
from architectures.designs.dual_encoder import DualEncoder
from architectures.frozen import SettingError

class Picky(DualEncoder):
    \"""Own design of a user.\"""

    name = "picky"
    version = "1"
    Config = DualEncoder.Config

    @classmethod
    def facts(cls, config, backbone):
        raise SettingError("picky: it wants more; take base")
"""


def said(*words: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == code, result.output
    return result.output


@pytest.mark.parametrize("words", [["--help"], ["designs"], ["studies"]])
def test_quick_commands_load_nothing_heavy(words: list[str]) -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from harness.commands.main import app;"
        f"result = CliRunner().invoke(app, {words!r}); assert result.exit_code == 0, result.output;"
        f"print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_designs_and_one_design() -> None:
    assert "split_bert" in said("designs") and "dual_encoder" in said("designs")
    one = said("designs", "split_bert")
    assert "text_layers = 6" in one and "--cost shows its slots" in one


def test_showing_a_design_builds_nothing() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from harness.commands.main import app;"
        "result = CliRunner().invoke(app, ['designs', 'bridge']); assert result.exit_code == 0;"
        f"print([m for m in {HEAVY!r} if m in sys.modules and m != 'torch'])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


@pytest.mark.slow
@pytest.mark.parametrize("size", ["nano", pytest.param("base", marks=pytest.mark.slow)])
def test_the_cost_of_every_design(size: str) -> None:
    shown = words(said("designs", "--cost", "--scale", size))
    assert {line.split()[0] for line in shown if " / " in line} >= set(registry.names())
    assert not any("not at this scale" in line for line in shown)


def words(text: str) -> list[str]:
    """Lines without the padding of columns."""
    return [" ".join(line.split()) for line in text.splitlines()]


def test_a_variant_shows_its_fields_slots_and_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "width", 140)
    changes = ["text_layers=6", "fusion_from=every_other", "cross_every=2", "itc_layer=3"]
    variant = ["designs", "split_bert", *(x for c in changes for x in ("--set", c))]
    shown = words(said(*variant))
    assert "cross_every = 2 (whole number from 1; default 1)" in shown
    assert "itc_layer = 3 (whole number from 0, or null; default null)" in shown
    assert "ITC reads [CLS] after text layer 3" in shown and "ITM, MLM, LM apply" in shown
    shown = words(said(*variant, "--cost"))
    assert "layers.6 layers.1 pretrained" in shown and "layers.11 layers.11 pretrained" in shown
    assert "layers.7.cross_attention, cross_norm - fresh" in shown
    assert not any("layers.6.cross_attention" in line for line in shown)
    assert "split_bert 6 / 6 / 4 2.86 M 338 M itc, itm, mlm" in shown
    assert "image 214 k 7.37 M" in shown and "all 2.86 M 56.9 M" in shown
    dual = words(said("designs", "dual_encoder"))
    assert (
        "ITM, MLM, LM not applicable, because its towers meet only in the contrastive loss" in dual
    )


@pytest.mark.parametrize("name", registry.names())
def test_the_slot_table_has_every_part_of_every_design(name: str) -> None:
    with torch.device("meta"):
        design = build.construct(name, {}, scale("nano"), 50)
    rows = list(slot_rows(design))
    parts = tuple(f"{slot}." for slot, _, _ in rows)
    roles = [role for role, _ in design.named_parameters() if not role.startswith("heads.")]
    assert [role for role in roles if not role.startswith(parts)] == []
    assert all(any(role.startswith(part) for role in roles) for part in parts if part[0] != " ")
    assert all((source == "-") == (starts == "fresh") for _, source, starts in rows)


def test_a_variant_is_drawn(tmp_path: Path) -> None:
    file = tmp_path / "new" / "two.svg"
    out = said("designs", "dual_encoder", "--set", "text_layers=2", "--draw", str(file))
    assert out.split() == ["wrote", str(file)] and "text_layers = 2" in file.read_text()
    assert [path.name for path in file.parent.iterdir()] == ["two.svg"]
    file.unlink()
    both = said("designs", "dual_encoder", "--cost", "--draw", str(file))
    assert "FLOPs/sample" in both and "12 / 0 / 4" in both and file.is_file()


def test_types_of_fields_in_words() -> None:
    class Config(DesignConfig):
        kind: Literal["add", "gated"] = "add"
        share: Annotated[float, Field(gt=0, le=1)] | None = None
        places: tuple[int, ...] = ()

    schema = Config.model_json_schema()["properties"]
    said = {name: words_of(schema[name], {}) for name in ("kind", "share", "places")}
    assert said == {
        "kind": "add, gated",
        "share": "number above 0 to 1, or null",
        "places": "list of (whole number)",
    }


def test_a_design_that_a_scale_cannot_build_keeps_its_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "width", 140)
    monkeypatch.setattr(registry, "_own", {})
    built_in = {"dual_encoder": registry.entry("dual_encoder")}
    monkeypatch.setattr(registry, "names", lambda: {**built_in, **registry._own})
    file = tmp_path / "own.py"
    file.write_text(PICKY)
    shown = " ".join(words(said("designs", "--cost", "--file", str(file))))
    assert "picky - - - not at this scale" in shown and "dual_encoder 12 / 0 / 4" in shown
    assert "picky cannot be built at nano: it wants more; take base" in shown
    assert "picky own Own design of a user." in words(said("designs", "--file", str(file)))
    two = " ".join(words(said("designs", "dual_encoder", "--cost", "--set", "text_layers=2")))
    assert "dual_encoder 12 / 0 / 4" in two and "2 / 0 / 4" in two and "text_layers = 2" in two


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["designs", "split_bret"], "did you mean 'split_bert'"),
        (["designs", "--cost", "--scale", "nono"], "did you mean 'nano'"),
        (["designs", "split_bert", "--set", "text_layer=3"], "did you mean 'text_layers'"),
        (["designs", "split_bert", "--cost", "--set", "text_layer=3"], "did you mean"),
        (
            ["designs", "split_bert", "--set", "text_layers=many"],
            "must be a whole number (given: 'many')",
        ),
        (["designs", "split_bert", "--set", "fusion_from=[1,2]"], "must name 6 layers"),
        (["designs", "--set", "text_layers=3"], "name the design too"),
        (["designs", "split_bert", "--draw", "x.pdf"], "x.pdf: a picture ends in .svg or .png"),
        (["designs", "--draw", "x.svg"], "all designs ends in .md; for a picture name the design"),
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
    assert read_at(tmp_path / "outputs", "own") == (2,)
    said("report", "own", "--require-learned", "--outputs", out, code=1)
    assert "published own" in said("publish", str(file), "--outputs", out)
    again = said("report", "own", "--from-tracking", "--outputs", out)
    assert again.splitlines()[:2] == report.splitlines()[:2]
    weights = list((tmp_path / "outputs" / "runs").glob("*/weights.pt"))
    assert len(weights) == 4
    lines = weights[0].with_name("metrics.jsonl")
    whole = lines.read_text()
    lines.write_text("")
    assert "Left out" in said("report", "own", "--strict", "--outputs", out, code=1)
    lines.write_text(whole)
    said("clean", "--outputs", out)
    assert all(w.exists() for w in weights)
    said("clean", "--weights", "--cache", "--outputs", out)
    assert not any(w.exists() for w in weights)
    assert said("status", str(file), "--outputs", out).count("done") == 4


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_design_of_ones_own_runs_through_ray_to_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The README's, in a folder that has nothing to do with the repository."""
    monkeypatch.setattr(registry, "_own", {})
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    (text,) = (block for block in blocks if "class OneToken" in block)
    file, out = tmp_path / "one_token.py", str(tmp_path / "outputs")
    file.write_text(text)
    small = {
        "data.train": 64,
        "data.val": 16,
        "data.test": 16,
        "budget.samples": 16,
        "batch_size": 8,
        "seeds": [0, 1],
        "measure.points": 1,
        "measure.items": 16,
    }
    changes = [f"{name}={json.dumps(value)}" for name, value in small.items()]
    ran = said("run", str(file), "--outputs", out, *(x for c in changes for x in ("--set", c)))
    assert "4 done" in ran
    report = said("report", str(file), "--strict", "--outputs", out)
    assert "one_token against split_bert: undecided" in report


@pytest.mark.slow
def test_only_and_set_choose_runs(tmp_path: Path) -> None:
    file, out = tmp_path / "own.py", str(tmp_path / "outputs")
    file.write_text(OWN)
    common = ["run", str(file), "--local", "--outputs", out, "--set", "seeds=[3]"]
    assert "1 done" in said(*common, "--only", "*=0")
    assert "fits no cell" in said(*common, "--only", "*=7", code=2)
    assert "waiting" in said("status", "own", "--outputs", out)


@pytest.mark.slow
def test_tune_and_run_tuned_end_to_end(tmp_path: Path) -> None:
    """A study file of one's own: trials, the choice, runs with it, and the report's table of it."""
    file, out = tmp_path / "own.py", tmp_path / "outputs"
    tuning = "    tuning=Tuning(space=SPACE, trials=2, seed=77),\n)"
    space = 'SPACE = {"optimizer.learning_rate": Range(low=1e-4, high=1e-2, log=True)}\n\nSTUDY ='
    text = OWN.replace("import Budget", "import Range, Tuning, Budget").replace("STUDY =", space)
    file.write_text(text.rstrip().removesuffix(")") + tuning)
    words = (str(file), "--local", "--outputs", str(out))
    assert "not tuned: run `fuselab tune own` first" in said("run", *words, "--tuned", code=2)
    shown = said("tune", *words)
    cells = ("split_bert text_layers=0", "split_bert text_layers=1")
    assert shown.count("seed 77: done") == 4 and shown.count("yes") == 2
    choice = TuningChoice.read(out / "studies" / "own" / "tuning" / "choice.json")
    assert set(choice.cells) == set(cells) and len(choice.trials) == 4
    for cell in cells:
        own = [trial for trial in choice.trials if trial.cell == cell]
        best = min(own, key=lambda trial: trial.score)
        assert choice.cells[cell].chosen == best.values and choice.cells[cell].trials == 2
        for trial in own:
            spec = RunSpec.model_validate_json(RunFolder(out, trial.run).spec.read_text())
            assert spec.train.seed == 77 and not spec.asked.tasks
            assert spec.train.optimizer.learning_rate == trial.values["optimizer.learning_rate"]
    before = {path.name for path in (out / "runs").iterdir()}
    assert "4 done" in said("run", *words, "--tuned")
    made = {path.name for path in (out / "runs").iterdir()} - before
    rates = {(row.cell, row.seed): row.run for row in studies(out)["own"].rows}
    assert set(rates.values()) == made and len(made) == 4
    for (cell, _), key in rates.items():
        spec = RunSpec.model_validate_json(RunFolder(out, key).spec.read_text())
        chosen = choice.cells[cell].chosen["optimizer.learning_rate"]
        assert spec.train.optimizer.learning_rate == chosen
    said("report", str(file), "--outputs", str(out))
    folder = out / "reports" / "own"
    assert "<h2>Tuning</h2>" in (folder / "page.html").read_text()
    table = pd.read_csv(folder / "tuning.csv").set_index("cell")
    spent = pd.read_csv(folder / "ledger.csv").set_index("cell")
    for cell in cells:
        kept = choice.cells[cell]
        assert table.loc[cell, "trials"] == table.loc[cell, "done"] == 2
        assert table.loc[cell, "lowest_score"] == pytest.approx(kept.score)
        rate = table.loc[cell, "optimizer.learning_rate"]
        assert rate == pytest.approx(kept.chosen["optimizer.learning_rate"])
        assert spent.loc[cell, "tuning_trials"] == 2  # of the cell, not of each of its two runs
        assert spent.loc[cell, "tuning_seconds"] == pytest.approx(kept.device_seconds)
    # The same again trains nothing, and a changed question is refused.
    assert "4 done" in said("run", *words, "--tuned")
    assert {path.name for path in (out / "runs").iterdir()} == before | made
    changed = said("run", *words, "--tuned", "--set", "batch_size=4", code=2)
    assert "was not tuned with its settings of now" in changed
