"""What do the tasks that the field reports say of a design, after training on captions alone?

The split 6+6, fusion of pooled vectors only, and no fusion: the same training, then six tasks, each
by one fine-tuning of the same budget where the task is learnt. Floors that read only the text or
only the picture stand beside each score, so a score is what joint reading earned.

Guess: questions, entailment and two pictures tell 6+6 from the floor; probes of the towers do not.
Result: 2026-11-27, commit d581415, three seeds: no verdict on questions (the dual encoder +3.8
[-3.8, +11.4]), which all three answer beyond text alone (41 to 46 % against 32 %). Entailment, no
endpoint, stands at 51.7, 50.5 and 48.7 % (SD 1.0). Two pictures and sentences are not learnt in 400
steps. The guess failed but for the probes.
Cost: about three hours of one core, half of it fine-tuning.
Command: fuselab run downstream && fuselab report downstream
"""

from harness.study import (
    NLVR2,
    SHORT_OBJECTIVES,
    SHORT_OPTIMIZER,
    SHORT_START,
    VQA,
    Budget,
    Cell,
    Entailment,
    FineTune,
    Grounding,
    ImageProbe,
    Measure,
    Optimizer,
    Retrieval,
    Sentences,
    Study,
    Variant,
    graded_scenes,
)

SHORT_FINETUNE = FineTune(
    budget=Budget(steps=400), optimizer=Optimizer(learning_rate=6e-4, betas=(0.9, 0.95))
)

STUDY = Study(
    name="downstream",
    question="What do downstream tasks say of fusion, beside what text or picture alone earn?",
    cells=(
        Cell(variant=Variant("split_bert"), label="6+6"),
        Cell(variant=Variant("shallow_fusion"), label="shallow_fusion"),
        Cell(variant=Variant("dual_encoder"), label="dual_encoder"),
    ),
    control="6+6",
    primary="vqa/accuracy",
    equal_within=2.0,
    axis="cell",
    data=graded_scenes("binding").with_field("text.alphabet", "latin"),
    warm_start=SHORT_START,
    budget=Budget(steps=400),
    objectives=SHORT_OBJECTIVES,
    optimizer=SHORT_OPTIMIZER,
    measure=Measure(points=8, items=256, gap_items=0, checkpoints=4),
    tasks=(
        Retrieval(),
        Entailment(finetune=SHORT_FINETUNE),
        VQA(finetune=SHORT_FINETUNE),
        NLVR2(finetune=SHORT_FINETUNE),
        Grounding(),
        ImageProbe(),
        Sentences(finetune=SHORT_FINETUNE),
    ),
    seeds=(0, 1, 2),
)
