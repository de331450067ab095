"""New pictures and captions are compared by a trained design, as retrieval compares them.

Letters: N pairs, I images, T texts, Q queries (the one or the other), C candidates, K best ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from architectures.contract import FusionDesign, ImageStates, TextStates
from architectures.frozen import SettingError
from architectures.layers.similarity import Asks
from harness.export.new_items import Picture, Reader
from harness.training.objectives.compared import alike, match_logits
from harness.training.objectives.term import full


@dataclass(frozen=True, kw_only=True)
class Comparer:
    """Comparer reads pictures and captions for a design, and says how well they fit."""

    design: FusionDesign
    reader: Reader
    caption_tokens: int
    """Tokens that a caption is cut to."""
    device: torch.device

    @torch.no_grad()
    def images(self, pictures: Sequence[tuple[str, Picture]]) -> ImageStates:
        """Reads pictures, each with its place. Raises as `Reader.pixels` does."""
        return self.design.encode_image(self.reader.pixels(pictures).to(self.device))

    @torch.no_grad()
    def texts(self, captions: Sequence[str]) -> TextStates:
        """Reads captions, all padded to one length."""
        tokenizer = self.reader.tokenizer.with_length(self.caption_tokens)
        ids_BL, is_real_BL = tokenizer.encode(captions)
        return self.design.encode_text(ids_BL.to(self.device), is_real_BL.to(self.device))

    @torch.no_grad()
    def matches(self, image: ImageStates, text: TextStates) -> np.ndarray:
        """Says how well each row of images fits its row of texts, (N,) float32: the probability by
        ITM, or the cosine where there is no ITM head.
        """
        if "itm" not in self.design.heads:
            return self.cosines(image, text).diagonal()
        nothing_N0 = torch.zeros((len(image.pooled_BD), 0), dtype=torch.int64, device=self.device)
        fused = self.design.fuse(image, text, read_at_BR=nothing_N0)
        logits_N2 = full(self.design.heads["itm"](fused.pooled_BD))
        return logits_N2.softmax(1)[:, 1].cpu().numpy()

    def cosines(self, image: ImageStates, text: TextStates, asks: Asks | None = None) -> np.ndarray:
        """Returns the similarities (I, T) by ITC; `asks` as `layers.similarity` has it. Raises
        `SettingError` where there is no ITC head.
        """
        if "itc" not in self.design.heads:
            name = self.design.name
            raise SettingError(f"{name} was trained without ITC; ask `match` or `rank`")
        return alike(self.design, image, text, asks)

    def ranked(
        self, image: ImageStates, text: TextStates, rerank: int, *, of_captions: bool
    ) -> np.ndarray:
        """Returns places of all texts for each image, best first, (I, T); of all images for each
        text, (T, I), if `of_captions`. By ITC, the best `rerank` again by ITM.
        """
        every_IT = np.ones((len(image.pooled_BD), len(text.pooled_BD)), dtype=bool)
        turn = np.transpose if of_captions else np.asarray
        if "itc" not in self.design.heads:
            return _order(turn(match_logits(self.design, image, text, every_IT)))
        asks: Asks = "text" if of_captions else "image"
        order_QC = _order(turn(self.cosines(image, text, asks)))
        if "itm" not in self.design.heads or rerank < 1:
            return order_QC
        best_QK = order_QC[:, :rerank]
        wanted_QC = np.zeros_like(turn(every_IT))
        np.put_along_axis(wanted_QC, best_QK, True, axis=1)
        logits_QC = turn(match_logits(self.design, image, text, turn(wanted_QC)))
        again_QK = _order(np.take_along_axis(logits_QC, best_QK, axis=1))
        order_QC[:, :rerank] = np.take_along_axis(best_QK, again_QK, axis=1)
        return order_QC


def _order(score_QC: np.ndarray) -> np.ndarray:
    """Returns places by falling score, equal ones in the order of the list."""
    return np.argsort(-score_QC, axis=1, kind="stable")
