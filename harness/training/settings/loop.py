"""What a study may set besides its designs: data, objectives, optimizer, budget, numerics.

Frozen data only, without torch. The documentation of a field stands under the field.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from architectures.frozen import Frozen, checked

Share = Annotated[float, Field(ge=0.0, lt=1.0)]
Positive = Annotated[int, Field(gt=0)]


class Text(Frozen):
    """How captions become token ids."""

    tokenizer: str = "wordpiece"
    """`wordpiece` trains one on the training captions; else a Hugging Face folder or hub name."""
    vocabulary: Positive = 512
    """Largest vocabulary of a trained WordPiece, special tokens included."""
    max_tokens: Annotated[int, Field(ge=3)] = 16
    """Longest caption in tokens, [CLS] and [SEP] included; longer ones are cut."""


class Scenes(Frozen):
    """Built-in pictures of coloured shapes, drawn from a seed, with full ground truth."""

    kind: Literal["scenes"] = "scenes"
    train: Positive = 20_000
    """Pictures to train on."""
    val: Positive = 512
    """Pictures for validation curves, tuning and selection."""
    test: Positive = 512
    """Pictures for final scores."""
    objects: tuple[Positive, Positive] = (1, 1)
    """Fewest and most objects in a picture."""
    captions: Positive = 3
    """Captions of every picture, worded differently."""
    seed: int = 0
    """Which corpus; independent of the training seed."""
    text: Text = Text()
    """Tokenizer and length."""


class Pictures(Frozen):
    """Image-caption rows in parquet files, a Hugging Face `datasets` folder or a hub dataset."""

    kind: Literal["pictures"] = "pictures"
    train: str
    """Parquet file, several by a glob, a folder saved by `datasets`, or `hub:NAME[:SPLIT]`."""
    val: str = ""
    """The same for validation; empty: `val_share` of the training groups is held out."""
    test: str = ""
    """The same for final scores; empty: `test_share` of the training groups is held out."""
    val_share: Share = 0.05
    """Share of the groups held out for validation where `val` is empty."""
    test_share: Share = 0.1
    """Share of the groups held out for the test where `test` is empty."""
    image: str = "image"
    """Column with the picture: encoded bytes, a `{bytes, path}` record, or a path to a file."""
    caption: str = "caption"
    """Column with the caption or the list of captions."""
    group: str = ""
    """Column whose equal values mean the same thing; empty: only equal pictures or captions do."""
    fit: Literal["squash", "crop", "pad"] = "squash"
    """How a picture becomes square: stretched, cut in the centre, or put on white."""
    augment: Literal["none", "crop", "crop_flip"] = "none"
    """Training augmentation: random resized crop, and a flip (wrong for `left` and `right`)."""
    smallest_crop: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Smallest area of a random crop, as a share of the picture."""
    seed: int = 0
    """Which groups are held out; independent of the training seed."""
    text: Text = Text(vocabulary=4096, max_tokens=24)
    """Tokenizer and length."""


Data = Annotated[Scenes | Pictures, Field(discriminator="kind")]


class ITC(Frozen):
    """Image-text contrastive learning (Radford et al. 2021; ALBEF; VSE++)."""

    weight: Annotated[float, Field(ge=0)] = 1.0
    """Factor in the total loss; 0 turns the objective off."""
    temperature: Annotated[float, Field(gt=0)] = 0.07
    """Start of the learnable temperature; logits are cosine / temperature."""
    temperature_range: tuple[float, float] = (0.001, 0.5)
    """Bounds the temperature is clamped to around every step."""
    same: Literal["positive", "masked", "negative"] = "positive"
    """Other pairs that match (same group, picture or caption), in the batch and in the queue: they
    share the target, are left out, or (as published) are wrongly negative. A hinge has no target to
    share: `positive` leaves them out."""
    loss: Literal["softmax", "hinge_sum", "hinge_max"] = "softmax"
    """`softmax`: cross-entropy of cosine / temperature. `hinge_sum`: by how much negatives come
    within the margin of the own pair, added up over a row; `hinge_max`: of the hardest one alone
    (VSE++), which from random weights may never leave all cosines equal, a loss of `margin`. Hinges
    take cosines as they are; the temperature keeps its start, for ITM's draw."""
    margin: Annotated[float, Field(gt=0, le=2)] = 0.2
    """How far, in cosine, a hinge wants negatives below the own pair."""
    keys: Literal["batch", "teacher"] = "batch"
    """What a picture or caption is compared with: the batch's own features, which learn too (CLIP),
    or the momentum teacher's (MoCo, ALBEF), which do not."""
    queue: Annotated[int, Field(ge=0)] = 0
    """Features of earlier batches, the teacher's, that are keys beside those of the batch (ALBEF:
    65,536). The oldest leave first. Needs `keys` to be `teacher`."""
    queue_start: Literal["empty", "noise"] = "empty"
    """What the queue holds before it is full: nothing, or (as published) random unit vectors."""
    gather: bool = True
    """Where several workers train one model: keys are the features of all workers, with gradients
    where they learn; false: of the own worker (ALBEF, whose queue alone is of all)."""
    distil: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share (alpha) of the momentum teacher's softmax in the targets (ALBEF: 0.4); 0: none."""

    @model_validator(mode="after")
    def _fits(self) -> ITC:
        low, high = self.temperature_range
        if not 0 < low <= self.temperature <= high:
            raise ValueError(
                f"itc.temperature is {self.temperature}, but it is kept within "
                f"itc.temperature_range, {low} to {high}: change either, so that 0 < lowest <= "
                "temperature <= highest"
            )
        if self.queue and self.keys != "teacher":
            raise ValueError(
                f"itc.queue is {self.queue}, but a queue holds features of the teacher: set "
                "itc.keys to 'teacher'"
            )
        if self.loss != "softmax" and (self.keys == "teacher" or self.distil):
            raise ValueError(
                f"itc.loss is {self.loss!r}, a hinge over the batch alone: set itc.keys to 'batch' "
                "and itc.distil to 0"
            )
        return self


class ITM(Frozen):
    """Image-text matching: one positive and two negatives a pair, two classes (ALBEF)."""

    weight: Annotated[float, Field(ge=0)] = 1.0
    """Factor in the total loss; 0 turns the objective off."""
    hard_share: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Chance that a negative is drawn by ITC similarity and not uniformly: 1 as ALBEF, 0 as ViLT.
    From scratch a short budget needs both kinds: hard negatives alone differ in one word, and ITM
    stays at the majority. Without ITC all are drawn uniformly."""
    same: Literal["masked", "negative"] = "masked"
    """Other pairs that match (same group, picture or caption): never drawn, or (as published, where
    only the own pair's weight is set to 0) drawn like any other."""


class MLM(Frozen):
    """Masked language modelling with the picture in view (BERT's 80/10/10 rule)."""

    weight: Annotated[float, Field(ge=0)] = 1.0
    """Factor in the total loss; 0 turns the objective off."""
    share: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """Chance of each real token, special ones apart, to be predicted."""
    mask_share: Annotated[float, Field(ge=0, le=1)] = 0.8
    """Share of predicted tokens replaced by [MASK]."""
    random_share: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Share of predicted tokens replaced by a random word; the rest stay."""
    whole_words: bool = False
    """Predict all pieces of a word or none (ViLT, VLMo), so that none gives another away."""
    distil: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share (alpha) of the loss against the momentum teacher's words (ALBEF: 0.4); 0: none."""

    @model_validator(mode="after")
    def _shares_fit(self) -> MLM:
        if self.mask_share + self.random_share > 1:
            raise ValueError("mask_share + random_share is more than 1")
        return self


class Teacher(Frozen):
    """The momentum teacher (ALBEF): a twin of the design that follows it slowly. It is there where
    an objective asks for it: `itc.keys`, `itc.distil`, `mlm.distil`."""

    momentum: Annotated[float, Field(ge=0, le=1)] = 0.995
    """Share of its weights that it keeps in a step; the rest is the design's."""
    update: Literal["before", "after"] = "before"
    """Whether it follows before or after it is asked in a step. Before, as published: it then says
    what the weights that the step starts with have already moved."""
    dropout: bool = True
    """Whether dropout is active in it, as published, where it stays in training mode."""
    ramp_epochs: Annotated[float, Field(ge=0)] = 1.0
    """Epochs over which `distil` grows from 0 to its value, in a straight line."""


class Objectives(Frozen):
    """The pre-training losses; each is a switch by its weight, distillation by its share."""

    itc: ITC = ITC()
    """Contrastive loss on the two towers."""
    itm: ITM = ITM()
    """Matching loss on the fused states."""
    mlm: MLM = MLM()
    """Masked words from the fused states."""
    teacher: Teacher = Teacher()
    """Momentum distillation, and keys for ITC."""

    def active(self) -> tuple[str, ...]:
        """Names of the objectives with a weight above 0, in a fixed order."""
        return tuple(n for n in ("itc", "itm", "mlm") if getattr(self, n).weight > 0)

    def taught(self) -> tuple[str, ...]:
        """Those of the active objectives that ask for the momentum teacher."""
        asks = {
            "itc": self.itc.keys == "teacher" or self.itc.distil > 0,
            "mlm": self.mlm.distil > 0,
        }
        return tuple(name for name in self.active() if asks.get(name))


ALBEF_OBJECTIVES = Objectives(
    itc=ITC(
        keys="teacher", queue=65_536, queue_start="noise", gather=False, distil=0.4, same="negative"
    ),
    itm=ITM(same="negative"),
    mlm=MLM(distil=0.4),
)
"""ALBEF's pre-training losses as published (salesforce/ALBEF): ITC against teacher and queue, ITM
with hard negatives, MLM, and momentum distillation of ITC and MLM. What it takes for wrong pairs
though they match is left as it is there: set `itc.same` and `itm.same` for the rule of identity.
"""


class Optimizer(Frozen):
    """AdamW with linear warm-up and cosine decay tied to the budget."""

    learning_rate: Annotated[float, Field(gt=0)] = 5e-4
    """Peak learning rate."""
    final_share: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Learning rate at the end, as a share of the peak."""
    warmup_share: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the steps spent in linear warm-up."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.02
    """Decoupled decay of matrices; biases, norms and other one-dimensional tensors have none."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Adam's averages."""
    eps: Annotated[float, Field(gt=0)] = 1e-8
    """Adam's epsilon."""
    clip_norm: Annotated[float, Field(ge=0)] = 1.0
    """Largest gradient norm; 0 turns clipping off."""


SHORT_OBJECTIVES = Objectives(itc=ITC(temperature=0.2), itm=ITM(hard_share=0.25))
SHORT_OPTIMIZER = Optimizer(
    learning_rate=6e-4, betas=(0.9, 0.95), warmup_share=0.15, final_share=0.2, clip_norm=0.0
)
"""What lets nano learn in a few hundred steps of 64 from random weights, found on the split
(LOG.md): a warm temperature and short averages bring ITC off its plateau, and mostly uniform
negatives bring ITM after it.
"""


class WarmStart(Frozen):
    """BERT, DistilBERT and ViT trained before the runs, on the study's own training data alone.
    They stand in for pretrained weights, for all designs alike. A design that has a text stage
    (`multiway`, after VLMo) takes its text parts from that, and not from the BERT."""

    bert_samples: Positive = 12_800
    """Captions that BERT learns masked words from."""
    distil_samples: Positive = 6_400
    """Captions by which half of its layers learn from it to be a DistilBERT."""
    vit_samples: Positive = 12_800
    """Pictures that the ViT learns from."""
    text_stage_samples: Annotated[int, Field(ge=0)] = 12_800
    """Captions that the text parts of a design with a text stage then learn masked words from, on
    top of the ViT, whose attention stays as it is; 0: no such stage. Other designs ignore it."""
    vit_task: Literal["auto", "classes", "patches"] = "auto"
    """`classes`: which group a picture is of; `patches`: the pixels of hidden patches; `auto`:
    classes where a group has four training pictures or more, on average, else patches."""
    batch_size: Annotated[int, Field(ge=2)] = 64
    """Captions or pictures a step."""
    optimizer: Optimizer = Optimizer(learning_rate=1e-3)
    """AdamW's settings, of each of them."""
    seed: int = 20_000
    """Of weights, batches and masks; apart from the seeds of the runs, which share the result."""


class Budget(Frozen):
    """The binding unit, exactly one; turned into optimizer steps once, before training."""

    samples: Positive | None = None
    """Image-caption pairs seen."""
    steps: Positive | None = None
    """Optimizer steps."""

    @model_validator(mode="after")
    def _exactly_one(self) -> Budget:
        given = [n for n in type(self).model_fields if getattr(self, n) is not None]
        if len(given) != 1:
            raise ValueError(f"a budget names exactly one of samples, steps; given: {given}")
        return self

    def with_fields(self, changes: Mapping[str, Any]) -> Self:
        """Another unit takes the place of the one that bound before."""
        return checked(type(self), changes)


class Numerics(Frozen):
    """What the bits of a result depend on besides the seed: one choice for a whole study."""

    threads: Positive = 1
    """CPU threads of one run."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """bfloat16: forward and backward under autocast, weights and optimizer in float32."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Kind of device."""


class Measure(Frozen):
    """When and on what the validation curves are measured."""

    points: Positive = 10
    """Measurements, evenly spaced over the budget; one more before the first step."""
    items: Positive = 512
    """Validation pictures used, with fixed captions, masks and negatives."""
    gap_items: Annotated[int, Field(ge=0)] = 128
    """Training pictures measured in the same way, for the gap to validation; 0: none."""
    checkpoints: Positive = 5
    """Checkpoints written over the budget (at measurements); only the newest is kept."""


class Retrieval(Frozen):
    """Image-text retrieval: ITC alone, the top k re-ranked by the ITM head, or by ITM alone."""

    name: Literal["retrieval"] = "retrieval"
    """Which task file scores it."""
    rerank: Positive = 16
    """Candidates of the ITC ranking that the ITM head scores again."""
    every_pair: Positive = 500_000
    """Without ITC nothing ranks first, and the ITM head scores every picture with every caption: up
    to so many pairs; a split with more is refused before the run trains."""
    split: Literal["val", "test"] = "test"
    """Which split is scored."""
    captions: Literal["first", "all"] = "first"
    """Captions of a picture that are queries and candidates."""
