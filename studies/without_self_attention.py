"""Do fusion layers need self-attention over the words?

Asked in issue 13 of TCL's tracker, with the guess that masked words would suffer. Without it, a
fusion layer is cross-attention and an MLP: words read the picture and no other word, so what words
know of each other comes from the text layers below. Tried where much text is below the fusion
layers (6+6), and where little is (2+10), and at every second layer of fusion.

Guess: nothing shows at 6+6; at 2+10 masked words are learnt more slowly by far, and matching too.
Result: 2026-11-27, commit b1997b4, seeds 40 to 44, not confirmed on fresh ones: at 6+6 no loss is
shown in anything (masked words -.011 nats [-.054, +.033]); at 2+10 masked words are learnt later,
+.131 [+.083, +.180]; matching does not tell them apart. docs/studies/without_self_attention.
Cost: 25 runs, about 20 minutes on two cores at nano.
Command: fuselab run without_self_attention && fuselab report without_self_attention
"""

from harness.study import Cell, Variant, short_study

STUDY = short_study(
    name="without_self_attention",
    question="Do fusion layers need self-attention over the words?",
    cells=(
        *(
            Cell(
                variant=Variant("split_bert", text_layers=k, self_attention=reads),
                label=f"{k}+{12 - k}{'' if reads else ' without'}",
            )
            for k in (6, 2)
            for reads in (True, False)
        ),
        Cell(variant=Variant("dual_encoder"), role="floor"),
    ),
    control="6+6",
)
