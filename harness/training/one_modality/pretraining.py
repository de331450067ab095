"""Pretraining trains the models that a warm start gives to designs: a BERT, its half and a ViT,
each alone on a study's own training data, then the towers together where they are aligned, and the
text parts of a design that has a text stage.

Batches, masks and dropout come from named streams, so the same spec gives the same bits. Each model
is then measured on validation pictures, by which nothing is chosen; a ViT that learns classes,
which validation pictures need not have, on the training batches that would come next.

Letters: K classes.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import JsonValue
from torch import nn

from architectures import build
from architectures.contract import FusionDesign, TextStage, undecayed
from architectures.frozen import SettingError
from architectures.stacks.image_tower import ImageTower
from architectures.weights import slots
from architectures.weights.from_transformers import text_tensors
from architectures.weights.widths import times_of
from harness.training.data.batches import Batch, Batches, validation_batches
from harness.training.data.corpus import Corpus
from harness.training.loop import optimizer as adamw
from harness.training.loop.budget import steps_of
from harness.training.objectives.term import Term
from harness.training.one_modality.courses import (
    Aligned,
    Classes,
    Course,
    Distilled,
    Patches,
    TextAlone,
    Words,
    flops_of,
)
from harness.training.one_modality.models import FillsPatches, MaskedWords, NamesClasses
from harness.training.randomness import stream, torch_seed
from harness.training.scoring.chance import majority_level
from harness.training.settings.loop import Budget
from harness.training.settings.objectives import MLM
from harness.training.settings.spec import TrainSpec
from harness.training.settings.warm_start import ALIGNED_AS, WarmStart

PICTURES_A_CLASS = 4
"""Groups with fewer training pictures than this, on average, are no classes."""
MEASURED = 512
"""Pictures that a trained model is measured on, or all where there are fewer."""


class Pretraining:
    """The courses of one warm start.

    `bert`, `distilbert`, `vit`, `aligned` and `text_stage` return what they trained and a record of
    plain values: steps, samples, FLOPs, epochs, seconds, first and last loss, and how well it does
    on what was not trained on. They raise `SettingError` where a loss is not finite.
    """

    def __init__(self, spec: TrainSpec, corpus: Corpus) -> None:
        assert spec.warm_start is not None
        self.spec, self.corpus, self.recipe = spec, corpus, spec.warm_start
        self.batches = batches_of(self.recipe, corpus)
        self.device = torch.device(spec.numerics.device)

    def bert(self) -> tuple[MaskedWords, dict[str, JsonValue]]:
        """Trains the backbone's BERT by masked language modelling on the captions alone."""
        course = Words(MaskedWords(self.spec.backbone, self.corpus.tokenizer.vocabulary))
        self._draw(course.model)
        cost = self._train(course, "bert", self.recipe.bert_samples)
        return course.model, cost | self._measured_words(course)

    def distilbert(self, teacher: MaskedWords) -> tuple[MaskedWords, dict[str, JsonValue]]:
        """Trains a DistilBERT from half of a BERT, on the batches after those of the BERT."""
        course = Distilled(teacher)
        first = self.steps(self.recipe.bert_samples)
        cost = self._train(course, "distilbert", self.recipe.distil_samples, first)
        return course.model, cost | self._measured_words(course)

    def vit(self) -> tuple[NamesClasses | FillsPatches, dict[str, JsonValue]]:
        """Trains the backbone's ViT to name classes or to fill in hidden patches."""
        course = self.vit_course()
        self._draw(course.model)
        cost = self._train(course, "vit", self.recipe.vit_samples)
        if isinstance(course, Classes):
            return course.model, {"task": "classes", **cost, **self._measured_classes(course)}
        return course.model, {"task": "patches", **cost, **self._measured_patches(course)}

    def vit_course(self) -> Classes | Patches:
        """Makes the course of the ViT, untrained."""
        backbone = self.spec.backbone
        if vit_task(self.recipe, self.corpus) == "classes":
            groups_K = torch.from_numpy(np.unique(self.corpus.train.group_N))
            return Classes(NamesClasses(backbone, len(groups_K)), groups_K)
        return Patches(FillsPatches(backbone), backbone.patches, self.recipe.seed)

    def aligned(
        self, bert: Path, vit: Path
    ) -> tuple[MaskedWords, ImageTower, dict[str, JsonValue]]:
        """Trains a BERT and a ViT, which lie at these paths, together by ITC. Returns the BERT with
        the MLM head that it had, the ViT, and the record.
        """
        start = {"text_weights": str(bert), "vision_weights": str(vit)}
        backbone = self.spec.backbone.model_copy(update=start)
        vocabulary = self.corpus.tokenizer.vocabulary
        course = Aligned(
            build.design(
                ALIGNED_AS, {}, backbone, vocabulary, draw=self._drawn, objectives=("itc",)
            )
        )
        cost = self._train(course, "aligned", self.recipe.align_samples)
        trained = course.design.state_dict()
        words = MaskedWords(self.spec.backbone, vocabulary)
        words.load_state_dict(text_tensors(str(bert)), strict=False)
        both = words.state_dict().keys() & trained.keys()
        words.load_state_dict({role: trained[role] for role in both}, strict=False)
        image = next(part for part in course.modules() if isinstance(part, ImageTower))
        return words, image, cost | self._measured_pairs(course, words)

    def text_stage(self, stage: TextStage, vit: Path) -> tuple[FusionDesign, dict[str, JsonValue]]:
        """Trains the stage's model on top of the ViT in the file `vit`, on the batches of BERT."""
        backbone = self.spec.backbone.model_copy(update={"vision_weights": str(vit)})
        course = TextAlone(
            build.design(
                self.spec.design,
                stage.fields,
                backbone,
                self.corpus.tokenizer.vocabulary,
                draw=self._drawn,
                objectives=("mlm",),
            ),
            stage.trains,
        )
        cost = self._train(course, "text_stage", self.recipe.text_stage_samples)
        return course.model, cost | self._measured_words(course)

    def steps(self, samples: int) -> int:
        """Returns the steps of so many samples, rounded up to whole batches."""
        return steps_of(Budget(samples=samples), self.recipe.batch_size)

    def cost(self, flops: float, samples: int) -> dict[str, JsonValue]:
        """Returns steps, samples and FLOPs of a course; `flops`: those of one step."""
        steps = self.steps(samples)
        return {"steps": steps, "samples": steps * self.recipe.batch_size, "flops": flops * steps}

    def _drawn(self, role: str) -> np.random.Generator:
        return stream(self.recipe.seed, "initial weights", role)

    def _draw(self, model: nn.Module) -> None:
        slots.redraw(model, self._drawn, std=self.spec.backbone.init_std)

    def precision(self) -> AbstractContextManager[object]:
        if self.spec.numerics.dtype == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def _train(
        self, course: Course, name: str, samples: int, first: int = 0
    ) -> dict[str, JsonValue]:
        """Trains a course to its end and returns its cost; `first`: number of its first batch."""
        steps, settings = self.steps(samples), self.recipe.optimizer
        flops = flops_of(course, self.batches.at(first))
        course.to(self.device).train()
        exempt = undecayed(course)
        named, times = course.named_parameters(), times_of(course)
        optimizer = adamw.over(settings, named, {}, exempt, times, fused=True)
        limit = settings.clip_norm or math.inf
        losses, begun = [], time.perf_counter()
        for step in range(1, steps + 1):
            batch = self.batches.at(first + step - 1).to(self.device)
            torch.manual_seed(torch_seed(self.recipe.seed, "dropout", name, step))
            for group in optimizer.param_groups:
                group["lr"] = adamw.learning_rate(settings, step, steps) * group["rate"]
            with self.precision():
                loss, _ = course(batch)
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(course.parameters(), limit)
            losses.append(loss.item())
            if not math.isfinite(losses[-1] + norm.item()):
                raise SettingError(
                    f"warm start: {name} diverged at step {step}; lower "
                    f"warm_start.optimizer.learning_rate, {settings.learning_rate:g} now"
                )
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        last = losses[-max(1, steps // 10) :]
        return {
            **self.cost(flops, samples),
            "epochs": steps / self.batches.steps_per_epoch,
            "seconds": time.perf_counter() - begun,
            "first_loss": losses[0],
            "last_loss": sum(last) / len(last),
        }

    @torch.no_grad()
    def _measure(self, course: Course, batches: Sequence[Batch]) -> Term:
        course.eval()
        with self.precision():
            terms = [course(batch.to(self.device))[1] for batch in batches]
        return sum(terms[1:], start=terms[0])

    def _measured_words(self, course: Words | Distilled | TextAlone) -> dict[str, JsonValue]:
        checked = self._validation()
        term = self._measure(course, checked)
        labels = torch.cat([batch.mask_labels_BR.flatten() for batch in checked])
        return _accuracy(term, majority_level(labels[labels != -100].tolist()), "validation")

    def _measured_classes(self, course: Classes) -> dict[str, JsonValue]:
        first, count = self.steps(self.recipe.vit_samples), self._validation_count()
        batches = [self.batches.at(first + i) for i in range(count)]
        term = self._measure(course, batches)
        labels = torch.cat([course.labels(batch.to(self.device)) for batch in batches])
        return _accuracy(term, majority_level(labels.tolist()), "the next training batches")

    def _measured_pairs(self, course: Aligned, words: MaskedWords) -> dict[str, JsonValue]:
        checked = self._validation()
        guess = sum(float(batch.match_BB.double().mean()) for batch in checked) / len(checked)
        accuracy = _accuracy(self._measure(course, checked), guess, "validation")
        after = self._measured_words(Words(words.to(self.device)))
        return accuracy | {"words_accuracy": after["accuracy"]}

    def _measured_patches(self, course: Patches) -> dict[str, JsonValue]:
        term = self._measure(course, self._validation())
        items = float(term.items)
        return {
            "error": float(term.loss_sum) / items,
            "error_of_means": float(term.correct) / items,
            "items": int(items),
            "measured_on": "validation",
        }

    def _validation_count(self) -> int:
        return max(1, MEASURED // self.recipe.batch_size)

    def _validation(self) -> list[Batch]:
        size = min(self.recipe.batch_size, len(self.corpus.val))
        tokenizer = self.corpus.tokenizer
        return validation_batches(self.corpus.val, tokenizer, MEASURED, size, MLM())


def _accuracy(term: Term, chance: float, where: str) -> dict[str, JsonValue]:
    return {
        "accuracy": float(term.correct) / max(float(term.items), 1.0),
        "chance": chance,
        "items": int(term.items),
        "measured_on": where,
    }


def batches_of(recipe: WarmStart, corpus: Corpus) -> Batches:
    """Returns the training batches of a warm start, whose seed is apart from those of the runs."""
    return Batches(
        corpus.train, corpus.tokenizer, recipe.batch_size, recipe.seed, MLM(), corpus.augment
    )


def vit_task(recipe: WarmStart, corpus: Corpus) -> Literal["classes", "patches"]:
    """Returns what the ViT learns: `recipe.vit_task`, or for "auto" classes where there are enough.

    Raises `SettingError` where the recipe says classes and the data have none.
    """
    pictures, groups = len(corpus.train), len(np.unique(corpus.train.group_N))
    if recipe.vit_task == "auto":
        usable = groups >= 2 and pictures >= PICTURES_A_CLASS * groups
        return "classes" if usable else "patches"
    if recipe.vit_task == "classes" and not 2 <= groups < pictures:
        raise SettingError(
            f"warm_start.vit_task is 'classes', but the {pictures} training pictures are of "
            f"{groups} groups; take 'patches', or name the data's group column"
        )
    return recipe.vit_task
