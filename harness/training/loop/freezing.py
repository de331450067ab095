"""Freezes towers while a run trains, and keeps what a frozen image tower made of each picture.

Kept states are those of a run without keeping, to the last bit: on a CPU no kernel of the image
tower lets a picture's states depend on which other pictures are in the batch, or how many
(`test_freezing.py` holds it against that). On a GPU nobody has measured it, and none are kept.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor

from architectures.contract import FusionDesign
from architectures.freezing import TOWERS, HeldStill, Tower, no_tower
from architectures.frozen import SettingError
from architectures.stacks.image_tower import Encode, ImageTower
from harness.training.data.transforms import Augment
from harness.training.loop.budget import steps_of
from harness.training.settings.loop import Freeze, Numerics
from harness.training.settings.run import TrainSettings

MOST_MIB = 1024
"""States of all training pictures are kept in memory up to this size, each worker its own."""


class Freezing:
    """Which towers of a design are frozen in which step."""

    def __init__(self, settings: Freeze, design: FusionDesign, steps: int) -> None:
        """`steps`: of the whole run. Raises `SettingError` where the design has no such tower."""
        self._design = design
        self._spans = spans(settings, steps)
        for tower in self._spans:
            if reason := no_tower(design, tower):
                raise SettingError(f"freeze.{tower}: {reason}")
        whole = tuple(t for t, span in self._spans.items() if len(span) == steps)
        self.never_learn = HeldStill(design, whole).roles
        """Roles of the parameters that are frozen in every step."""
        self._still: dict[tuple[Tower, ...], HeldStill] = {}

    def at(self, step: int) -> contextlib.AbstractContextManager[None]:
        """Returns the context of the forward pass of a step, counted from 1."""
        towers = frozen_at(self._spans, step)
        if towers not in self._still:
            self._still[towers] = HeldStill(self._design, towers)
        return self._still[towers].inside()


def spans(settings: Freeze, steps: int) -> dict[Tower, range]:
    """Returns tower -> the steps in which it is frozen, of `steps` in all."""
    asked = {tower: getattr(settings, tower) for tower in TOWERS}
    return {tower: span.steps(steps) for tower, span in asked.items() if span is not None}


def frozen_in_words(train: TrainSettings) -> dict[Tower, str]:
    """Says in which steps each tower is frozen that is."""
    steps, words = steps_of(train.budget, train.batch_size), {}
    for tower, its in spans(train.freeze, steps).items():
        when = f"from step {its[0]} to {its[-1]}" if its else "in no step, of so few"
        words[tower] = "in every step" if len(its) == steps else when
    return words


def frozen_at(spans: Mapping[Tower, range], step: int) -> tuple[Tower, ...]:
    """Returns the towers that are frozen in a step."""
    return tuple(tower for tower, its in spans.items() if step in its)


def stretches(settings: Freeze, steps: int) -> Mapping[tuple[Tower, ...], int]:
    """Returns towers -> in how many steps these, and no others, are frozen."""
    its, counts = spans(settings, steps), collections.Counter[tuple[Tower, ...]]()
    edges = {1, steps + 1, *(edge for span in its.values() for edge in (span.start, span.stop))}
    for begins, ends in itertools.pairwise(sorted(edges)):
        counts[frozen_at(its, begins)] += ends - begins
    return counts


class KeptStates:
    """The outputs of a frozen image tower for training pictures, each computed when it is first
    shown."""

    def __init__(self, pictures: int) -> None:
        """`pictures`: of the training data."""
        self._there_N = torch.zeros(pictures, dtype=torch.bool)
        self._outputs: list[Tensor] = []  # (N, P, D) each
        self._rows_B = torch.zeros(0, dtype=torch.int64)

    @contextlib.contextmanager
    def of(self, rows_B: Tensor, designs: Iterable[FusionDesign]) -> Iterator[None]:
        """Inside, the image towers of `designs`, which have the same weights, take what is kept.
        `rows_B`: (B,) int64, which pictures are shown to them, none twice.
        """
        self._rows_B = rows_B
        with remembering(self, designs):
            yield

    @torch.no_grad()
    def __call__(self, image_BCHW: Tensor, encode: Encode) -> tuple[Tensor, ...]:
        new_B = ~self._there_N[self._rows_B]
        if bool(new_B.any()):
            outputs, rows_S = encode(image_BCHW[new_B]), self._rows_B[new_B]
            if not self._outputs:
                size = (len(self._there_N),)
                self._outputs = [x.new_empty(size + x.shape[1:]) for x in outputs]
            for kept_NPD, x_SPD in zip(self._outputs, outputs, strict=True):
                kept_NPD[rows_S] = x_SPD
            self._there_N[rows_S] = True
        return tuple(kept_NPD.index_select(0, self._rows_B) for kept_NPD in self._outputs)


class FirstOutputs:
    """Remembers the outputs of the first pictures, and gives them for all that come after."""

    def __init__(self) -> None:
        self.outputs: tuple[Tensor, ...] = ()

    def __call__(self, image_BCHW: Tensor, encode: Encode) -> tuple[Tensor, ...]:
        self.outputs = self.outputs or encode(image_BCHW)
        return self.outputs


@contextlib.contextmanager
def remembering(
    memory: KeptStates | FirstOutputs, designs: Iterable[FusionDesign]
) -> Iterator[None]:
    """Inside, the image towers of `designs` ask a memory instead of running their blocks."""
    images = (getattr(design, "image", None) for design in designs)
    towers = [tower for tower in images if isinstance(tower, ImageTower)]
    for tower in towers:
        tower.memory = memory
    try:
        yield
    finally:
        for tower in towers:
            tower.memory = None


@torch.no_grad()
def bytes_a_picture(design: FusionDesign) -> int:
    """Returns the size of what the image tower gives a design of one picture; 0: the design does
    not call the tower as a whole.
    """
    backbone, first = design.backbone, next(design.parameters())
    size = (1, backbone.image_channels, backbone.image_size, backbone.image_size)
    memory = FirstOutputs()
    with remembering(memory, [design]):
        design.encode_image(torch.zeros(size, device=first.device))
    return sum(x.numel() * x.element_size() for x in memory.outputs)


def why_not_kept(
    design: FusionDesign, freeze: Freeze, numerics: Numerics, augment: Augment, pictures: int
) -> str:
    """Says why the states of training pictures are not kept while the image tower is frozen, as the
    end of "..., because ..."; empty: they are. `pictures`: of the training data.
    """
    if freeze.image is None or freeze.image.after:
        return "its image tower is not frozen from the first step"
    if augment.kind != "none":
        return "a picture is another one whenever it is shown (data.augment)"
    if numerics.device != "cpu":
        return "on a GPU nobody has shown that they are the same to the last bit"
    if not (each := bytes_a_picture(design)):
        return "the blocks of its image tower are run one by one, between those that fuse"
    if (mib := each * pictures / 2**20) > MOST_MIB:
        return f"{pictures:,} pictures would take {mib:,.0f} MiB, and at most {MOST_MIB:,} are kept"
    return ""
