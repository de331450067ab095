"""These tidy tables hold a study's results, wherever they were read from; no torch.

Only what a finished checkpoint covers is there: measurements after it are made again when the run
goes on. `SCHEMA`, `SCORES`, `LEVELS`, `CURVES` and `DIGESTS` say what every column means.

    runs      one row for each cell and seed of the study, also where the run waits or failed
    scores    one row for each final score of a run
    levels    one row for each count of right answers, beside what guessing gets right
    curves    one row for each value measured, in the order measured
    digests   one row for each digest of a run's pairing certificate
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pandas as pd

from harness.endpoint import Endpoint as Endpoint
from harness.outputs.records import (
    Certificate,
    Environment,
    ScoresRecord,
    StudyRow,
)
from harness.outputs.records import StudyRecord as StudyRecord
from harness.outputs.tuning_records import CellChoice as CellChoice
from harness.outputs.tuning_records import TrialRecord as TrialRecord
from harness.results.curves import MEASURED, joined
from harness.training.loop.ledger import Ledger

Graph = Mapping[str, Any]
"""A design as `architectures.views.graph` gives it."""

SCHEMA = {
    "study": "name of the study",
    "cell": "name of the cell; a cell and a seed make a row",
    "role": "compared, or floor: shown beside the contrasts",
    "seed": "training seed, the block of the analysis",
    "run": "train key; names the run folder; cells that ask for the same share it",
    "status": "waiting, running, done, diverged, out_of_memory, failed, interrupted or damaged",
    "message": "why, for a run that did not end well; at most 500 characters",
    "design": "name in the registry",
    "config.<field>": "field of the design's config, defaults written out",
    "set.<path>": "the study's setting that this cell changes",
    "not_applicable": "objectives and tasks that the design cannot serve, with the reason",
    "text_layers": "layers of text alone",
    "fusion_layers": "layers in which image and text meet",
    "itc_reads": "which states the ITC heads read",
    "ledger.<field>": "what was spent, see `harness.training.loop.ledger.Ledger`",
    "batches": "digest chain of all batches fed up to the last checkpoint",
    "code": "digests of the training sources, joined by +",
    "commit": "of the sources, with a + where tracked files differed from it",
    "libraries": "versions of python and of what a result may depend on",
    "device": "kind and name of the processor or GPU, and threads",
}
SCORES = {
    "run": "train key",
    "task": "who scored it; `validation`: the last validation",
    "score": "name of the score",
    "protocol": "how it was obtained",
    "value": "the value, in its unit",
    "higher_is_better": "whether more of it is better",
    "unit": "percent, nats, ...",
}
LEVELS = {
    "run": "train key",
    "task": "who counted",
    "level": "what was counted",
    "successes": "items answered correctly",
    "items": "items asked",
    "chance": "share of them that guessing, or the majority answer, gets right",
}
CURVES = {
    "study": "name of the study",
    "cell": "name of the cell",
    "role": "compared or floor",
    "run": "train key",
    "seed": "training seed",
    "step": "optimizer steps made",
    "samples": "image-caption pairs seen",
    "seconds": "training seconds, without start-up, measuring and scoring",
    "name": "what was measured, as val/itm_accuracy",
    "value": "the value; not finite where the run diverged",
}
DIGESTS = {
    "run": "train key",
    "kind": "batches: the chain at a measured step; roles: the initial weights of a role",
    "name": "the step, or the role",
    "digest": "hexadecimal",
    "size": "roles: how many parameters",
    "drawn_as": "roles: what it starts as: itself, its slot's source, or part of a whole model",
}
LONGEST_MESSAGE = 500


def no_rows(columns: Iterable[str]) -> pd.DataFrame:
    """Returns an empty table of these columns."""
    return pd.DataFrame(columns=list(columns))


@dataclasses.dataclass(frozen=True)
class Results:
    """Results hold a study and what became of it."""

    study: StudyRecord
    """The study as asked, its cells and seeds under `rows`."""
    runs: pd.DataFrame
    """Columns of SCHEMA."""
    scores: pd.DataFrame
    """Columns of SCORES."""
    levels: pd.DataFrame
    """Columns of LEVELS."""
    curves: pd.DataFrame
    """Columns of CURVES."""
    digests: pd.DataFrame = dataclasses.field(default_factory=lambda: no_rows(DIGESTS))
    """Columns of DIGESTS."""
    graphs: Mapping[str, Graph] = dataclasses.field(default_factory=dict)
    """Cell -> its design as a graph, of cells of which a run was built."""
    read_at: tuple[int, ...] = ()
    """Numbers of seeds at which its verdicts were read before."""

    def higher_is_better(self, name: str) -> bool:
        """Says whether more of a score is better; so it is of one that no run has."""
        own = self._of(name)
        return bool(own["higher_is_better"].iloc[0]) if len(own) else True

    def unit(self, name: str) -> str:
        """Returns the unit of a score, as `percent`; empty of one that no run has."""
        own = self._of(name)
        return str(own["unit"].iloc[0]) if len(own) else ""

    def values(self, name: str) -> pd.Series:
        """Returns one final score of every row of `runs`, named as `retrieval/mean_recall`; nan
        where a run has none."""
        own = self._of(name)
        by_run = own.drop_duplicates("run").set_index("run")["value"].astype(float)
        return self.runs["run"].map(by_run).astype(float)

    def _of(self, name: str) -> pd.DataFrame:
        """Returns the rows of `scores` of one score, named as `retrieval/mean_recall`."""
        task, _, score = name.partition("/")
        return self.scores[(self.scores["task"] == task) & (self.scores["score"] == score)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunRecord:
    """A run record holds what one run has to say, wherever it was read."""

    status: str = "waiting"
    message: str = ""
    ledger: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Fields of `Ledger`."""
    scores: tuple[ScoresRecord, ...] = ()
    certificate: Certificate | None = None
    """Its `batches` are filled, up to the last checkpoint."""
    environment: Environment | None = None
    curves: pd.DataFrame = dataclasses.field(default_factory=lambda: no_rows(MEASURED))
    """Columns of MEASURED."""
    last_step: int = -1
    """Of training, that a checkpoint covers; -1: none."""


def assembled(
    study: StudyRecord, records: Mapping[str, RunRecord], graph_of: Callable[[str], Graph]
) -> Results:
    """Returns the tables of a study.

    `records`: train key -> what the run says; `graph_of`: train key -> its design's graph, empty
    where there is none.
    """
    runs = pd.DataFrame([_row(study.name, row, records[row.run]) for row in study.rows])
    always = [column for column in SCHEMA if "<" not in column]
    numbers = [f"ledger.{field.name}" for field in dataclasses.fields(Ledger)]
    runs = runs.reindex(columns=list(dict.fromkeys([*always, *sorted(runs.columns), *numbers])))
    return Results(
        study=study,
        runs=runs.astype(dict.fromkeys(numbers, float)),
        scores=_scores(records),
        levels=_levels(records),
        curves=_all_curves(study, records),
        digests=_digests(records),
        graphs=_graphs(study.rows, graph_of),
    )


def _graphs(rows: Iterable[StudyRow], graph_of: Callable[[str], Graph]) -> dict[str, Graph]:
    """Returns of every cell the first graph that there is: its seeds have the same."""
    graphs: dict[str, Graph] = {}
    for row in rows:
        if row.cell not in graphs and (graph := graph_of(row.run)):
            graphs[row.cell] = graph
    return graphs


def _row(study: str, row: StudyRow, record: RunRecord) -> dict[str, object]:
    certificate = record.certificate
    facts = certificate and certificate.facts
    chain = certificate.batches if certificate else {}
    why_not = row.not_applicable.items()
    return {
        **{"study": study, "status": record.status, "message": record.message},
        **{name: getattr(row, name) for name in ("cell", "role", "seed", "run", "design")},
        **{f"config.{field}": value for field, value in row.config.items()},
        **{f"set.{path}": value for path, value in row.settings.items()},
        "not_applicable": "; ".join(f"{what}: {why}" for what, why in why_not),
        "text_layers": facts and facts.text_layers,
        "fusion_layers": facts and facts.fusion_layers,
        "itc_reads": facts and facts.itc_reads,
        **{f"ledger.{field}": value for field, value in record.ledger.items()},
        # A run does not know that its settings were tuned; the study does.
        "ledger.tuning_trials": row.tuning.trials,
        "ledger.tuning_seconds": row.tuning.device_seconds,
        "batches": chain[max(chain)] if chain else None,
        "code": "+".join(certificate.code) if certificate else None,
        **_surroundings(record.environment),
    }


def _surroundings(environment: Environment | None) -> dict[str, str | None]:
    if environment is None:
        return {"commit": None, "libraries": None, "device": None}
    versions = {"python": environment.python, **environment.libraries}
    return {
        "commit": environment.commit + "+" * environment.dirty,
        "libraries": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "device": f"{environment.device}, {environment.threads} threads",
    }


def _scores(records: Mapping[str, RunRecord]) -> pd.DataFrame:
    rows = [
        (run, task.task, s.name, s.protocol, s.value, s.higher_is_better, s.unit)
        for run, record in records.items()
        for task in record.scores
        for s in task.with_seconds
    ]
    return pd.DataFrame(rows, columns=list(SCORES)).astype({"value": float})


def _levels(records: Mapping[str, RunRecord]) -> pd.DataFrame:
    rows = [
        (run, task.task, level.name, level.successes, level.items, level.chance)
        for run, record in records.items()
        for task in record.scores
        for level in task.levels
    ]
    return pd.DataFrame(rows, columns=list(LEVELS))


def _all_curves(study: StudyRecord, records: Mapping[str, RunRecord]) -> pd.DataFrame:
    measured = [(row, records[row.run].curves) for row in study.rows]
    some = [(row, curves) for row, curves in measured if len(curves)]
    if not some:
        numbers = dict.fromkeys(("step", "samples", "seconds", "value"), float)
        return no_rows(CURVES).astype(numbers)
    return joined(study.name, some)[list(CURVES)]


def _digests(records: Mapping[str, RunRecord]) -> pd.DataFrame:
    rows: list[tuple[object, ...]] = []
    for run, record in records.items():
        if record.certificate is None:
            continue
        for step, digest in record.certificate.batches.items():
            rows.append((run, "batches", str(step), digest, 0, str(step)))
        for name, role in record.certificate.roles.items():
            rows.append((run, "roles", name, role.digest, role.size, role.drawn_as))
    return pd.DataFrame(rows, columns=list(DIGESTS))
