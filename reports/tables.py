"""The report's tables: numbers for CSV files, and the same as text for page and terminal.

`comparison`, `ledger`, `scores`, `tuning_choices` and `analysis.learned` give plain numbers under
plain column names; `shown` turns any of them into text under headings.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import pandas as pd

from harness.results.tables import CellChoice, Results
from harness.statistics.blocked import Contrast
from reports.analysis import Answer
from reports.drawing import counted, in_words

NOT_KNOWN = pd.Series(dtype=float)
"""A column that a table of before does not have."""
Row = dict[str, str | float]
"""Column -> its value in one row."""
COSTS = {
    "parameters": "ledger.parameters",
    "flops_per_sample": "ledger.flops_per_sample",
}
ONCE = ("tuning_trials", "tuning_seconds")
"""Spent for a cell as a whole, not for each of its seeds."""
LEDGER = (
    "steps", "samples", "text_tokens", "image_tokens", "flops", "train_seconds", "device_seconds",
    "peak_mib", "energy_joules", "parameters", "trainable", "flops_per_sample", "forward_flops",
)  # fmt: skip
ADDED = (
    "steps", "samples", "text_tokens", "image_tokens", "flops", "train_seconds", "device_seconds",
    "finetuning_flops", "finetuning_seconds", "energy_joules", "attempts",
)  # fmt: skip
"""What adds up over runs."""


def comparison(results: Results, answer: Answer) -> pd.DataFrame:
    """One row per cell: seeds, failures, scores, the contrast with its verdict, and costs.

    Scores are means and SDs over finished runs: `score` by the design's own protocol, and beside it
    every score that varies the primary one (`..._itc`: ITC alone, `..._reranked`). Costs carry
    their ratio to the control's.
    """
    contrasts = {contrast.design: contrast for contrast in answer.analysis.contrasts}
    primary = _variants(results, answer.primary)
    rows = [
        _counts(group)
        | _scores(group, primary)
        | _contrast(str(cell), contrasts, answer)
        | _costs(group)
        for cell, group in results.runs.groupby("cell", sort=False)
    ]
    table = pd.DataFrame(rows)
    control = table.loc[table["cell"] == answer.analysis.control].iloc[0]
    for name in COSTS:
        place = list(table.columns).index(name) + 1
        table.insert(place, f"{name}_ratio", table[name] / control[name])
    return table


def _variants(results: Results, primary: str) -> pd.DataFrame:
    """The primary score and those that vary it, a row a run: name, value, protocol."""
    task, _, score = primary.partition("/")
    scores = results.scores[results.scores["task"] == task]
    names = scores["score"]
    own = scores[(names == score) | names.str.startswith(f"{score}_")]
    return own.assign(name="score" + own["score"].str.removeprefix(score))


def _counts(runs: pd.DataFrame) -> Row:
    status = runs["status"].value_counts(sort=False)
    failed = [f"{count} {name}" for name, count in status.items() if name != "done"]
    return {
        "cell": runs["cell"].iloc[0],
        "role": runs["role"].iloc[0],
        "seeds_done": int((runs["status"] == "done").sum()),
        "seeds_asked": len(runs),
        "not_done": ", ".join(failed),
    }


def _scores(runs: pd.DataFrame, primary: pd.DataFrame) -> Row:
    """`primary`: what `_variants` gives."""
    done = runs.loc[runs["status"] == "done", ["run"]].merge(primary, on="run")
    columns: Row = {}
    for name in primary["name"].unique() if len(primary) else ("score",):
        values = done.loc[done["name"] == name, "value"] if len(done) else done["value"]
        columns |= {name: values.mean(), f"{name}_sd": values.std(ddof=1)}
    own = done.loc[done["name"] == "score", "protocol"] if len(done) else done["protocol"]
    columns["protocol"] = ", ".join(own.unique())
    return columns


def _contrast(cell: str, contrasts: Mapping[str, Contrast], answer: Answer) -> Row:
    names = ("delta", "lower", "upper", "p_adjusted")
    contrast = contrasts.get(cell)
    numbers = {name: getattr(contrast, name) if contrast else math.nan for name in names}
    return numbers | {"verdict": _verdict(cell, contrast, answer)}


def _verdict(cell: str, contrast: Contrast | None, answer: Answer) -> str:
    if cell in answer.floors:
        return "floor, not tested"
    if cell == answer.analysis.control:
        return "control"
    if contrast is None:
        return "no score to compare"
    verdict = answer.verdicts[cell]
    return f"undecided: {verdict.short}" if verdict.kind == "undecided" else verdict.short


def _costs(runs: pd.DataFrame) -> Row:
    done = runs[runs["status"] == "done"]
    return {name: done[column].mean() for name, column in COSTS.items()}


def ledger(runs: pd.DataFrame) -> pd.DataFrame:
    """One row per cell: what a finished run spent on average, attempts in all, and what
    tuning the cell cost."""
    rows = []
    for cell, group in runs.groupby("cell", sort=False):
        done = group[group["status"] == "done"]
        means = {name: done.get(f"ledger.{name}", NOT_KNOWN).mean() for name in LEDGER}
        sums = {"attempts": group["ledger.attempts"].sum()}
        sums |= {name: group[f"ledger.{name}"].max() for name in ONCE}
        rows.append({"cell": cell, "runs": len(done)} | means | sums)
    table = pd.DataFrame(rows)
    measured = table["energy_joules"].notna().any()  # most machines do not tell it
    return table if measured else table.drop(columns="energy_joules")


def study_ledger(runs: pd.DataFrame) -> pd.DataFrame:
    """One row for the whole study: what all its runs spent in all, whatever became of them, and
    its tuning. A run that two cells share counts once."""
    each = runs.drop_duplicates("run")
    sums = {name: each.get(f"ledger.{name}", NOT_KNOWN).sum(min_count=1) for name in ADDED}
    tuning = {name: runs.groupby("cell")[f"ledger.{name}"].max().sum() for name in ONCE}
    done = int((each["status"] == "done").sum())
    row = {"runs_done": done, "runs_asked": len(each)} | sums | tuning
    table = pd.DataFrame([row])
    return table if math.isfinite(row["energy_joules"]) else table.drop(columns="energy_joules")


def scores(results: Results) -> pd.DataFrame:
    """Every task's every score: mean and SD over the finished runs of each cell."""
    done = results.runs.loc[results.runs["status"] == "done", ["cell", "run"]]
    every = done.merge(results.scores, on="run")
    names = sorted((every["task"] + "/" + every["score"]).unique(), key=counted)
    rows = []
    for cell in results.runs["cell"].unique():
        own = every[every["cell"] == cell]
        values = own.groupby(own["task"] + "/" + own["score"])["value"]
        means, spread = values.mean(), values.std(ddof=1)
        row: Row = {"cell": cell}
        for name in names:
            row |= {name: means.get(name, math.nan), f"{name}_sd": spread.get(name, math.nan)}
        rows.append(row)
    return pd.DataFrame(rows)


def tuning_choices(tuning: Mapping[str, CellChoice]) -> pd.DataFrame:
    """One row per cell: trials made and done, what they cost, the lowest score and its settings."""
    rows = [
        {"cell": cell}
        | {name: getattr(choice, name) for name in ("trials", "done", "device_seconds")}
        | {"lowest_score": choice.score, **choice.chosen}
        for cell, choice in tuning.items()
    ]
    return pd.DataFrame(rows)


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """A table of this room as text under headings: mean ± SD and interval in one column each."""
    texts: dict[str, list[str]] = {}
    variants = [
        name for name in map(str, table) if name.startswith("score_") and name != "score_sd"
    ]
    headings = HEADINGS if variants else {**HEADINGS, "score": "score"}
    for column in table.columns:
        if column in JOINED or (column.endswith("_sd") and column[:-3] in table):
            continue
        cells = [_text(row, column) for row in table.to_dict("records")]
        texts[headings.get(column, in_words(column))] = cells
    return pd.DataFrame(texts)


def _text(row: dict[Hashable, Any], column: str) -> str:
    value = row[column]
    if isinstance(value, str):
        return value
    if isinstance(value, bool) and column != "ok":
        return "yes" if value else "no"
    if isinstance(value, bool):
        blind = column == "ok" and str(row["level"]).endswith("blind_floor")
        return "yes" if value else "NO: not evidence of binding" if blind else "NO"
    if value is None or not math.isfinite(value):
        return "–"
    if column == "seeds_done":
        more = f" ({row['not_done']})" if row["not_done"] else ""
        return f"{value} of {row['seeds_asked']}{more}"
    if column == "delta":
        return with_interval(value, row["lower"], row["upper"])
    if f"{column}_sd" in row:
        sd = row[f"{column}_sd"]
        places = _places(sd)
        return f"{value:.{places}f}" + (f" ± {sd:.{places}f}" if math.isfinite(sd) else "")
    text = FORMATS.get(column, _number)(value)
    ratio = row.get(f"{column}_ratio", math.nan)
    return f"{text} (×{ratio:.2f})" if math.isfinite(ratio) else text


def with_interval(delta: float, lower: float, upper: float) -> str:
    """A difference with its interval where there is one, to the digits that the interval allows."""
    places = _places(upper - lower)
    interval = f" [{lower:+.{places}f}, {upper:+.{places}f}]"
    return f"{delta:+.{places}f}" + (interval if math.isfinite(lower) else "")


def _places(spread: float) -> int:
    """Returns how many decimals show a spread by two digits; two at least."""
    if not math.isfinite(spread) or spread <= 0:
        return 2
    return max(2, 1 - math.floor(math.log10(spread)))


def _number(value: float) -> str:
    """At least three digits, and a unit prefix from ten thousand on: 12.3 M."""
    if abs(value) < 10_000:
        whole = abs(value) >= 100 or float(value).is_integer()
        return f"{value:.0f}" if whole else f"{value:.3g}"
    for prefix, size in (("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= size:
            return f"{value / size:.3g} {prefix}"
    raise AssertionError(value)


def _share(value: float) -> str:
    return f"{value:.1%}"


def in_thousandths(p: float) -> str:
    """A p-value: what rounds to nothing is said to be below .001."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


JOINED = {
    "seeds_asked", "not_done", "lower", "upper", "parameters_ratio", "flops_per_sample_ratio",
    "run", "role", "protocol",
}  # fmt: skip
FORMATS: dict[str, Callable[[float], str]] = {
    "share": _share,
    "lower_bound": _share,
    "chance": _share,
    "p_adjusted": in_thousandths,
    "f_p": in_thousandths,
    "seed": str,
}
HEADINGS = {
    "seeds_done": "seeds done",
    "score": "own protocol",
    "score_itc": "ITC alone",
    "score_reranked": "re-ranked",
    "score_itm": "every pair by ITM",
    "delta": "difference to control",
    "p_adjusted": "adjusted p",
    "f": "F of the designs",
    "f_p": "p of F",
    "detectable": "detectable difference",
    "flops_per_sample": "training FLOPs a sample",
    "forward_flops": "forward FLOPs a pair",
    "lower_bound": "lower 95% bound",
    "flops": "training FLOPs",
    "peak_mib": "peak MiB",
    "ok": "above chance",
}
