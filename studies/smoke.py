"""Does everything run? Two splits and the dual encoder, a few steps each.

Guess: nothing is learned in so few steps, so every contrast is undecided; that is the point.
Cost: under a minute of training on two cores.
Command: fuselab run smoke
"""

from harness.study import (
    Budget,
    Cell,
    Measure,
    Retrieval,
    Scenes,
    Study,
    Variant,
    grid,
)

STUDY = Study(
    name="smoke",
    question="Does a study run from plan to report?",
    cells=(
        *grid(
            Variant("split_bert"),
            text_layers=(6, 10),
            label=lambda text_layers: f"{text_layers}+{12 - text_layers}",
        ),
        Cell(variant=Variant("dual_encoder"), role="floor"),
    ),
    control="6+6",
    data=Scenes(train=1_024, val=128, test=128),
    budget=Budget(steps=20),
    batch_size=32,
    seeds=(0, 1),
    measure=Measure(points=2, items=128, checkpoints=2),
    tasks=(Retrieval(rerank=8),),
)
