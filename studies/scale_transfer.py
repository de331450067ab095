"""Does what early and late fusion differ in at nano's width hold at two and three times of it?

Shukor et al. (arXiv 2504.07951) find no advantage of late over early fusion, and early better where
models are small: 457 models, one run each. Here the same settings at all widths, which `mup`
carries from nano to the wider ones, and intervals. Early: words and patches in one transformer
(ViLT's, with a pass of each alone for ITC), of four layers, which cost 7 % more a sample than late:
an image tower and ALBEF's split 6+6. Both start from random weights, as theirs do; pictures of one
object of 324 kinds, so that both learn something in 480 steps. The interaction of design and width
is the answer. What settings that do not go by width would have said:
--set backbone.parameterisation=standard --set name=scale_transfer_standard.

Guess: late aligns and matches sooner at every width, since it has encoders of each modality; the
difference is the same at all three: no interaction.
Cost: 18 runs, about two and a half hours on two cores.
Command: fuselab run scale_transfer && fuselab report scale_transfer
"""

from harness.study import (
    Budget,
    Cell,
    Retrieval,
    Variant,
    graded_scenes,
    scale,
    short_study,
)

STUDY = short_study(
    name="scale_transfer",
    question="Does what early and late fusion differ in at nano hold at wider scales?",
    cells=(
        *(
            Cell(
                variant=variant,
                settings={
                    "backbone.text_width": width,
                    "backbone.text_mlp": 4 * width,
                    "backbone.text_heads": width // 32,
                    "backbone.image_width": width,
                    "backbone.image_heads": width // 32,
                    "backbone.itc_width": width,
                },
                label=f"{when} {width}",
            )
            for variant, when in (
                (Variant("split_bert"), "late"),
                (Variant("single_stream", layers=4, separate_passes=True), "early"),
            )
            for width in (64, 128, 192)
        ),
    ),
    control="late 64",
    axis="set.backbone.text_width",
    backbone=scale("nano").with_field("parameterisation", "mup"),
    data=graded_scenes("few"),
    warm_start=None,
    budget=Budget(samples=30_720),
    tasks=(Retrieval(rerank=8),),
    seeds=(40, 41, 42),
)
