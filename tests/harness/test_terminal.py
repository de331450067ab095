"""Tables and paragraphs in a terminal: nothing cut, no word broken, no line too wide."""

import re
from collections.abc import Callable

import pytest
from typer.testing import CliRunner

from harness.commands import show, terminal
from harness.commands.main import app
from harness.commands.terminal import console, folded, say, table
from harness.outputs.records import Status, StudyRow

LONG = "split_bert_with_a_long_name text_layers=10 objectives.itm.swap_share=0.5"
"""A cell's name as grids make them."""


def pieces(text: str) -> list[str]:
    """What must stay together: what stands between spaces, `/`, `_`, `=` and dots, in order of
    letters, because a narrow table puts it elsewhere."""
    return sorted(re.findall(r"[^\s/_=.]+", text))


def status() -> None:
    row = StudyRow(
        cell=LONG, role="compared", seed=101, run="5dbdc3aeca76d564", design="split_bert",
        config={}, settings={},
    )  # fmt: skip
    killed = Status(state="interrupted", message="its process was killed", step=151, steps=200)
    show.status([(row, killed), (row.model_copy(update={"cell": "6+6"}), Status())])


def numbers() -> None:
    rows = [(LONG, "retrieval/mean_recall", "-19.11 [-49.15, +10.93]", "75.44 ± 12.03", "0.346")]
    table(("cell", "score", "against control", "own protocol", "p"), rows, words=("score",))


def commanded(*words: str) -> Callable[[], None]:
    def printed() -> None:
        result = CliRunner().invoke(app, list(words))
        assert result.exit_code == 0, result.output
        print(result.output, end="")

    return printed


PRINTED = {
    "designs": commanded("designs"),
    "one design": commanded("designs", "split_bert"),
    "studies": commanded("studies"),
    "status": status,
    "numbers": numbers,
}


@pytest.mark.parametrize("columns", [80, 60, 40])
@pytest.mark.parametrize("what", PRINTED)
def test_what_commands_print_fits_and_breaks_no_word(
    what: str, columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "width", 1000)
    PRINTED[what]()
    wide = capsys.readouterr().out
    monkeypatch.setattr(console, "width", columns)
    PRINTED[what]()
    narrow = capsys.readouterr().out
    assert max(map(len, narrow.splitlines())) <= columns
    # A broken word would be a new piece. A turned table does not name its first column.
    assert set(pieces(narrow)) <= set(pieces(wide))
    assert set(pieces(wide)) - set(pieces(narrow)) <= {"cell", "design", "study"}


def test_a_narrow_table_folds_before_it_is_turned(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [("shallow_fusion swaps", "+8.22 [-10.16, +26.60]", "undecided")]
    shown = {}
    for columns in (51, 44, 20):
        monkeypatch.setattr(console, "width", columns)
        table(("cell", "difference", "verdict"), rows, words=("verdict",))
        shown[columns] = [line.split() for line in capsys.readouterr().out.splitlines()]
    whole = ["shallow_fusion", "+8.22", "[-10.16,", "+26.60]", "undecided"]
    assert shown[51][1:] == [whole, ["swaps"]]
    assert shown[44][1] == ["shallow_", "+8.22", "undecided"]
    assert shown[44][2] == ["fusion", "swaps", "[-10.16,", "+26.60]"]
    assert shown[20][0] == ["shallow_fusion", "swaps"] and ["verdict", "undecided"] in shown[20]


def test_a_word_wider_than_the_terminal_stays_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "width", 20)
    path = "/a" + "b" * 60
    say(f"it lies in {path} now", lead="  ")
    table(("cell", "p"), [(path, 1)])
    assert capsys.readouterr().out.count(path[1:]) == 2
    assert folded("x" * 30, 10) == "x" * 30 and folded("", 10) == ""


def test_a_pipe_gets_one_line_for_each_row() -> None:
    assert terminal.PIPED_COLUMNS == 1000
    lines = CliRunner().invoke(app, ["designs"]).output.splitlines()
    assert sum(line.strip().startswith("bridge ") for line in lines) == 1
