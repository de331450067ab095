"""What the chapters of a study's page say: tables, caveats, method, and how to get it again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd

from harness.results.tables import Results, StudyRecord
from reports import tables
from reports.analysis import Answer
from reports.drawing import in_words
from reports.facts import Facts
from reports.page import sentences as words
from reports.page.sections import RUN, Section

MANY = 30
"""Runs that are folded when all of them are done."""


def comparison(answer: Answer, facts: Facts) -> Section:
    """Returns scores, differences and costs of every design."""
    return Section(
        title="Comparison",
        note=(
            f"Scores: mean ± SD over seeds, in units of {in_words(answer.primary)}. Differences to "
            f"the control: {answer.analysis.control}, with simultaneous {words.percent(answer)} "
            "intervals. In brackets: ratio to the control."
        ),
        table=facts.comparison,
    )


def scores(facts: Facts) -> Section:
    """Returns a row a score, because there are many, and a column a design."""
    shown = tables.shown(facts.scores)
    turned = shown.set_index("cell").T.rename_axis(index="score").reset_index()
    return Section(
        title="All scores",
        note="Every score of every task, mean ± SD over the finished runs of a design.",
        table=turned,
        text=True,
        folded=True,
    )


def runs(results: Results, answers: Sequence[Answer]) -> Section:
    """Returns a row a run: what became of it, and its scores."""
    runs = results.runs
    columns = {
        "cell": runs["cell"],
        "seed": runs["seed"],
        "status": runs["status"],
        **{answer.primary: results.values(answer.primary) for answer in answers},
        "minutes": runs["ledger.device_seconds"] / 60,
        "attempts": runs["ledger.attempts"],
        RUN: runs["run"],
        "message": runs["message"].fillna("").astype(str),
    }
    done = bool((runs["status"] == "done").all())
    return Section(title="Runs", table=pd.DataFrame(columns), folded=done and len(runs) > MANY)


def by_cell(levels: pd.DataFrame) -> pd.DataFrame:
    """Returns the levels of a design's runs as a row: the worst of them, and how many are well."""
    rows = [
        {
            "cell": cell,
            "task": task,
            "level": level,
            "items": group["items"].iloc[0],
            "share": group["share"].min(),
            "lower_bound": group["lower_bound"].min(),
            "chance": group["chance"].max(),
            "runs_above_chance": f"{int(group['ok'].sum())} of {len(group)}",
            "ok": bool(group["ok"].all()),
        }
        for (cell, task, level), group in levels.groupby(["cell", "task", "level"], sort=False)
    ]
    return pd.DataFrame(rows, columns=list(LEVELS))


LEVELS = (
    "cell", "task", "level", "items", "share", "lower_bound", "chance", "runs_above_chance", "ok",
)  # fmt: skip


def caveats(results: Results, answers: Sequence[Answer]) -> list[str]:
    """Returns what a reader should know before a conclusion is drawn."""
    study = results.study
    named = [(in_words(a.primary), note) for a in answers for note in a.analysis.notes]
    notes = [note if len(answers) == 1 else f"{score}: {note}" for score, note in named]
    undeclared = () if study.margin_declared else (_margin(answers, declared=False),)
    return [*filter(None, [answers[0].undeclared]), *notes, *study.notes, *undeclared]


def lines(answers: Sequence[Answer]) -> list[str]:
    """Returns every verdict in full, with its endpoint where there are several."""
    if len(answers) == 1:
        return list(answers[0].lines)
    return [f"{in_words(a.primary)}: {line}" for a in answers for line in a.lines]


NOTES = {
    "endpoints": ("Endpoints", "What the runs could see of every endpoint."),
    "ways": (
        "Ways out of undecided",
        "The cheapest for every undecided contrast (others stand in ways.csv): what it takes and "
        "the chance of a decision, drawn from what the data leave open. Seeds added after this "
        "report are another look, and their chance is that at its level.",
    ),
    "variance": ("What the spread consists of", "Of the variance that decides: shares, and SDs."),
    "best": (
        "Which may be the best",
        "The set of cells that holds the truly best one (Hsu); no verdict.",
    ),
    "trend": ("Along the axis", "Does the score move with it at all, by slope, or by bend?"),
    "effects": ("Factors", "What each does, and whether what one does depends on another."),
    "effect_means": ("Means of factors", "Every combination counts alike."),
    "all_pairs": ("All pairs", "Every cell against every other (Tukey); no verdict."),
    "pareto": ("Cost and score", "Cells that no other one beats in both at once."),
    "best_of_k": ("Tuning", "What k trials would reach, without bias."),
    "rankings": ("Rankings", "How alike endpoints rank the cells (Kendall)."),
    "improvement": ("One run against one", "The chance that a run beats one of the control."),
    "left_out": ("Tables that do not apply", "And why."),
}
"""Table -> its title and a note; the order is that of the page."""
OPEN = ("endpoints", "ways", "best", "trend", "effects")


def further(facts: Facts) -> list[Section]:
    """Returns what else the runs say, a section a table; empty tables are left out."""
    advised = facts.ways[facts.ways["recommended"].astype(bool)].drop(columns="recommended")
    made = {"endpoints": facts.endpoints, "ways": advised, "variance": facts.variance}
    named = {**made, **facts.analyses}
    return [
        Section(title=title, note=note, table=named[name], folded=name not in OPEN)
        for name, (title, note) in NOTES.items()
        if name in named and len(named[name])
    ]


def not_applicable(study: StudyRecord) -> list[str]:
    """Returns what some designs cannot serve, and why."""
    reasons = [
        f"{row.cell}: {what}, because {why}"
        for row in study.rows
        for what, why in row.not_applicable.items()
    ]
    return list(dict.fromkeys(reasons))


def _margin(answers: Sequence[Answer], declared: bool) -> str:
    """Says what counts as equal, and who said so."""
    if not declared:
        return (
            f"Nobody declared which differences do not matter: ±{answers[0].region:g} is fuselab's "
            "default."
        )
    regions = [f"±{each.region:g}" for each in answers]
    if len(answers) > 1:
        named = zip(regions, answers, strict=True)
        regions = [f"{region} of {in_words(each.primary)}" for region, each in named]
    return f"Declared beforehand: differences within {', '.join(regions)} do not matter."


def method(answers: Sequence[Answer], study: StudyRecord) -> list[str]:
    """Returns paragraphs on how verdicts come about."""
    answer, several = answers[0], len(answers) > 1
    shared = {
        "equals": "as equals: one on which every cell differs leaves its share to the others "
        "(Holm)",
        "ordered": "in their order: a cell is judged on the next where it differs on this one",
    }[study.endpoint_order]
    return [
        "Every score is modelled as a mean, plus the design, plus the seed, plus a residual. Seeds "
        "are blocks, because all designs of one seed saw the same batches and started from the "
        "same shared weights. A contrast's standard error takes the larger of its own and the "
        "pooled variance; its interval is simultaneous over all contrasts with the control "
        "(Dunnett).",
        f"Family-wise error rate {study.alpha:g} over {_looks(study)}: {words.percent(answer)} "
        f"intervals, {answer.analysis.df} degrees of freedom. "
        f"{_margin(answers, study.margin_declared)}"
        + f" {len(answers)} endpoints share the rate {shared}."
        * several,
        "An interval inside that region says equal, otherwise one on the side of zero that is "
        "better says better, on the other side worse; all else is undecided, with the seeds that "
        "would give an 80% chance of a decision. Floors and all else on this page only describe.",
    ]


def _looks(study: StudyRecord) -> str:
    if isinstance(study.looks, int):
        return f"{study.looks} declared look{'s' * (study.looks != 1)}"
    return f"declared looks at {', '.join(map(str, study.looks))} seeds"


def reproduce(results: Results) -> Iterator[tuple[str, str]]:
    """Gives what is needed to get the same numbers again, name by name."""
    study = results.study
    spent = any(row.tuning.trials for row in study.rows)
    yield "study", f"{study.name} (studies/{study.name}.py, or a file of one's own of that name)"
    commands = [f"fuselab tune {study.name}", f"fuselab run {study.name} --tuned"]
    yield (
        "commands",
        "; ".join(
            [
                *(commands if spent else [f"fuselab run {study.name}"]),
                f"fuselab report {study.name}",
            ]
        ),
    )
    for column in ("commit", "code", "libraries", "device"):
        for value in results.runs[column].dropna().unique():
            yield column, str(value)
