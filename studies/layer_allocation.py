"""Why six and six? Every division of a twelve-layer BERT between text and fusion.

ALBEF (Li et al. 2021) reads text alone in layers 0-5 and text with image in layers 6-11; asked why,
its authors named it the straightforward choice (issue 144 of its tracker). This is the ablation:
k text layers and 12 - k fusion layers, k from 0 to 12, on scenes of two or three objects whose
captions name relations. k = 12 has no fusion left and is a dual encoder, scored by ITC alone.

Guess: a broad plateau from 2+10 to 8+4, a drop towards 12+0, and 0+12 behind because ITC then reads
words without context.
Cost: 70 runs, about 18 hours on two cores at nano. Larger: --set backbone=small --set
numerics.device=cuda.
Command: fuselab run layer_allocation
"""

from harness.study import (
    ITM,
    Budget,
    Cell,
    Measure,
    Objectives,
    Scenes,
    Study,
    Text,
    Variant,
    grid,
)

STUDY = Study(
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
    data=Scenes(train=50_000, val=1_024, test=1_024, objects=(1, 3), text=Text(max_tokens=40)),
    budget=Budget(samples=256_000),
    batch_size=64,
    objectives=Objectives(itm=ITM(hard_share=0.5)),
    measure=Measure(points=20, items=1_024),
    seeds=(0, 1, 2, 3, 4),
    equal_within=1.0,
)
