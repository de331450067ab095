"""Curves of binding: swap groups matched by tag, and masked words named by kind, along training.

Binding arrives as a phase, so when it arrives is an endpoint of its own. The groups and words are
fixed, of the validation split, and alike for all designs and seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch

from architectures.contract import FusionDesign
from architectures.frozen import SettingError
from harness.training.data.corpus import Corpus
from harness.training.data.group_sets import groups_of
from harness.training.data.groups import Groups
from harness.training.data.masked_kinds import MaskedKind, masked_kinds
from harness.training.data.scenes.kinds import kinds, kinds_in
from harness.training.data.scenes.swaps import swap_tags
from harness.training.data.tokenizer import Tokenizer
from harness.training.objectives.compared import group_tables, words_right
from harness.training.scoring.groups import MATCH, shares_of
from harness.training.settings.data import Data, Scenes
from harness.training.settings.loop import Measure
from harness.training.settings.tasks import Pairs

CURVES = ("pairs/", "words/")
"""With what the names of these curves begin."""
EVERY = "all"
"""What stands in the place of a tag for all groups."""


@dataclass(frozen=True, kw_only=True)
class Binding:
    """What is measured along training; empty where `Measure` asks for nothing."""

    groups: Groups | None
    words: Mapping[str, MaskedKind]
    images_NHWC: np.ndarray
    """uint8, the pictures that the words are of."""
    tokenizer: Tokenizer

    @torch.no_grad()
    def curves(
        self,
        design: FusionDesign,
        device: torch.device,
        precision: Callable[[], AbstractContextManager[object]],
    ) -> dict[str, float]:
        """Returns `pairs/colour`, `pairs/all` (shares of groups matched; by ITM where the design
        has it, and then by ITC as `pairs/colour_itc`) and `words/colour`, .... The design comes
        back in the mode it had.
        """
        training = design.training
        design.eval()
        with precision():
            values = self._pairs(design, device) if self.groups else {}
            if "mlm" in design.heads:
                for kind, words in self.words.items():
                    right_N = words_right(design, self.images_NHWC, words, self.tokenizer, device)
                    values[f"words/{kind}"] = float(right_N.mean())
        design.train(training)
        return values

    def _pairs(self, design: FusionDesign, device: torch.device) -> dict[str, float]:
        assert self.groups is not None
        tables = group_tables(design, self.groups, self.tokenizer, device)
        tag_G = np.array([group.tag for group in self.groups.groups])
        matches = [group.match_kl for group in self.groups.groups]
        values = {}
        for place, (name, its) in enumerate(tables.items()):
            share_G = shares_of(its, matches)[MATCH].share_N
            suffix = f"_{name}" if place else ""
            for tag in np.unique(tag_G).tolist():
                values[f"pairs/{tag}{suffix}"] = float(share_G[tag_G == tag].mean())
            values[f"pairs/{EVERY}{suffix}"] = float(share_G.mean())
        return values


def binding_of(measure: Measure, corpus: Corpus) -> Binding:
    """Draws what is measured. Raises `SettingError` where the data are no scenes, and as
    `swap_groups` does.
    """
    if (measure.pairs or measure.words) and not isinstance(corpus.data, Scenes):
        raise SettingError(
            "measure.pairs and measure.words are for scenes, which have swap groups and know the "
            "kinds of their words; set both to 0, or score the tasks pairs and words at the end"
        )
    groups, words = None, {}
    if measure.pairs:
        groups = groups_of(corpus, Pairs(split="val", count=measure.pairs))
    if measure.words:
        words = masked_kinds(corpus.val, "first", corpus.tokenizer, kinds(), measure.words)
    return Binding(
        groups=groups,
        words=words,
        images_NHWC=corpus.val.images_NHWC,
        tokenizer=corpus.tokenizer,
    )


def curve_names(measure: Measure, data: Data) -> tuple[str, ...]:
    """Returns the names of the curves that some design gets on these data."""
    if not isinstance(data, Scenes):
        return ()
    tags = (*swap_tags(data)[: measure.pairs], EVERY)
    pairs = [f"pairs/{tag}{by}" for tag in tags for by in ("", "_itc")]
    words = [f"words/{kind}" for kind in kinds_in(data)]
    return (*(pairs if measure.pairs else ()), *(words if measure.words else ()))
