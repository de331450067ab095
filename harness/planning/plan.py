"""Makes of a study a RunSpec for every cell and seed, checked before anything is spent."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import JsonValue

from architectures import registry
from architectures.contract import Facts
from architectures.frozen import SettingError
from architectures.weights.weight_files import content
from harness.outputs.folder import study_file
from harness.outputs.records import (
    DamagedFile,
    StudyRecord,
    StudyRow,
    TuningSpent,
    read_if_there,
)
from harness.outputs.tuning_records import CellChoice
from harness.planning.shapes import check_widths, freezable
from harness.study import Cell, Study
from harness.training.data.corpus import Corpus, content_key, training_key
from harness.training.data.task_folders import task_folder_digests
from harness.training.loop.budget import steps_of
from harness.training.scoring import registry as tasks
from harness.training.settings import versions
from harness.training.settings.matched import Match
from harness.training.settings.objectives import Objectives
from harness.training.settings.run import TrainSettings
from harness.training.settings.spec import Asked, RunSpec, TrainSpec, weights_named
from harness.warm_start import keys


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """A planned run is one cell of a study at one seed."""

    cell: Cell
    seed: int
    spec: RunSpec
    config: Mapping[str, JsonValue]
    """Every field of the design's config, defaults written out, for tables."""
    step_cost: float = 0.0
    """How much of the budget's unit a step takes, where `budgets.converted` turned it into steps by
    that; 0: it names steps or samples."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """A plan holds a study and its runs."""

    study: Study
    rows: tuple[PlannedRun, ...]
    tuning: Mapping[str, CellChoice] = dataclasses.field(default_factory=dict)
    """Cell -> what its tuning did and chose; empty where nothing was tuned."""
    matched: Mapping[str, Match] = dataclasses.field(default_factory=dict)
    """Cell that is to cost what another costs -> the size it was given."""

    @property
    def specs(self) -> tuple[RunSpec, ...]:
        """Returns each run once, seed by seed, so that a study cut short has whole blocks first."""
        ordered = sorted(self.rows, key=lambda row: self.study.seeds.index(row.seed))
        return tuple({row.spec.train_key(): row.spec for row in ordered}.values())


def plan(study: Study, outputs: Path, *, tuning: Mapping[str, CellChoice] | None = None) -> Plan:
    """Returns the runs of a study. `tuning`: what `tuning.choice.tuned` gives; the settings that it
    chose for a cell are put over the study's own.

    Raises `SettingError` naming the cell where a design cannot be built as asked.
    """
    if study.file:
        _check_own_designs(study)
    rows = []
    matches, cells = _matches(study, outputs)
    for cell in cells:
        try:
            chosen = tuning[cell.name].chosen if tuning else {}
            spec, config = _spec(study, cell, chosen)
        except SettingError as error:
            raise SettingError(f"study {study.name!r}, cell {cell.name!r}: {error}") from None
        for seed in study.seeds:
            train = spec.train.model_copy(update={"seed": seed})
            seeded = spec.model_copy(update={"train": train})
            rows.append(PlannedRun(cell=cell, seed=seed, spec=seeded, config=config))
    return Plan(study=study, rows=tuple(rows), tuning=tuning or {}, matched=matches)


def _matches(study: Study, outputs: Path) -> tuple[dict[str, Match], tuple[Cell, ...]]:
    """Returns the sizes of the cells that are to cost what others cost, solved or taken from the
    study's record, where they were solved before; and all cells, of these sizes."""
    if not any(cell.matched for cell in study.cells):
        return {}, study.cells
    from harness.planning.matching import resized, solved
    from harness.runs.assemble import load_data

    record = None
    with contextlib.suppress(DamagedFile):
        record = read_if_there(StudyRecord, study_file(outputs, study.name))
    before = record.matched if record else {}
    named = {cell.name: cell for cell in study.cells}
    corpora: dict[str, Corpus] = {}

    def corpus_of(spec: RunSpec) -> Corpus:
        if spec.asked.content not in corpora:
            corpora[spec.asked.content] = load_data(spec, outputs)
        return corpora[spec.asked.content]

    matches = {}
    for cell in study.cells:
        if cell.matched is not None:
            try:
                matches[cell.name] = solved(
                    cell,
                    named[cell.matched.to],
                    lambda each: _spec(study, each, {})[0],
                    corpus_of,
                    before.get(cell.name),
                )
            except SettingError as error:
                raise SettingError(f"study {study.name!r}, cell {cell.name!r}: {error}") from None
    cells = (resized(c, matches[c.name]) if c.name in matches else c for c in study.cells)
    return matches, tuple(cells)


def _check_own_designs(study: Study) -> None:
    """Raises `SettingError` with every fault of the designs that a study takes from its own
    file."""
    from architectures.views.checks import faults_of_file

    module = registry.load_file(Path(study.file))
    wanted = {cell.variant.design for cell in study.cells}
    lines = faults_of_file(module, study.backbone, wanted)
    if lines:
        raise SettingError("\n".join(lines))


def _spec(
    study: Study, cell: Cell, chosen: Mapping[str, float]
) -> tuple[RunSpec, Mapping[str, JsonValue]]:
    """Returns the run of a cell at the study's first seed, and its design's config in full."""
    name, settings = cell.variant.design, study.settings_of(cell).with_fields(chosen)
    design, backbone = registry.find(name), settings.backbone
    config = registry.config(name, cell.variant.fields)
    with registry.blamed(name):
        facts = design.facts(config, backbone)
    unused, taken = backbone.text_kind.first_position, facts.places_taken
    if settings.data.text.max_tokens > backbone.longest_text - taken:
        room = f", of which {backbone.text} leaves the first {unused} empty" if unused else ""
        room += f", of which image tokens take {taken}" if taken else ""
        raise SettingError(
            f"data.text.max_tokens {settings.data.text.max_tokens} is more than "
            f"backbone.max_positions {backbone.max_positions}{room}"
        )
    objectives, reasons = applicable(settings.objectives, facts)
    if objectives.itc.queue and facts.similarity != "pooled":
        raise SettingError(
            f"itc.queue is {objectives.itc.queue}, but {name} with similarity "
            f"{facts.similarity!r} compares every token, and a queue holds one vector of each "
            "side; set objectives.itc.queue to 0"
        )
    if not objectives.active():
        raise SettingError(f"no objective applies: {'; '.join(reasons.values()) or 'all weigh 0'}")
    freeze, unfrozen = freezable(settings.freeze, name, config, backbone)
    reasons |= unfrozen
    if freeze.changed_fields() and settings.budget.unit == "seconds":
        raise SettingError(
            "a budget in seconds times one step, and where towers are frozen (freeze) steps take "
            "different times; name budget.flops, budget.steps or budget.samples"
        )
    scored = []
    for task in settings.tasks:
        if reason := tasks.find(task.name).why_not(facts, objectives, task):
            reasons[task.title] = reason
        else:
            scored.append(task)
    keys.check(settings.warm_start, backbone, config)
    check_widths(name, config, backbone, objectives)
    fields = config.changed_fields()
    named = {*weights_named(fields).values(), *weights_named(dict(backbone)).values()}
    digests = {source: content_digest for source in named if (content_digest := content(source))}
    shared = {field: getattr(settings, field) for field in TrainSettings.model_fields}
    train = TrainSpec(
        **shared
        | {
            "backbone": backbone.model_copy(update=_by_digest(dict(backbone), digests)),
            "objectives": objectives,
            "freeze": freeze,
            "warm_start": keys.used(settings.warm_start, design, config),
        },
        design=name,
        config={**fields, **_by_digest(fields, digests)},
        data=training_key(settings.data, backbone.image_size, backbone.image_channels),
        seed=study.seeds[0],
        versions={
            "design": registry.version(name),
            "settings": versions.SETTINGS,
            "objectives": versions.OBJECTIVES,
            "trainer": versions.TRAINER,
            **keys.versions(settings.warm_start, design, config),
        },
    )
    request = Asked(
        data=settings.data,
        content=content_key(settings.data, backbone.image_size, backbone.image_channels),
        tasks=tuple(scored),
        task_versions={task.name: tasks.find(task.name).VERSION for task in scored},
        task_sources=task_folder_digests(scored),
        sources={digest: source for source, digest in digests.items()},
        not_applicable=reasons,
        design_file=registry.own_place(name, *(c.variant.design for c in study.cells)),
    )
    return RunSpec(train=train, asked=request), config.model_dump(mode="json")


def _by_digest(fields: Mapping[str, object], digests: Mapping[str, str]) -> dict[str, str]:
    """Returns the fields that name weights whose content is known -> its digest."""
    return {f: digests[v] for f, v in weights_named(fields).items() if v in digests}


def applicable(objectives: Objectives, facts: Facts) -> tuple[Objectives, dict[str, str]]:
    """Returns the objectives a design can serve, and why it cannot serve the others."""
    reasons = {}
    for name in objectives.active():
        if reason := facts.why_not(name):
            reasons[name] = reason
            objectives = objectives.with_field(f"{name}.weight", 0.0)
    return objectives, reasons


def write_study(
    planned: Plan, outputs: Path, notes: Sequence[str] = (), left_over: Sequence[str] = ()
) -> StudyRecord:
    """Writes `studies/<name>/study.json`: the study, and which run answers which cell; returns
    what it wrote."""
    study, first = planned.study, planned.study.judged[0]
    spent = {
        cell: TuningSpent(trials=choice.trials, device_seconds=choice.device_seconds)
        for cell, choice in planned.tuning.items()
    }
    record = StudyRecord(
        name=study.name,
        question=study.question,
        control=study.control,
        primary=first.score,
        equal_within=first.equal_within,
        margin_declared=bool(study.endpoints) or study.equal_within is not None,
        endpoints=study.endpoints,
        endpoint_order=study.endpoint_order,
        alpha=study.alpha,
        looks=study.looks,
        axis=study.axis,
        seeds=study.seeds,
        budget_unit=study.budget.unit,
        rows=tuple(
            StudyRow(
                cell=row.cell.name,
                role=row.cell.role,
                seed=row.seed,
                run=row.spec.train_key(),
                design=row.spec.train.design,
                config=dict(row.config),
                settings=row.cell.settings,
                not_applicable=row.spec.asked.not_applicable,
                tuning=spent.get(row.cell.name, TuningSpent()),
                steps=steps_of(row.spec.train.budget, row.spec.train.batch_size),
                step_seconds=row.step_cost if study.budget.unit == "seconds" else 0.0,
            )
            for row in planned.rows
        ),
        notes=tuple(notes),
        left_over=tuple(left_over),
        settings=study.model_dump(mode="json"),
        matched=dict(planned.matched),
    )
    record.write(study_file(outputs, study.name), durable=True)
    return record
