"""The settings of every downstream task that can score a trained design."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self, get_args

from pydantic import AfterValidator, Field, model_validator

from harness.training.settings.data import Name, Positive
from harness.training.settings.task import FineTune, Learnt, TaskSettings


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
    finetune: FineTune | None = None
    """Learn ITC and ITM on the training captions first, as ALBEF's retrieval fine-tuning; null: the
    trained design is scored as it is."""

    asked: ClassVar[tuple[str, ...]] = ("label", "rerank", "every_pair", "split", "captions")


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


class Entailment(Learnt, allow_inf_nan=False):
    """Does a sentence follow from a picture? As SNLI-VE: a head of a class each on the fused
    [CLS]. Lines of a folder: `{"image": ..., "sentence": ..., "label": ...}`."""

    name: Literal["entailment"] = "entailment"
    """Which task file scores it."""
    head: Literal["albef", "meter"] = "albef"
    """`albef`: linear, ReLU, linear; `meter`: linear to twice the width, norm, GELU, linear."""


class VQA(Learnt, allow_inf_nan=False):
    """Questions about a picture. Lines of a folder: `{"image": ..., "question": ..., "answers":
    [...]}`, the answers of several people, or an object of answers with their weights."""

    name: Literal["vqa"] = "vqa"
    """Which task file scores it."""
    form: Literal["classifier", "decoder"] = "classifier"
    """`classifier`: one logit an answer, binary cross-entropy (METER, BridgeTower); `decoder`: a
    causal decoder over the fused question, that ranks the answers (ALBEF)."""
    head: Literal["albef", "meter"] = "meter"
    """The classifier's head."""
    answers: Positive = 3_129
    """The most common answers of the training questions, which can be given."""
    rank: Positive = 128
    """Of the decoder: answers that are ranked, the best by their first token."""
    first_token_twice: bool = False
    """Of the decoder: count the first token's probability twice, as published."""

    asked: ClassVar[tuple[str, ...]] = (*Learnt.asked, "rank", "first_token_twice")

    @model_validator(mode="after")
    def _only_what_is_read(self) -> Self:
        if self.form == "classifier" and self.finetune.distil:
            raise ValueError("finetune.distil softens the decoder's targets alone; set form or it")
        return self


class NLVR2(Learnt, allow_inf_nan=False):
    """Is a sentence true of two (or n) pictures? Lines of a folder: `{"images": [...], "sentence":
    ..., "label": true}`."""

    name: Literal["nlvr2"] = "nlvr2"
    """Which task file scores it."""
    form: Literal["pair", "duplicated"] = "pair"
    """`pair`: the sentence is fused with each picture, one head reads all (BridgeTower);
    `duplicated`: every fusion layer becomes one for each picture, which share keys and values of
    cross-attention (ALBEF)."""
    picture_types: Literal["one", "each"] = "one"
    """Of `pair`. `one`: every picture has the design's image-type row; `each`: those after the
    first have rows of their own, which start from it (METER, BridgeTower)."""
    head: Literal["albef", "meter"] = "albef"
    """See `Entailment.head`."""

    @model_validator(mode="after")
    def _rows_of_a_pair(self) -> Self:
        if self.form == "duplicated" and self.picture_types == "each":
            raise ValueError("picture_types 'each' is for form 'pair'; leave one of them out")
        return self


class Grounding(TaskSettings, allow_inf_nan=False):
    """Where in the picture is what an expression names? Grad-CAM of the match on attention maps
    (ALBEF on RefCOCO+). Lines of a folder: `{"image": ..., "expression": ..., "box": [left, top,
    right, bottom], "proposals": [[...], ...]}`, in pixels."""

    name: Literal["grounding"] = "grounding"
    """Which task file scores it."""
    source: str = ""
    """Folder of `test.jsonl` (or `val.jsonl`) with its pictures; empty: expressions of the
    scenes."""
    items: Positive = 1_000
    """Of scenes: expressions that are scored. A folder is taken whole."""
    split: Literal["val", "test"] = "test"
    """Which split is scored."""
    fit: Literal["squash", "pad"] = "squash"
    """How a picture of a folder becomes square."""
    by: Literal["itm", "itc"] = "itm"
    """`itm`: cross-attention maps, weighed by the gradient of the match logit; `itc`: the image
    tower's attention of its [CLS], weighed by that of the cosine. A design that has only the other
    way is asked by that: by ITC one without ITM, or where no word reads image tokens."""
    layer: int | None = None
    """Which map: of ITM the number of the crossing, from 0; of ITC the image block. Negative: from
    the end. null: of crossings the middle one, of blocks that two thirds up, as ALBEF's third of
    six fusion layers and its ninth of twelve blocks."""
    places: bool = False
    """Of scenes: expressions may also say where the thing stands."""
    train_items: Positive = 20_000
    """Of scenes: expressions that are learnt, where `finetune` says so."""
    finetune: FineTune | None = None
    """Learn ITC and ITM on pictures with expressions first, as ALBEF does on RefCOCO+ (a folder
    then needs a `train.jsonl`); null: the trained design is asked as it is."""

    paths: ClassVar[tuple[str, ...]] = ("source",)
    asked: ClassVar[tuple[str, ...]] = ("label", "items", "split", "by", "layer")


class ImageProbe(TaskSettings, allow_inf_nan=False):
    """What a linear classifier reads off the frozen image tower alone: what fusion did to it."""

    name: Literal["image_probe"] = "image_probe"
    """Which task file scores it."""
    source: str = ""
    """Folder of `train/CLASS/*.png` and `test/CLASS/*.png` (any format that is read, `val` where
    there is no `test`); empty: what a thing of the scenes looks like."""
    split: Literal["val", "test"] = "test"
    """Which split is scored."""
    train_items: Positive = 5_000
    """Of scenes: pictures that the classifier is trained on."""
    items: Positive = 2_000
    """Of scenes: pictures that are scored."""
    of: Literal["colour", "shape", "place", "size", "number"] = "colour"
    """Of scenes: what is read, of the largest thing, or how many things there are."""
    reads: Literal["pooled", "class_token", "mean"] = "class_token"
    """Features: what ITC reads, the tower's class token, or the mean of its other tokens."""
    decay: Annotated[float, Field(ge=0)] = 1e-3
    """Weight of the squared weights in the loss."""
    fit: Literal["squash", "crop", "pad"] = "squash"
    """How a picture of a folder becomes square."""

    paths: ClassVar[tuple[str, ...]] = ("source",)


class Sentences(Learnt, allow_inf_nan=False):
    """Sentence classification by the text stack alone, fine-tuned: what fusion did to it. Of a
    folder `train.tsv` and `dev.tsv` (GLUE's), and `test.tsv` where it has labels."""

    name: Literal["sentences"] = "sentences"
    """Which task file scores it."""
    text: Annotated[tuple[Name, ...], Field(min_length=1, max_length=2)] = ("sentence",)
    """Columns of the text; of two, the second stands behind [SEP]. A file without a header has
    columns `0`, `1`, ..."""
    column: Name = "label"
    """Column of the label."""
    head: Literal["albef", "meter"] = "albef"
    """See `Entailment.head`."""

    @model_validator(mode="after")
    def _label_is_not_read(self) -> Self:
        if self.column in self.text:
            raise ValueError(f"column {self.column!r} is the label and stands in text too")
        return self


TaskSpec = Annotated[
    Retrieval | Pairs | Words | Entailment | VQA | NLVR2 | Grounding | ImageProbe | Sentences,
    Field(discriminator="name"),
]

KINDS: tuple[type[TaskSettings], ...] = get_args(get_args(TaskSpec)[0])
"""The records that `TaskSpec` is one of."""
