"""Documents that cannot lie: maps, recipes, examples and commands are held against the tree."""

from __future__ import annotations

import ast
import doctest
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import harness.training.tasks
import reports.figures
from architectures import build, exported, registry
from architectures.backbone import scale
from architectures.contract import FusionDesign
from architectures.downstream.record import TaskRecord
from architectures.frozen import SettingError
from docs.map import BEGIN, END, OTHERS, lines, mapped, placed, purpose
from docs.rooms import modules
from harness.commands.main import app
from harness.commands.show import COMPARED
from harness.planning.plan import plan
from harness.planning.shelf import load
from harness.study import ITC, Objectives, Scenes, Study
from harness.training.data.corpus import Corpus, load_corpus
from harness.training.data.transforms import pixels
from harness.training.data.wordpiece import train_wordpiece
from harness.training.randomness import stream
from harness.training.scoring import registry as tasks
from harness.training.settings import tasks as task_settings
from reports.gallery import pictures

ROOT = Path(__file__).parent.parent
PAGE, README, LOG = (ROOT / name for name in ("CONTRIBUTING.md", "README.md", "LOG.md"))
NANO = scale("nano").model_copy(update={"text_layers": 3, "image_layers": 1})


def blocks(page: Path, language: str = "") -> list[str]:
    """The fenced blocks of a page in a language; empty: those that name none."""
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)
    return [text for name, text in fences if name == language]


def block(page: Path, holds: str) -> str:
    """The one python block that holds some words."""
    (text,) = (each for each in blocks(page, "python") if holds in each)
    return text


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


# -- the map


def test_the_map_has_a_line_for_every_file_and_none_besides() -> None:
    written = PAGE.read_text().partition(BEGIN)[2].partition(END)[0].strip().splitlines()[1:-1]
    there, tree = set(written), set(lines())
    assert not tree - there, "missing or changed lines: say `make rooms`"
    assert not there - tree, "stale lines: say `make rooms`"
    assert placed(PAGE.read_text()) == PAGE.read_text(), "the order differs: say `make rooms`"


def test_every_file_says_what_it_is_for() -> None:
    assert {path.relative_to(ROOT).as_posix() for path in modules().values()} <= set(mapped())
    silent = [name for name in mapped() if name not in OTHERS and not purpose(ROOT / name)]
    assert not silent, "a file begins with a docstring"


def test_a_map_without_its_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="marks"):
        placed("# Contributing\n")


# -- recipes of CONTRIBUTING


@pytest.fixture
def own_designs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Designs of files that a test loads are forgotten when it ends."""
    monkeypatch.setattr(registry, "_own", {})


def built(name: str, **fields: int) -> FusionDesign:
    def draw(role: str) -> np.random.Generator:
        return stream(0, "recipe", role)

    return build.design(name, fields, NANO, 512, draw=draw).eval()


@pytest.mark.parametrize(
    ("holds", "folder"),
    [
        ("class AddedPicture(TwoTowers)", "architectures/designs"),
        ('name="one_vector"', "studies"),
        ("def refuse(", "harness/training/tasks"),
        ("NEEDS", "reports/figures"),
    ],
)
def test_recipes_pass_the_lint_where_they_go(holds: str, folder: str) -> None:
    lint = [sys.executable, "-m", "ruff", "check", f"--stdin-filename={folder}/own.py", "-"]
    said = subprocess.run(
        lint, input=block(PAGE, holds), cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert said.returncode == 0, said.stdout


def test_the_design_of_the_recipe_fuses(tmp_path: Path, own_designs: None) -> None:
    file = tmp_path / "added_picture.py"
    file.write_text(block(PAGE, "class AddedPicture(TwoTowers)"))
    registry.load_file(file)
    design = built("added_picture", text_layers=1)
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    ids = torch.arange(24).view(4, 6) + 4
    real = torch.arange(6) < torch.tensor([6, 3, 5, 4])[:, None]
    ids = ids.where(real, 0)
    with torch.no_grad():
        image, text = design.encode_image(images), design.encode_text(ids, real)
        whole = design.fuse(image, text)
        packed = design.fuse(image, design.encode_text(ids, real, packed=True))
        read = design.fuse(image, text, read_at_BR=torch.tensor([[1, 2]] * 4))
        swapped = design.fuse(image.take(torch.tensor([1, 2, 3, 0])), text)
    assert whole.text_BRD.shape == (4, 6, 64) and whole.pooled_BD.shape == (4, 64)
    torch.testing.assert_close(packed.text_BRD[real], whole.text_BRD[real])
    torch.testing.assert_close(read.text_BRD, whole.text_BRD[:, 1:3])
    assert ((swapped.pooled_BD - whole.pooled_BD).abs().amax(1) > 1e-4).all()
    assert set(design.heads) == {"itc", "itm", "mlm"}
    with pytest.raises(SettingError, match="take 0 to 3"):
        built("added_picture", text_layers=4)
    with pytest.raises(TypeError, match="no layer is left above the text"):
        alone = built("added_picture", text_layers=3)
        alone.fuse(image, text)


def test_the_study_of_the_recipe_plans(tmp_path: Path) -> None:
    file = tmp_path / "one_vector.py"
    file.write_text(block(PAGE, 'name="one_vector"'))
    study = load(str(file), tmp_path)
    assert study.file == str(file)
    assert len(plan(study, tmp_path).rows) == 3 * 2
    text = file.read_text()
    assert all(part in text for part in ("Guess:", "Cost:", "Command:"))


@pytest.fixture
def own_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The recipe's task, as if its two parts stood where the recipe puts them."""
    exec(block(PAGE, "class OwnOrNext(TaskSettings)"), vars(task_settings))
    (tmp_path / "own_or_next.py").write_text(block(PAGE, "def refuse("))
    monkeypatch.setattr(tasks, "TASKS", tmp_path)
    paths = [*harness.training.tasks.__path__, str(tmp_path)]
    monkeypatch.setattr(harness.training.tasks, "__path__", paths)
    task = tasks.find("own_or_next")
    monkeypatch.delitem(sys.modules, task.__name__)
    settings = task_settings.OwnOrNext()  # type: ignore[attr-defined]
    assert settings.title == "own_or_next"
    del task_settings.OwnOrNext  # type: ignore[attr-defined]
    return SimpleNamespace(module=task, settings=settings)


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return load_corpus(Scenes(train=48, val=16, test=16), 32, tmp_path / "cache")


def test_the_task_of_the_recipe_is_found_and_scores(
    own_task: SimpleNamespace, corpus: Corpus
) -> None:
    task, device = own_task.module, torch.device("cpu")
    assert tasks.names() == ["own_or_next"] and task.VERSION == "1"
    design = built("split_bert", text_layers=1)
    facts = design.facts(design.config, design.backbone)
    assert task.why_not(facts, Objectives()) == ""
    assert "off" in task.why_not(facts, Objectives(itc=ITC(weight=0)))
    task.refuse(facts, Objectives(), corpus, own_task.settings)
    result = task.score(design, corpus, own_task.settings, device)
    right = result.predictions["right"]
    assert set(np.unique(right)) <= {0.0, 0.5, 1.0} and 8 < len(right) <= 16


def test_a_constant_scorer_of_the_recipes_task_earns_chance(
    own_task: SimpleNamespace, corpus: Corpus
) -> None:
    design = built("split_bert", text_layers=1)
    for linear in (design.heads["itc"].image, design.heads["itc"].text):
        linear.weight.data.zero_()
        linear.bias.data.fill_(1.0)
    result = own_task.module.score(design, corpus, own_task.settings, torch.device("cpu"))
    assert (result.predictions["right"] == 0.5).all()


def test_the_figure_of_the_recipe_draws_its_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "by_seed.py").write_text(block(PAGE, 'TITLE = "Scores by seed"'))
    monkeypatch.setattr(reports.figures, "__path__", [str(tmp_path)])
    (picture,) = pictures()
    monkeypatch.delitem(sys.modules, "reports.figures.by_seed")
    table = pd.DataFrame(
        {
            "cell": ["6+6", "6+6", "10+2", "10+2"],
            "seed": [1, 0, 0, 1],
            "score": [3.0, 2.0, 5.0, np.nan],
            "score_name": "retrieval/mean_recall",
            "role": "compared",
            "marker": ["o", "o", "s", "s"],
            "colour": ["#0072B2", "#0072B2", "#D55E00", "#D55E00"],
        }
    )
    figure = picture.drawn(table)
    (ax,) = figure.axes
    drawn = {line.get_label(): line for line in ax.lines}
    assert drawn["6+6"].get_xdata().tolist() == [0, 1]
    assert drawn["6+6"].get_ydata().tolist() == [2.0, 3.0]
    assert drawn["10+2"].get_color() == "#D55E00"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("seed", "retrieval mean recall")
    assert picture.caption(table)


# -- examples of README

UNRUN = {
    'exported.load("my_model")': "needs an exported run",
    'Predictor.open("my_vqa")': "needs exported runs: a test below makes them",
    "lab.run(STUDY)": "trains the demo",
    'view.figure("allocation")': "reads a finished study: test_real_results.py runs it",
}
"""Words of a block -> why a test only resolves its imports."""


@pytest.mark.parametrize("text", blocks(README, "python"), ids=lambda text: text.split("\n")[0])
def test_every_example_of_the_readme_runs(text: str, tmp_path: Path, own_designs: None) -> None:
    if any(words in text for words in UNRUN):
        resolve_imports(text)
        return
    file = tmp_path / "example.py"
    file.write_text(text)
    module = registry.load_file(file)
    if "STUDY = " in text:
        assert isinstance(module.STUDY, Study)


def resolve_imports(text: str) -> None:
    """Compiles a text, imports what it imports, and finds what it takes from there."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            [importlib.import_module(alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = importlib.import_module(str(node.module))
            for alias in node.names:
                if not hasattr(module, alias.name):
                    importlib.import_module(f"{node.module}.{alias.name}")


def test_a_reason_not_to_run_an_example_is_still_needed() -> None:
    for words in UNRUN:
        assert sum(words in text for text in blocks(README, "python")) == 1


def test_the_design_of_the_readme_is_built(tmp_path: Path, own_designs: None) -> None:
    file = tmp_path / "one_token.py"
    file.write_text(block(README, "class OneToken"))
    registry.load_file(file)
    design = built("one_token", text_layers=1)
    assert design.encode_image(torch.zeros(2, 3, 32, 32)).distinct_UPD.shape == (2, 1, 64)


def test_the_pictures_of_the_readme_are_asked_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    tokenizer = train_wordpiece(["what is a red pan on a lawn ?"], 60)
    answers = ("a pan", "no", "the lawn", "yes")
    task = TaskRecord(name="vqa", title="vqa", form="classifier", labels=answers)
    for folder, its in {"my_vqa": task, "my_model": None}.items():
        (tmp_path / folder).mkdir()
        design = build.design(
            "split_bert", {"text_layers": 1}, NANO, tokenizer.vocabulary,
            draw=lambda role: stream(0, "readme", role),
        )  # fmt: skip
        exported.write(
            tmp_path / folder,
            its.model(design) if its else design,
            tokenizer=tokenizer.for_transformers(),
            pixels=pixels(Scenes(), 3),
            about={"caption_tokens": 12},
            task=its,
        )
    for name in ("kitchen.jpg", "garden.jpg"):
        Image.new("RGB", (40, 30), "red").save(name)
    exec(block(README, 'Predictor.open("my_vqa")'), {})
    *of_vqa, match, order = capsys.readouterr().out.splitlines()
    assert len(of_vqa) == 2 and all(line.startswith(answers) for line in of_vqa)
    assert match.startswith("[0.") and order in ("[[0 1]]", "[[1 0]]")


def commands(page: Path) -> Iterator[list[str]]:
    """Every command of a page's console blocks, comments left out."""
    for text in [*blocks(page), *blocks(page, "sh"), *blocks(page, "console")]:
        for line in text.splitlines():
            for command in line.partition("#")[0].split("&&"):
                if command.split()[:1] in (["fuselab"], ["make"]):
                    yield command.split()


def in_the_prose(page: Path) -> Iterator[list[str]]:
    """Every command that stands in the running text between backticks."""
    for code in re.findall(r"`([^`]+)`", prose(page)):
        if code.split()[:1] in (["fuselab"], ["make"]) and len(code.split()) > 1:
            yield code.split()


@pytest.mark.parametrize("page", [README, PAGE], ids=lambda page: page.name)
def test_every_command_exists_with_its_options(page: Path) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    spoken = [*commands(page), *in_the_prose(page)]
    assert len(spoken) > 3
    for program, word, *rest in spoken:
        if program == "make":
            assert word in targets, f"{page.name}: make {word}"
            continue
        asked = [] if word == "--help" else [word]
        answer = CliRunner().invoke(app, [*asked, "--help"], env={"COLUMNS": "200"})
        assert answer.exit_code == 0, f"{page.name}: fuselab {word}"
        for option in (part for part in rest if part.startswith("--")):
            assert option in answer.output, f"{page.name}: fuselab {word} {option}"


def test_the_comparison_of_the_readme_has_the_columns_of_the_terminal() -> None:
    (text,) = (each for each in blocks(README) if each.startswith(" cell"))
    header, *rows = text.splitlines()
    columns = [name for name in COMPARED.values() if name != "own protocol"]  # one score alone
    assert re.split(r"\s{2,}", header.strip()) == columns
    demo = importlib.import_module("studies.demo").STUDY
    assert [row.split()[0] for row in rows] == [cell.name for cell in demo.cells]
    assert all(len(re.split(r"\s{2,}", row.strip())) == len(columns) for row in rows)


def test_links_lead_to_files() -> None:
    for page in (README, PAGE):
        words = re.sub(r"`[^`]*`", "", prose(page))
        for target in re.findall(r"\]\((?!http)([^)#]+)", words):
            assert (ROOT / target).exists(), f"{page.name}: {target}"


# -- doctests


@pytest.mark.parametrize(
    "name", [name for name, file in modules().items() if ">>>" in file.read_text()]
)
def test_examples_in_docstrings(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted and not result.failed


# -- the log


def test_the_log_is_dated_and_narrow() -> None:
    written = LOG.read_text().splitlines()
    wide = [number for number, line in enumerate(written, 1) if len(line) > 100]
    assert not wide, f"LOG.md: lines {wide} have more than 100 columns"


def test_every_entry_of_the_log_has_a_date_a_title_and_a_verdict() -> None:
    titles = re.findall(r"^### (.*)$", LOG.read_text(), re.MULTILINE)
    assert len(titles) > 50
    wrong = [t for t in titles if not re.fullmatch(r"\d{4}-\d\d-\d\d: .+ \(.+\)", t)]
    assert not wrong, "write `### YYYY-MM-DD: what was tried (verdict)`"
    for chapter in re.split(r"^## .*$", LOG.read_text(), flags=re.MULTILINE)[1:]:
        assert chapter.strip().startswith("### "), "an entry begins with its heading"
