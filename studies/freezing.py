"""Does cross-attention win while towers are frozen, and one joint stack where they learn?

Idefics2 (arXiv 2405.02246) says so of language models with gated cross-attention or with image
tokens among the words. Crossed here: cross-attention (ALBEF's split) or one joint stack over words
and image tokens, image tower locked (as LiT's, arXiv 2111.07991) or not, and layers of text alone
frozen, the words' table too, or not; all towers were aligned before. The interactions are the
answer (`effects` of the report). Above six layers of text there are six that fuse in both.

Guess: no interaction of fusion with either; a frozen tower slows matching in both, and masked words
suffer where the words' table is frozen.
Cost: 40 runs and one warm start, 99 TFLOP, by the time of like studies an hour on two idle cores at
nano.
Command: fuselab run freezing && fuselab report freezing
"""

from harness.study import Cell, Variant, short_study

STUDY = short_study(
    name="freezing",
    question="Does cross-attention win over a joint stack while towers are frozen?",
    cells=(
        *(
            Cell(variant=variant, settings=settings, label=f"{way}, {towers}")
            for variant, way in (
                (Variant("split_bert"), "cross"),
                (Variant("merged_attention", text_layers=6, fusion_layers=6), "joint"),
            )
            for towers, settings in (
                ("learning", {}),
                ("image locked", {"freeze.image": True}),
                ("text frozen", {"freeze.text": True}),
                ("both frozen", {"freeze.image": True, "freeze.text": True}),
            )
        ),
    ),
    control="cross, learning",
)
