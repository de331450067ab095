"""What `designs.py` compares: classes of transformers beside the designs that equal them, with the
same weights, sizes and batch.

Shape suffixes: B rows, P image tokens, L text positions, R positions read, D width, E common width
of ITC.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPooling

from architectures import build
from architectures.backbone import Backbone
from architectures.contract import Fused, FusionDesign, ImageStates, TextStates
from architectures.layout import Layout
from architectures.weights.checkpoints import load_whole
from architectures.weights.published.bert import bert_tensors
from architectures.weights.published.bridgetower import bridgetower_tensors
from architectures.weights.published.clip import clip_tensors
from architectures.weights.published.distilbert import distilbert_tensors
from architectures.weights.published.git import git_tensors
from architectures.weights.published.lxmert import lxmert_tensors
from architectures.weights.published.vilt import vilt_tensors
from architectures.weights.published.visual_bert import visual_bert_tensors

PADDING = 1  # RoBERTa's, which counts positions by it


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizes:
    """What both sides are built with, and the batch."""

    width: int = 192
    layers: int = 6
    image_size: int = 64
    patch_size: int = 8
    batch: int = 16
    tokens: int = 25
    vocabulary: int = 1000

    @property
    def heads(self) -> int:
        return self.width // 64

    def backbone(self, **more: Any) -> Backbone:
        return Backbone(
            image_size=self.image_size,
            patch_size=self.patch_size,
            image_width=self.width,
            image_layers=self.layers,
            image_heads=self.heads,
            text_width=self.width,
            text_layers=self.layers,
            text_heads=self.heads,
            text_mlp=4 * self.width,
            dropout=0.0,
            itc_width=self.width,
            **{"max_positions": self.tokens, **more},
        )

    def stack(self, **more: Any) -> dict[str, Any]:
        """The same for a stack of transformers."""
        return {
            "hidden_size": self.width,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "intermediate_size": 4 * self.width,
            **more,
        }

    def words(self, **more: Any) -> dict[str, Any]:
        """A stack over words."""
        own = {"vocab_size": self.vocabulary, "max_position_embeddings": self.tokens}
        dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        return self.stack(**{**own, **dropout, "pad_token_id": PADDING, **more})

    def pictures(self, **more: Any) -> dict[str, Any]:
        """A stack over pictures."""
        return self.stack(image_size=self.image_size, patch_size=self.patch_size, **more)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Batch:
    images: Tensor
    ids: Tensor
    """Rows end with the last word of the vocabulary (CLIP's end of text), then padding."""
    real: Tensor
    image_BPD: Tensor
    """States of towers, for a stack alone."""
    text_BLD: Tensor

    @classmethod
    def of(cls, sizes: Sizes) -> Batch:
        side, end = sizes.image_size, sizes.vocabulary - 1
        lengths = torch.linspace(sizes.tokens // 3, sizes.tokens, sizes.batch).long()[:, None]
        place = torch.arange(sizes.tokens)
        ids = torch.randint(2, end, (sizes.batch, sizes.tokens))
        ids = ids.where(place < lengths, PADDING).where(place != lengths - 1, end)
        tokens = (side // sizes.patch_size) ** 2 + 1
        return cls(
            images=torch.randn(sizes.batch, 3, side, side),
            ids=ids,
            real=place < lengths,
            image_BPD=torch.randn(sizes.batch, tokens, sizes.width),
            text_BLD=torch.randn(sizes.batch, sizes.tokens, sizes.width),
        )

    @property
    def words(self) -> dict[str, Tensor]:
        return {"input_ids": self.ids, "attention_mask": self.real.long()}


Run = Callable[[Any, Batch], Sequence[Tensor]]
"""A model and a batch -> the states that the loss reads."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """A class of transformers, the design that equals it, and what of both is run."""

    reference: str
    theirs: Callable[[Sizes], nn.Module]
    run_theirs: Run
    ours: Callable[[Sizes, nn.Module], FusionDesign]
    run_ours: Run
    fuses: bool = True


def fused(design: FusionDesign, batch: Batch) -> Sequence[Tensor]:
    """Every state, as the class gives them."""
    found = fuse(design, batch)
    assert found.image_BPD is not None
    return found.text_BRD[batch.real], found.image_BPD, found.pooled_BD


def read(design: FusionDesign, batch: Batch) -> Sequence[Tensor]:
    """What ITM and MLM read: 15 % of the positions, and what is pooled."""
    masked = math.ceil(0.15 * batch.ids.shape[1])
    found = fuse(design, batch, read_at_BR=torch.arange(1, 1 + masked).expand(len(batch.ids), -1))
    return found.text_BRD, found.pooled_BD


def fuse(design: FusionDesign, batch: Batch, **more: Any) -> Fused:
    text = design.encode_text(batch.ids, batch.real)
    return design.fuse(design.encode_image(batch.images), text, **more)


def whole(
    name: str, fields: dict[str, Any], backbone: Backbone, sizes: Sizes, weights: dict[str, Tensor]
) -> FusionDesign:
    """A registered design, every weight of which is given."""
    heads = ["itc"] if "heads.itc.image.weight" in weights else []
    design = build.construct(name, fields, backbone, sizes.vocabulary, heads)
    load_whole(design, weights)
    return design


# ---- CLIP ----------------------------------------------------------------------------------------


def clip(sizes: Sizes) -> nn.Module:
    text = sizes.words(eos_token_id=sizes.vocabulary - 1, bos_token_id=0)
    config = transformers.CLIPConfig(
        text_config=text, vision_config=sizes.pictures(), projection_dim=sizes.width
    )
    return transformers.CLIPModel(config)


def run_clip(model: Any, batch: Batch) -> Sequence[Tensor]:
    found = model(pixel_values=batch.images, **batch.words)
    return [found.image_embeds @ found.text_embeds.T]


def dual_encoder(sizes: Sizes, theirs: nn.Module) -> FusionDesign:
    backbone = sizes.backbone(vision="vit_base_patch16_clip_quickgelu_224", text="clip")
    return whole("dual_encoder", {}, backbone, sizes, clip_tensors(theirs.state_dict()))


def run_dual_encoder(design: FusionDesign, batch: Batch) -> Sequence[Tensor]:
    text = design.encode_text(batch.ids, batch.real)
    image = design.encode_image(batch.images)
    image_BE, text_BE = design.heads["itc"](image.pooled_BD, text.pooled_BD)
    return [image_BE @ text_BE.T]


# ---- Text towers ---------------------------------------------------------------------------------


def text_case(reference: str, kind: str, theirs: Any, tensors: Any) -> Case:
    """A text tower alone; the image tower of the design is not run."""

    def ours(sizes: Sizes, model: nn.Module) -> FusionDesign:
        backbone = sizes.backbone(text=kind)
        design = build.construct("dual_encoder", {}, backbone, sizes.vocabulary, ())
        image = design.image.state_dict(prefix="image.")
        load_whole(design, {**image, **tensors(model.state_dict(prefix=f"{kind}."))})
        return design

    return Case(
        reference=reference,
        theirs=theirs,
        run_theirs=lambda model, batch: [model(**batch.words).last_hidden_state[batch.real]],
        ours=ours,
        run_ours=lambda design, batch: [
            design.encode_text(batch.ids, batch.real).tokens_BLD[batch.real]
        ],
        fuses=False,
    )


def bert(sizes: Sizes) -> nn.Module:
    return transformers.BertModel(transformers.BertConfig(**sizes.words()), add_pooling_layer=False)


def distilbert(sizes: Sizes) -> nn.Module:
    return transformers.DistilBertModel(
        transformers.DistilBertConfig(
            dim=sizes.width, n_layers=sizes.layers, n_heads=sizes.heads, hidden_dim=4 * sizes.width,
            vocab_size=sizes.vocabulary, max_position_embeddings=sizes.tokens, dropout=0.0,
            attention_dropout=0.0, pad_token_id=PADDING,
        )
    )  # fmt: skip


# ---- BridgeTower ---------------------------------------------------------------------------------


def bridgetower(sizes: Sizes) -> nn.Module:
    text = sizes.words(max_position_embeddings=sizes.tokens + 2, type_vocab_size=1)
    config = transformers.BridgeTowerConfig(
        **sizes.stack(num_hidden_layers=sizes.layers // 2, hidden_dropout_prob=0.0),
        text_config=text, vision_config=sizes.pictures(),
    )  # fmt: skip
    # With sdpa its image stream, whose attention is called causal, would be so.
    config._attn_implementation = config.text_config._attn_implementation = "eager"
    return transformers.BridgeTowerModel(config)


def run_bridgetower(model: Any, batch: Batch) -> Sequence[Tensor]:
    found = model(pixel_values=batch.images, **batch.words)
    return found.text_features[batch.real], found.image_features, found.pooler_output


def bridge(sizes: Sizes, theirs: nn.Module) -> FusionDesign:
    backbone = sizes.backbone(
        vision="vit_base_patch16_clip_quickgelu_224", text="roberta", max_positions=sizes.tokens + 2
    )
    fields = {"fusion_layers": sizes.layers // 2}
    return whole("bridge", fields, backbone, sizes, bridgetower_tensors(theirs.state_dict()))


# ---- Joint stacks --------------------------------------------------------------------------------


def vilt(sizes: Sizes) -> nn.Module:
    config = sizes.words() | sizes.pictures()
    return transformers.ViltModel(transformers.ViltConfig(**config))


def run_vilt(model: Any, batch: Batch) -> Sequence[Tensor]:
    shown = torch.ones_like(batch.images[:, 0], dtype=torch.int64)
    found = model(pixel_values=batch.images, pixel_mask=shown, **batch.words)
    text, image = found.last_hidden_state.tensor_split([batch.ids.shape[1]], dim=1)
    return text[batch.real], image, found.pooler_output


def single_stream(sizes: Sizes, theirs: nn.Module) -> FusionDesign:
    backbone = sizes.backbone(image_norm_eps=1e-12)
    return whole("single_stream", {}, backbone, sizes, vilt_tensors(theirs.state_dict()))


def visual_bert(sizes: Sizes) -> nn.Module:
    """It has no patch embedding: that of the design stands before it."""
    config = transformers.VisualBertConfig(**sizes.words(visual_embedding_dim=sizes.width))
    design = build.construct("merged_attention", PATCHES, sizes.backbone(), sizes.vocabulary, ())
    return nn.ModuleDict({"image": design.image, "bert": transformers.VisualBertModel(config)})


PATCHES = {"over": "patches"}


def run_visual_bert(model: Any, batch: Batch) -> Sequence[Tensor]:
    shown = model["image"](batch.images, embed_only=True).distinct_UPD
    mask = torch.ones(shown.shape[:2], dtype=torch.int64)
    found = model["bert"](visual_embeds=shown, visual_attention_mask=mask, **batch.words)
    text, image = found.last_hidden_state.tensor_split([batch.ids.shape[1]], dim=1)
    return text[batch.real], image, found.pooler_output


def merged_attention(sizes: Sizes, theirs: Any) -> FusionDesign:
    weights = visual_bert_tensors(theirs["bert"].state_dict())
    weights |= theirs["image"].state_dict(prefix="image.")
    return whole("merged_attention", PATCHES, sizes.backbone(), sizes, weights)


# ---- Image tokens among words --------------------------------------------------------------------


def git(sizes: Sizes) -> nn.Module:
    vision = sizes.pictures()
    return transformers.GitModel(transformers.GitConfig(**sizes.words(), vision_config=vision))


def run_git(model: Any, batch: Batch) -> Sequence[Tensor]:
    states = model(pixel_values=batch.images, **batch.words).last_hidden_state
    image, text = states.tensor_split([states.shape[1] - batch.ids.shape[1]], dim=1)
    return text[batch.real], image


def token_insertion(sizes: Sizes, theirs: nn.Module) -> FusionDesign:
    backbone = sizes.backbone(
        vision="vit_base_patch16_clip_quickgelu_224", image_norm_eps=1e-5, text="bert"
    )
    weights = git_tensors(theirs.state_dict())
    return whole("token_insertion", {"mask": "prefix"}, backbone, sizes, weights)


def run_token_insertion(design: FusionDesign, batch: Batch) -> Sequence[Tensor]:
    text, image, _ = fused(design, batch)
    return text, image


SHUFFLED = {"connector": "pixel_shuffle", "shuffle": 2, "positions": "shared"}
IMAGE_WORD = 0


class Tower(nn.Module):
    """Our image tower where a class of transformers has its own, with or without class token."""

    def __init__(self, image: nn.Module, *, class_token: bool) -> None:
        super().__init__()
        self.image, self.class_token = image, class_token

    def forward(self, pixel_values: Tensor, **_: Any) -> BaseModelOutputWithPooling:
        tokens = self.image(pixel_values).tokens_BPD
        tokens = tokens if self.class_token else tokens[:, 1:]
        return BaseModelOutputWithPooling(last_hidden_state=tokens, hidden_states=(tokens,))


def shuffled_backbone(sizes: Sizes) -> Backbone:
    squares = (sizes.image_size // sizes.patch_size // 2) ** 2
    return sizes.backbone(max_positions=sizes.tokens + squares)


def modernvbert(sizes: Sizes) -> nn.Module:
    """Its connector and sequence on a BERT, with our tower, since its own has no class token."""
    backbone = shuffled_backbone(sizes)
    config = transformers.ModernVBertConfig(
        text_config=transformers.BertConfig(
            **sizes.words(max_position_embeddings=backbone.max_positions)
        ),
        vision_config=transformers.SiglipVisionConfig(**sizes.pictures()),
        pixel_shuffle_factor=2, image_token_id=IMAGE_WORD,
    )  # fmt: skip
    model = transformers.ModernVBertModel(config)
    design = build.construct("token_insertion", SHUFFLED, backbone, sizes.vocabulary, ())
    model.vision_model = Tower(design.image, class_token=False)
    return model


def after_image(batch: Batch, squares: int) -> dict[str, Tensor]:
    """Words with the places of image tokens before them."""
    places_BN = torch.full((len(batch.ids), squares), IMAGE_WORD)
    real = torch.cat([torch.ones_like(places_BN), batch.real.long()], 1)
    return {"input_ids": torch.cat([places_BN, batch.ids], 1), "attention_mask": real}


def run_modernvbert(model: Any, batch: Batch) -> Sequence[Tensor]:
    squares = model.image_seq_len
    fed = after_image(batch, squares)
    states = model(pixel_values=batch.images[:, None], **fed).last_hidden_state
    image, text = states.tensor_split([squares], dim=1)
    return text[batch.real], image


def inserting_tensors(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of ModernVBertModel or LlavaModel on a BERT by role; the first's map has no bias."""
    roles, text = {}, {}
    for name, value in state.items():
        part, _, rest = name.partition(".")
        if part in ("vision_model", "vision_tower"):
            roles[rest] = value
        elif part in ("text_model", "language_model"):
            text[rest] = value
        elif part == "connector":
            roles["connector.inner.weight"] = value
            roles["connector.inner.bias"] = value.new_zeros(len(value))
        else:
            first, _, kind = rest.partition(".")
            roles[f"connector.{'inner' if first == 'linear_1' else 'outer'}.{kind}"] = value
    return roles | bert_tensors(text)


def shuffled(sizes: Sizes, theirs: nn.Module) -> FusionDesign:
    weights = inserting_tensors(theirs.state_dict())
    return whole("token_insertion", SHUFFLED, shuffled_backbone(sizes), sizes, weights)


# ---- LXMERT's cross layers -----------------------------------------------------------------------

LXMERT = {
    "order": "lxmert", "tied": "cross", "projections": False, "type_embeddings": False,
    "pooler": False,
}  # fmt: skip


def lxmert(sizes: Sizes) -> nn.Module:
    """The stack alone: half as many layers as a tower, on states that are made once."""
    config = transformers.LxmertConfig(**sizes.words())
    layer = transformers.models.lxmert.modeling_lxmert.LxmertXLayer
    return nn.ModuleList(layer(config) for _ in range(sizes.layers // 2))


def run_lxmert(model: Any, batch: Batch) -> Sequence[Tensor]:
    words_BLD, looks_BPD = batch.text_BLD, batch.image_BPD
    padding = torch.where(batch.real, 0.0, torch.finfo(torch.float32).min)[:, None, None]
    for layer in model:
        words_BLD, looks_BPD = layer(words_BLD, padding, looks_BPD, None)
    return words_BLD[batch.real], looks_BPD


def run_co_attention(design: FusionDesign, batch: Batch) -> Sequence[Tensor]:
    layout, image_BPD = Layout.of(batch.real), batch.image_BPD
    text_TD = layout.pack(batch.text_BLD)
    found = design.fuse(
        ImageStates(distinct_UPD=image_BPD, pooled=image_BPD[:, 0]),
        TextStates(tokens_TD=text_TD, layout=layout, pooled=layout.first(text_TD)),
    )
    assert found.image_BPD is not None
    return found.text_BRD[batch.real], found.image_BPD


def co_attention(sizes: Sizes, theirs: nn.Module) -> FusionDesign:
    fields = {**LXMERT, "fusion_layers": sizes.layers // 2}
    design = build.construct("co_attention", fields, sizes.backbone(), sizes.vocabulary, ())
    rest = {k: v for k, v in design.state_dict().items() if "_fusion." not in k}
    load_whole(design, {**rest, **lxmert_tensors(theirs.state_dict())})
    return design


CASES = {
    "dual_encoder": Case(
        reference="CLIPModel", theirs=clip, run_theirs=run_clip, ours=dual_encoder,
        run_ours=run_dual_encoder, fuses=False,
    ),
    "text of split_bert": text_case("BertModel", "bert", bert, bert_tensors),
    "text of distilbert_fusion": text_case(
        "DistilBertModel", "distilbert", distilbert, distilbert_tensors
    ),
    "bridge": Case(
        reference="BridgeTowerModel", theirs=bridgetower, run_theirs=run_bridgetower, ours=bridge,
        run_ours=fused,
    ),
    "stack of co_attention": Case(
        reference="LxmertXLayer", theirs=lxmert, run_theirs=run_lxmert, ours=co_attention,
        run_ours=run_co_attention, fuses=False,
    ),
    "single_stream": Case(
        reference="ViltModel", theirs=vilt, run_theirs=run_vilt, ours=single_stream, run_ours=fused
    ),
    "merged_attention": Case(
        reference="VisualBertModel", theirs=visual_bert, run_theirs=run_visual_bert,
        ours=merged_attention, run_ours=fused,
    ),
    "token_insertion": Case(
        reference="GitModel", theirs=git, run_theirs=run_git, ours=token_insertion,
        run_ours=run_token_insertion,
    ),
    "token_insertion, shuffled": Case(
        reference="ModernVBertModel", theirs=modernvbert, run_theirs=run_modernvbert, ours=shuffled,
        run_ours=run_token_insertion,
    ),
}  # fmt: skip
