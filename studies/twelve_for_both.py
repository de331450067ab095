"""Why not all twelve layers of BERT for both, text alone and text with the picture?

Asked in issue 144 of ALBEF's tracker and left there; BLIP (Li et al. 2022) did so a year later,
with one stack that is read twice and reads the picture in the second pass. Beside ALBEF's six and
six: twelve text layers under six of fusion (X2-VLM), twelve under twelve (copies, so twice the
weights) and the shared stack (no more weights than its cross-attention adds). Equal samples: the
fused pass of twelve layers costs more FLOPs, which stand beside every contrast.

Guess: alignment is equal in all four, since text is read by six layers or more; matching and masked
words come later in the shared stack, whose layers have two tasks, and 12+12 is equal to 12+6.
Result: 2026-11-27, commit b1997b4, seeds 40 to 44, not confirmed on fresh ones: nothing matches
sooner than 6+6 (all undecided); 12+6 aligns sooner (-.06 nats [-.12, -.002]); 12+12 learns masked
words later (+.75), against the guess; 12+12 and the shared stack recall as much, within 2 points.
docs/studies/twelve_for_both.
Cost: 25 runs, about 25 minutes on two cores at nano.
Command: fuselab run twelve_for_both && fuselab report twelve_for_both
"""

from harness.study import Cell, Variant, short_study

STUDY = short_study(
    name="twelve_for_both",
    question="Why not all twelve layers for text and for fusion?",
    cells=(
        Cell(variant=Variant("split_bert"), label="6+6"),
        Cell(variant=Variant("full_text_deep_fusion"), label="12+6"),
        Cell(variant=Variant("full_text_deep_fusion", fusion_layers=12), label="12+12"),
        Cell(variant=Variant("shared_stack"), label="12 shared"),
        Cell(variant=Variant("dual_encoder"), role="floor"),
    ),
    control="6+6",
)
