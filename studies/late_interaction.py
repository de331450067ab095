"""How much of what fusion gains does comparing token by token gain, without any fusion?

A single vector is said to lose 20 nDCG points to late interaction (ModernVBERT, arXiv 2510.01149,
on documents). So the dual encoder of one vector a side, of ColBERT's sum and of FILIP's mean, and
6+6, on the same towers and samples. The towers were aligned by one vector, which favours it: to
start without, --set warm_start.align_samples=0, with more samples, --set budget.samples=51200.

Guess: late interaction gains recall over one vector, less than 20 points; of groups that differ in
which thing has which colour it tells more, but fewer than 6+6, since no word has read the picture.
Result: 2026-11-27, commit b1997b4, seeds 40 to 44, not confirmed on fresh ones: no gain in recall
is shown (sum +.0 points [-2.3, +2.3]); the sum matches more groups (+3.7 [+.5, +6.9]), the mean is
not shown to, and 6+6 is undecided (+3.3). docs/studies/late_interaction.
Cost: 20 runs, about 20 minutes on two cores at nano.
Command: fuselab run late_interaction && fuselab report late_interaction
"""

from harness.study import Cell, Endpoint, Variant, short_study

STUDY = short_study(
    name="late_interaction",
    question="How much does comparing token by token gain over one vector, without fusion?",
    cells=(
        Cell(variant=Variant("dual_encoder"), label="one vector"),
        Cell(variant=Variant("dual_encoder", similarity="late_mean"), label="late, mean"),
        Cell(variant=Variant("dual_encoder", similarity="late_sum"), label="late, sum"),
        Cell(variant=Variant("split_bert"), label="6+6"),
    ),
    control="one vector",
    endpoints=(
        Endpoint(score="retrieval/mean_recall", equal_within=2.0),
        Endpoint(score="pairs/group_match", equal_within=4.0),
    ),
)
