"""The contract says what a design is: its configuration, its class and its abilities.

Shape suffixes: B batch rows, P image tokens, L text positions, R positions read, D width, H heads,
C channels, I images of one row.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from typing import Annotated, ClassVar, Protocol, Self, runtime_checkable

import numpy as np
from pydantic import Field, JsonValue
from torch import Tensor, nn

from architectures.backbone import Backbone, TextName
from architectures.facts import OBJECTIVES as OBJECTIVES
from architectures.facts import Facts as Facts
from architectures.frozen import Frozen
from architectures.layout import Layout
from architectures.states import Fused as Fused
from architectures.states import ImageStates as ImageStates
from architectures.states import TextStates as TextStates


class DesignConfig(Frozen):
    """Base of every design's configuration; a variant changes fields of it."""

    new_part_rate: Annotated[float, Field(gt=0)] = 1.0
    """Learning-rate multiple of parts that no pretrained model has, ITC and ITM heads included."""
    whole_weights: str = "random"
    """`random`, or a checkpoint of the design as a whole, cross-attention and heads included, which
    has the last word: an ALBEF checkpoint for `split_bert`, the folder or hub name of a BridgeTower
    for `bridge`, a CLIP for `dual_encoder`, a ViLT for `single_stream`, a VisualBERT for
    `merged_attention` over patches, an LXMERT for `co_attention`, a BLIP-2 (its first stage) for
    `query_bottleneck`, a BLIP for `shared_stack`, a GIT for `token_insertion` under its
    prefix mask, an exported folder for its own. Where it does not fit, the error says the design
    and fields that do."""
    whole_allow: tuple[str, ...] = ()
    """Patterns of roles, as `heads.itc.*`, that whole_weights may lack, hold in another size, or
    hold besides the design's; what it lacks starts as without it. Another is an error."""


def undecayed(model: nn.Module) -> frozenset[str]:
    """Returns the names of the parameters that modules of a model exempt from weight decay."""
    return frozenset(
        f"{name}.{own}" if name else own
        for name, module in model.named_modules()
        for own in getattr(module, "undecayed", ())
    )


class FusionDesign(nn.Module, ABC):
    """A design is a way to fuse an image tower with a text stack.

    It is a file with a `DesignConfig` and this class, in `architectures/designs/` or anywhere
    (`fuselab designs --file F` says what is wrong with it). `facts` needs no weights; the
    constructor builds modules. Most designs stand on `stacks.towers.TwoTowers`, which encodes both
    modalities, and write `fuse` alone, or on `OneWay`, `TwoStreams` or `ViTStack`.

    Names: the name of a module is its role, and a parameter is drawn by seed and role. So a part
    that two designs share has the same name in both, and then the same initial weights.

    Tokens: states hold flat tokens (T, D) and a `Layout` that says where each stands. Linear
    layers, norms and MLPs run on flat tokens; `layout.unpack` gives rows (B, L, D), `layout.pack`
    the way back. `layers.blocks.Layer` takes `(x_TD, layout, read)`; `Read.of_image(image)` is what
    it reads of an image, keys and values computed once however many rows show it. The last layer is
    given `read_at_BR=with_first(read_at_BR)`, [CLS] and the positions that are read, and
    `text_read` divides what comes back as `Fused` wants it.

    Initial weights: Linear, Conv2d, Embedding, LayerNorm and the tables of a ViT have rules
    (`weights.slots.redraw`); any other parameter needs `DrawsWeights.initialise`.

    Freezing: `self.image.requires_grad_(False)` in the constructor; optimizer, gradients and costs
    leave it out, and it still takes pretrained weights. Weight decay is for what has more than one
    dimension; a module exempts more of its own parameters by `undecayed: ClassVar[tuple[str, ...]]`
    (see `RelativePositions`).

    Diagrams: a module with `node: ClassVar[str]` is a part in `fuselab designs X --draw`, of parts
    inside parts the innermost. `node` is its kind: `layer` (a slab with its number), `mlp`,
    `bridge` (brings a stream its own tower), `expert` (beside the layer whose output it takes),
    `crossing` (cross-attention called inside a layer), `queries`, `embeddings`, `patches`, `head`;
    any other word stands on the slab. A part works on its first argument and is framed as a
    crossing where its output depends on something else, of the other modality.
    """

    name: ClassVar[str]
    """What users type."""
    version: ClassVar[str]
    """Raised when the same config trains differently than before."""
    Config: ClassVar[type[DesignConfig]]
    weights_of: ClassVar[Mapping[str, TextName]] = {}
    """Fields of the config that name weights of text encoders besides the backbone's -> kind."""

    heads: nn.ModuleDict
    """`itc`, `itm`, `mlm`, `lm`, those that apply; put on by `build.design`."""

    def __init__(self, config: DesignConfig, backbone: Backbone, vocabulary: int) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbone
        self.vocabulary = vocabulary
        self.longest_text = backbone.longest_text - self.facts(config, backbone).places_taken
        """Tokens of the longest text that it has positions for, beside an image."""

    @classmethod
    @abstractmethod
    def facts(cls, config: DesignConfig, backbone: Backbone) -> Facts:
        """Says what this configuration can do; raises `SettingError` where it cannot be built."""

    @abstractmethod
    def encode_image(self, image_BCHW: Tensor) -> ImageStates:
        """Encodes normalised pixels (B, C, H, W), float."""

    @abstractmethod
    def encode_text(
        self, ids_BL: Tensor, text_is_real_BL: Tensor, *, packed: bool = False
    ) -> TextStates:
        """Encodes token ids.

        ids_BL: (B, L) int64 token ids, 0 at padding
        text_is_real_BL: (B, L) bool, True where there is a token
        packed: leave padding out of every layer; values at real positions stay the same
        """

    @abstractmethod
    def fuse(
        self,
        image: ImageStates,
        text: TextStates,
        *,
        read_at_BR: Tensor | None = None,
        keep_attention: Collection[str] = (),
    ) -> Fused:
        """Fuses row i of the image states with row i of the text states.

        read_at_BR: (B, R) int64 text positions that will be read; the last layer computes these and
            position 0 (`layers.blocks.with_first` adds it). None: all positions
        keep_attention: those of `crossings` whose attention probabilities are wanted
        Raises `TypeError` where the design cannot fuse (`cannot_fuse`).
        """

    def cannot_fuse(self) -> TypeError:
        """Makes the error that `fuse` raises where the design cannot, with its reason."""
        no_fuse = self.facts(self.config, self.backbone).no_fuse
        return TypeError(f"{self.name} cannot fuse: {no_fuse}")

    @abstractmethod
    def word_embedding(self) -> nn.Embedding:
        """Returns the table that the heads of MLM and LM are tied to."""

    def new_parts(self) -> frozenset[str]:
        """Returns the name prefixes of parts that no pretrained model has, heads left aside."""
        return frozenset()

    def towers_alone(self) -> tuple[int, int]:
        """Returns how many image blocks and text layers, the lowest, are an encoder of their
        modality by themselves: what an export writes as towers. 0: the design has none.
        """
        facts = self.facts(self.config, self.backbone)
        return facts.image_layers, facts.text_layers

    def rates(self) -> Mapping[str, float]:
        """Returns name prefix -> multiple of the learning rate; the first prefix that fits counts,
        and parts that none names have 1.
        """
        rate = self.config.new_part_rate
        return dict.fromkeys([*sorted(self.new_parts()), "heads.itc.", "heads.itm."], rate)

    def crossings(self) -> tuple[str, ...]:
        """Returns the names of the layers in which text reads image tokens, lowest first."""
        return ()

    def image_pass(self) -> tuple[str, ...]:
        """Returns the names of the layers that an image goes through, by itself, before ITC reads
        it, lowest first; `layers.kept` keeps their attention.
        """
        return ()

    @classmethod
    def slots(cls, config: DesignConfig, backbone: Backbone) -> Mapping[str, str]:
        """Returns slot -> source: the name of a module of the design -> the layer of the pretrained
        text encoder that it starts from (`embeddings`, `layers.0`, ...), or `fresh`.

        `weights.slots.choose` and `named` write it from a rule. Sources in another model begin with
        its prefix of `other_weights`. The image tower needs no slot. Raises `SettingError` where a
        rule does not give the layers that are needed.
        """
        return {}

    def other_weights(self) -> Mapping[str, str]:
        """Returns prefix -> folder, hub name or `random` of text encoders beside the backbone's."""
        return {}


@runtime_checkable
class DrawsWeights(Protocol):
    """A design with this optional ability gives initial weights to parameters of its own kind."""

    def initialise(self, role: str, tensor: Tensor, stream: np.random.Generator) -> bool:
        """Fills the parameter named `role` in place and returns True; False leaves it to the rules.

        tensor: the parameter, float32 on the CPU, without gradient
        stream: of this seed and role, the only source of chance:
            `tensor.copy_(torch.from_numpy(stream.uniform(-1, 1, tensor.shape)))`
        """
        ...


@runtime_checkable
class ReasonsOverImages(Protocol):
    """A design with this optional ability fuses one text with several images (NLVR2). Its facts
    then give no `no_images`."""

    def for_images(self, count: int) -> Self:
        """Returns a copy that starts from the same weights and fuses B rows of text states with
        B x count rows of image states: those of row 0, then those of row 1, ...
        """
        ...


class WritesCaptions(ABC):
    """A design with this optional ability reads a caption word after word (LM). Its facts then give
    no `no_caption`. The layers are those that fuse, under another mask, and `fuse` then lets no
    token learn of those after it: `Fused.text_BRD` at position p says which token p + 1 is.
    """

    @abstractmethod
    def encode_words(self, ids_BL: Tensor, layout: Layout) -> TextStates:
        """Encodes token ids (B, L), each of which reads what `layout` lets it."""

    def encode_text(
        self, ids_BL: Tensor, text_is_real_BL: Tensor, *, packed: bool = False
    ) -> TextStates:
        return self.encode_words(ids_BL, Layout.of(text_is_real_BL, packed=packed))

    def encode_caption(
        self, ids_BL: Tensor, text_is_real_BL: Tensor, prefix_B: Tensor, *, packed: bool = False
    ) -> TextStates:
        """Encodes captions as `encode_text` does, but a token reads those before it, and the first
        `prefix_B` (B,) int64 of its row; `fuse` takes these states without `read_at_BR`.
        """
        layout = Layout.of(text_is_real_BL, packed=packed)
        return self.encode_words(ids_BL, layout.causal(prefix_B))


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextStage:
    """A text stage says what a design learns from text alone, before image and text meet."""

    fields: Mapping[str, JsonValue]
    """Configuration of the model that learns: the design without what text alone never reaches."""
    trains: tuple[str, ...]
    """Name prefixes of what learns, the MLM head included; all else is frozen."""
    lacks: tuple[str, ...]
    """Patterns of the design's roles that this model has not, or that no objective may ask for:
    `whole_allow` of the design that starts from it."""


@runtime_checkable
class LearnsFromText(Protocol):
    """A design with this optional ability has a stage of text alone before the joint one (VLMo)."""

    @classmethod
    def text_stage(cls, config: DesignConfig) -> TextStage | None:
        """Returns the stage of a configuration; None: it has none."""
        ...

    def text_alone(self, ids_BL: Tensor, text_is_real_BL: Tensor, at_BR: Tensor) -> Tensor:
        """Returns the last states (B * R, D) of a text without image at positions `at_BR`."""
        ...


class AnswerDecoding(nn.Module, ABC):
    """An answer decoder says token after token what may follow, reading a question's states."""

    fresh: tuple[str, ...] = ()
    """Name prefixes of its parts that start from no weight of the design."""

    @abstractmethod
    def forward(self, ids_AL: Tensor, is_real_AL: Tensor, question: TextStates) -> Tensor:
        """Returns logits (A, L, V); those at position p are of token p + 1.

        ids_AL: (A, L) int64 token ids of answers, [CLS] first
        is_real_AL: (A, L) bool
        question: states of the question that each of the A rows answers
        """


@runtime_checkable
class DecodesAnswers(Protocol):
    """A design with this optional ability has a causal decoder over fused states (VQA). Its facts
    then give no `no_decoder`."""

    def answer_decoder(self) -> AnswerDecoding:
        """Returns a decoder of its own weights, which start from those of the fusion layers."""
        ...
