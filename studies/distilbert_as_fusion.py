"""Do DistilBERT's layers serve as a fusion stack? Six layers that were taught to think like twelve.

Six fusion layers stand on a whole BERT, and only where they start differs: distilled from BERT
(DistilBERT's own), copied from every other of its layers, or drawn fresh. Beside them ALBEF's
split, which has six text layers less, and the dual encoder as a floor. All start from one warm
start, made of the training data before the runs: a BERT, a ViT, and the DistilBERT of that BERT.

Guess: distilled and copied layers lie within noise of each other, since distilling starts from the
copies; both learn masked words sooner than fresh layers. On retrieval, which so few steps decide by
ITC alone, the start of the fusion stack matters little.
Cost: 15 runs and one warm start, 0.66 device-hours, 20 minutes on two cores at nano.
Command: fuselab run distilbert_as_fusion && fuselab report distilbert_as_fusion
"""

from harness.study import (
    SHORT_OBJECTIVES,
    SHORT_OPTIMIZER,
    Budget,
    Cell,
    Measure,
    Pairs,
    Retrieval,
    Study,
    Variant,
    WarmStart,
    graded_scenes,
)

STUDY = Study(
    name="distilbert_as_fusion",
    question="Do DistilBERT's layers serve as a fusion stack?",
    cells=(
        Cell(variant=Variant("split_bert"), label="split 6+6"),
        Cell(variant=Variant("distilbert_fusion"), label="DistilBERT"),
        Cell(
            variant=Variant("full_text_deep_fusion", fusion_from="every_other"),
            label="every other layer",
        ),
        Cell(variant=Variant("distilbert_fusion", fusion_from="random"), label="fresh layers"),
        Cell(variant=Variant("dual_encoder"), role="floor"),
    ),
    control="split 6+6",
    primary="mean_over_training/itm_loss",
    warm_start=WarmStart(
        bert_samples=12_800, distil_samples=6_400, vit_samples=12_800, align_samples=38_400
    ),
    data=graded_scenes("binding"),
    # Found from random weights.
    budget=Budget(samples=12_800),
    batch_size=64,
    objectives=SHORT_OBJECTIVES,
    optimizer=SHORT_OPTIMIZER,
    measure=Measure(points=8, items=256, gap_items=0, checkpoints=4),
    tasks=(Retrieval(rerank=8), Pairs(count=200)),
    seeds=(0, 1, 2),
    equal_within=0.01,
)
