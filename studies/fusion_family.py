"""Which family of fusion, at equal samples? One cell for each way the literature argues about.

Every design at its published form, scaled to nano: ALBEF's split, a full text encoder under six
fusion layers (X2-VLM), DistilBERT as the fusion stack, BLIP's stack that is read twice, the split
with words and image tokens in one softmax (CASA), Flamingo's gated layers in a text stack, image
tokens among the words of one (ModernVBERT's mask, and GIT's, without MLM), BridgeTower, METER's
co-attention and its merged variant, ViLT, VLMo, and as floors the dual encoder by one vector and by
late interaction (FILIP). Single stream and multiway have as many layers as the
text stack, twelve, and a pass of their own for each modality, so that one protocol scores all.
Equal samples are not equal compute: parameters and FLOPs stand beside every contrast.

Guess: in so few steps depth costs more than it gives, so designs whose first layers already see
both modalities lag on retrieval; one-way fusion, co-attention and bridges lie within noise of each
other.
Cost: 45 runs, fifty minutes on two cores at nano.
Command: fuselab run fusion_family && fuselab report fusion_family
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
)

STUDY = Study(
    name="fusion_family",
    question="Which family of fusion designs learns most from equal samples?",
    cells=(
        Cell(variant=Variant("split_bert"), label="split 6+6"),
        Cell(variant=Variant("full_text_deep_fusion"), label="full text 12+6"),
        Cell(variant=Variant("distilbert_fusion"), label="DistilBERT fusion"),
        Cell(variant=Variant("shared_stack"), label="shared 12"),
        Cell(variant=Variant("split_bert", attention="joint"), label="one softmax"),
        Cell(variant=Variant("gated_insertion"), label="gated insertion"),
        Cell(variant=Variant("token_insertion"), label="token insertion"),
        Cell(variant=Variant("token_insertion", mask="prefix"), label="token insertion, prefix"),
        Cell(variant=Variant("bridge"), label="bridge"),
        Cell(variant=Variant("co_attention"), label="co-attention"),
        Cell(variant=Variant("merged_attention"), label="merged"),
        Cell(
            variant=Variant("single_stream", layers=12, separate_passes=True), label="single stream"
        ),
        Cell(variant=Variant("multiway", layers=12), label="multiway"),
        Cell(variant=Variant("dual_encoder"), role="floor"),
        Cell(
            variant=Variant("dual_encoder", similarity="late_mean"),
            label="late interaction",
            role="floor",
        ),
    ),
    control="split 6+6",
    primary="mean_over_training/itm_loss",
    data=graded_scenes("binding"),
    warm_start=SHORT_START,
    # Found on the split alone: other designs may want others.
    budget=Budget(samples=12_800),
    batch_size=64,
    objectives=SHORT_OBJECTIVES,
    optimizer=SHORT_OPTIMIZER,
    measure=Measure(points=8, items=256, gap_items=0, checkpoints=4),
    tasks=(Retrieval(rerank=8), Pairs(count=200)),
    seeds=(0, 1, 2),
    equal_within=0.01,
)
