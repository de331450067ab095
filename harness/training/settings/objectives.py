"""The settings of the pre-training losses: weights, targets, and the momentum teacher."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from architectures.facts import OBJECTIVES
from architectures.frozen import Frozen


class ITC(Frozen, allow_inf_nan=False):
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
    share: `positive` leaves them out; to `sigmoid` they match."""
    loss: Literal["softmax", "sigmoid", "hinge_sum", "hinge_max"] = "softmax"
    """`softmax`: cross-entropy of cosine / temperature. `sigmoid`: every pair of the batch by
    itself, does it match or not, from cosine / temperature + a learnt bias, added up over a row
    (SigLIP, Zhai et al. 2023, whose temperature starts at 0.1). `hinge_sum`: by how much negatives
    come within the margin of the own pair, added up over a row; `hinge_max`: of the hardest one
    alone (VSE++), which from random weights may never leave all cosines equal, a loss of `margin`.
    Hinges take cosines as they are; the temperature keeps its start, for ITM's draw."""
    bias: float = -10.0
    """Start of the bias of `sigmoid`: nearly all pairs of a batch do not match."""
    margin: Annotated[float, Field(gt=0, le=2)] = 0.2
    """How far, in cosine, a hinge wants negatives below the own pair."""
    candidates: Literal["batch", "teacher"] = "batch"
    """What a picture or caption is compared with (MoCo's keys): the batch's own features, which
    learn too (CLIP), or the momentum teacher's (MoCo, ALBEF), which do not."""
    queue: Annotated[int, Field(ge=0)] = 0
    """Features of earlier batches, the teacher's, that are candidates beside those of the batch
    (ALBEF: 65,536). The oldest leave first. Needs `candidates` to be `teacher`."""
    queue_start: Literal["empty", "noise"] = "empty"
    """What the queue holds before it is full: nothing, or (as published) random unit vectors."""
    gather: bool = True
    """Where several workers train one model: candidates are the features of all workers, with
    gradients where they learn; false: of the own worker (ALBEF, whose queue alone is of all), and
    then the negatives of ITM are too."""
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
        if self.queue and self.candidates != "teacher":
            raise ValueError(
                f"itc.queue is {self.queue}, but a queue holds features of the teacher: set "
                "itc.candidates to 'teacher'"
            )
        if self.loss != "softmax" and (self.candidates == "teacher" or self.distil):
            raise ValueError(
                f"itc.loss is {self.loss!r}, which is over the batch alone: set itc.candidates to "
                "'batch' and itc.distil to 0"
            )
        return self


class ITM(Frozen, allow_inf_nan=False):
    """Image-text matching: one positive and two negatives a pair, two classes (ALBEF)."""

    weight: Annotated[float, Field(ge=0)] = 1.0
    """Factor in the total loss; 0 turns the objective off."""
    hard_share: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Chance that a negative is drawn by ITC similarity and not uniformly: 1 as ALBEF, 0 as ViLT.
    From scratch a short budget needs both kinds: hard negatives alone differ in one word, and ITM
    stays at the majority. Without ITC all are drawn uniformly."""
    swap_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Chance that the wrong caption of a picture is its own caption with the same words in another
    arrangement, where there is one (NegCLIP, Yuksekgonul et al. 2023): by ground truth on scenes,
    by rule elsewhere (`data.swapping`). There are no more negatives than without. Negatives of
    validation curves stay those of other pictures."""
    same: Literal["masked", "negative"] = "masked"
    """Other pairs that match (same group, picture or caption): never drawn, or (as published, where
    only the own pair's weight is set to 0) drawn like any other."""
    gather: bool = True
    """Where several workers train one model: negatives are drawn among the rows of all workers,
    whose states are gathered with gradients (BLIP-2), as one worker draws them; false: among those
    of the own worker, with less to send."""


class MLM(Frozen, allow_inf_nan=False):
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
            raise ValueError(
                f"mlm.mask_share + mlm.random_share is {self.mask_share + self.random_share:g}: "
                "lower either, to 1 together at most"
            )
        return self


class LM(Frozen, allow_inf_nan=False):
    """Captioning: each word of the caption from those before it and the picture, by the layers that
    fuse under a causal mask (BLIP, Li et al. 2022; CoCa, Yu et al. 2022)."""

    weight: Annotated[float, Field(ge=0)] = 0.0
    """Factor in the total loss; 0 turns the objective off."""
    smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the target that all words of the vocabulary have alike, in training (BLIP)."""
    prefix: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Largest share of a caption's tokens that is given: its first ones, which read one another and
    are not predicted (prefix LM; SimVLM, Wang et al. 2022). How many is drawn for each caption, any
    number from none on alike. 0, and validation curves: all are predicted."""


class Teacher(Frozen, allow_inf_nan=False):
    """The momentum teacher (ALBEF): a twin of the design that follows it slowly. A run has one
    where a setting needs it: `itc.candidates`, `itc.distil` or `mlm.distil`."""

    momentum: Annotated[float, Field(ge=0, le=1)] = 0.995
    """Share of its weights that it keeps in a step; the rest is the design's."""
    update: Literal["before", "after"] = "before"
    """Whether the teacher follows before or after it reads the batch of a step. Before, as
    published: its outputs then already contain a share of the weights that the step starts with."""
    dropout: bool = True
    """Whether dropout is active in it, as published, where it stays in training mode."""
    ramp_epochs: Annotated[float, Field(ge=0)] = 1.0
    """Epochs over which `distil` grows from 0 to its value, in a straight line."""


class Objectives(Frozen, allow_inf_nan=False):
    """The pre-training losses; each is a switch by its weight, distillation by its share."""

    itc: ITC = ITC()
    """Contrastive loss on the two towers."""
    itm: ITM = ITM()
    """Matching loss on the fused states."""
    mlm: MLM = MLM()
    """Masked words from the fused states."""
    lm: LM = LM()
    """Word after word from the fused states, beside MLM or in its place."""
    teacher: Teacher = Teacher()
    """Momentum distillation, and candidates for ITC."""

    def active(self) -> tuple[str, ...]:
        """Returns the names of the objectives with a weight above 0, in a fixed order."""
        return tuple(n for n in OBJECTIVES if getattr(self, n).weight > 0)

    def taught(self) -> tuple[str, ...]:
        """Returns the names of the active objectives that read the momentum teacher."""
        reads = {
            "itc": self.itc.candidates == "teacher" or self.itc.distil > 0,
            "mlm": self.mlm.distil > 0,
        }
        return tuple(name for name in self.active() if reads.get(name))


ALBEF_OBJECTIVES = Objectives(
    itc=ITC(
        candidates="teacher",
        queue=65_536,
        queue_start="noise",
        gather=False,
        distil=0.4,
        same="negative",
    ),
    itm=ITM(same="negative"),
    mlm=MLM(distil=0.4),
)
"""ALBEF's pre-training losses as published (salesforce/ALBEF): ITC against teacher and queue, ITM
with hard negatives, MLM, and momentum distillation of ITC and MLM. As published, other pairs that
match count as wrong: set `itc.same` and `itm.same` for the rule of identity.
"""

SHORT_OBJECTIVES = Objectives(itc=ITC(temperature=0.2), itm=ITM(hard_share=0.25))
