"""TaskRecord says what a fine-tuned model is and what its outputs mean, without its weights."""

from __future__ import annotations

from typing import Literal

from architectures import build
from architectures.contract import FusionDesign
from architectures.downstream.answers import AnswerModel
from architectures.downstream.classifier import Classifier, HeadKind, PictureTypes
from architectures.downstream.model import TaskModel
from architectures.frozen import Frozen
from architectures.weights import widths


class TaskRecord(Frozen):
    """All that is needed to build the model of a task around a design, and to read its outputs."""

    name: str
    """The task."""
    title: str
    """The name that its scores have in the run."""
    form: Literal["classifier", "decoder", "pair", "duplicated"]
    """`decoder`: it ranks answers (`AnswerModel`); the others classify (`Classifier`), those of
    several images as a pair or by duplicated layers."""
    head: HeadKind = "albef"
    """Of a classifier."""
    labels: tuple[str, ...]
    """Labels in the order of their numbers; of VQA the answers that can be given."""
    images: int = 1
    """Pictures of an item; 0: it reads text alone."""
    picture_types: PictureTypes = "one"
    """Of a pair: whether every picture after the first has an image-type row of its own."""
    texts: int = 1
    """Texts of an item; a second one stands behind [SEP]."""
    rank: int = 0
    """Of a decoder: answers that are ranked, the best by their first token."""
    first_token_twice: bool = False
    """Of a decoder: the first token's probability counts twice."""

    def model(self, design: FusionDesign) -> TaskModel:
        """Builds the model around a design, which becomes its part; what is new has no trained
        weights yet. Raises `SettingError` where the design cannot serve.
        """
        model = self._around(design)
        widths.prepare(model, design.backbone, lambda at: self._around(build.alike(design, at)))
        return model

    def _around(self, design: FusionDesign) -> TaskModel:
        if self.form == "decoder":
            return AnswerModel(design)
        form: Literal["pair", "duplicated"] = "duplicated" if self.form == "duplicated" else "pair"
        return Classifier(
            design,
            len(self.labels),
            images=self.images,
            form=form,
            head=self.head,
            picture_types=self.picture_types,
        )
