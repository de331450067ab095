"""Image tokens stand among the word embeddings of one text stack, which reads all of them.

A connector brings the image tower's tokens to the width of words: a linear map (GIT, Wang et al.
2022; PaliGemma, Beyer et al. 2024), an MLP (LLaVA, Liu et al. 2023), or a linear map of r x r
neighbours put together (pixel shuffle: Idefics3, Laurencon et al. 2024; ModernVBERT, Teiletche et
al. 2025). Order is image, then text, as in GIT and PaliGemma: under a mask that knows an order,
words read the image. Nothing is inserted into the stack, so without an image it is the text encoder
that ITC reads (as in `shared_stack`).

Shape suffixes: B rows, U different images, P image tokens of the tower, N inserted ones, L text
positions, R positions read, T flat tokens, D width, E width of the image tower, r side of a square.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Collection, Iterable, Mapping
from typing import Annotated, ClassVar, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from architectures.backbone import Backbone
from architectures.contract import DesignConfig, Facts, Fused, ImageStates, TextStates
from architectures.frozen import SettingError
from architectures.layers.blocks import Layer, text_read
from architectures.layers.read import Read
from architectures.layers.sequence import Joint, keepers, walk
from architectures.layout import Layout
from architectures.stacks.image_from import (
    ImageFromConfig,
    blocks_once,
    encoded,
    reads_in_words,
    side_by_side,
    tokens_read,
)
from architectures.stacks.towers import (
    TowersConfig,
    TwoTowers,
    image_layers,
    itc_reads,
    not_causal,
    stack_slots,
)

SHUFFLE = 4
"""Neighbours on a side that pixel shuffle puts together, of Idefics3 and ModernVBERT."""


class TokenInsertionConfig(ImageFromConfig, TowersConfig):
    """How image tokens come among the words, and who then reads whom."""

    connector: Literal["linear", "mlp", "pixel_shuffle"] = "linear"
    """From the width of the image tower to that of words: one map, `mlp`: two with a GELU between
    (LLaVA), or `pixel_shuffle`: one map of r x r patches side by side, which makes one token."""
    shuffle: Annotated[int, Field(ge=2)] | None = None
    """Patches r on a side that pixel_shuffle makes one token of; a divisor of the patches on a side
    of the picture. None: 4."""
    class_token: Literal["keep", "drop"] | None = None
    """Whether the tower's class token is inserted before the patches' (GIT), or left to ITC (LLaVA;
    the towers of PaliGemma and ModernVBERT have none). None: kept, but by pixel_shuffle, which has
    no place for it in the grid."""
    positions: Literal["own", "shared"] = "own"
    """`own`: image tokens have the positions of their tower alone and pass a norm of their own,
    words count from 0 as in text alone (GIT). `shared`: image tokens take the first rows of the
    text's position table, its type and its norm, as words would, and words the rows after them
    (LLaVA's and ModernVBERT's sequence, on a BERT)."""
    mask: Literal["bidirectional", "prefix", "causal"] = "bidirectional"
    """`bidirectional`: every token reads all others (ModernVBERT). `prefix`: image tokens read each
    other, words the image and the words before them (GIT; PaliGemma, where all text is to be said).
    `causal`: every token reads those before it (LLaVA). Under the last two a hidden word would be
    guessed from one side, so MLM does not apply, and ITM, ITC and tasks read the last token of the
    text in place of [CLS]: it alone has read all."""


class TokenInsertion(TwoTowers):
    """Image tokens are inserted before the word embeddings of one stack (LLaVA, GIT).

    Roles: those of `TwoTowers`, `connector`, and `image_blocks` where several blocks are read.
    """

    name: ClassVar[str] = "token_insertion"
    version: ClassVar[str] = "1"
    Config: ClassVar[type[DesignConfig]] = TokenInsertionConfig
    config: TokenInsertionConfig

    def __init__(self, config: TokenInsertionConfig, backbone: Backbone, vocabulary: int) -> None:
        reads = None if config.mask == "bidirectional" else backbone.text_width
        layers = nn.ModuleList(
            Layer(backbone, reads=reads, joint=True) for _ in range(backbone.text_layers)
        )
        super().__init__(config, backbone, vocabulary, layers=layers)
        self.blocks = _blocks(config, backbone)
        self.image_blocks = side_by_side(config, self.blocks, backbone.image_width)
        self.connector = Connector(config, backbone, self.image.vit.num_prefix_tokens)

    @classmethod
    def facts(cls, config: DesignConfig, backbone: Backbone) -> Facts:
        """Says that all layers are of text alone and all read the image."""
        assert isinstance(config, TokenInsertionConfig)
        not_causal(cls.name, backbone)
        depth = backbone.text_layers
        causal = config.mask != "bidirectional"
        read = itc_reads(cls.name, config, backbone, depth)
        return Facts(
            no_images="its sequence has a place for one picture",
            no_caption="",
            causal=causal,
            itc_reads=read.replace("[CLS]", "the last token") if causal else read,
            itc_own_pass=True,
            fusion_reads=reads_in_words(config, _blocks(config, backbone)),
            places_taken=_places_taken(config, backbone),
            text_layers=depth,
            fusion_layers=depth,
            image_layers=image_layers(cls.name, config, backbone),
            pooled_width=backbone.text_width,
        )

    def encode_image(self, image_BCHW: Tensor) -> ImageStates:
        return encoded(self.image, image_BCHW, self.config, self.blocks)

    def encode_words(self, ids_BL: Tensor, layout: Layout) -> TextStates:
        """Embeds text as it stands after the image; ITC reads a pass of its own from position 0."""
        shared = self.config.positions == "shared"
        x_TD = self.embeddings(ids_BL, layout, after=self.connector.count if shared else 0)

        def pooled() -> Tensor:
            alone_TD = self.embeddings(ids_BL, layout) if shared else x_TD
            last = self.config.itc_layer
            depth = len(self.layers) if last is None else last + 1
            layers = list(self._stack().items())[:depth]
            stack = {name: functools.partial(layer, alone=True) for name, layer in layers}
            return walk(stack, alone_TD, self._ordered(layout), self._summary_B1(layout))

        return TextStates(tokens_TD=x_TD, layout=layout, pooled=pooled)

    def fuse(
        self,
        image: ImageStates,
        text: TextStates,
        *,
        read_at_BR: Tensor | None = None,
        keep_attention: Collection[str] = (),
    ) -> Fused:
        """Inserts the image tokens and walks both through the stack as one sequence."""
        (tokens_UPE,) = tokens_read(image, 1, self.image_blocks)
        inserted_UND = self._inserted(tokens_UPE)
        at_BR, spread_NP = read_at_BR, None
        if at_BR is not None:
            at_BR = torch.cat([self._summary_B1(text.layout), at_BR], dim=1)
        if keep_attention:
            spread_NP = self.connector.spread(tokens_UPE.shape[1], tokens_UPE.device)
        names, length = self.crossings(), text.layout.is_real_BL.shape[1]
        keep = keepers(keep_attention, names, length, spread_NP)
        if self.config.mask == "bidirectional":
            joint = Joint(text.layout, self.connector.count)
            x_TD = joint.join(text.tokens_TD, image.by_row(inserted_UND))
            x_TD = walk(self._stack(), x_TD, joint.layout, at_BR, keep)
            text_BRD, pooled_BD, out_BND = joint.read(x_TD, at_BR)
        else:
            x_TD, out_BND = self._image_first(inserted_UND, image, text, at_BR, keep)
            text_BRD, pooled_BD = text_read(x_TD, text.layout, at_BR)
            pooled_BD = text.layout.last(x_TD) if at_BR is None else pooled_BD
        return Fused(
            text_BRD=text_BRD,
            image_BPD=out_BND,
            pooled_BD=pooled_BD,
            attention={name: probabilities[0] for name, probabilities in keep.items()},
        )

    def _image_first(
        self,
        inserted_UND: Tensor,
        image: ImageStates,
        text: TextStates,
        at_BR: Tensor | None,
        keep: Mapping[str, list[Tensor]],
    ) -> tuple[Tensor, Tensor | None]:
        """Walks the stack where image tokens read no word: each image once, however many texts it
        is fused with.

        Returns what `walk` returns of words, and image tokens (B, N, D), or None with `at_BR`.
        """
        images, count, _ = inserted_UND.shape
        places = Layout.full(images, count, inserted_UND.device)
        places = places.causal() if self.config.mask == "causal" else places
        x_TD, image_TD, layout = (
            text.tokens_TD,
            inserted_UND.flatten(0, 1),
            self._ordered(text.layout),
        )
        last = len(self.layers) - 1
        for j, (name, layer) in enumerate(self._stack().items()):
            # Keys and values are made once, for the image itself and for the words of every row.
            own = Read(states=image_TD, layout=places, maps=layer.self_attention.maps)
            states_UND = places.unpack(image_TD)
            read = Read(states=states_UND, by_row=image.by_row, projected=own.projected)
            if j < last or at_BR is None:
                image_TD = layer(image_TD, places, alone=True, own=own)
            at = at_BR if j == last else None
            x_TD = layer(x_TD, layout, read, read_at_BR=at, keep=keep.get(name))
        return x_TD, image.by_row(places.unpack(image_TD)) if at_BR is None else None

    def crossings(self) -> tuple[str, ...]:
        return tuple(self._stack())

    def new_parts(self) -> frozenset[str]:
        return frozenset({"connector.", "image_blocks."})

    @classmethod
    def slots(cls, config: DesignConfig, backbone: Backbone) -> Mapping[str, str]:
        return stack_slots(backbone.text_layers)

    def _stack(self) -> dict[str, Layer]:
        layers = cast(Iterable[Layer], self.layers)
        return {f"layers.{j}": layer for j, layer in enumerate(layers)}

    def _inserted(self, tokens_UPE: Tensor) -> Tensor:
        """Brings the tokens of different images among the word embeddings: (U, N, D)."""
        x_UND = self.connector(tokens_UPE)
        if self.config.positions == "own":
            return self.embeddings.dropout(x_UND)
        images, count, _ = x_UND.shape
        layout = Layout.full(images, count, x_UND.device)
        return layout.unpack(self.embeddings.placed(x_UND.flatten(0, 1), layout))

    def _summary_B1(self, text: Layout) -> Tensor:
        """Returns the text position that stands for everything: [CLS], or the last where a token
        reads only those before it.
        """
        if self.config.mask == "bidirectional":
            return text.is_real_BL.new_zeros(len(text.is_real_BL), 1, dtype=torch.int64)
        return text.is_real_BL.sum(1, keepdim=True) - 1

    def _ordered(self, text: Layout) -> Layout:
        ordered = self.config.mask == "bidirectional" or text.place_BL is not None
        return text if ordered else text.causal()


class Connector(nn.Module):
    """A connector makes image tokens of the tower as wide as words, and leaves some out or puts
    neighbours together.
    """

    node: ClassVar[str] = "connector"

    def __init__(self, config: TokenInsertionConfig, backbone: Backbone, prefix: int) -> None:
        """`prefix`: tokens before those of the patches, the class token first."""
        super().__init__()
        shuffles = config.connector == "pixel_shuffle"
        self.side = config.shuffle or SHUFFLE if shuffles else 1
        self.dropped = prefix if config.class_token == "drop" or shuffles else 0
        self.count = backbone.patches // self.side**2 + prefix - self.dropped
        """Tokens N that stand in the sequence."""
        self.inner = nn.Linear(backbone.image_width * self.side**2, backbone.text_width)
        self.outer: nn.Linear | None = None
        if config.connector == "mlp":
            self.outer = nn.Linear(backbone.text_width, backbone.text_width)
        self.norm = nn.LayerNorm(backbone.text_width) if config.positions == "own" else None

    def forward(self, tokens_UPE: Tensor) -> Tensor:
        """Takes the tower's tokens (U, P, E); returns those to insert (U, N, D)."""
        x_UND = self.inner(self._arranged(tokens_UPE))
        if self.outer is not None:
            x_UND = self.outer(F.gelu(x_UND))
        return x_UND if self.norm is None else self.norm(x_UND)

    def spread(self, tokens: int, device: torch.device) -> Tensor | None:
        """Returns of which of the tower's P tokens each inserted one is made, as shares (N, P);
        None: each is made of its own.
        """
        if self.count == tokens:
            return None
        made_of_1Nr = self._arranged(torch.arange(tokens, device=device)[None, :, None])
        share_NP = torch.zeros(self.count, tokens, device=device)
        return share_NP.scatter_(1, made_of_1Nr[0], self.side**-2)

    def _arranged(self, x_UPE: Tensor) -> Tensor:
        """Leaves the dropped tokens out and puts squares of patches side by side, row by row:
        (U, N, r * r * E).
        """
        x_UPE, side = x_UPE[:, self.dropped :], self.side
        if side == 1:
            return x_UPE
        rows = math.isqrt(x_UPE.shape[1]) // side
        x = x_UPE.unflatten(1, (rows, side, rows, side)).transpose(2, 3)
        return x.flatten(3).flatten(1, 2)


def _blocks(config: TokenInsertionConfig, backbone: Backbone) -> tuple[int, ...]:
    """Returns the image blocks that the connector reads, as `blocks_once` does."""
    there = image_layers(TokenInsertion.name, config, backbone)
    return blocks_once(TokenInsertion.name, config, there, fuses=True)


def _places_taken(config: TokenInsertionConfig, backbone: Backbone) -> int:
    """Returns how many rows of the text's position table image tokens take. Raises `SettingError`
    for settings that pixel shuffle or the table cannot serve.
    """
    name, shuffles = TokenInsertion.name, config.connector == "pixel_shuffle"
    if config.shuffle is not None and not shuffles:
        raise SettingError(
            f"{name}: shuffle is of connector 'pixel_shuffle', but connector is "
            f"{config.connector!r}; leave shuffle out"
        )
    if config.class_token == "keep" and shuffles:
        raise SettingError(
            f"{name}: pixel_shuffle puts the tokens of a grid together, in which the class token "
            "has no place; leave class_token out"
        )
    across = backbone.image_size // backbone.patch_size
    side = config.shuffle or SHUFFLE if shuffles else 1
    if across % side:
        fitting = [n for n in range(2, across + 1) if across % n == 0]
        near = [*[n for n in fitting if n < side][-1:], *[n for n in fitting if n > side][:1]]
        raise SettingError(
            f"{name}: shuffle is {side}, but a picture has {across} patches on a side: "
            + (f"take {' or '.join(map(str, near))}" if near else "take another connector")
        )
    inserted = (across // side) ** 2 + (config.class_token != "drop" and not shuffles)
    if config.positions == "own":
        return 0
    if inserted >= backbone.longest_text:
        raise SettingError(
            f"{name}: with positions 'shared' the {inserted} image tokens leave words none of the "
            f"max_positions = {backbone.max_positions}; raise them, take positions 'own', or "
            "connector 'pixel_shuffle'"
        )
    return inserted
