"""Facts tell a plan what a design can do, without its weights."""

from __future__ import annotations

import dataclasses
from typing import Literal

OBJECTIVES = ("itc", "itm", "mlm", "lm")
"""The objectives that a design can have a head for, in the order in which heads are put on."""
USUAL_OBJECTIVES = OBJECTIVES[:3]
"""Those that a study has unless it says otherwise, and a design that is built by itself."""
CAUSAL = (
    "a word reads none that stands after it, and what is hidden would be guessed from one side; "
    "such stacks learn to say the next word"
)
"""Why MLM does not apply under a causal mask."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Facts:
    """Facts say what a design with its configuration can do, before it is built."""

    no_align: str = ""
    """Why ITC does not apply, as the end of 'not applicable, because ...'; empty: it can align."""
    no_fuse: str = ""
    """Why ITM, MLM and LM do not apply; empty: it can fuse."""
    no_words: str = ""
    """Why MLM and LM do not apply, where words do not read the image; empty: they do."""
    no_caption: str = "no pass of its layers hides from a word those that come after it"
    """Why LM does not apply (`WritesCaptions`), beside `no_fuse` and `no_words`; empty: it does."""
    no_map: str = ""
    """Why no attention from words to image tokens can be shown, where words read the image by
    another way; empty: see `FusionDesign.crossings`."""
    itc_reads: str = ""
    """Which states the ITC heads read, in words."""
    itc_widths: tuple[int, int] | None = None
    """Widths of `pooled_BD` of image and of text states; None: those of the towers."""
    causal: bool = False
    """Whether a word reads none that stands after it, so that MLM does not apply."""
    itc_own_pass: bool = False
    """Whether what ITC reads takes a pass of its own through layers that fuse, made when it is
    first read. Rows that ITC does not read (captions with hidden words) are then encoded apart.
    """
    image_vectors: int = 0
    """How many vectors of an image ITC compares with a text; 0: one, without an axis of its own."""
    similarity: Literal["pooled", "late_mean", "late_sum"] = "pooled"
    """How ITC compares an image with a text (`layers.similarity`)."""
    places_taken: int = 0
    """Rows of the text's position table that image tokens take before the words do."""
    fusion_reads: str = ""
    """Which layers of the towers each fusion layer reads, in words; empty: their last."""
    no_images: str = "no pass of its layers reads several images"
    """Why it fuses no text with several images at once (`ReasonsOverImages`), beside `no_fuse`;
    empty: it can."""
    no_decoder: str = "its layers have no cross-attention in which answers could read a question"
    """Why no decoder of answers is made of its fusion layers (`DecodesAnswers`), beside `no_fuse`;
    empty: one is."""
    image_type: bool = False
    """Whether it adds a learnt row, `types.image.weight`, to image tokens where they meet words."""
    text_layers: int
    """Layers of text alone."""
    fusion_layers: int
    """Layers in which the modalities meet."""
    image_layers: int
    """Layers of image alone."""
    pooled_width: int
    """Width of `Fused.pooled_BD`."""

    @property
    def can_align(self) -> bool:
        return not self.no_align

    @property
    def can_fuse(self) -> bool:
        return not self.no_fuse

    def why_not(self, objective: str) -> str:
        """Says why an objective does not apply; empty: it does."""
        if objective == "itc":
            return self.no_align
        masked = self.no_words or (CAUSAL if self.causal else "")
        reasons = {"itm": "", "mlm": masked, "lm": self.no_words or self.no_caption}
        return self.no_fuse or reasons[objective]
