"""The settings of the training loop: optimizer, budget, numerics, measuring, final weights.

Frozen records without torch. The documentation of a field stands under the field.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from architectures.frozen import Frozen, checked
from harness.training.settings.data import Positive

Decay = Annotated[float, Field(ge=0, lt=1)]


class Optimizer(Frozen, allow_inf_nan=False):
    """AdamW with linear warm-up and cosine decay tied to the budget."""

    learning_rate: Annotated[float, Field(gt=0)] = 5e-4
    """Peak learning rate."""
    final_share: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Learning rate at the end, as a share of the peak."""
    warmup_share: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the steps spent in linear warm-up."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.02
    """Decoupled decay of matrices; biases, norms and other one-dimensional tensors have none."""
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    """Share that Adam's averages of the gradient and of its square keep in a step."""
    eps: Annotated[float, Field(gt=0)] = 1e-8
    """Adam's epsilon."""
    clip_norm: Annotated[float, Field(ge=0)] = 1.0
    """Largest gradient norm; 0 turns clipping off."""


SHORT_OPTIMIZER = Optimizer(
    learning_rate=6e-4, betas=(0.9, 0.95), warmup_share=0.15, final_share=0.2, clip_norm=0.0
)
"""The optimizer of `nano` in a few hundred steps of 64 from random weights, chosen on the split
(LOG.md): a warm temperature and short averages bring ITC off its plateau, and mostly uniform
negatives bring ITM after it.
"""


class Budget(Frozen, allow_inf_nan=False):
    """The binding unit, exactly one; turned into optimizer steps once, before training."""

    samples: Positive | None = None
    """Image-caption pairs seen."""
    steps: Positive | None = None
    """Optimizer steps."""
    flops: Annotated[float, Field(gt=0)] | None = None
    """FLOPs of training, counted for each design (`loop.flops`), the same for every seed."""
    seconds: Annotated[float, Field(gt=0)] | None = None
    """Seconds of training steps, by the time of a step that is measured once for each design, alone
    on this machine; measuring curves, scoring and checkpoints do not count."""

    @model_validator(mode="after")
    def _exactly_one(self) -> Budget:
        names = list(type(self).model_fields)
        units = [n for n in names if getattr(self, n) is not None]
        if len(units) != 1:
            raise ValueError(f"a budget names exactly one of {', '.join(names)}; given: {units}")
        return self

    @property
    def unit(self) -> str:
        """Name of the binding unit."""
        return next(name for name in type(self).model_fields if getattr(self, name) is not None)

    @property
    def amount(self) -> float:
        """How much of the binding unit."""
        return float(getattr(self, self.unit))

    @property
    def per_design(self) -> bool:
        """Whether it comes to another number of steps for every design: `planning.budgets` says to
        which, and a run's description holds the steps alone."""
        return self.unit in ("flops", "seconds")

    def with_fields(self, changes: Mapping[str, Any], under: str = "") -> Self:
        """Returns a budget of the unit in `changes`, which takes the place of the former unit."""
        return checked(type(self), changes, under)


Share = Annotated[float, Field(ge=0, le=1)]


class Span(Frozen, allow_inf_nan=False):
    """A stretch of training, in shares of its steps."""

    after: Share = 0.0
    """Share of the steps after which it begins; 0: with the first step."""
    until: Share = 1.0
    """Share of the steps with which it ends; 1: with the last step."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.after < self.until:
            raise ValueError(f"after {self.after:g} must be below until {self.until:g}")
        return self

    def steps(self, steps: int) -> range:
        """Returns the steps of it, counted from 1, of `steps` in all."""
        return range(round(self.after * steps) + 1, round(self.until * steps) + 1)


class Freeze(Frozen, allow_inf_nan=False):
    """Freeze says what of a design does not learn, and when. Frozen weights get no gradient and no
    decay, and frozen layers have no dropout; after it they learn as if they had just begun.

    LiT (arXiv 2111.07991) locks the image tower, Flamingo (2204.14198) both; ULMFiT (1801.06146)
    unfreezes layer after layer, which here is tower after tower.
    """

    image: Span | None = None
    """The blocks of the image alone, with the patch embedding; null: they learn."""
    text: Span | None = None
    """The embeddings, which are also the table of the MLM head, and the layers of text alone,
    without cross-attention that stands in them; null: they learn."""

    @field_validator("image", "text", mode="before")
    @classmethod
    def _whole_by_true(cls, value: object) -> object:
        return (Span() if value else None) if isinstance(value, bool) else value


class Numerics(Frozen, allow_inf_nan=False):
    """What the bits of a result depend on besides the seed: one choice for a whole study."""

    threads: Annotated[int, Field(ge=0, le=1024)] = 1
    """CPU threads of one run, or of each of its workers; 0: measured once for the whole study,
    whichever makes runs side by side fastest together (`planning.threads`)."""
    workers: Annotated[int, Field(ge=1, le=1024)] = 1
    """Processes that train one run together, each on its part of every batch, under Ray (torch's
    DDP in Ray Train's TorchTrainer): for runs that one device cannot hold or takes too long for.
    Batches are the same for any number, losses and gradients too but for rounding and dropout."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """bfloat16: forward and backward under autocast, weights and optimizer in float32."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Kind of device."""


class Measure(Frozen, allow_inf_nan=False):
    """When and on what the validation curves are measured."""

    points: Positive = 10
    """Measurements, evenly spaced over the budget; one more before the first step."""
    items: Positive = 512
    """Validation pictures used, with fixed captions, masks and negatives."""
    gap_items: Annotated[int, Field(ge=0)] = 128
    """Training pictures measured in the same way, for the gap to validation; 0: none."""
    checkpoints: Positive = 5
    """Checkpoints written over the budget (at measurements); only the newest is kept."""
    pairs: Annotated[int, Field(ge=0)] = 0
    """Swap groups of the scenes' validation split, whose group match by tag is a curve
    (`pairs/relation`), and when it comes to .75 a score (`steps_until/pairs_relation`); 0: none."""
    words: Annotated[int, Field(ge=0)] = 0
    """Masked words of each kind in the scenes' validation captions, whose accuracy is a curve
    (`words/colour`), and when it comes to .75 a score (`steps_until/words_colour`); 0: none."""


class Final(Frozen, allow_inf_nan=False):
    """Which weights are the final model, that tasks score and `fuselab export` writes. Curves are
    of the weights in training, whichever these are."""

    kind: Literal["last", "mean", "ema"] = "last"
    """`last`: the weights after the last step; `mean`: the mean of those at the last measurements;
    `ema`: the exponential moving average of those after every step."""
    measurements: Annotated[int, Field(ge=2)] = 3
    """Of kind `mean`: how many measurements it is of, the last one included."""
    decay: Decay = 0.99
    """Of kind `ema`: the share of itself that it keeps in a step. It is corrected for its start as
    Adam's averages are: the weights s steps ago count decay^s over the sum of all these, and those
    before the first step not at all."""

    @model_validator(mode="after")
    def _only_what_is_read(self) -> Self:
        for field, kind in (("measurements", "mean"), ("decay", "ema")):
            if kind != self.kind and field in self.changed_fields():
                raise ValueError(
                    f"{field} is read by kind {kind!r} alone, and kind is {self.kind!r}"
                )
        return self

    @property
    def in_words(self) -> str:
        """What the weights are, to be read after "the final weights are"."""
        return {
            "last": "those after the last step",
            "mean": f"the mean of those at the last {self.measurements} measurements",
            "ema": "the exponential moving average of those after every step, "
            f"decay {self.decay:g}",
        }[self.kind]
