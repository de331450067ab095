"""Does concatenation beat cross-attention where words and pictures are aligned before?

Zhou and Xie (arXiv 2606.01207) say so, by four to five points on aligned features. Crossed here:
cross-attention (ALBEF's split) or one joint stack over words and image tokens, on towers that were
aligned by ITC before any design begins or on towers that never met. The interaction is the answer.

Guess: both learn sooner on aligned towers, by as much: no interaction.
Cost: 20 runs and two warm starts, about 25 minutes on two cores at nano.
Command: fuselab run aligned_start && fuselab report aligned_start
"""

from harness.study import Cell, Variant, short_study

STUDY = short_study(
    name="aligned_start",
    question="Does concatenation beat cross-attention on aligned towers?",
    cells=(
        *(
            Cell(
                variant=Variant(design),
                settings={} if samples else {"warm_start.align_samples": 0},
                label=f"{way}, {'aligned' if samples else 'not aligned'}",
            )
            for design, way in (("split_bert", "cross"), ("merged_attention", "joint"))
            for samples in (True, False)
        ),
    ),
    control="cross, aligned",
)
