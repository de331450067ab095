"""A trained model is asked about new pictures, from a folder that `fuselab export` wrote.

    predictor = Predictor.open("my_vqa")
    predictor.answer(["kitchen.jpg"], ["what is red?"], k=3)

A picture is a path, the bytes of a file, or a picture of Pillow; it is turned upright and made
square as those of training were. Every method takes lists, and reads them in batches.

Letters: N items, B rows, I pictures, T captions, K labels or answers, D width of features.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch

from architectures import exported
from architectures.contract import FusionDesign, ImageStates, TextStates
from architectures.downstream.answers import AnswerModel
from architectures.downstream.features import Reads, features_of
from architectures.downstream.model import TaskModel
from architectures.downstream.record import TaskRecord
from architectures.frozen import SettingError, path_named
from architectures.weights.published import fuselab
from harness.export.comparing import Comparer
from harness.export.locating import Located, located
from harness.export.new_items import (
    NewItem,
    Picture,
    Reader,
    checked_texts,
    new_items,
    placed_pictures,
)
from harness.training.data.decoding import Square
from harness.training.data.items.batches import ItemBatch
from harness.training.data.tokenized import pretrained
from harness.training.data.transforms import fit_of
from harness.training.loop.lessons import logits_of
from harness.training.objectives.candidates import Candidates
from harness.training.objectives.said import written
from harness.training.objectives.term import full

LABELLED = ("entailment", "nlvr2", "sentences")
"""Tasks whose answer is a label."""
T = TypeVar("T")


class Choice(NamedTuple):
    """A label or an answer, and how likely the model finds it."""

    text: str
    probability: float
    """In [0, 1]. Of labels, and of answers that a decoder ranks, they add to 1 over all of them
    that were considered; each answer of a classifier has its own, for several may be right."""


@dataclass(frozen=True, kw_only=True)
class Predictor:
    """Predictor holds an exported model, in eval mode, with what reads pictures and texts for it.

    Methods raise `SettingError` where the folder was exported for something else, with the command
    that would export it for this, and for input that cannot be read, with its place in the list.
    """

    model: FusionDesign | TaskModel
    task: TaskRecord | None
    """What the model was fine-tuned for; None: it is a trained design, or one that was fine-tuned
    for retrieval."""
    reader: Reader
    caption_tokens: int
    """Tokens that a caption is cut to."""
    run: str
    """Key of the run that was exported."""
    learnt: Mapping[str, str]
    """Title of a task that the run had learnt -> its name."""
    device: torch.device
    batch: int

    @staticmethod
    def open(folder: str | Path, *, device: str = "cpu", batch: int = 64) -> Predictor:
        """Opens a folder of `fuselab export`.

        device: `cpu`, or `cuda` where torch finds one
        batch: items that are read at a time
        Raises `SettingError` where the folder is not one, or altered, and as `exported.load` does.
        """
        if batch < 1:
            raise SettingError(f"batch is {batch}; at least one item is read at a time")
        folder = path_named(folder)
        model, record = exported.load(folder), fuselab.record(folder)
        try:
            where = torch.device(device)
            model.to(where)
        except (RuntimeError, AssertionError) as error:
            first = str(error).splitlines()[0]
            raise SettingError(f"device {device!r} cannot be used: {first}") from None
        design = exported.design_of(model)
        backbone, longest = design.backbone, design.longest_text
        square = Square(
            side=backbone.image_size,
            channels=backbone.image_channels,
            fit=fit_of(record["pixels"], backbone.image_channels),
        )
        return Predictor(
            model=model,
            task=exported.task_of(record),
            reader=Reader(
                square=square, tokenizer=pretrained(str(folder.resolve())), longest=longest
            ),
            caption_tokens=record.get("caption_tokens", longest),
            run=record.get("run", "RUN"),
            learnt=record.get("learnt", {}),
            device=where,
            batch=batch,
        )

    # -- what a task taught

    def answer(
        self, pictures: Sequence[Picture], questions: Sequence[str], *, k: int = 1
    ) -> list[tuple[Choice, ...]]:
        """Answers the question about each picture: the k best answers, best first; fewer where the
        model has fewer, or its decoder ranks fewer. Of a folder exported for VQA.
        """
        if k < 1:
            raise SettingError(f"k is {k}; at least one answer is given")
        task = self._taught(("vqa",), "answer")
        items = new_items(pictures, questions, "questions", images=task.images)
        return [choices[:k] for choices in self._choices(items, task)]

    def label(
        self,
        pictures: Sequence[Picture] | Sequence[Sequence[Picture]] | None,
        sentences: Sequence[str] | Sequence[tuple[str, ...]],
    ) -> list[tuple[Choice, ...]]:
        """Labels each sentence: all labels, best first. Of a folder exported for entailment, NLVR2
        or sentence classification.

        pictures: of entailment one for each sentence, of NLVR2 a tuple, of sentences alone None
        sentences: tuples, where the task reads two texts
        """
        task = self._taught(LABELLED, "label")
        counts = {"images": task.images, "parts": task.texts}
        items = new_items(pictures, sentences, "sentences", **counts)
        return list(self._choices(items, task))

    def _choices(self, items: list[NewItem], task: TaskRecord) -> Iterator[tuple[Choice, ...]]:
        model = self.model
        assert isinstance(model, TaskModel)
        for some in self._pieces(items):
            ready = self.reader.items(some)
            place_BK, probability_BK = self._best(model, task, ready.batch(np.arange(len(some))))
            for places, probabilities in zip(place_BK, probability_BK, strict=True):
                yield tuple(
                    Choice(task.labels[place], probability)
                    for place, probability in zip(places, probabilities, strict=True)
                    if place >= 0
                )

    @torch.no_grad()
    def _best(
        self, model: TaskModel, task: TaskRecord, batch: ItemBatch
    ) -> tuple[list[list[int]], list[list[float]]]:
        """Returns the numbers of labels or answers (B, K), best first, -1 where there is none, and
        their probabilities. Equal ones stay in the order of their numbers.
        """
        batch = batch.to(self.device)
        if isinstance(model, AnswerModel):
            candidates = Candidates.of(
                task, self.reader.tokenizer, self.reader.longest, self.device
            )
            place_BK, log_BK = candidates.ranked(model, batch).best()
            return place_BK.tolist(), log_BK.exp().tolist()
        logits_BK = logits_of(model, batch).double()
        probability_BK = logits_BK.sigmoid() if task.name == "vqa" else logits_BK.softmax(1)
        place_BK = logits_BK.argsort(dim=1, descending=True, stable=True)
        return place_BK.tolist(), probability_BK.gather(1, place_BK).tolist()

    # -- what pre-training taught

    def match(self, pictures: Sequence[Picture], captions: Sequence[str]) -> np.ndarray:
        """Says how well each picture's caption fits it, (N,) float32: the probability of a match by
        the ITM head, or the cosine by ITC where the design has no ITM.
        """
        comparer = self._comparer("match")
        items = new_items(pictures, captions, "captions", images=1)
        parts = [np.zeros(0, dtype=np.float32)]
        for some in self._pieces(items):
            image = comparer.images([item.pictures[0] for item in some])
            parts.append(comparer.matches(image, comparer.texts([item.text for item in some])))
        return np.concatenate(parts)

    def similarities(self, pictures: Sequence[Picture], captions: Sequence[str]) -> np.ndarray:
        """Returns the cosine by ITC of every picture with every caption, (I, T) float32."""
        comparer = self._comparer("similarities")
        return comparer.cosines(*self._states(comparer, pictures, captions))

    def rank(
        self,
        pictures: Sequence[Picture],
        captions: Sequence[str],
        *,
        rerank: int = 16,
        of_captions: bool = False,
    ) -> np.ndarray:
        """Returns the places of all captions for each picture, best first, (I, T) int64.

        By ITC, the first `rerank` of them by ITM, as retrieval is scored; by the one of both that
        the design has alone. Equal ones stay in the order of the list.
        of_captions: places of all pictures for each caption instead, (T, I)
        """
        comparer = self._comparer("rank")
        image, text = self._states(comparer, pictures, captions)
        return comparer.ranked(image, text, rerank, of_captions=of_captions)

    @torch.no_grad()
    def features(self, pictures: Sequence[Picture], *, reads: Reads = "class_token") -> np.ndarray:
        """Returns one vector of each picture by the image tower alone, (N, D) float32, for probes;
        of any folder.

        reads: `pooled`, what ITC reads; `class_token`; `mean`, that of the patches
        """
        design, placed = exported.design_of(self.model), placed_pictures(pictures)
        parts = []
        for some in self._pieces(placed):
            states = design.encode_image(self.reader.pixels(some).to(self.device))
            parts.append(full(features_of(design, states, reads)).cpu().numpy())
        return np.concatenate(parts) if parts else np.zeros((0, 0), dtype=np.float32)

    @torch.no_grad()
    def caption(self, pictures: Sequence[Picture]) -> list[str]:
        """Says of each picture the caption that LM writes, word after word, the likeliest each."""
        design, parts = self._comparer("caption").design, self._pieces(placed_pictures(pictures))
        states = (design.encode_image(self.reader.pixels(some).to(self.device)) for some in parts)
        return [text for image in states for text in written(design, self.reader.tokenizer, image)]

    def locate(self, picture: Picture, expression: str, *, layer: int | None = None) -> Located:
        """Shows where in one picture an expression's thing is: a Grad-CAM map and its maximum.

        layer: which map, as `Grounding.layer`; None: the middle one by ITM
        """
        design = self._comparer("locate").design
        (item,) = new_items([picture], [expression], "expression", images=1)
        return located(design, self.reader, self.device, item.pictures[0], item.text, layer)

    def _states(
        self, comparer: Comparer, pictures: Sequence[Picture], captions: Sequence[str]
    ) -> tuple[ImageStates, TextStates]:
        """Reads all pictures and captions. Raises `SettingError` where there are none."""
        placed, worded = placed_pictures(pictures), list(checked_texts(captions, "captions"))
        if not placed or not worded:
            raise SettingError("give at least one picture and one caption")
        images = [comparer.images(some) for some in self._pieces(placed)]
        texts = [comparer.texts(some) for some in self._pieces(worded)]
        return ImageStates.join(images), TextStates.join(texts)

    # -- which folder serves

    def _taught(self, names: tuple[str, ...], method: str) -> TaskRecord:
        """Returns the task, where it is one of those named."""
        if self.task and self.task.name in names:
            return self.task
        titles = [title for title, name in self.learnt.items() if name in names]
        remedy = " or ".join(f"`{self._command} --task {title}`" for title in titles)
        raise self._unfit(
            method,
            f"{remedy} writes one for it"
            if titles
            else f"its run had learnt none of {', '.join(names)} when it was exported: add one to "
            f"the study, run it, and write `{self._command} --task TITLE`",
        )

    def _comparer(self, method: str) -> Comparer:
        """Returns what compares by the design as it was trained, its heads with it."""
        if isinstance(self.model, TaskModel):
            raise self._unfit(method, f"`{self._command}` writes one for it")
        return Comparer(
            design=self.model,
            reader=self.reader,
            caption_tokens=self.caption_tokens,
            device=self.device,
        )

    @property
    def _command(self) -> str:
        return f"fuselab export {self.run} NEW_FOLDER"

    def _unfit(self, method: str, remedy: str) -> SettingError:
        what = f"task {self.task.title!r}" if self.task else "no task, but as a trained design"
        return SettingError(f"{method}: this folder was exported for {what}; {remedy}")

    def _pieces(self, items: list[T]) -> Iterator[list[T]]:
        yield from (items[at : at + self.batch] for at in range(0, len(items), self.batch))
