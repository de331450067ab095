"""ObjectiveState holds what the objectives learn or remember between steps: the temperature, a
bias, the queue, the momentum teacher.
"""

from __future__ import annotations

import torch
from torch import nn

from architectures.contract import FusionDesign
from harness.training.data.batches import Batch
from harness.training.data.identity import Identity
from harness.training.objectives.pairs import Pairs
from harness.training.objectives.queue import Queue
from harness.training.objectives.teacher import Taught, Twin
from harness.training.objectives.term import full
from harness.training.randomness import torch_seed
from harness.training.settings.objectives import Objectives


class ObjectiveState(nn.Module):
    """The state of the objectives of one run. All of it stands in checkpoints; what learns (the
    temperature, the bias) also stands in the optimizer.
    """

    ramp: float
    """The share of `itc.distil` and `mlm.distil` that counts in this step, from 0 to 1."""

    def __init__(self, objectives: Objectives, design: FusionDesign, *, seed: int = 0) -> None:
        """Makes the state that `objectives` needs. A teacher begins as a copy of `design`, whose
        initial weights must therefore be in place. The noise of a queue is drawn by `seed` alone,
        alike for all designs and workers.
        """
        super().__init__()
        self.settings = objectives
        self.ramp = 0.0 if objectives.teacher.ramp_epochs else 1.0
        self.temperature = nn.Parameter(torch.tensor(objectives.itc.temperature))
        taught, itc = objectives.taught(), objectives.itc
        self.bias = nn.Parameter(torch.tensor(itc.bias)) if itc.loss == "sigmoid" else None
        self.twin = Twin(design, objectives.teacher, taught) if taught else None
        self.queue: Queue | None = None
        if "itc" in taught and itc.queue:
            width = design.backbone.itc_width
            vectors = design.facts(design.config, design.backbone).image_vectors
            image = (vectors, width) if vectors else (width,)
            drawing = torch.Generator().manual_seed(torch_seed(seed, "queue noise"))
            noise = drawing if itc.queue_start == "noise" else None
            self.queue = Queue(itc.queue, image=image, width=width, noise=noise)

    @torch.no_grad()
    def before_step(self, epochs: float) -> None:
        """Clamps the temperature, as ALBEF does at the start of every step, and sets the ramp of
        the teacher's share. `epochs`: how many have passed, with fractions.
        """
        self.clamp()
        over = self.settings.teacher.ramp_epochs
        self.ramp = min(1.0, epochs / over) if over else 1.0

    @torch.no_grad()
    def clamp(self) -> None:
        """Puts the temperature back within its bounds. The loop also does so after every step, so
        that validation and curves never see it out of them.
        """
        self.temperature.clamp_(*self.settings.itc.temperature_range)

    def teach(self, design: FusionDesign, batch: Batch, *, packed: bool) -> Taught | None:
        """Returns the teacher's outputs for a batch; None without a teacher."""
        return None if self.twin is None else self.twin.ask(design, batch, packed=packed)

    def candidates(self, pairs: Pairs, *, queue: bool) -> Pairs:
        """Returns the pairs that the batch is compared with: `pairs`, the batch's own; those of
        other workers, where `itc.gather` is on; with `queue` what the queue holds.
        """
        parts = [pairs.of_all_workers() if self.settings.itc.gather else pairs]
        if queue and self.queue is not None:
            parts.append(self.queue.kept())
        return Pairs.join(parts) if len(parts) > 1 else parts[0]

    def remember(self, taught: Taught | None, identity: Identity) -> None:
        """Puts the teacher's features of all workers into the queue. The loop calls it after the
        loss has read the queue.
        """
        if self.queue is not None and taught is not None:
            assert taught.image_BE is not None and taught.text_BE is not None
            pairs = Pairs(
                image_NE=full(taught.image_BE), text_NE=full(taught.text_BE), identity=identity
            )
            self.queue.push(pairs.of_all_workers(own_first=False))  # one queue, alike on all

    def curves(self) -> dict[str, float]:
        """Returns the values of the training curves that are no means over steps."""
        values = {"temperature": float(self.temperature.detach())}
        if self.bias is not None:
            values["itc_bias"] = float(self.bias.detach())
        if self.twin is not None:
            values["itc_alpha"] = self.settings.itc.distil * self.ramp
            values["mlm_alpha"] = self.settings.mlm.distil * self.ramp
        if self.queue is not None:
            values["queue_fill"] = self.queue.filled / self.queue.size
        return values
