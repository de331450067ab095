"""Should words and image tokens share the weights of a joint stack?

METER's merged stack shares all; VLMo gives each modality an MLP of its own; Mixture-of-Transformers
(arXiv 2411.04996) shares nothing but the softmax, and is said to reach the quality of the shared
stack at 55.8 % of its FLOPs. FLOPs a sample are equal in all three; parameters are not.

Guess: untied learns sooner at equal samples, but not by the factor of two that the claim asks for:
of every curve, the sample at which `all` ends is reached by `none` after two thirds.
Cost: 20 runs, about 25 minutes on two cores at nano.
Command: fuselab run tied_weights && fuselab report tied_weights
"""

from harness.study import Cell, Variant, short_study

STUDY = short_study(
    name="tied_weights",
    question="Should words and image tokens share the weights of a joint stack?",
    cells=(
        Cell(variant=Variant("merged_attention"), label="all"),
        Cell(variant=Variant("merged_attention", tied="mlp"), label="MLPs untied"),
        Cell(variant=Variant("merged_attention", tied="none"), label="untied"),
        Cell(variant=Variant("dual_encoder"), role="floor"),
    ),
    control="all",
)
