"""An alpha ledger keeps account of the error rate that a night's comparisons share.

A file of JSON lines: the rule, then a line for each question that was asked of a study's results.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path

from pydantic import ValidationError

from architectures.frozen import Frozen, SettingError, path_named, readable
from harness.outputs.files import atomic_file, exclusive
from harness.outputs.records import DamagedFile
from harness.results.tables import Results
from harness.statistics.alpha_shares import alpha_share
from harness.training.settings.spec import digest

DEFAULT_ALPHA = 0.05


class Rule(Frozen):
    """A rule says how the questions of a ledger share its error rate; it never changes."""

    format: int = 1
    alpha: float
    """Chance of any false verdict over all questions."""
    questions: int | None = None
    """How many were declared, each with an equal share; null: any number, see `alpha_share`."""

    def share(self, place: int) -> float:
        return alpha_share(place, self.alpha, self.questions)

    @property
    def words(self) -> str:
        if self.questions is None:
            return f"question k has {self.alpha:g} x 6 / (pi k)^2"
        return f"each of {self.questions} questions has {self.alpha:g} / {self.questions}"


class Question(Frozen):
    """A question is what was asked of a study's results once."""

    study: str
    data: str
    """Digest of what was asked and of the scores that answered."""
    level: float


@dataclasses.dataclass(frozen=True)
class Share:
    """A share is what the ledger grants one question."""

    place: int
    """Number of the question, from 1."""
    level: float
    left: float
    """Of the ledger's alpha, for all later questions."""
    repeated: bool
    """Whether the same was asked of the same data before, which costs nothing."""
    rule: Rule


def question_of(results: Results, scores: Iterable[str]) -> str:
    """Returns the digest of what is asked of which data: cells, control, region, and the values of
    these scores."""
    study = results.study
    asked = study.model_dump(
        mode="json", exclude={"name", "question", "notes", "left_over", "settings", "alpha"}
    )
    values = {name: [repr(value) for value in results.values(name)] for name in scores}
    return digest({"asked": asked, "values": values})


def ask(
    file: Path,
    study: str,
    data: str,
    alpha: float | None = None,
    questions: int | None = None,
) -> Share:
    """Enters a question, and returns its share; one that stands there already gets its share again.

    `alpha`, `questions`: the rule of a new ledger; of one that is there they must agree. The file
    is on the disk before this returns. Raises SettingError where the rule differs or no share is
    left, `DamagedFile`, and `Locked` where another process asks right now.
    """
    file = path_named(file)
    with exclusive(file.with_name(f".{file.name}.lock"), f"{file} is being written"):
        rule, asked = _read(file, alpha, questions)
        places = [place for place, each in enumerate(asked, 1) if each.data == data]
        place = places[0] if places else len(asked) + 1
        level = rule.share(place)
        if not level:
            raise SettingError(
                f"{file}: all {rule.questions} declared questions are asked; nothing is left"
            )
        if not places:
            asked.append(Question(study=study, data=data, level=level))
            with atomic_file(file, durable=True) as part:
                part.write_text("".join(line.model_dump_json() + "\n" for line in (rule, *asked)))
    left = rule.alpha - sum(map(rule.share, range(1, len(asked) + 1)))
    return Share(place, level, max(left, 0.0), bool(places), rule)


def _read(file: Path, alpha: float | None, questions: int | None) -> tuple[Rule, list[Question]]:
    """Reads a ledger; where there is none, a new rule and no question."""
    try:
        lines = file.read_text().splitlines()
    except FileNotFoundError:
        if (alpha is not None and not 0 < alpha < 1) or (questions is not None and questions < 1):
            raise SettingError(
                f"--alpha {alpha}, --questions {questions}: alpha lies between 0 and 1, and there "
                "is at least one question"
            ) from None
        return Rule(alpha=DEFAULT_ALPHA if alpha is None else alpha, questions=questions), []
    remedy = "mend the line: without it nobody knows what is left"
    if not lines:
        raise DamagedFile(file, "is empty", "delete it where nothing was asked yet")
    records: list[Frozen] = []
    for number, line in enumerate(lines, 1):
        kind = Rule if number == 1 else Question
        try:
            records.append(kind.model_validate(json.loads(line)))
        except ValidationError as error:
            raise DamagedFile(file, f"line {number}: {readable(error)}", remedy) from None
        except (ValueError, RecursionError):
            raise DamagedFile(file, f"line {number} is no JSON", remedy) from None
    rule, *asked = records
    assert isinstance(rule, Rule)
    for name, value in (("alpha", alpha), ("questions", questions)):
        if value is not None and value != getattr(rule, name):
            raise SettingError(
                f"--{name} {value:g}: {file} was begun with {getattr(rule, name)}; a rule never "
                "changes, begin a new ledger"
            )
    return rule, [each for each in asked if isinstance(each, Question)]
