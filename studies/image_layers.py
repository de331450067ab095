"""Which layers of the image tower should fusion read?

Lin et al. (arXiv 2503.06063) find that one layer of each stage helps and two of one stage hurt;
DeepStack and BridgeTower read a layer for each fusion layer and gain. Here ALBEF's split reads the
last block (its own way), the second of four, three of them in the order of its six fusion layers,
or all four side by side. Numbers are of nano's four blocks: other scales need others.

Guess: the last block is enough on scenes of two things; the middle one is worse in matching, since
alignment is learnt at the end of the tower; one by one is equal to the last.
Result: 2026-11-27, commit b1997b4, seeds 40 to 44, not confirmed on fresh ones: side by side is
later in matching (+.041 nats [+.018, +.064]); the rest is equal to the last block but in matching,
where it is undecided (middle +.011 [-.011, +.034]). docs/studies/image_layers.
Cost: 25 runs, about 25 minutes on two cores at nano.
Command: fuselab run image_layers && fuselab report image_layers
"""

from harness.study import Cell, Variant, short_study

STUDY = short_study(
    name="image_layers",
    question="Which layers of the image tower should fusion read?",
    cells=(
        Cell(variant=Variant("split_bert"), label="last"),
        Cell(variant=Variant("split_bert", image_from=(1,)), label="middle"),
        Cell(variant=Variant("split_bert", image_from=(1, 1, 2, 2, 3, 3)), label="one by one"),
        Cell(
            variant=Variant("split_bert", image_from=(0, 1, 2, 3), image_concat=True),
            label="side by side",
        ),
        Cell(variant=Variant("dual_encoder"), role="floor"),
    ),
    control="last",
)
