"""How should twelve layers be divided between text and fusion? The question, small enough to watch.

Two shapes and where one stands from the other; a nano ViT beside a twelve-layer stack split 2+10,
6+6 and 10+2, three seeds, and the dual encoder as a floor. ViT and BERT have learnt to align
pictures and captions before, as published work starts from CLIP, so what is left to learn is what
fusion does: to say whether a caption is true of a picture. Swap groups say whether it also knows
which colour goes with which shape.

Guess: two fusion layers learn to match more slowly than six; ten do it no faster.
Cost: about seven minutes on two cores, the warm start a minute and a half of it.
Command: make demo, or fuselab run demo && fuselab report demo
"""

from harness.study import (
    SHORT_OBJECTIVES,
    SHORT_OPTIMIZER,
    SHORT_START,
    Budget,
    Cell,
    Measure,
    Pairs,
    Retrieval,
    Study,
    Variant,
    graded_scenes,
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
    primary="mean_over_training/itm_loss",
    equal_within=0.01,
    data=graded_scenes("binding"),
    warm_start=SHORT_START,
    budget=Budget(samples=12_800),
    batch_size=64,
    objectives=SHORT_OBJECTIVES,
    optimizer=SHORT_OPTIMIZER,
    measure=Measure(points=8, items=256, gap_items=0, checkpoints=4),
    tasks=(Retrieval(rerank=8), Pairs(count=200, tags=("colour", "shape"))),
    seeds=(0, 1, 2),
)
