"""`fuselab data` as a user types it."""

import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from harness.commands.main import app
from harness.commands.show import console
from tests.training.data.conftest import png

SMALL = ("--set", "data.train=60", "--set", "data.val=40", "--set", "data.test=8")

STUDY = """
from harness.study import Budget, Scenes, Study, Variant, Cell

DATA = Scenes(train=48, val=8, test=8)
STUDY = Study(
    name="own",
    question="Which data?",
    cells=(
        Cell(variant=Variant("split_bert"), label="one"),
        Cell(variant=Variant("split_bert"), label="also one"),
        Cell(variant=Variant("split_bert"), settings={"data.train": 64}, label="more"),
    ),
    control="one",
    data=DATA,
)
"""


def said(*words: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["data", *words])
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture
def outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FUSELAB_OUTPUTS", str(tmp_path / "out"))
    monkeypatch.setattr("harness.training.data.scenes.floors._ITEMS", (36, 36))
    monkeypatch.setattr("harness.commands.data.ROWS", 3)
    return tmp_path / "out"


def cells(text: str, label: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.strip().startswith(f"{label}  ")]
    return re.split(r"\s{2,}", line.strip())[1:]


def test_scenes_with_their_floors(outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "width", 80)
    text = said("scenes", *SMALL, "--set", "data.objects=[2,3]", "--set", "data.text.max_tokens=9")
    assert max(map(len, text.splitlines())) <= 80 or "wrote" in text.splitlines()[-1]
    assert cells(text, "pictures") == ["60", "40", "8"]
    assert cells(text, "captions") == ["180", "120", "24"]
    assert cells(text, "captions cut")[0] != "0" and "Note: " in text
    assert cells(text, "entailment")[1:] == ["33.3"] * 3
    assert cells(text, "statements about two pictures")[1:] == ["50.0"] * 3
    assert len(cells(text, "expressions (which box)")) == len(cells(text, "questions")) == 4
    with Image.open(outputs / "data" / "scenes.png") as page:
        assert min(page.size) > 500


def test_a_folder_of_parquet_files_has_its_splits_by_name(outputs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    for name, rows in (("train-0", 9), ("train-1", 9), ("val", 4)):
        columns = {
            "image": [png(len(name) * 100 + row + rows) for row in range(rows)],
            "caption": [f"{name} caption {row}" for row in range(rows)],
        }
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")
    text = said(str(folder), "--set", "data.test_share=0.3")
    train, val, test = map(int, cells(text, "pictures"))
    assert val == 4 and train + test == 18 and test > 0
    assert "on scenes only" in text and (outputs / "data" / "mine.png").is_file()
    alone = said(str(folder / "val.parquet"), "--set", "data.val_share=0.3", "--page",
                 str(tmp_path / "page.svg"))  # fmt: skip
    assert sum(map(int, cells(alone, "pictures"))) == 4 and (tmp_path / "page.svg").is_file()


def test_a_study_whose_cells_differ_shows_each_data(outputs: Path, tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text(STUDY)
    text = said(str(file), "--no-floors", "--set", "data.captions=1")
    assert re.findall("Cells (.*):", text) == ["one, also one", "more"]
    assert re.findall(r"(?m)^ pictures +(\d+)", text) == ["48", "64"]
    assert sorted(page.name for page in (outputs / "data").iterdir()) == ["own-2.png", "own.png"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["scene"], "unknown source 'scene'; did you mean 'scenes'?"),
        (["nowhere.parquet"], "train=nowhere.parquet does not exist"),
        (["scenes", "--set", "data.trainn=3"], "unknown field 'data.trainn'; did you mean"),
        (["scenes", "--page", "page.gif"], "--page page.gif: a picture ends in .png or .svg"),
    ],
)
def test_what_cannot_be_shown_is_said_in_a_line(
    outputs: Path, words: list[str], message: str
) -> None:
    text = said(*words, code=2)
    assert message in text and "Traceback" not in text
    assert not (outputs / "data").exists()


def test_scenes_too_few_for_a_task_say_which(outputs: Path) -> None:
    text = said("scenes", "--set", "data.train=24", "--set", "data.val=2", "--set", "data.test=2")
    assert "No entailment: 2 scenes are too few" in text
    assert "No expressions (which box): expressions tell things of one picture apart" in text


def test_scenes_of_a_difficulty(outputs: Path) -> None:
    text = said("scenes:binding", *SMALL, "--no-floors")
    assert cells(text, "pictures") == ["60", "40", "8"]
    assert (outputs / "data" / "scenes_binding.png").exists()
    assert "did you mean 'binding'" in said("scenes:bindings", code=2)
