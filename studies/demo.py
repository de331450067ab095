"""How should twelve layers be divided between text and fusion? The question, small enough to watch.

Pictures of one shape; a nano ViT beside a twelve-layer stack split 2+10, 6+6 and 10+2, three seeds,
and the dual encoder as a floor.

Guess: on scenes this simple, one word of the caption says one thing of the picture, so a few fusion
layers do: 10+2 within noise of 6+6.
Cost: about seven minutes on two cores.
Command: make demo, or fuselab run demo && fuselab report demo
"""

from harness.study import (
    ITC,
    ITM,
    Budget,
    Cell,
    Measure,
    Objectives,
    Optimizer,
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
    # 160 steps from random weights. What makes them enough is in LOG.md: a warm temperature
    # and short averages bring ITC off its plateau, and mostly uniform negatives bring ITM after it.
    budget=Budget(samples=10_240),
    batch_size=64,
    objectives=Objectives(itc=ITC(temperature=0.2), itm=ITM(hard_share=0.25)),
    optimizer=Optimizer(
        learning_rate=6e-4,
        betas=(0.9, 0.95),
        warmup_share=0.15,
        final_share=0.2,
        clip_norm=0.0,
    ),
    measure=Measure(points=5, items=256, checkpoints=5),
    tasks=(Retrieval(rerank=8),),
    seeds=(0, 1, 2),
    equal_within=2.0,
)
