"""Typed records hold what runs and studies leave on disk; a file has one reader and one writer.

Every record has a format number. Files of format 1 (dicts without a number) are read by
`format_1.py`; a newer format than ours is refused. A file that cannot be read, or is not what it
should be, raises `DamagedFile` with its path and what to do.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import ClassVar, Self, TypeVar

from pydantic import JsonValue, ValidationError

from architectures.frozen import Frozen, readable
from harness.endpoint import Endpoint, Order, endpoints_of
from harness.outputs import format_1
from harness.outputs.files import State, atomic_file
from harness.training.loop.ledger import Ledger
from harness.training.scoring.contract import Level, Score
from harness.training.settings.matched import Match

FORMAT = 2
"""Of the records written now."""
SILENT_SECONDS = 300.0
"""A run that runs notes its step every second: after this its process is stopped, or it hangs."""
DAMAGE = (ValueError, TypeError, AttributeError, KeyError)
"""What a content that is no record raises."""


class DamagedFile(RuntimeError):
    """A file under the outputs folder is torn, empty or not what it should be."""

    def __init__(self, path: Path, why: str, remedy: str) -> None:
        super().__init__(f"{path} {why}; {remedy}")
        self.path = path


class Record(Frozen):
    """Every record has this base: a format number, and how it gets to disk and back."""

    format: int = FORMAT
    """Raised when the fields change so that an older reader would misread them."""

    remedy: ClassVar[str] = "delete it"
    """What to do where the file is damaged."""

    def write(self, path: Path, *, durable: bool = True) -> None:
        """Writes the record whole or not at all; `durable`: waits for the disk, which all but notes
        of progress must."""
        with atomic_file(path, durable=durable) as part:
            part.write_text(json.dumps(self.as_json(), indent=1, sort_keys=True) + "\n")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Reads a record. Raises FileNotFoundError where there is no file, and `DamagedFile`."""
        try:
            return cls.of(json.loads(path.read_bytes()))
        except (*DAMAGE, RecursionError, NotADirectoryError) as error:
            raise DamagedFile(path, f"is damaged ({_reason(error)})", cls.remedy) from error
        except IsADirectoryError as error:
            raise DamagedFile(path, "is a folder", cls.remedy) from error

    @classmethod
    def of(cls, content: JsonValue) -> Self:
        """Returns the record that a JSON value says, of this format or of format 1. Raises one of
        `DAMAGE` where it is none."""
        if not isinstance(content, dict):
            raise ValueError(f"{type(content).__name__} where a record should be")
        content = format_1.upgraded(cls.__name__, content)
        number = content.get("format")
        if number != FORMAT:
            raise ValueError(f"format {number!r}, but this fuselab reads up to {FORMAT}")
        return cls.model_validate(content)

    def as_json(self) -> dict[str, JsonValue]:
        """Returns the record as JSON values."""
        return self.model_dump(mode="json")


R = TypeVar("R", bound=Record)


def read_if_there(kind: type[R], path: Path) -> R | None:
    """Returns the record in a file, None where there is no such file. Raises `DamagedFile`."""
    try:
        return kind.read(path)
    except FileNotFoundError:
        return None


def _reason(error: Exception) -> str:
    """Returns the first problem of an error, in a few words."""
    text = readable(error) if isinstance(error, ValidationError) else str(error)
    return text.split("; ")[0].splitlines()[0][:160] if text else type(error).__name__


class Status(Record):
    """Says how far a run is: `status.json`, replaced at every step that is noted."""

    remedy: ClassVar[str] = "delete it: the run then goes on from its checkpoint"
    state: State = "waiting"
    message: str = ""
    """Why, for a run that did not end well."""
    updated: float = 0.0  # seconds since 1970
    step: int = 0
    steps: int = 0
    """Of the whole budget; 0: not known yet."""
    checkpoint_step: int = -1
    """Step of the newest finished checkpoint; what was measured after it is made again."""
    process: str = ""
    """Machine and number of the process that ran it last, as `host:1234`."""

    def silence(self) -> float:
        """Returns seconds since a run that runs noted anything, where that is longer than any step
        and validation should take; else 0."""
        seconds = time.time() - self.updated
        return seconds if self.state == "running" and seconds > SILENT_SECONDS else 0.0


class LedgerRecord(Record):
    """Holds what a run spent: `ledger.json`."""

    remedy: ClassVar[str] = "delete it: the run's costs are then unknown, its scores stay"
    spent: Ledger


class Role(Frozen):
    """Holds one parameter's start."""

    digest: str
    """Of its initial values."""
    size: int
    """How many numbers it has."""
    drawn_as: str
    """What it starts as: itself, its slot's source, or a part of a whole model."""


class FactsRecord(Frozen):
    """Holds what a design says of itself that tables show (`architectures.contract.Facts`)."""

    text_layers: int
    fusion_layers: int
    image_layers: int
    itc_reads: str


class Certificate(Record):
    """Pairs a run with others, and is written before its first step: `certificate.json`. Digests of
    the batches it was fed stand in its measured lines."""

    remedy: ClassVar[str] = "delete the run's folder to train it again"
    roles: dict[str, Role]
    """Name of a parameter -> how it started."""
    code: tuple[str, ...]
    """Digests of the sources that trained it; several where other code went on with it."""
    data: str
    """Digest of pixels, captions and tokens of all splits."""
    facts: FactsRecord
    batches: dict[int, str] = {}
    """Step -> digest chain of all batches fed, in files of format 1 and in MLflow; in a run's
    folder it stands in the measured lines."""


class WeightsRecord(Record):
    """Holds the digest of final weights (`architectures.weights.digests`): `weights.json`."""

    remedy: ClassVar[str] = "delete it: the weights are then not compared with what was written"
    digest: str


class Environment(Record):
    """Says what a run was trained in: `environment.json`."""

    remedy: ClassVar[str] = "delete it: the run's surroundings are then unknown"
    commit: str = ""
    """Of the sources, where they stand in a git repository; empty: not known."""
    dirty: bool = False
    """Whether tracked sources differed from it."""
    python: str = ""
    libraries: dict[str, str] = {}
    """Name of a library -> its version."""
    device: str = ""
    """Kind and name of the processor or GPU."""
    threads: int = 0
    workers: int = 1


class ScoresRecord(Record):
    """Holds what one task scored: `scores/<task>.json`; its predictions lie beside it (.npz)."""

    remedy: ClassVar[str] = "delete it: `fuselab run` then scores the run again"
    task: str
    score_key: str = ""
    """Of weights, task settings and task version; empty: of the last validation."""
    protocol: str = ""
    """How the task was answered."""
    scores: tuple[Score, ...] = ()
    levels: tuple[Level, ...] = ()
    seconds: dict[str, float] = {}
    """What the task timed -> seconds, of this machine and its load."""
    finetuning: str = ""
    """Key of the fine-tuning that was scored, and name of its folder; empty: the trained design."""
    failure: str = ""
    """Why there are none: the task was tried and failed. `--retry-failed` tries again."""

    @property
    def with_seconds(self) -> tuple[Score, ...]:
        """Returns the scores, then what was timed, as `seconds_itc`."""
        timed = (
            Score(
                name=f"seconds_{name}",
                value=value,
                unit="seconds",
                higher_is_better=False,
                protocol="timed where it ran",
            )
            for name, value in self.seconds.items()
        )
        return (*self.scores, *timed)


class TuningSpent(Frozen):
    """Holds what a cell's tuning cost."""

    trials: int = 0
    device_seconds: float = 0.0


class StudyRow(Frozen):
    """A study row is one cell of a study at one seed, and the run that answers it."""

    cell: str
    role: str
    seed: int
    run: str
    """Train key."""
    design: str
    config: dict[str, JsonValue]
    """Every field of the design's config, defaults written out."""
    settings: dict[str, JsonValue]
    """The study's settings that the cell changes, by dotted path."""
    not_applicable: dict[str, str] = {}
    """Objective or task -> why the design cannot serve it."""
    tuning: TuningSpent = TuningSpent()
    steps: int = 0
    """Optimizer steps that the study's budget comes to here; 0: written before it was noted."""
    step_seconds: float = 0.0
    """Of a budget in seconds: the time of a step that it was turned into steps by."""


class StudyRecord(Record):
    """Holds a study as asked, and which run answers which cell: `studies/<name>/study.json`."""

    remedy: ClassVar[str] = "run the study again: finished runs are kept"
    name: str
    question: str
    control: str
    primary: str
    """The first score that verdicts are about, as `retrieval/mean_recall`."""
    equal_within: float
    """Half-width of its region of practical equivalence."""
    margin_declared: bool = True
    """Whether that was declared, or is the default."""
    endpoints: tuple[Endpoint, ...] = ()
    """All such scores, where the study declares them."""
    endpoint_order: Order = "equals"
    alpha: float
    looks: int | tuple[int, ...]
    """How often verdicts are looked at, or at which numbers of seeds."""
    axis: str
    seeds: tuple[int, ...]
    budget_unit: str
    """The binding unit, as `samples`."""
    rows: tuple[StudyRow, ...]
    notes: tuple[str, ...] = ()
    """What a reader should know of the data."""
    left_over: tuple[str, ...] = ()
    """Train keys that this study asked for under earlier settings and does not any more."""
    settings: dict[str, JsonValue]
    """The whole study as it was asked."""
    matched: dict[str, Match] = {}
    """Cell that was to cost what another costs -> the size it was given."""

    @property
    def judged(self) -> tuple[Endpoint, ...]:
        """Returns what verdicts are about: the endpoints, or the primary score."""
        return endpoints_of(self.endpoints, self.primary, self.equal_within)

    @property
    def keys(self) -> tuple[str, ...]:
        """Returns train keys, each once, in order."""
        return tuple(dict.fromkeys(row.run for row in self.rows))
