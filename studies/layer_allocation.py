"""Why six and six? Every division of a twelve-layer BERT between text and fusion.

ALBEF (Li et al. 2021) reads text alone in layers 0-5 and text with image in layers 6-11; asked why,
its authors named it the straightforward choice (issue 144 of its tracker). This is the ablation:
k text layers and 12 - k fusion layers, k from 0 to 12, in the demo's regime, with every k, five
seeds and four endpoints: how fast matching (ITM), alignment (ITC) and masked words (MLM) are
learnt, each as the mean of the validation loss over training, and recall in the end. k = 12 has no
fusion left: it is a dual encoder, without matching and masked words.

Endpoints and regions were chosen on seeds 0 to 14 of the demo's three divisions: residual SDs .007,
.029, .016 nats and .8 points there; a region is 5 to 8 % of the loss of 6+6.

Guess: the fewer fusion layers, the slower matching; the fewer text layers, the slower alignment;
6+6 stands on a plateau from 4+8 to 8+4 in both, and recall shows nothing.
Result: 2026-11-27, commits 82f2ef0 (seeds 20 to 24) and 972722d (30 to 34), equal samples: a
plateau from 3+9 to 8+4, 5+7 equal to 6+6 in matching in both; three fusion layers or fewer match
worse (9+3 +.022), no or one text layer aligns worse (+.37) and recalls less, against the guess. At
equal FLOPs (`layer_allocation_flops`) 7+5 to 10+2 align better. docs/studies/layer_allocation.
Cost: 70 runs, about an hour on two cores at nano, the warm start a minute and a half of it.
Larger: --set backbone=small --set numerics.device=cuda.
Command: fuselab run layer_allocation
"""

from harness.study import Cell, Variant, grid, short_study

STUDY = short_study(
    name="layer_allocation",
    question="How should twelve layers be divided between text and fusion?",
    cells=(
        *grid(
            Variant("split_bert"),
            text_layers=range(13),
            label=lambda text_layers: f"{text_layers}+{12 - text_layers}",
        ),
        Cell(variant=Variant("dual_encoder"), role="floor"),
    ),
    control="6+6",
    axis="text_layers",
    seeds=(20, 21, 22, 23, 24),
)
