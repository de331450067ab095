"""Learnt queries between image and words: whatever words learn of the image goes through them.

BLIP-2's Q-Former (Li et al. 2023; salesforce/LAVIS, Blip2QFormerModel of transformers): queries and
words go through one BERT under shared self-attention; in every other layer queries also read the
image; queries have MLPs of their own, which start as copies of BERT's. ITC takes a pass of either
alone, and of an image's queries the closest to [CLS] counts. ITM and MLM take a pass of both, in
which all see all, and the ITM head reads the mean of the queries (of a linear head the same as the
mean of its logits, which BLIP-2 takes). BLIP-2 has no MLM but LM, in which queries read no words.
It also freezes the image tower, which trains here, as in every design.

Shape suffixes: B rows, U different images, P image tokens, L text positions, Q queries, R positions
read, T flat tokens, D width.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Annotated, ClassVar, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from architectures.backbone import Backbone
from architectures.contract import (
    DesignConfig,
    Facts,
    Fused,
    FusionDesign,
    ImageStates,
    TextStates,
    WritesCaptions,
)
from architectures.frozen import SettingError
from architectures.layers.blocks import Embeddings, text_read, with_first
from architectures.layers.query_layers import Queries, QueryLayer, WordsAndQueries
from architectures.layers.read import Read
from architectures.layers.sequence import Joint
from architectures.layout import Layout
from architectures.stacks.image_from import (
    ImageFromConfig,
    blocks_read,
    encoded,
    reads_in_words,
    side_by_side,
    tokens_read,
)
from architectures.stacks.image_tower import ImageTower
from architectures.stacks.towers import image_layers, not_causal
from architectures.weights.slots import FRESH, Rule, choose, named

Count = Annotated[int, Field(ge=1)]


class QueryBottleneckConfig(ImageFromConfig):
    """How many queries there are, and what they read."""

    queries: Count = 32
    """Learnt queries of an image; fewer than its tokens make a bottleneck."""
    fusion_layers: Count | None = None
    """Layers of the stack that queries and words share; None: as many as the backbone's has."""
    fusion_from: Rule = "first"
    """Pretrained text layers that the stack starts from, the MLPs of the queries too."""
    cross_every: Count = 2
    """Queries read the image in every j-th layer, counted from the lowest, which always does."""
    queries_read_text: bool = True
    """Whether queries read the words they meet (BLIP-2's ITM). If not, what they say depends on the
    image alone, words read it layer by layer, and the ITM head reads [CLS]."""


class QueryBottleneck(WritesCaptions, FusionDesign):
    """Learnt queries read the image, and words read the queries (BLIP-2's Q-Former).

    Roles: `image`, `embeddings` (its norm is the queries' too), `queries`, `layers.j`, of which
    `for_queries` is what words have no part in.
    """

    name: ClassVar[str] = "query_bottleneck"
    version: ClassVar[str] = "1"
    Config: ClassVar[type[DesignConfig]] = QueryBottleneckConfig
    config: QueryBottleneckConfig

    def __init__(self, config: QueryBottleneckConfig, backbone: Backbone, vocabulary: int) -> None:
        super().__init__(config, backbone, vocabulary)
        facts = self.facts(config, backbone)
        self.image = ImageTower(backbone, blocks=facts.image_layers)
        self.embeddings = Embeddings(backbone, vocabulary)
        self.queries = Queries(config.queries, backbone.text_width)
        self.layers = nn.ModuleList(
            QueryLayer(backbone, sees=j % config.cross_every == 0)
            for j in range(facts.fusion_layers)
        )
        self.blocks = _blocks(config, backbone)
        self.image_blocks = side_by_side(config, self.blocks, backbone.image_width)

    @classmethod
    def facts(cls, config: DesignConfig, backbone: Backbone) -> Facts:
        assert isinstance(config, QueryBottleneckConfig)
        not_causal(cls.name, backbone)
        depth = config.fusion_layers or backbone.text_layers
        alone = "" if depth > 1 else "fusion_layers = 1: words read queries that saw no image yet"
        sees = ", ".join(map(str, range(0, depth, config.cross_every)))
        blocks = reads_in_words(config, _blocks(config, backbone)) or "the image"
        return Facts(
            no_fuse="" if config.queries_read_text else alone,
            no_words=alone,
            no_images="its queries are of one picture, and words read theirs alone",
            no_decoder="its words read queries beside themselves, and have no cross-attention",
            no_caption="",
            no_map="words read queries, and no image token themselves",
            itc_reads="[CLS] and the query closest to it, after a pass of each modality by itself",
            itc_widths=(backbone.text_width, backbone.text_width),
            itc_own_pass=True,
            image_vectors=config.queries,
            fusion_reads=f"queries read {blocks} in layers {sees}; words read queries, in each",
            text_layers=0,
            fusion_layers=depth,
            image_layers=image_layers(cls.name, config, backbone),
            pooled_width=backbone.text_width,
        )

    def encode_image(self, image_BCHW: Tensor) -> ImageStates:
        """Returns image tokens; ITC reads the queries that read them, in a pass by themselves.

        Its `layers` are blocks that queries read, where that is not the last one; after them, where
        queries do not read words, what words read in each layer.
        """
        # Nothing else reads the tower, so blocks side by side go through its last norm, too.
        states = encoded(self.image, image_BCHW, self.config, self.blocks, normed=True)
        if self.config.queries_read_text:
            return dataclasses.replace(states, pooled=lambda: self._alone(states)[-1])
        *inputs, _ = outputs = self._alone(states)
        return dataclasses.replace(states, pooled=outputs[-1], layers=(*states.layers, *inputs))

    def encode_words(self, ids_BL: Tensor, layout: Layout) -> TextStates:
        """Returns embedded words; their pass by themselves is made for ITC."""
        x_TD = self.embeddings(ids_BL, layout)

        def pooled_BD() -> Tensor:
            first_B1 = torch.zeros_like(ids_BL[:, :1])
            *lower, last = self._layers()
            words, words_TD = Joint(layout, 0), x_TD
            for layer in lower:
                words_TD = layer(words_TD, words)
            return last(words_TD, words, read_at_BR=first_B1)

        return TextStates(tokens_TD=x_TD, layout=layout, pooled=pooled_BD)

    def fuse(
        self,
        image: ImageStates,
        text: TextStates,
        *,
        read_at_BR: Tensor | None = None,
        keep_attention: Collection[str] = (),
    ) -> Fused:
        """Words read the queries, which have read the image."""
        if not self.facts(self.config, self.backbone).can_fuse:
            raise self.cannot_fuse()
        if self.config.queries_read_text:
            return self._together(image, text, read_at_BR)
        return self._one_way(image, text, read_at_BR)

    def image_pass(self) -> tuple[str, ...]:
        return self.image.block_names()

    def word_embedding(self) -> nn.Embedding:
        return self.embeddings.word

    def new_parts(self) -> frozenset[str]:
        table = self.slots(self.config, self.backbone)
        fresh = (f"{slot}." for slot, source in table.items() if source == FRESH)
        crossing = (
            f"layers.{j}.for_queries.{part}."
            for j in range(0, len(self.layers), self.config.cross_every)
            for part in ("cross_attention", "cross_norm")
        )
        return frozenset({*fresh, *crossing, "queries.", "image_blocks."})

    @classmethod
    def slots(cls, config: DesignConfig, backbone: Backbone) -> Mapping[str, str]:
        assert isinstance(config, QueryBottleneckConfig)
        depth, there = config.fusion_layers or backbone.text_layers, backbone.text_layers
        layers = named(
            "layers", choose(config.fusion_from, depth, there, f"{cls.name}: fusion_from")
        )
        # The inner slot first: it is the longer name of the two.
        both = ({f"{slot}.for_queries": source, slot: source} for slot, source in layers.items())
        return {"embeddings": "embeddings", **{s: x for pair in both for s, x in pair.items()}}

    def _layers(self) -> list[QueryLayer]:
        return list(cast(Iterable[QueryLayer], self.layers))

    def _queries(self, rows: int) -> Tensor:
        """Returns the queries (B, Q, D) that the lowest layer works on."""
        assert self.embeddings.norm is not None
        every_Q = torch.arange(self.config.queries, device=self.queries.weight.device)
        queries_QD = self.embeddings.norm(self.queries(every_Q))
        return self.embeddings.dropout(queries_QD.expand(rows, -1, -1))

    def _alone(self, image: ImageStates) -> list[Tensor]:
        """Runs the queries of each image by themselves; returns (U, Q, D) before every layer and
        after the last.
        """
        x_UQD = self._queries(len(image.distinct_UPD))
        nothing = Layout.full(len(x_UQD), 0, x_UQD.device)
        joint, turns = Joint(nothing, x_UQD.shape[1]), self._turns(image)
        outputs = [x_UQD]
        for layer in self._layers():
            read = Read(states=next(turns)) if layer.sees else None
            x_TD = layer(outputs[-1].flatten(0, 1), joint, read)
            outputs.append(x_TD.view_as(x_UQD))
        return outputs

    def _turns(self, image: ImageStates) -> Iterator[Tensor]:
        """Yields the image tokens (U, P, E) that each layer reads in which queries do."""
        readers = sum(layer.sees for layer in self._layers())
        blocks = dataclasses.replace(image, layers=image.layers[: len(self.blocks)])
        return iter(tokens_read(blocks, readers, self.image_blocks))

    def _together(self, image: ImageStates, text: TextStates, read_at_BR: Tensor | None) -> Fused:
        """Runs words and queries in one sequence, in which all see what the layout lets them."""
        joint, turns = Joint(text.layout, self.config.queries), self._turns(image)
        rows = len(text.layout.is_real_BL)
        x_TD, at_BR = joint.join(text.tokens_TD, self._queries(rows)), None
        if read_at_BR is not None:
            queries_Q = torch.arange(joint.image_tokens, device=x_TD.device) + joint.length
            at_BR = torch.cat([read_at_BR, queries_Q.expand(rows, -1)], dim=1)
        layers = self._layers()
        for layer in layers:
            read = Read.of_image(image, next(turns)) if layer.sees else None
            read_BR = at_BR if layer is layers[-1] else None
            x_TD = layer(x_TD, joint, read, read_at_BR=read_BR)
        x_BND = joint.layout.unpack(x_TD) if at_BR is None else x_TD.view(*at_BR.shape, -1)
        words_BRD, queries_BQD = x_BND.tensor_split([-joint.image_tokens], dim=1)
        return Fused(text_BRD=words_BRD, image_BPD=None, pooled_BD=queries_BQD.mean(1))

    def _one_way(self, image: ImageStates, text: TextStates, read_at_BR: Tensor | None) -> Fused:
        """Runs the words, which read themselves and, in every layer, queries as they enter it."""
        x_TD, layout, at_BR = text.tokens_TD, text.layout, with_first(read_at_BR)
        words, layers = Joint(layout, 0), self._layers()
        of_queries = image.layers[len(self.blocks) :]
        for layer, queries_UQD in zip(layers, of_queries, strict=True):
            to_read = WordsAndQueries.of(x_TD, queries_UQD, layout, image)
            last_BR = at_BR if layer is layers[-1] else None
            x_TD = layer(x_TD, words, to_read=to_read, read_at_BR=last_BR)
        text_BRD, first_BD = text_read(x_TD, layout, at_BR)
        return Fused(text_BRD=text_BRD, image_BPD=None, pooled_BD=first_BD)


def _blocks(config: QueryBottleneckConfig, backbone: Backbone) -> tuple[int, ...]:
    """Returns the image blocks that queries read, as `blocks_read` does. Raises `SettingError` for
    blocks above them, too.
    """
    name, depth = QueryBottleneck.name, config.fusion_layers or backbone.text_layers
    readers = len(range(0, depth, config.cross_every))
    there = image_layers(name, config, backbone)
    blocks = blocks_read(name, config, there, readers)
    if blocks and max(blocks) < there - 1:
        raise SettingError(
            f"{name}: queries alone read the image tower, and none would read the blocks above "
            f"{max(blocks)}; set image_layers to {max(blocks) + 1}"
        )
    return blocks
