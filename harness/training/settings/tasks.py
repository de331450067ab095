"""The settings of every downstream task that can score a trained design."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, get_args

from pydantic import AfterValidator, Field

from architectures.frozen import Frozen
from harness.training.settings.data import Name, Positive


def _not_mean(kind: str) -> str:
    if kind == "mean":
        raise ValueError("is the name of the mean of all kinds; name the kind otherwise")
    return kind


Kind = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$"), AfterValidator(_not_mean)]


VALIDATION, MEAN, ARRIVAL = "validation", "mean_over_training", "steps_until"
"""What the last validation stands under, the means of its curves, and when those of binding came to
.75."""
BESIDE_TASKS = (VALIDATION, MEAN, ARRIVAL)
"""What scores of training stand under, and so no task."""


class TaskSettings(Frozen, allow_inf_nan=False):
    """What every task has."""

    label: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]*$")] = ""
    """What its scores stand under; empty: the task's name. Two settings of one task in one study
    need one."""

    paths: ClassVar[tuple[str, ...]] = ()
    """Fields that name a folder, empty for none: scores are known by its content, not its place."""

    @property
    def title(self) -> str:
        """What its scores stand under."""
        return self.label or str(getattr(self, "name"))  # noqa: B009  a field of every kind


class Retrieval(TaskSettings, allow_inf_nan=False):
    """Image-text retrieval: ITC alone, the top k re-ranked by the ITM head, or by ITM alone."""

    name: Literal["retrieval"] = "retrieval"
    """Which task file scores it."""
    rerank: Positive = 16
    """Candidates of the ITC ranking that the ITM head scores again."""
    every_pair: Positive = 500_000
    """Without ITC nothing ranks first, and the ITM head scores every picture with every caption: up
    to so many pairs; a split with more is refused before the run trains. With ITC, the most pairs
    beyond `rerank` that are scored because cosines tie; with more, ties are drawn by lot."""
    split: Literal["val", "test"] = "test"
    """Which split is scored."""
    captions: Literal["first", "all"] = "first"
    """Captions of a picture that are queries and candidates."""


class Pairs(TaskSettings, allow_inf_nan=False):
    """Groups of pictures and captions that only a joint reading tells apart, by ITC and by ITM."""

    name: Literal["pairs"] = "pairs"
    """Which task file scores it."""
    groups: str = ""
    """Folder of a `groups.jsonl` and its pictures, as `fuselab convert` writes it; empty: swap
    groups of the scenes, whose descriptions no training picture has."""
    count: Positive = 256
    """Swap groups drawn of the scenes; a folder is taken whole."""
    split: Literal["val", "test"] = "test"
    """Of the scenes: which split the swap groups belong to."""
    tags: tuple[Name, ...] = ()
    """Only groups of these tags, whose scores a study may then name as `primary`; empty: all."""
    fit: Literal["squash", "crop", "pad"] = "squash"
    """How a picture of a folder becomes square: stretched, cut in the centre, or put on white."""
    floors: bool = True
    """For groups of one picture: also score the mean picture in place of each, and a classifier of
    words alone, the blind floors."""
    folds: Annotated[int, Field(ge=2, le=100)] = 5
    """Parts into which the groups fall for the classifier; each is judged by one that never saw
    it."""
    paths: ClassVar[tuple[str, ...]] = ("groups",)


class Words(TaskSettings, allow_inf_nan=False):
    """Masked words by kind: colours, shapes, places, directions and numbers apart."""

    name: Literal["words"] = "words"
    """Which task file scores it."""
    split: Literal["val", "test"] = "test"
    """Which split is scored."""
    captions: Literal["first", "all"] = "first"
    """Captions of a picture in which words are masked."""
    words: dict[Kind, tuple[Name, ...]] = {}
    """Kind -> its words; `left of` is the word `left` where `of` follows, and wins over `left`.
    Empty: those of the scenes."""
    items: Positive = 512
    """Most masked words of a kind, spread evenly over the split."""


TaskSpec = Annotated[Retrieval | Pairs | Words, Field(discriminator="name")]

KINDS: tuple[type[TaskSettings], ...] = get_args(get_args(TaskSpec)[0])
"""The records that `TaskSpec` is one of."""
