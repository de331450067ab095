"""This is the door to transformers: sizes, weights and tokenizers of text encoders, in and out.

The only import of transformers, inside functions, so that a tool that only lists designs stays
quick.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from architectures.backbone import Backbone, TextName
from architectures.frozen import SettingError, checked, path_named
from architectures.weights import checkpoints
from architectures.weights.digests import seal
from architectures.weights.fitting import fit
from architectures.weights.published import bert, clip, distilbert, roberta
from architectures.weights.published.text_format import SIZES, TextFormat
from architectures.weights.sources import quiet, with_text

FORMATS: dict[TextName, TextFormat] = {
    "bert": bert.FORMAT,
    "roberta": roberta.FORMAT,
    "distilbert": distilbert.FORMAT,
    "clip": clip.FORMAT,
}
"""How each kind of text encoder is kept in a folder."""


def check_text(backbone: Backbone, vocabulary: int) -> None:
    """Raises `SettingError` where a backbone's kind or sizes are not those of `text_weights`."""
    if backbone.text_weights != "random":
        ours = {field: getattr(backbone, field) for field in SIZES if field != "vocabulary"}
        check_sizes(backbone.text_weights, backbone.text, {**ours, "vocabulary": vocabulary})
        source = backbone.text_weights
        encoder = with_text(source, "text_weights")
        checkpoints.check_heads(encoder, "text", backbone, f"text_weights {source!r}")


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
    encoder = with_text(source, field)
    subject = f"{field} {source!r}"
    if encoder.sizes["text"] != kind:
        its = encoder.sizes["text"]
        hint = f"; set the backbone's text to {its!r}" if field == "text_weights" else ""
        raise SettingError(f"{subject} is a {its}, not a {kind}{hint}")
    checkpoints.check_sizes(encoder, ours, subject, called)


def text_tensors(source: str, allow: Collection[str] = ()) -> dict[str, Tensor]:
    """Reads the weights of a text encoder by role; those of its MLM head too, where it has one.

    `allow`: patterns of roles that may be missing or too much. Raises `SettingError` that lists the
    others.
    """
    encoder = with_text(source, "text_weights")
    offered = {role: x for role, x in encoder.tensors.items() if _is_text(role)}
    offered.pop("heads.mlm.decoder.weight", None)  # the word embedding itself
    own = _text_encoder(encoder, head=any(role.startswith("heads.mlm.") for role in offered))
    subject = f"text_weights {source!r} lack weights or hold others"
    return fit(own, offered, subject, allow, "backbone.weights_allow")


OTHER_PARTS = (
    "image.", "heads.itc.", "heads.itm.", "types.", "pooler.", "image_pooler.", "text_projection.",
    "image_projection.", "text_fusion.", "image_fusion.", "text_bridges.", "image_bridges.",
    "queries.", "image_layers.", "image_blocks.",
)  # fmt: skip
"""Beginnings of roles that are parts of a published model, but not of its text encoder."""


def _is_text(role: str) -> bool:
    """Says whether a role is of a text encoder, or of nothing that is known."""
    others = ("cross_attention.", "cross_norm.", "for_queries.")
    crossing = role.startswith("layers.") and any(part in role for part in others)
    return not crossing and not role.startswith(OTHER_PARTS)


def _text_encoder(encoder: checkpoints.Published, *, head: bool) -> dict[str, Tensor]:
    """Lists the weights, on the meta device, that a text encoder of a source's sizes has."""
    from architectures.layers.blocks import Embeddings, Layer
    from architectures.layers.heads import MLMHead

    backbone, rows = checked(Backbone, encoder.backbone_fields()), encoder.sizes["vocabulary"]
    with torch.device("meta"):
        parts: dict[str, nn.Module] = {"embeddings": Embeddings(backbone, rows)}
        parts |= {f"layers.{j}": Layer(backbone) for j in range(backbone.text_layers)}
        if backbone.text_kind.pre_norm:
            parts["text_norm"] = nn.LayerNorm(backbone.text_width)
        if head:
            parts["heads.mlm"] = MLMHead(nn.Embedding(rows, backbone.text_width), 1.0)
    return {
        f"{part}.{name}": value
        for part, module in parts.items()
        for name, value in module.state_dict().items()
        if (part, name) != ("heads.mlm", "decoder.weight")
    }


def load_tokenizer(name: str) -> Any:
    """Opens a tokenizer of transformers: a local folder, or a hub name.

    Raises `SettingError` where there is none.
    """
    wrong = f"data.text.tokenizer {name!r} cannot be loaded"
    if path_named(name).is_file():
        raise SettingError(f"{wrong}: name the folder in which its files lie")
    try:
        return _opened("AutoTokenizer", name, wrong)
    except SettingError:
        if path_named(name).exists():
            raise
    return _opened("AutoTokenizer", _fetched(name, wrong), wrong)


def _fetched(name: str, wrong: str) -> str:
    """Returns the local folder of a tokenizer on the hub. Asks once, where transformers would go on
    asking for a minute."""
    import huggingface_hub

    try:
        patterns = ["*.json", "*.txt", "*.model"]
        return huggingface_hub.snapshot_download(name, allow_patterns=patterns)
    except (OSError, ValueError) as error:
        first = str(error).strip().partition("\n")[0]
        raise SettingError(f"{wrong}: no such folder, nor on the hub ({first})") from None


# ---- out -----------------------------------------------------------------------------------------


def tokenizer(backend: object, special: Mapping[str, str], length: int) -> Any:
    """Makes a tokenizer of transformers around one of the tokenizers library.

    `special`: `pad`, `cls`, ... -> token; `length`: where it cuts.
    """
    import transformers

    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=length,
        model_input_names=["input_ids", "attention_mask"],
        **{f"{word}_token": token for word, token in special.items()},
    )


def save_text(
    kind: TextName, backbone: Backbone, weights: Mapping[str, Tensor], tokenizer: Any, folder: Path
) -> None:
    """Writes a text encoder of a backbone's sizes, given by role, as a folder of transformers with
    its tokenizer, and its MLM head where the weights have one. Names are found by the
    rules that read such a folder.

    A pooler, which BERT and RoBERTa have and ours has not, hands on the first token: its matrix is
    the identity.
    """
    import transformers
    from safetensors.torch import load_file

    form, width = FORMATS[kind], backbone.text_width
    config = _config(form, backbone, len(weights["embeddings.word.weight"]), tokenizer)
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
    with quiet():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    path = folder / "model.safetensors"
    seal(path, load_file(path))


def _config(form: TextFormat, backbone: Backbone, vocabulary: int, tokenizer: Any) -> Any:
    """Makes the configuration of a text encoder that is ours; what the kind fixes has the last
    word.
    """
    import transformers

    ours = {field: getattr(backbone, field) for field in SIZES if field != "vocabulary"}
    special = {
        "pad": tokenizer.pad_token_id,
        "bos": tokenizer.cls_token_id,
        "eos": tokenizer.sep_token_id,
    }
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


def _opened(reader: str, source: str, subject: str) -> Any:
    """Returns what a class of transformers opens of a local folder, or of what was fetched from the
    hub before.

    Raises `SettingError` that begins with `subject`.
    """
    import transformers

    try:
        with quiet():
            return getattr(transformers, reader).from_pretrained(
                source, local_files_only=True, trust_remote_code=False
            )
    except Exception as error:  # of files that are none, it raises whatever their content leads to
        first = (str(error).splitlines() or [""])[0]
        reason = first if isinstance(error, OSError | ValueError) else "its files cannot be read"
        raise SettingError(f"{subject}: {reason}") from None
