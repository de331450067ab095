"""Who binds colours and sides to things, and do negatives of the same words teach it?

Two large shapes of four colours in one row. Swap groups hold two such pictures and two captions of
the same words: red circle left of blue square, and blue circle left of red square, or the sides
exchanged. Six designs learn with and without such captions as negatives of ITM; the dual encoder,
which has no ITM, only without.

Guess: colours are bound wherever ITC is, without fusion; sides only where negatives ask for them.
Result: (2026-11-27, three seeds, LOG.md) of all groups single_stream matches half, chance, and is
worse than 6+6 (75 %); the others are undecided, dual encoder 70 %. Colours need no fusion. Sides
were learnt in few runs, and most often the seed says in which; negatives of the same words bring
them forward where fusion is light (10+2, shallow_fusion) and nowhere else. Half of the guess held.
Cost: two hours on two cores.
Command: fuselab run binding && fuselab report binding
"""

from harness.study import (
    SHORT_OBJECTIVES,
    SHORT_OPTIMIZER,
    Budget,
    Cell,
    Measure,
    Pairs,
    Study,
    Variant,
    Words,
    graded_scenes,
)

DESIGNS = {
    "6+6": Variant("split_bert", text_layers=6),
    "2+10": Variant("split_bert", text_layers=2),
    "10+2": Variant("split_bert", text_layers=10),
    "shallow_fusion": Variant("shallow_fusion"),
    "single_stream": Variant("single_stream"),
    "dual_encoder": Variant("dual_encoder"),
}
SWAPS = {"objectives.itm.swap_share": 0.5}

STUDY = Study(
    name="binding",
    question="Who binds colours and sides to things, and do negatives of the same words teach it?",
    cells=(
        *(Cell(variant=design, label=label) for label, design in DESIGNS.items()),
        *(
            Cell(variant=design, label=f"{label} swaps", settings=SWAPS)
            for label, design in DESIGNS.items()
            if label != "dual_encoder"
        ),
    ),
    control="6+6",
    primary="pairs/group_match",
    equal_within=5.0,
    axis="cell",
    data=graded_scenes("binding").with_fields({"directions": "two"}),
    budget=Budget(samples=57_600),
    batch_size=64,
    objectives=SHORT_OBJECTIVES,
    optimizer=SHORT_OPTIMIZER,
    measure=Measure(points=9, items=256, gap_items=0, pairs=120, words=60),
    tasks=(Pairs(count=300), Words()),
    seeds=(0, 1, 2),
)
