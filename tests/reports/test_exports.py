"""Tables for others: Markdown, LaTeX, parquet."""

import io
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from harness.results.tables import Results
from reports import exports
from reports.build import build

NASTY = "a & b % $5 #1 x_y {z} ~ ^ \\ < > | * `"


def test_every_mark_of_latex_is_escaped_and_signs_are_set_as_mathematics() -> None:
    scores = ["−0.5 ± 0.1", "-3.2 [-4, +1]", "1"]
    table = pd.DataFrame({"cell_a": [NASTY, "[b]", "*"], "score": scores})
    text = exports.latex("all_scores", table)
    header, first, second, third = (line for line in text.splitlines() if line.endswith(r"\\"))
    assert header == r"cell\_a & score \\"
    escaped = (
        r"a \& b \% \$5 \#1 x\_y \{z\} \textasciitilde{} \textasciicircum{} \textbackslash{} $<$ "
        r"$>$ \textbar{} * ` & $-$0.5 $\pm$ 0.1 \\"
    )
    assert first == escaped
    assert second == r"{}[b] & $-$3.2 [$-$4, +1] \\"  # a bracket after a row's end is an argument
    assert third == r"{}* & 1 \\"
    assert text.count(r"\begin") == text.count(r"\end") == 2
    assert [w for w in re.findall(r"\\(\w+rule)", text)] == ["toprule", "midrule", "bottomrule"]
    assert r"\begin{tabular}{lr}" in text and r"\label{tab:all-scores}" in text


def test_a_cell_of_markdown_stays_one_cell() -> None:
    table = pd.DataFrame({"cell": [NASTY, "two\nlines [a](http://b)"], "n": ["3", "–"]})
    lines = exports.markdown("any", table).splitlines()
    assert [len(re.findall(r"(?<!\\)\|", line)) for line in lines] == [3] * 4
    assert "a &amp; b % $5 #1 x\\_y {z} \\~ ^ \\\\ \\< > \\| \\* \\`" in lines[2]
    assert "two lines [a]\\(http://b)" in lines[3]
    assert lines[1].split("|")[2].strip().endswith(":")  # numbers to the right
    assert len(set(map(len, lines))) == 1


def test_parquet_holds_values_of_several_kinds() -> None:
    table = pd.DataFrame({"x": [1.5, np.nan], "mixed": [[1, 2], None], "kinds": ["a", 2]})
    back = pd.read_parquet(io.BytesIO(exports.parquet(table)))
    assert back["x"].tolist()[0] == 1.5 and json.loads(back["mixed"][0]) == [1, 2]
    assert back["mixed"].isna()[1] and back["kinds"].tolist() == ['"a"', "2"]
    assert exports.parquet(pd.DataFrame({"empty": []}))


@pytest.mark.usefixtures("without_figures")
def test_a_report_has_its_tables_in_every_format(results: Results, tmp_path: Path) -> None:
    folder = build(results, tmp_path / "report", formats=("markdown", "latex")).folder
    names = {path.stem for path in folder.glob("*.csv")}
    assert {"comparison", "runs", "scores", "levels", "curves"} <= names
    short = {name for name in names if len(pd.read_csv(folder / f"{name}.csv")) <= exports.LONGEST}
    assert {path.stem for path in folder.glob("*.md")} == short >= {"comparison", "learned"}
    assert {path.stem for path in folder.glob("*.tex")} == short
    curves = pd.read_parquet(folder / "curves.parquet")
    pd.testing.assert_frame_equal(curves, results.curves, check_dtype=False)
    assert "| 6+6 " in (folder / "comparison.md").read_text()
    plain = build(results, tmp_path / "plain").folder
    assert not list(plain.glob("*.md")) and (plain / "runs.parquet").is_file()


def test_an_unknown_format_is_refused_before_anything_is_written(
    results: Results, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="unknown format 'word' of tables; known: markdown, latex"):
        build(results, tmp_path / "report", formats=("word",))
    assert not list(tmp_path.iterdir())
