"""The door to timm (ViTs) and transformers (sizes, weights and tokenizers of text encoders): the
only import of either, inside functions, so that a tool that only lists designs stays quick.

Nothing is looked up on a hub unless a setting names one: `vision_weights="hub"`, or weights of a
text encoder that are no folder.

Shape suffixes: D width, C channels, H height, W width.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from architectures.backbone import Backbone, TextName
from architectures.frozen import SettingError, checked, nearest
from architectures.weights import checkpoints
from architectures.weights.published import bert, clip, distilbert, roberta
from architectures.weights.published.text_format import SIZES, TextFormat


def vit(name: str, **sizes: Any) -> Any:
    """A ViT of timm, without classifier, freshly drawn. Raises `SettingError` where it is none."""
    import timm
    from timm.models.vision_transformer import VisionTransformer

    if not timm.is_model(name):
        raise nearest(name, timm.list_models("vit_*") + timm.list_models("deit_*"), "vision")
    try:
        made = timm.create_model(name, pretrained=False, num_classes=0, **sizes)
    except TypeError:
        made = None
    if not isinstance(made, VisionTransformer) or made.cls_token is None:
        raise SettingError(
            f"vision {name!r} is no ViT with a class token; take for example vit_base_patch16_224"
        )
    return made


def vision_tensors(backbone: Backbone) -> checkpoints.Published:
    """What `vision_weights` names. Raises `SettingError` where it has no image tower."""
    source = backbone.vision_weights
    if source == "hub":
        import timm

        made = timm.create_model(backbone.vision, pretrained=True, num_classes=0)
        state = {f"image.vit.{name}": value for name, value in made.state_dict().items()}
        nothing: dict[str, Any] = {}
        return checkpoints.Published(
            source="hub", kind="timm", tensors=state, sizes={}, left_out=nothing, whole=""
        )
    found = published(source, "vision_weights")
    if not found.has_image:
        raise SettingError(f"vision_weights {source!r} is a {found.kind} without an image tower")
    return found


def adapted_patches(weight_DCHW: Tensor, channels: int) -> Tensor:
    """A patch embedding for pictures of another number of channels, by timm's rule."""
    from timm.models import adapt_input_conv

    return adapt_input_conv(channels, weight_DCHW, weight_DCHW.shape[1])


# ---- text encoders -------------------------------------------------------------------------------

FORMATS: dict[TextName, TextFormat] = {
    "bert": bert.FORMAT,
    "roberta": roberta.FORMAT,
    "distilbert": distilbert.FORMAT,
    "clip": clip.FORMAT,
}
"""How each kind of text encoder is kept in a folder."""


def published(source: str, field: str) -> checkpoints.Published:
    """What a local file or folder holds, or a name on the hub, which is downloaded.

    `field`: the setting that named it. Raises `SettingError` that names it too.
    """
    try:
        return checkpoints.read(source if Path(source).expanduser().exists() else _hub(source))
    except SettingError as error:
        raise SettingError(f"{field} {source!r}: {error}") from None


def backbone_from(backbone: Backbone, text: str = "", vision: str = "") -> Backbone:
    """The backbone with kinds, sizes and weights of the towers that two sources hold, which may be
    one; empty: that tower stays. Sources are those of `text_weights` and `vision_weights`.

    Heads of a tower that a source does not tell (ALBEF's and timm's files) are 64 columns wide.
    Raises `SettingError` where a source cannot be read or has no such tower.
    """
    fields: dict[str, Any] = {}
    if text:
        found = _with_text(text, "text_weights").backbone_fields()
        names = {f for f in found if f.startswith("text")} | {"max_positions"}
        fields |= {name: found[name] for name in names} | {"text_weights": text}
    if vision:
        asked = backbone.with_field("vision_weights", vision)
        found = vision_tensors(asked).backbone_fields()
        names = {f for f in found if f.startswith(("vision", "image_", "patch_size"))}
        fields |= {name: found[name] for name in names} | {"vision_weights": vision}
    return checked(Backbone, {**dict(backbone), **fields})


def _with_text(source: str, field: str) -> checkpoints.Published:
    found = published(source, field)
    if not found.has_text:
        raise SettingError(f"{field} {source!r} is a {found.kind} without a text encoder")
    return found


def check_text(backbone: Backbone, vocabulary: int) -> None:
    """Raises `SettingError` where a backbone's kind or sizes are not those of `text_weights`."""
    if backbone.text_weights != "random":
        ours = {field: getattr(backbone, field) for field in SIZES if field != "vocabulary"}
        check_sizes(backbone.text_weights, backbone.text, {**ours, "vocabulary": vocabulary})


def check_sizes(
    source: str,
    kind: TextName,
    ours: Mapping[str, int],
    *,
    field: str = "text_weights",
    called: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Raises `SettingError` where the text encoder that a setting names is of another kind, or its
    sizes differ from ours (by the names of `Backbone`, and `vocabulary`).

    `called`: what a design calls a size that is not the backbone's.
    """
    found = _with_text(source, field)
    said = f"{field} {source!r}"
    if found.sizes["text"] != kind:
        its = found.sizes["text"]
        hint = f"; set the backbone's text to {its!r}" if field == "text_weights" else ""
        raise SettingError(f"{said} is a {its}, not a {kind}{hint}")
    checkpoints.check_sizes(found, ours, said, called)


def text_tensors(source: str, allow: Collection[str] = ()) -> dict[str, Tensor]:
    """The weights of a text encoder, by our roles; those of its MLM head too, where it has one.

    `allow`: patterns of roles that may be missing or too much. Raises `SettingError` that lists the
    others.
    """
    found = _with_text(source, "text_weights")
    given = {role: x for role, x in found.tensors.items() if _is_text(role)}
    given.pop("heads.mlm.decoder.weight", None)  # the word embedding itself
    own = _text_encoder(found, head=any(role.startswith("heads.mlm.") for role in given))
    said = f"text_weights {source!r} lack weights or hold others"
    return checkpoints.fit(own, given, said, allow, "backbone.weights_allow")


OTHER_PARTS = (
    "image.", "heads.itc.", "heads.itm.", "types.", "pooler.", "image_pooler.", "text_projection.",
    "image_projection.", "text_fusion.", "image_fusion.", "text_bridges.", "image_bridges.",
    "queries.",
)  # fmt: skip
"""Beginnings of roles that are parts of a published model, but not of its text encoder."""


def _is_text(role: str) -> bool:
    """Whether a role is of a text encoder, or of nothing that is known."""
    others = ("cross_attention.", "cross_norm.", "for_queries.")
    crossing = role.startswith("layers.") and any(part in role for part in others)
    return not crossing and not role.startswith(OTHER_PARTS)


def _text_encoder(found: checkpoints.Published, *, head: bool) -> dict[str, Tensor]:
    """Roles and sizes, without values, that a text encoder of a source's sizes has."""
    from architectures.layers.blocks import Embeddings, Layer
    from architectures.layers.heads import MLMHead

    backbone, words = checked(Backbone, found.backbone_fields()), found.sizes["vocabulary"]
    with torch.device("meta"):
        parts: dict[str, nn.Module] = {"embeddings": Embeddings(backbone, words)}
        parts |= {f"layers.{j}": Layer(backbone) for j in range(backbone.text_layers)}
        if backbone.text_kind.pre_norm:
            parts["text_norm"] = nn.LayerNorm(backbone.text_width)
        if head:
            parts["heads.mlm"] = MLMHead(nn.Embedding(words, backbone.text_width), 1.0)
    return {
        f"{part}.{name}": value
        for part, module in parts.items()
        for name, value in module.state_dict().items()
        if (part, name) != ("heads.mlm", "decoder.weight")
    }


def load_tokenizer(name: str) -> Any:
    """A tokenizer of transformers: a local folder, or a hub name.

    Raises `SettingError` where there is none.
    """
    return _found("AutoTokenizer", name, f"tokenizer {name!r} cannot be loaded")


# ---- out -----------------------------------------------------------------------------------------


def tokenizer(backend: Any, special: Mapping[str, str], length: int) -> Any:
    """A tokenizer of transformers around one of the tokenizers library.

    `special`: `pad`, `cls`, ... -> token; `length`: where it cuts.
    """
    import transformers

    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=length,
        model_input_names=["input_ids", "attention_mask"],
        **{f"{word}_token": token for word, token in special.items()},
    )


def save_vit(made: Any, sizes: Mapping[str, Any], pixels: Mapping[str, Any], folder: Path) -> None:
    """Writes a ViT, made by `vit` with these sizes, as a folder of timm; `pixels` is what timm says
    of the pictures a model takes.
    """
    from timm.models import save_for_hf

    said = {
        "pretrained_cfg": {"tag": "fuselab", "license": None, **pixels}
    }  # not the named model's
    with _quiet():
        save_for_hf(made, str(folder), said, dict(sizes), safe_serialization=True)


def save_text(
    kind: TextName, backbone: Backbone, weights: Mapping[str, Tensor], words: Any, folder: Path
) -> None:
    """Writes a text encoder of a backbone's sizes, given by role, as a folder of transformers with
    its tokenizer (`words`), and its MLM head where the weights have one. Names are found by the
    rules that read such a folder.

    A pooler, which BERT and RoBERTa have and ours has not, hands on the first token: its matrix is
    the identity.
    """
    import transformers

    form, width = FORMATS[kind], backbone.text_width
    config = _config(form, backbone, len(weights["embeddings.word.weight"]), words)
    with torch.device("meta"):
        headed = "heads.mlm.dense.weight" in weights
        auto = transformers.AutoModelForMaskedLM if headed else transformers.AutoModel
        model = auto.from_config(config)
    prefix = "" if form.reader == type(model).__name__ else f"{model.base_model_prefix}."
    pooler = {"pooler.dense.weight": torch.eye(width), "pooler.dense.bias": torch.zeros(width)}
    state = {}
    for name, value in model.state_dict().items():
        (role,) = form.roles({prefix + name: value})
        state[name] = pooler[name] if name in pooler else weights[role]
    model.load_state_dict(state, assign=True)
    model.tie_weights()
    with _quiet():
        model.save_pretrained(folder)
        words.save_pretrained(folder)


def _config(form: TextFormat, backbone: Backbone, vocabulary: int, words: Any) -> Any:
    """The configuration of a text encoder that is ours; what the kind fixes has the last word."""
    import transformers

    ours = {field: getattr(backbone, field) for field in SIZES if field != "vocabulary"}
    special = {"pad": words.pad_token_id, "bos": words.cls_token_id, "eos": words.sep_token_id}
    config = transformers.AutoConfig.for_model(
        form.model_type,
        **{f"{word}_token_id": value for word, value in special.items()}
        | {form.sizes[field]: size for field, size in ours.items()}
        | {form.sizes["vocabulary"]: vocabulary}
        | dict(form.constants),
    )
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob", "attention_dropout"):
        if hasattr(config, name):
            setattr(config, name, backbone.dropout)
    return config


def _found(reader: str, source: str, said: str) -> Any:
    """What a class of transformers finds in a local folder, or by a hub name.

    Raises `SettingError` that begins with `said`.
    """
    import transformers

    try:
        with _quiet():
            return getattr(transformers, reader).from_pretrained(
                source, local_files_only=Path(source).is_dir()
            )
    except (OSError, ValueError) as error:
        raise SettingError(f"{said}: {str(error).splitlines()[0]}") from None


def _hub(name: str) -> str:
    """The local folder of a model on the hub, downloaded where it is not there yet.

    Raises `SettingError` where there is none.
    """
    import huggingface_hub

    for weights in ("model*.safetensors*", "pytorch_model*"):
        try:
            folder = huggingface_hub.snapshot_download(
                name, allow_patterns=["config.json", weights]
            )
        except (OSError, ValueError) as error:
            first = str(error).strip().partition("\n")[0]
            raise SettingError(
                f"there is no such file or folder, nor on the hub ({first})"
            ) from None
        if any(Path(folder).glob(weights)):
            break
    return folder


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the library's own report and progress bars: what is wrong is raised instead."""
    from transformers.utils import logging

    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()
