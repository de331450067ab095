"""Why a captioning loss in place of masked words?

BLIP took MLM out of ALBEF's three losses and put LM in. Asked why in issue 100 of its tracker, it
says that both do equally well. So, beside ITC and ITM: MLM, LM, LM with half of the caption given
at most (a prefix), both, and neither, at 6+6; MLM and LM once more on BLIP's own stack. Batches and
masks are the same for all cells, and no loss has weights of its own but its head. The BERT from
which all start has learnt MLM, which favours that: to start without, --set warm_start=null.

Guess: matching and alignment come equally fast with MLM and LM, a little slower with neither, since
at this budget ITM teaches words to read the picture by itself; both together gain nothing.
Cost: 35 runs, about 60 minutes on two cores at nano.
Command: fuselab run lm_in_place_of_mlm && fuselab report lm_in_place_of_mlm
"""

from harness.study import SHORT_ENDPOINTS, Cell, Variant, short_study

WORDS: dict[str, dict[str, float]] = {
    "MLM": {},
    "LM": {"objectives.mlm.weight": 0.0, "objectives.lm.weight": 1.0},
    "prefix LM": {
        "objectives.mlm.weight": 0.0,
        "objectives.lm.weight": 1.0,
        "objectives.lm.prefix": 0.5,
    },
    "both": {"objectives.lm.weight": 1.0},
    "neither": {"objectives.mlm.weight": 0.0},
}

STUDY = short_study(
    name="lm_in_place_of_mlm",
    question="Does captioning teach matching and alignment as well as masked words do?",
    cells=(
        *(
            Cell(variant=Variant("split_bert"), settings=settings, label=f"6+6 {name}")
            for name, settings in WORDS.items()
        ),
        *(
            Cell(variant=Variant("shared_stack"), settings=WORDS[name], label=f"shared {name}")
            for name in ("MLM", "LM")
        ),
    ),
    control="6+6 MLM",
    endpoints=tuple(each for each in SHORT_ENDPOINTS if "mlm" not in each.score),
)
