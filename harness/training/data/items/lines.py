"""What one line of a folder's `train.jsonl`, `val.jsonl` or `test.jsonl` holds, for each task."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import AfterValidator, BeforeValidator, Field

from architectures.frozen import Frozen, SettingError, checked
from harness.training.data.files import json_of, once
from harness.training.data.folder_pictures import missing
from harness.training.data.items.rows import Listed, Row
from harness.training.data.json_lines import BadLines, numbered_lines, object_of
from harness.training.data.scenes.truth import Box
from harness.training.data.sources.cells import is_blank, shortened
from harness.training.settings.data import Name

MOST_PICTURES = 16
"""Pictures of one item: their cells are read one after another."""


def _worded(text: str) -> str:
    if problem := text_problem(text):
        raise ValueError(problem)
    return text.strip()


def text_problem(text: str) -> str:
    """Says why a text cannot be read; empty: it can."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return "must be text that can be written as UTF-8"
    return "must not be blank" if is_blank(text) else ""


def normalised_answer(text: str) -> str:
    """Makes an answer's letters small and takes spaces from its ends; of several spaces within, one
    stays. Answers that are equal then are one answer."""
    return " ".join(text.lower().split())


def _weighted(answers: object) -> object:
    """Turns a list of people's answers, or an object of weights, into shares that add to 1."""
    if isinstance(answers, list):
        pairs = [(answer, 1.0) for answer in answers]
    elif isinstance(answers, dict):
        pairs = list(answers.items())
    else:
        raise ValueError("must be a list of answers, or an object of answers and their weights")
    weights: dict[str, float] = {}
    for answer, weight in pairs:
        if not isinstance(answer, str):
            raise ValueError(f"an answer is text, not {type(answer).__name__}")
        if problem := text_problem(answer):
            raise ValueError(f"an answer {problem}")
        if isinstance(weight, bool) or not isinstance(weight, int | float):
            raise ValueError(f"the weight of {shortened(answer)!r} is no number")
        if not 0 < weight <= 1e9:
            raise ValueError(f"the weight of {shortened(answer)!r} is {weight}; it must be above 0")
        name = normalised_answer(answer)
        weights[name] = weights.get(name, 0.0) + weight
    if not weights:
        raise ValueError("a question needs at least one answer")
    total = math.fsum(weights.values())
    by_weight = sorted(weights.items(), key=lambda pair: -pair[1])  # equal ones as they stand
    return [(answer, weight / total) for answer, weight in by_weight]


def _with_area(box: Box) -> Box:
    if box[2] <= box[0] or box[3] <= box[1]:
        raise ValueError("has no area: it is left, top, right and bottom, in pixels")
    return box


Text = Annotated[str, AfterValidator(_worded)]
Pixel = Annotated[float, Field(allow_inf_nan=False, strict=True)]
Pixels = Annotated[tuple[Pixel, Pixel, Pixel, Pixel], AfterValidator(_with_area)]
Answers = Annotated[tuple[tuple[str, float], ...], BeforeValidator(_weighted)]


class EntailmentLine(Frozen):
    """A sentence about a picture, and whether it follows."""

    pictures_field: ClassVar[str] = "image"
    image: Name
    """Path from the folder."""
    sentence: Text
    """What is said."""
    label: Text
    """One of the labels of the training items."""

    def row(self, where: str) -> Row:
        return Row(where, (self.image,), self.sentence, self.label)


class QuestionLine(Frozen):
    """A question about a picture, and what people answer."""

    pictures_field: ClassVar[str] = "image"
    image: Name
    """Path from the folder."""
    question: Text
    """What is asked."""
    answers: Answers
    """A list of people's answers, or answers with their weights."""

    def row(self, where: str) -> Row:
        return Row(where, (self.image,), self.question, self.answers[0][0], self.answers)


class PicturesLine(Frozen):
    """A sentence about several pictures, and whether it is true."""

    pictures_field: ClassVar[str] = "images"
    images: Annotated[tuple[Name, ...], Field(min_length=2, max_length=MOST_PICTURES)]
    """Paths from the folder."""
    sentence: Text
    """What is said."""
    label: bool
    """Whether it is true."""

    def row(self, where: str) -> Row:
        return Row(where, self.images, self.sentence, str(self.label).lower())


class ExpressionLine(Frozen):
    """Words that mean one thing of a picture, and its box."""

    pictures_field: ClassVar[str] = "image"
    image: Name
    """Path from the folder."""
    expression: Text
    """What the thing is called."""
    box: Pixels
    """Left, top, right and bottom edge of the thing, in pixels of the upright picture."""
    proposals: tuple[Pixels, ...] = ()
    """Boxes to choose from, likewise."""

    def row(self, where: str) -> Row:
        return Row(where, (self.image,), self.expression, box=self.box, proposals=self.proposals)


Line = EntailmentLine | QuestionLine | PicturesLine | ExpressionLine

LINES: dict[str, type[Line]] = {
    "entailment": EntailmentLine,
    "vqa": QuestionLine,
    "nlvr2": PicturesLine,
    "grounding": ExpressionLine,
}
"""Name of a task -> what its lines hold."""
EXAMPLES = {"entailment": "sentence", "vqa": "question", "nlvr2": "images", "grounding": "box"}
"""Name of a task -> a field that only its lines have."""


def read_lines(path: Path, folder: Path, task: str) -> Listed:
    """Reads and checks a file of lines; pictures must be there, and are not opened.

    Raises DataError that names file, line and field of the first bad lines, and how many there are.
    """
    bad, rows = BadLines(path, "items"), []
    images, problems = 0, dict[str, str]()
    lines = _rows_of(path, task)
    for where, row, problem in lines:
        if row is not None:
            images = images or len(row.images)
            for image in row.images:
                if image not in problems:
                    problems[image] = missing(image, folder)
            if problem := next(filter(None, map(problems.__getitem__, row.images)), ""):
                problem = f"field {LINES[task].pictures_field!r}: {problem}"
            elif len(row.images) != images:
                problem = (
                    f"field 'images': {len(row.images)} images, where the lines before have "
                    f"{images}; all items of a folder have equally many"
                )
        if problem:
            bad.add(f"{where}, {problem}")
        elif row is not None:
            rows.append(row)
    bad.complain(len(lines))
    pictures = f"field {LINES[task].pictures_field!r}"
    return Listed(path=path, rows=rows, pictures=pictures, label="field 'label'")


def _parsed(path: Path, task: str) -> list[tuple[str, Row | None, str]]:
    """Reads every line: its name, and its item or what is wrong with it."""
    rows: list[tuple[str, Row | None, str]] = []
    for number, text in numbered_lines(path):
        where = f"line {number}"
        try:
            line = checked(LINES[task], object_of(text, EXAMPLES[task]), "field ")
            rows.append((where, line.row(where), ""))
        except (ValueError, SettingError) as error:
            rows.append((where, None, str(error)))
    return rows


_rows_of = once(_parsed, most=6, largest=2**25)
"""The same, kept for this process: plan, checks, training and scores each open a task's items."""


def named_images(path: Path) -> Iterator[str]:
    """Yields every picture that a file of lines names; lines that cannot be read name none."""
    for _, text in numbered_lines(path):
        try:
            fields = json_of(text or "")
        except ValueError:
            continue
        if isinstance(fields, dict):
            several = fields.get("images")
            images = [fields.get("image"), *(several if isinstance(several, list) else [])]
            yield from (image for image in images if isinstance(image, str))
