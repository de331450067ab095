"""How should twelve layers be divided between text and fusion? The question, small enough to watch.

Pictures of one shape; a nano ViT beside a twelve-layer stack split 2+10, 6+6 and 10+2, three seeds,
and the dual encoder as a floor.

Guess: on scenes this simple, one word of the caption says one thing of the picture, so a few fusion
layers do: 10+2 within noise of 6+6.
Cost: about seven minutes on two cores.
Command: make demo, or fuselab run demo && fuselab report demo
"""

from harness.study import (
    SHORT_OBJECTIVES,
    SHORT_OPTIMIZER,
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
    name="demo",
    question="How should twelve layers be divided between text and fusion?",
    cells=(
        *grid(
            Variant("split_bert"),
            text_layers=(2, 6, 10),
            label=lambda text_layers: f"{text_layers}+{12 - text_layers}",
        ),
        Cell(variant=Variant("dual_encoder"), role="floor"),
    ),
    control="6+6",
    data=Scenes(train=20_000, val=512, test=512),
    budget=Budget(samples=10_240),
    batch_size=64,
    objectives=SHORT_OBJECTIVES,
    optimizer=SHORT_OPTIMIZER,
    measure=Measure(points=5, items=256, checkpoints=5),
    tasks=(Retrieval(rerank=8),),
    seeds=(0, 1, 2),
    equal_within=2.0,
)
