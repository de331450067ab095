"""What does the contrastive loss do to the fusion layers? They read towers that it has aligned.

Splits 2+10, 6+6 and 10+2, each with ITC and without. Retrieval cannot be asked of both alike, so
the question is put to the fused states: how many hidden words of held-out captions do they tell?

Guess: with ITC more, since image tokens and words are already in one space when fusion begins, and
most so at 10+2, whose two fusion layers have the least room to align them.
Cost: 18 runs, about 15 minutes on two cores at nano.
Command: fuselab run contrastive_and_fusion && fuselab report contrastive_and_fusion
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
)

STUDY = Study(
    name="contrastive_and_fusion",
    question="What does the contrastive loss do to the fusion layers?",
    cells=tuple(
        Cell(
            variant=Variant("split_bert", text_layers=k),
            settings={"objectives.itc.weight": weight},
            label=f"{k}+{12 - k}{'' if weight else ' without ITC'}",
        )
        for k in (2, 6, 10)
        for weight in (1.0, 0.0)
    ),
    control="6+6",
    data=Scenes(train=20_000, val=512, test=256),
    budget=Budget(samples=10_240),
    batch_size=64,
    objectives=SHORT_OBJECTIVES,
    optimizer=SHORT_OPTIMIZER,
    measure=Measure(points=5, items=512, checkpoints=5),
    tasks=(Retrieval(rerank=8),),
    primary="validation/mlm_accuracy",
    equal_within=1.0,
)
