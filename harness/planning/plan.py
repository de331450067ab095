"""Study -> what will be run: every cell and seed as a RunSpec, checked before anything is spent."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from architectures import registry
from architectures.contract import Facts
from architectures.frozen import SettingError
from architectures.weights.weight_files import content
from harness.outputs.folder import write_json
from harness.study import Cell, Study
from harness.training.data.corpus import content_key
from harness.training.loop.trainer import VERSION as TRAINER_VERSION
from harness.training.objectives.forward import VERSION as OBJECTIVES_VERSION
from harness.training.scoring import registry as tasks
from harness.training.settings.objectives import Objectives
from harness.training.settings.spec import RunSpec, weights_named
from harness.warm_start import keys


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """One cell of a study at one seed."""

    cell: str
    role: str
    seed: int
    spec: RunSpec


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """A study and its runs."""

    study: Study
    rows: tuple[PlannedRun, ...]
    tuning: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    """Cell -> what its tuning did and chose (`tune.choices`); empty where nothing was tuned."""

    @property
    def specs(self) -> tuple[RunSpec, ...]:
        """Each run once, seed by seed, so that a study cut short has whole blocks first."""
        ordered = sorted(self.rows, key=lambda row: self.study.seeds.index(row.seed))
        return tuple({row.spec.train_key(): row.spec for row in ordered}.values())


def plan(
    study: Study,
    outputs: Path,
    *,
    design_file: str = "",
    tuning: Mapping[str, Mapping[str, Any]] | None = None,
) -> Plan:
    """The runs of a study. `tuning`: what `tune.tuned` gives; the settings that it chose for a cell
    are put over the study's own.

    Raises `SettingError` naming the cell where a design cannot be built as asked.
    """
    if design_file:
        registry.load_file(Path(design_file))
    rows = []
    for cell in study.cells:
        try:
            spec = _spec(study, cell, tuning[cell.name]["chosen"] if tuning else {}, design_file)
        except SettingError as error:
            raise SettingError(f"study {study.name!r}, cell {cell.name!r}: {error}") from None
        for seed in study.seeds:
            rows.append(
                PlannedRun(
                    cell=cell.name,
                    role=cell.role,
                    seed=seed,
                    spec=spec.model_copy(update={"seed": seed}),
                )
            )
    return Plan(study=study, rows=tuple(rows), tuning=tuning or {})


def _spec(study: Study, cell: Cell, tuned: Mapping[str, Any], design_file: str) -> RunSpec:
    settings = study.settings_of(cell).with_fields(tuned)
    design, backbone = registry.find(cell.variant.design), settings.backbone
    config = registry.config(cell.variant.design, cell.variant.fields)
    facts = design.facts(config, backbone)
    unused = backbone.text_kind.first_position
    if settings.data.text.max_tokens > backbone.max_positions - unused:
        room = f", of which {backbone.text} leaves the first {unused} empty" if unused else ""
        raise SettingError(
            f"data.text.max_tokens {settings.data.text.max_tokens} is more than "
            f"backbone.max_positions {backbone.max_positions}{room}"
        )
    objectives, reasons = applicable(settings.objectives, facts)
    if not objectives.active():
        raise SettingError(f"no objective applies: {reasons or 'all weights are 0'}")
    scored = []
    for task in settings.tasks:
        if reason := tasks.find(task.name).why_not(facts, objectives):
            reasons[task.name] = reason
        else:
            scored.append(task)
    fields = config.model_dump(mode="json")
    named = {*weights_named(fields).values(), *weights_named(dict(backbone)).values()}
    spec = RunSpec(
        design=cell.variant.design,
        config=fields,
        backbone=backbone,
        warm_start=settings.warm_start,
        data=settings.data,
        objectives=objectives,
        optimizer=settings.optimizer,
        budget=settings.budget,
        batch_size=settings.batch_size,
        seed=study.seeds[0],
        numerics=settings.numerics,
        measure=settings.measure,
        tasks=tuple(scored),
        versions={
            "design": registry.version(cell.variant.design),
            "objectives": OBJECTIVES_VERSION,
            "trainer": TRAINER_VERSION,
            **keys.versions(settings.warm_start, design, config),
            **{f"task/{task.name}": tasks.find(task.name).VERSION for task in scored},
        },
        data_content=content_key(settings.data, backbone.image_size, backbone.image_channels),
        weights={source: found for source in named if (found := content(source))},
        not_applicable=reasons,
        design_file=design_file,
    )
    keys.check(spec)
    return spec


def applicable(objectives: Objectives, facts: Facts) -> tuple[Objectives, dict[str, str]]:
    """The objectives a design can serve, and why it cannot serve the others."""
    reasons = {}
    for name in objectives.active():
        if reason := facts.why_not(name):
            reasons[name] = reason
            objectives = objectives.with_field(f"{name}.weight", 0.0)
    return objectives, reasons


def write_study(planned: Plan, outputs: Path, notes: Sequence[str] = ()) -> dict[str, Any]:
    """Write `studies/<name>/study.json`: the study, and which run answers which cell; return it."""
    rows = [
        {
            "cell": row.cell,
            "role": row.role,
            "seed": row.seed,
            "run": row.spec.train_key(),
            "design": row.spec.design,
            "config": row.spec.config,
            "settings": next(c.settings for c in planned.study.cells if c.name == row.cell),
            "not_applicable": row.spec.not_applicable,
            "tuning": {
                name: planned.tuning.get(row.cell, {}).get(name, 0)
                for name in ("trials", "device_seconds")
            },
        }
        for row in planned.rows
    ]
    study = planned.study.model_dump(mode="json")
    path = outputs / "studies" / planned.study.name / "study.json"
    described = {"study": study, "rows": rows, "notes": list(notes)}
    write_json(path, described)
    return described
