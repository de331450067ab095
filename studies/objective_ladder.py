"""What does each loss of ALBEF add? Its Table 1, from two losses to all five, with seeds.

One design, the split 6+6, and a ladder: MLM and ITM with random negatives; ITC; hard negatives
drawn by it; keys of a momentum teacher and a queue; the teacher's soft targets for ITC, then MLM.
The first rung has no ITC to rank by: its ITM head scores every pair, not the best eight of ITC.

Guess: ITC is the one large step. Hard negatives hurt at this budget, as the trials before the demo
did (LOG.md). A teacher that follows at 0.995 lags 200 steps behind, more than there are: its keys
and targets gain nothing here, which says nothing of a long training.
Cost: 18 runs, 0.47 device-hours, 17 minutes on two cores at nano.
Command: fuselab run objective_ladder && fuselab report objective_ladder
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
    add_one_in,
)

STUDY = Study(
    name="objective_ladder",
    question="What does each loss of ALBEF add?",
    cells=add_one_in(
        Cell(
            variant=Variant("split_bert"),
            settings={"objectives.itc.weight": 0.0, "objectives.itm.hard_share": 0.0},
            label="MLM + ITM",
        ),
        {
            "ITC": {"objectives.itc.weight": 1.0},
            "hard negatives": {"objectives.itm.hard_share": 0.25},
            "teacher and queue": {
                "objectives.itc.candidates": "teacher",
                "objectives.itc.queue": 512,
            },
            "distilled ITC": {"objectives.itc.distil": 0.4},
            "distilled MLM": {"objectives.mlm.distil": 0.4},
        },
    ),
    control="+ hard negatives",
    data=Scenes(train=20_000, val=512, test=256),
    budget=Budget(samples=10_240),
    batch_size=64,
    objectives=SHORT_OBJECTIVES,
    optimizer=SHORT_OPTIMIZER,
    measure=Measure(points=5, items=256, checkpoints=5),
    tasks=(Retrieval(rerank=8),),
    equal_within=2.0,
    axis="set.objectives.itc.weight",
)
