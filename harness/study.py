"""Study, Cell, Variant, RunSpec: what is asked and what is run. Frozen data, no I/O.

A study file needs no other import of the harness than this one.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from architectures.backbone import SCALES, Backbone, scale
from architectures.frozen import Frozen, SettingError, nearest
from harness.endpoint import SHORT_ENDPOINTS, Endpoint, Endpoints, Order, endpoints_of
from harness.training.settings.data import Pictures, Scenes, Text
from harness.training.settings.graded_scenes import DIFFICULTIES, graded_scenes
from harness.training.settings.loop import (
    SHORT_OPTIMIZER,
    Budget,
    Final,
    Freeze,
    Measure,
    Numerics,
    Optimizer,
    Span,
)
from harness.training.settings.matched import IN_WORDS, Matched, matched
from harness.training.settings.objectives import (
    ALBEF_OBJECTIVES,
    ITC,
    ITM,
    LM,
    MLM,
    SHORT_OBJECTIVES,
    Objectives,
    Teacher,
)
from harness.training.settings.run import RunSettings
from harness.training.settings.spec import RunSpec
from harness.training.settings.task import FineTune
from harness.training.settings.tasks import (
    BESIDE_TASKS,
    NLVR2,
    VQA,
    Entailment,
    Grounding,
    ImageProbe,
    Pairs,
    Retrieval,
    Sentences,
    Words,
)
from harness.training.settings.tuning import Range, Seed, Tuning
from harness.training.settings.warm_start import SHORT_START, WarmStart

__all__ = [
    "ALBEF_OBJECTIVES", "DIFFICULTIES", "ITC", "ITM", "LM", "MLM", "NLVR2", "SCALES",
    "SHORT_ENDPOINTS", "SHORT_OBJECTIVES", "SHORT_OPTIMIZER", "SHORT_START", "VQA", "Backbone",
    "Budget", "Cell", "Endpoint", "Entailment", "Final", "FineTune", "Freeze", "Grounding",
    "ImageProbe", "Measure", "Numerics", "Objectives", "Optimizer", "Pairs", "Pictures",
    "Range", "Retrieval", "RunSpec", "Scenes", "Sentences", "SettingError", "Span", "Study",
    "Teacher", "Text", "Tuning", "Variant", "WarmStart", "Words", "add_one_in", "graded_scenes",
    "grid", "leave_one_out", "matched", "scale", "short_study",
]  # fmt: skip


class Variant(Frozen):
    """A design's name with fields changed: `Variant("split_bert", text_layers=2)`."""

    design: str
    """Name in the registry."""
    fields: dict[str, Any] = {}
    """Fields of the design's config that differ from its defaults."""

    def __init__(self, design: str, *, fields: Mapping[str, Any] | None = None, **more: Any):
        super().__init__(design=design, fields={**(fields or {}), **more})

    @property
    def label(self) -> str:
        """The design and what was changed, as `split_bert text_layers=2`."""
        return " ".join([self.design, *(f"{k}={v}" for k, v in self.fields.items())])


class Cell(Frozen):
    """One column of a study: a variant, and settings of the study changed for it."""

    variant: Variant
    """The design."""
    settings: dict[str, Any] = {}
    """Dotted paths of the study's settings, as `objectives.mlm.weight`, with their values."""
    label: str = ""
    """What tables and figures call it; empty: made from the variant and the settings."""
    role: Literal["compared", "floor"] = "compared"
    """A floor stands beside the contrasts: shown, but not part of the family of tests."""
    matched: Matched | None = None
    """Depth or width are solved so that it costs what another cell costs; null: as it stands."""

    @property
    def name(self) -> str:
        changes = [f"{path.rpartition('.')[2]}={v}" for path, v in self.settings.items()]
        if self.matched is not None:
            changes.append(f"({IN_WORDS[self.matched.what]} of {self.matched.to})")
        return self.label or " ".join([self.variant.label, *changes])


RUN_SETTINGS = tuple(RunSettings.model_fields)
"""What a cell may change, by the first part of a dotted path."""


class Study(RunSettings):
    """One question: cells x seeds on one data source under one budget."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_\-]+$", max_length=100)]
    """Letters, digits, `_` and `-`: it names folders."""
    question: str
    """What the report answers."""
    cells: tuple[Cell, ...]
    """What is compared."""
    control: str
    """Name of the cell that the others are compared with."""
    seeds: tuple[Seed, ...] = (0, 1, 2)
    """Reporting seeds; the blocks of the analysis."""
    primary: str = "retrieval/mean_recall"
    """The score that verdicts are about, of a study that declares no endpoints."""
    equal_within: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Half-width of the region of practical equivalence, in units of the primary score, declared
    before the study runs; null: nobody declared one, and 1 is taken."""
    endpoints: Endpoints = ()
    """One to five scores that verdicts are about, the most important first; empty: `primary` with
    `equal_within`."""
    endpoint_order: Order = "equals"
    """How an error rate of `alpha` in all is kept. `equals`: every endpoint gets its share, and
    one on which every cell differs from the control leaves its share to the others. `ordered`: a
    cell is judged on an endpoint where it differs from the control on all before it."""
    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """Family-wise error rate."""
    looks: int | tuple[int, ...] = 1
    """At how many seeds the verdict will be looked at while seeds are added, as (3, 5): alpha is
    spread over these looks. Or only how often: alpha is split evenly, which costs more."""
    tuning: Tuning = Tuning()
    """What `fuselab tune` searches."""
    axis: str = "text_layers"
    """Column of the results table on the x axis of the first figure."""
    file: Annotated[str, Field(exclude=True)] = ""
    """The user's own file that this study stands in, where its designs may stand too; empty: a
    study that comes with fuselab. Part of no record: where it lies says nothing of the study."""

    @model_validator(mode="after")
    def _consistent(self) -> Study:
        names = [cell.name for cell in self.cells]
        if not names:
            raise ValueError("cells: a study needs at least one")
        if double := {n for n in names if names.count(n) > 1}:
            raise ValueError(f"cells: the same name twice: {sorted(double)}")
        compared = [cell.name for cell in self.cells if cell.role == "compared"]
        if self.control not in compared:
            raise nearest(self.control, compared, "control")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds: name at least one, each once")
        if isinstance(self.looks, int):
            if self.looks < 1:
                raise ValueError("looks: a verdict is looked at once or more often")
        elif list(self.looks) != sorted(set(self.looks)) or min(self.looks, default=0) < 2:
            raise ValueError("looks: name numbers of at least two seeds, each once, in order")
        if self.tuning.seed in self.seeds:
            raise ValueError(f"tuning.seed {self.tuning.seed} is also a reporting seed")
        for name in ("primary", "equal_within") if self.endpoints else ():
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} is for a study without endpoints: leave it out of this")
        titles = [task.title for task in self.tasks]
        if taken := sorted(set(titles) & set(BESIDE_TASKS)):
            raise ValueError(
                f"tasks: scores of training stand under {taken[0]!r}; give the task another label"
            )
        if same := [title for title in titles if titles.count(title) > 1]:
            raise ValueError(f"tasks: several stand under {same[0]!r}; give one a label")
        for cell in self.cells:
            if cell.matched is not None:
                plain = [other.name for other in self.cells if other.matched is None]
                if cell.matched.to not in plain:
                    raise nearest(cell.matched.to, plain, f"cell to match {cell.name!r} to")
            for path in cell.settings:
                if path.partition(".")[0] not in RUN_SETTINGS:
                    raise nearest(path, RUN_SETTINGS, f"setting of cell {cell.name!r}")
            try:
                recipe = self.settings_of(cell).warm_start
            except SettingError as error:
                raise SettingError(f"cell {cell.name!r}: {error}") from None
            for its in filter(None, (self.warm_start, recipe)):
                if its.seed in (*self.seeds, self.tuning.seed):
                    raise ValueError(f"warm_start.seed {its.seed} is also a seed of runs")
        return self

    @property
    def margin(self) -> float:
        """Half-width of the region of practical equivalence of the primary score."""
        return 1.0 if self.equal_within is None else self.equal_within

    @property
    def judged(self) -> tuple[Endpoint, ...]:
        """What verdicts are about: the endpoints, or the primary score."""
        return endpoints_of(self.endpoints, self.primary, self.margin)

    def settings_of(self, cell: Cell) -> RunSettings:
        """The study's run settings with one cell's changes applied."""
        bare = {name: getattr(self, name) for name in RUN_SETTINGS}
        return RunSettings(**bare).with_fields(cell.settings)


def short_study(**asked: object) -> Study:
    """Returns a study in the short regime: `nano` on scenes of two things, towers aligned before,
    12,800 samples in batches of 64, what is learnt and retrieved in that time as endpoints, and
    five seeds. A study of the shelf says what it asks; `asked` takes the place of a part of this.

    Raises pydantic's ValidationError for a field that a study does not have.
    """
    regime = {
        "axis": "cell",
        "endpoints": SHORT_ENDPOINTS,
        "data": graded_scenes("binding"),
        "warm_start": SHORT_START,
        "budget": Budget(samples=12_800),
        "batch_size": 64,
        "objectives": SHORT_OBJECTIVES,
        "optimizer": SHORT_OPTIMIZER,
        "measure": Measure(points=8, items=256, gap_items=0, checkpoints=2),
        "tasks": (Retrieval(rerank=8), Pairs(count=200, tags=("colour", "shape"))),
        "seeds": (40, 41, 42, 43, 44),
    }
    return Study.model_validate({**regime, **asked})


def grid(
    variant: Variant,
    settings: Mapping[str, Iterable[Any]] | None = None,
    *,
    label: Callable[..., str] | None = None,
    **fields: Iterable[Any],
) -> tuple[Cell, ...]:
    """Every combination of the given values of design fields and of study settings.

    `label` is called with the design fields of a cell.

    >>> [c.name for c in grid(Variant("split_bert"), text_layers=(2, 6))]
    ['split_bert text_layers=2', 'split_bert text_layers=6']
    """
    settings = settings or {}
    cells = []
    for chosen in itertools.product(*(list(v) for v in fields.values())):
        changes = dict(zip(fields, chosen, strict=True))
        for values in itertools.product(*(list(v) for v in settings.values())):
            cells.append(
                Cell(
                    variant=Variant(variant.design, fields={**variant.fields, **changes}),
                    settings=dict(zip(settings, values, strict=True)),
                    label=label(**changes) if label else "",
                )
            )
    return tuple(cells)


Part = Mapping[str, Any]
"""What switches one component: dotted study settings, and design fields as `design.FIELD`."""


def _changed(cell: Cell, part: Part, label: str) -> Cell:
    fields = {k.removeprefix("design."): v for k, v in part.items() if k.startswith("design.")}
    settings = {k: v for k, v in part.items() if not k.startswith("design.")}
    variant = Variant(cell.variant.design, fields={**cell.variant.fields, **fields})
    return Cell(variant=variant, settings={**cell.settings, **settings}, label=label)


def leave_one_out(full: Cell, without: Mapping[str, Part]) -> tuple[Cell, ...]:
    """The classical ablation table: the full system, then each component removed from it.

    `without`: name of a component -> the changes that remove it.
    """
    return (full, *(_changed(full, part, f"without {name}") for name, part in without.items()))


def add_one_in(base: Cell, added: Mapping[str, Part]) -> tuple[Cell, ...]:
    """A ladder: the base, then each component added to all before it, in the order given."""
    cells = [base]
    for name, part in added.items():
        cells.append(_changed(cells[-1], part, f"+ {name}"))
    return tuple(cells)
