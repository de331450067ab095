"""Should words read the picture by cross-attention, or in one softmax with the words?

CASA (arXiv 2512.19535) first said that one softmax over words and image tokens closes the gap of
cross-attention, and in its second version that plain cross-attention is far more competitive than
was reported. Here both, in ALBEF's split, over a full text encoder, and with DistilBERT's layers as
fusion: a crossed study, so that what one softmax does may depend on the stack (`effects`). A layer
of one softmax has no weights of its own for the picture, and no maps to start from.

Guess: cross-attention matches sooner in all three, as its new weights learn to read the picture
while the words' attention stays as it was trained; no difference in alignment.
Result: 2026-11-27, commit b1997b4, seeds 40 to 44, not confirmed on fresh ones: no difference is
shown in any stack or endpoint (matching +.000 [-.025, +.026], +.007 [-.011, +.025], +.001 [-.017,
+.018]), so the guess failed. docs/studies/one_softmax.
Cost: 35 runs, about half an hour on two cores at nano.
Command: fuselab run one_softmax && fuselab report one_softmax
"""

from harness.study import Cell, Variant, short_study

STUDY = short_study(
    name="one_softmax",
    question="Should words read the picture in a softmax of its own?",
    cells=(
        *(
            Cell(
                variant=Variant(design, attention=attention),
                label=f"{stack} {attention}",
            )
            for design, stack in (
                ("split_bert", "6+6"),
                ("full_text_deep_fusion", "12+6"),
                ("distilbert_fusion", "DistilBERT"),
            )
            for attention in ("separate", "joint")
        ),
        Cell(variant=Variant("dual_encoder"), role="floor"),
    ),
    control="6+6 separate",
)
