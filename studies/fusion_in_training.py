"""Does a fusion module that is there in training alone make a better dual encoder?

ITO (arXiv 2603.02767) says so: the losses of a fusion module shape the towers, and the module is
thrown away. So recall by ITC alone, of designs with fusion, against the dual encoder of the same
towers and the same samples. Longer: --set budget.samples=51200.

Guess: no difference that three or five seeds would show; where one shows it is a loss, since towers
serve masked words and matching too.
Result: 2026-11-27, commit b1997b4, seeds 40 to 44, not confirmed on fresh ones: no gain. By ITC
alone 6+6 and 12+6 align later than the dual encoder (+.13 nats [+.07, +.19], +.07 [+.03, +.11]);
shallow fusion is equal (+.01 within .09; recall equal within 2 points). Recall of 6+6 and 12+6 is
undecided (-.3 points [-2.5, +2.0], [-2.3, +1.8]). As guessed.
Cost: 20 runs, about 20 minutes on two cores at nano.
Command: fuselab run fusion_in_training && fuselab report fusion_in_training
"""

from harness.study import Cell, Endpoint, Variant, short_study

STUDY = short_study(
    name="fusion_in_training",
    question="Does fusion in training alone make a better dual encoder?",
    cells=(
        Cell(variant=Variant("dual_encoder"), label="no fusion"),
        Cell(variant=Variant("split_bert"), label="6+6"),
        Cell(variant=Variant("full_text_deep_fusion"), label="12+6"),
        Cell(variant=Variant("shallow_fusion"), label="shallow"),
    ),
    control="no fusion",
    endpoints=(
        Endpoint(score="retrieval/mean_recall_itc", equal_within=2.0),
        Endpoint(score="mean_over_training/itc_loss", equal_within=0.09),
    ),
)
