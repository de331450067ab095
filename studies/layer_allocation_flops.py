"""Does the division of twelve layers come out the same when every design spends equal FLOPs?

`layer_allocation` gives every design equal samples; a fusion layer costs more than a text layer
(it reads every picture again with every loss), so 0+12 spends twice the FLOPs of 11+1 there. Here
the budget is what 6+6 spends in 12,800 samples, by counted FLOPs: 0+12 takes about 140 steps,
11+1 about 300, and the rate's schedule follows. Cells, seeds, endpoints and regions are those of
`layer_allocation`. A mean over training is taken over each run's own length, so it is read at
equal FLOPs too.

Guess: the plateau moves one or two layers towards text, and nothing with more fusion than 6+6
stays equal to it.
Result: 2026-11-27, commit cbc7d30, one set of seeds: 7+5 to 10+2 align and learn masked words
faster than 6+6 (-.06 to -.17 and -.05 to -.16 nats), matching undecided; 0+12 to 3+9 are worse.
Cost: 70 runs, about an hour on two cores at nano; towers are warm where `layer_allocation` ran.
Command: fuselab run layer_allocation_flops
"""

from harness.study import Budget, Cell, Variant, grid, short_study

STUDY = short_study(
    name="layer_allocation_flops",
    question="How should twelve layers be divided between text and fusion at equal FLOPs?",
    cells=(
        *grid(
            Variant("split_bert"),
            text_layers=range(13),
            label=lambda text_layers: f"{text_layers}+{12 - text_layers}",
        ),
        Cell(variant=Variant("dual_encoder"), role="floor"),
    ),
    control="6+6",
    axis="text_layers",
    budget=Budget(flops=2.11e12),
    seeds=(20, 21, 22, 23, 24),
)
