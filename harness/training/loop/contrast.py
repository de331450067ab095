"""Fine-tuning by ITC and ITM on pictures with captions, or with expressions of their things."""

from __future__ import annotations

import copy
import functools

from architectures.contract import FusionDesign
from harness.training.data.batches import Batches, validation_batches
from harness.training.data.corpus import Corpus
from harness.training.data.splits import Split
from harness.training.data.transforms import Augment
from harness.training.loop.trainer import Trainer
from harness.training.settings.loop import Final, Freeze
from harness.training.settings.spec import TrainSpec
from harness.training.settings.task import FineTune


def contrast_loop(
    design: FusionDesign,
    corpus: Corpus,
    finetune: FineTune,
    train: TrainSpec,
    seen: Split,
    held_out: Split,
) -> Trainer:
    """Makes the loop that trains a copy of a design by ITC and ITM, identity by identity (ALBEF's
    retrieval fine-tuning), on `seen`; curves are measured on `held_out`. Teacher, queue and
    temperature begin anew.
    """
    spec = train.model_copy(
        update={
            **{name: getattr(finetune, name) for name in ("budget", "batch_size", "measure")},
            "optimizer": finetune.optimizer,
            "objectives": train.objectives.with_fields({"mlm.weight": 0.0, "lm.weight": 0.0}),
            "final": Final(),
            "freeze": Freeze(),
        }
    )
    fixed = functools.partial(
        validation_batches,
        tokenizer=corpus.tokenizer,
        batch_size=spec.batch_size,
        mlm=spec.objectives.mlm,
    )
    swap_share = spec.objectives.itm.swap_share if seen.swapped_ids_KL is not None else 0.0
    batches = Batches(
        seen,
        corpus.tokenizer,
        spec.batch_size,
        spec.seed,
        spec.objectives.mlm,
        corpus.augment if seen is corpus.train else Augment(),  # boxes are not cut along
        swap_share=swap_share,
    )
    validation = fixed(held_out, items=spec.measure.items)
    return Trainer(spec, copy.deepcopy(design), batches, validation)
