"""Two published text models in one design: BERT reads text, DistilBERT's six layers fuse.

A fusion stack of DistilBERT's layers (Sanh et al. 2019) was pretrained like BERT's but is half as
deep, so it can stand on a whole BERT at the cost of half a second one. The reverse gives text the
small model and fusion the large one. Layers of both are the same kind, so only weights and depth
differ; DistilBERT's embeddings have no token types.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import nn

from architectures.backbone import Backbone, TextName
from architectures.contract import DesignConfig, Facts
from architectures.frozen import SettingError
from architectures.layers.blocks import Embeddings, Layer
from architectures.stacks.one_way import (
    OneWay,
    OneWayConfig,
    fusion_layers,
    fusion_reads,
    no_decoder,
    no_images,
)
from architectures.stacks.towers import image_layers, itc_reads, stack_slots
from architectures.weights.from_transformers import check_sizes
from architectures.weights.slots import Rule, choose, named

DISTIL = "distilbert:"
"""Sources in DistilBERT begin with it."""


class DistilbertFusionConfig(OneWayConfig):
    """Which model reads text and which fuses, and how many layers of each."""

    text_encoder: Literal["bert", "distilbert"] = "bert"
    """The model that reads text, with its embeddings; the layers of the other one fuse."""
    text_layers: Annotated[int, Field(ge=0)] | None = None
    """Layers of text alone, the lowest of their model; None: all of them."""
    fusion_layers: Annotated[int, Field(ge=0)] | None = None
    """Fusion layers; None: as many as their model has."""
    fusion_from: Rule = "last"
    """Layers of their model that the fusion layers start from."""
    distil_layers: Annotated[int, Field(ge=1)] = 6
    """Layers of DistilBERT; BERT has the backbone's `text_layers`."""
    distil_weights: str = "random"
    """`random`, or a local folder or hub name of a DistilBERT of the backbone's sizes."""


class DistilbertFusion(OneWay):
    """BERT reads text and DistilBERT's layers read the image, or the other way round."""

    name: ClassVar[str] = "distilbert_fusion"
    version: ClassVar[str] = "1"
    Config: ClassVar[type[DesignConfig]] = DistilbertFusionConfig
    weights_of: ClassVar[Mapping[str, TextName]] = {"distil_weights": "distilbert"}
    config: DistilbertFusionConfig

    def __init__(self, config: DistilbertFusionConfig, backbone: Backbone, vocabulary: int) -> None:
        """Roles: those of `OneWay`, and `distil.i`; in the reverse `distil_embeddings`, `distil.j`
        for text and `layers.i` for fusion.
        """
        facts = self.facts(config, backbone)
        _check_folder(config, backbone, vocabulary)
        text = nn.ModuleList(Layer(backbone) for _ in range(facts.text_layers))
        fusion = nn.ModuleList(fusion_layers(config, backbone, facts.fusion_layers))
        of_bert, of_distil = (text, fusion) if _bert_reads(config) else (fusion, text)
        super().__init__(config, backbone, vocabulary, layers=of_bert)
        self.distil = of_distil
        if not _bert_reads(config):
            del self.embeddings  # no word passes through BERT's own
            self.distil_embeddings = Embeddings(
                backbone.with_field("text", "distilbert"), vocabulary
            )

    @classmethod
    def facts(cls, config: DesignConfig, backbone: Backbone) -> Facts:
        assert isinstance(config, DistilbertFusionConfig)
        if backbone.text != "bert":
            raise SettingError(
                f"{cls.name}: beside DistilBERT stands a bert, but the backbone's text is "
                f"{backbone.text!r}; set it to 'bert'"
            )
        k, m = _depth(config, backbone, "text_layers"), _depth(config, backbone, "fusion_layers")
        return Facts(
            no_fuse="" if m else "fusion_layers = 0 leaves no fusion layer",
            no_images=no_images(cls.name, config),
            no_decoder=no_decoder(config),
            no_caption="",
            image_type=config.type_embeddings,
            itc_reads=itc_reads(cls.name, config, backbone, k),
            fusion_reads=fusion_reads(cls.name, config, backbone, m),
            text_layers=k,
            fusion_layers=m,
            image_layers=image_layers(cls.name, config, backbone),
            pooled_width=backbone.text_width,
        )

    def text_encoder(self) -> tuple[Embeddings, nn.ModuleList]:
        if _bert_reads(self.config):
            return self.embeddings, self.layers
        return self.distil_embeddings, self.distil

    def fusion_stack(self) -> Sequence[tuple[str, Layer]]:
        return self.stack("distil" if _bert_reads(self.config) else "layers")

    @classmethod
    def slots(cls, config: DesignConfig, backbone: Backbone) -> Mapping[str, str]:
        assert isinstance(config, DistilbertFusionConfig)
        k, m = _depth(config, backbone, "text_layers"), _depth(config, backbone, "fusion_layers")
        there = config.distil_layers if _bert_reads(config) else backbone.text_layers
        sources = choose(config.fusion_from, m, there, f"{cls.name}: fusion_from")
        if _bert_reads(config):
            return {**stack_slots(k), **named("distil", sources, f"{DISTIL}layers")}
        text = named("distil", range(k), f"{DISTIL}layers")
        return {"distil_embeddings": f"{DISTIL}embeddings", **text, **named("layers", sources)}

    def other_weights(self) -> Mapping[str, str]:
        return {DISTIL: self.config.distil_weights}


def _bert_reads(config: DistilbertFusionConfig) -> bool:
    return config.text_encoder == "bert"


def _depth(
    config: DistilbertFusionConfig,
    backbone: Backbone,
    field: Literal["text_layers", "fusion_layers"],
) -> int:
    """Returns the number of layers of text alone, or of fusion.

    Raises `SettingError` where text's model has fewer; a fusion layer may start from a layer that
    another one starts from too.
    """
    of_bert = _bert_reads(config) == (field == "text_layers")
    there = backbone.text_layers if of_bert else config.distil_layers
    count: int | None = getattr(config, field)
    if field == "text_layers" and count is not None and count > there:
        raise SettingError(
            f"{DistilbertFusion.name}: text_layers is {count}, but {config.text_encoder} has "
            f"{there}: take 0 to {there}"
        )
    return there if count is None else count


def _check_folder(config: DistilbertFusionConfig, backbone: Backbone, vocabulary: int) -> None:
    """Raises `SettingError` where `distil_weights` names no DistilBERT of these sizes."""
    if config.distil_weights == "random":
        return
    ours = {name: getattr(backbone, name) for name in ("text_width", "text_heads", "text_mlp")}
    if not _bert_reads(config):
        ours |= {"max_positions": backbone.max_positions, "vocabulary": vocabulary}
    check_sizes(
        config.distil_weights,
        "distilbert",
        {**ours, "text_layers": config.distil_layers},
        field=f"{DistilbertFusion.name}: distil_weights",
        called={"text_layers": "distil_layers"},
    )
