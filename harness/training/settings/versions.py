"""Declared versions of the parts that shape trained weights: they stand in every run's key.

Raise one, in the commit that does it, when the same settings train to other weights than before.
"""

from __future__ import annotations

KEYS = "2"
"""The rule by which keys are made (`TrainSpec.key`). 1: every field written out."""
SETTINGS = "1"
"""The defaults of what a study may set: raised when the default of a field changes its meaning,
since keys leave out what stands at its default (`Frozen.changed_fields`)."""
OBJECTIVES = "2"
"""Losses, their targets and draws."""
TRAINER = "2"
"""The loop, the optimizer and its schedule."""
WARM_START = "1"
"""Recipes of BERT, DistilBERT and ViT that runs may start from."""
ALIGNMENT = "1"
"""How the two towers of a warm start learn ITC together, besides the versions of ITC and design."""
TEXT_STAGE = "2"
"""The stage of text alone of designs that have one."""
FINETUNE = "2"
"""The loop of fine-tuning, its order of items and its twin, and the defaults of `FineTune`. 1: the
head learnt at the rate of the design."""
