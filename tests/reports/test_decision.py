"""What a study decides, for scripts and notebooks."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from harness.results.tables import Results
from reports.build import build
from reports.decision import EXITS, ContrastLine, Decision, EndpointLines, decision
from reports.notebook import StudyView
from tests.reports.conftest import asking, set_scores


def decided(make: Callable[..., Results]) -> Results:
    """A better cell and an equal one."""
    results = make({"6+6": 6.0, "2+10": 2.0, "10+2": 10.0}, control="6+6")
    set_scores(results, "6+6", (50.0, 51.0, 52.0))
    set_scores(results, "2+10", (60.1, 61.0, 61.9))
    set_scores(results, "10+2", (50.1, 51.0, 51.9))
    return results


def test_names_of_fields_stay() -> None:
    """Scripts read them: a name that goes or changes its meaning raises FORMAT."""
    assert list(Decision.__annotations__) == [
        "format", "study", "question", "control", "state", "alpha", "looks", "seeds", "problems",
        "endpoints",
    ]  # fmt: skip
    assert list(EndpointLines.__annotations__) == [
        "endpoint", "order", "higher_is_better", "unit", "equal_within", "level", "residual_sd",
        "detectable", "contrasts",
    ]  # fmt: skip
    assert list(ContrastLine.__annotations__) == [
        "cell", "control", "verdict", "delta", "se", "lower", "upper", "p_adjusted", "seeds",
        "seeds_needed", "hours_needed", "text",
    ]  # fmt: skip
    assert EXITS == {"decided": 0, "broken": 1, "undecided": 3}


def test_a_decided_study(make: Callable[..., Results]) -> None:
    said = decision(decided(make))
    assert said["state"] == "decided" and said["problems"] == []
    (endpoint,) = said["endpoints"]
    assert [(line["cell"], line["verdict"]) for line in endpoint["contrasts"]] == [
        ("2+10", "better"), ("10+2", "equal"),
    ]  # fmt: skip
    assert endpoint["unit"] == "percent" and endpoint["level"] == 0.95
    assert endpoint["contrasts"][0]["delta"] == pytest.approx(10.0)
    assert endpoint["residual_sd"] == pytest.approx(0.0577, abs=1e-3)


def test_one_open_contrast_leaves_a_study_undecided(make: Callable[..., Results]) -> None:
    results = decided(make)
    set_scores(results, "10+2", (49.0, 51.0, 54.5))
    assert decision(results)["state"] == "undecided"


def test_a_lost_run_and_other_batches_break_a_study(
    results: Results, make: Callable[..., Results]
) -> None:
    lost = decision(results)
    assert lost["state"] == "broken" and "10+2, seed 2: diverged" in lost["problems"][0]
    whole = decided(make)
    digests = whole.digests.copy()
    digests.loc[0, "digest"] = "other"
    torn = decision(dataclasses.replace(whole, digests=digests))
    assert torn["state"] == "broken" and "batches differ" in torn["problems"][0]
    alone = decision(make({"6+6": 6.0}, control="6+6"))
    assert alone["problems"] == ["retrieval/mean_recall: no cell can be compared with 6+6"]


def test_what_is_not_known_is_null(make: Callable[..., Results]) -> None:
    one = decision(make({"6+6": 6.0, "2+10": 2.0}, seeds=1, control="6+6"))
    (line,) = one["endpoints"][0]["contrasts"]
    assert line["se"] is line["lower"] is line["p_adjusted"] is None
    assert "NaN" not in json.dumps(one) and one["state"] == "undecided"


@pytest.mark.usefixtures("without_figures")
def test_the_report_holds_the_verdicts(make: Callable[..., Results], tmp_path: Path) -> None:
    results = decided(make)
    folder = build(results, tmp_path / "report").folder
    assert json.loads((folder / "verdicts.json").read_text()) == decision(results)


def test_a_notebook_shows_verdicts_table_and_figures(make: Callable[..., Results]) -> None:
    view = StudyView(asking(decided(make), question="Is <b> better?"))
    shown = view.verdicts.shown
    assert shown["verdict"].tolist() == ["▲ better", "= equal"]
    assert shown["difference"][0].startswith("+10 [+9.")
    page, text = view._repr_html_(), view.verdicts._repr_markdown_()
    assert "Is &lt;b&gt; better?" in page and "<td>2+10</td>" in page and "<b>" not in page
    assert "| retrieval/mean\\_recall | 2+10 | ▲ better |" in " ".join(text.split())
    assert list(view.table["cell"]) == ["6+6", "2+10", "10+2"]
    assert view.verdicts.table["delta"].iloc[0] == pytest.approx(10.0)
    assert view.figure("allocation").axes
    assert "decided" in repr(view)


def test_a_notebook_notes_that_verdicts_were_read_once(make: Callable[..., Results]) -> None:
    reads: list[tuple[int, Mapping[str, Mapping[str, str]]]] = []
    results = dataclasses.replace(decided(make), note_read=lambda *read: reads.append(read))
    view = StudyView(results)
    assert not reads, "nothing is shown yet"
    assert "better" in repr(view) and len(view.table) == 3
    assert reads == [(3, {"retrieval/mean_recall": {"2+10": "better", "10+2": "equal"}})]

    def full(*read: object) -> None:
        raise OSError("no space left")

    with pytest.warns(UserWarning, match="cannot be noted: no space left"):
        assert "better" in repr(StudyView(dataclasses.replace(results, note_read=full)))
