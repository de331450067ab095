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
from torch import Tensor

from architectures.backbone import Backbone, TextName
from architectures.frozen import SettingError, checked, nearest
from architectures.published import bert, clip, distilbert, roberta
from architectures.published.text_format import SIZES, TextFormat


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


def vision_state(backbone: Backbone) -> dict[str, Tensor]:
    """The weights that `vision_weights` names, by timm's names.

    Raises `SettingError` where there are none.
    """
    if backbone.vision_weights == "hub":
        import timm

        return timm.create_model(backbone.vision, pretrained=True, num_classes=0).state_dict()
    path = Path(backbone.vision_weights).expanduser()
    if path.is_dir():
        return _clip_vision(backbone, path)
    if not path.is_file():
        raise SettingError(
            f"vision_weights {str(path)!r} is not a file; give `random`, `hub`, a checkpoint, or "
            "the folder of a CLIP"
        )
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    state = torch.load(path, map_location="cpu", weights_only=True)
    for wrapper in ("model", "state_dict"):  # DeiT's and many training scripts' layout
        if wrapper in state and isinstance(state[wrapper], Mapping):
            state = state[wrapper]
    return dict(state)


def adapted_patches(weight_DCHW: Tensor, channels: int) -> Tensor:
    """A patch embedding for pictures of another number of channels, by timm's rule."""
    from timm.models import adapt_input_conv

    return adapt_input_conv(channels, weight_DCHW, weight_DCHW.shape[1])


def _clip_vision(backbone: Backbone, folder: Path) -> dict[str, Tensor]:
    """The image tower of a folder of CLIPModel or CLIPVisionModel, by timm's names.

    Raises `SettingError` where the folder has none, lacks weights, or differs in heads, activation
    or epsilon.
    """
    source = f"vision_weights {str(folder)!r}"
    kind = _found("AutoConfig", str(folder), f"{source}: no configuration found").model_type
    if kind not in ("clip", "clip_vision_model"):
        raise SettingError(f"{source} is the folder of a {kind}, not of a CLIP")
    model, missing = _model("CLIPVisionModel", str(folder))
    if missing:
        raise SettingError(f"{source} lack {', '.join(sorted(missing))}")
    config = model.config
    both = {  # what no tensor's shape tells
        "image_heads": (backbone.image_heads, config.num_attention_heads),
        "image_norm_eps": (backbone.image_norm_eps or 1e-5, config.layer_norm_eps),
        "quick GELU": ("quickgelu" in backbone.vision, config.hidden_act == "quick_gelu"),
    }
    wrong = [
        f"{what}: {ours} here, {its} there" for what, (ours, its) in both.items() if ours != its
    ]
    if wrong:
        raise SettingError(f"{source} differ from vision {backbone.vision!r}: {'; '.join(wrong)}")
    found = clip.clip_tensors({f"vision_model.{k}": v for k, v in model.state_dict().items()})
    return {role.removeprefix("image.vit."): value for role, value in found.items()}


# ---- text encoders -------------------------------------------------------------------------------

FORMATS: dict[TextName, TextFormat] = {
    "bert": bert.FORMAT,
    "roberta": roberta.FORMAT,
    "distilbert": distilbert.FORMAT,
    "clip": clip.FORMAT,
}
"""How each kind of text encoder is kept in a folder."""


def text_config(source: str, field: str = "text_weights") -> tuple[TextName, Any]:
    """Kind and configuration of the text encoder in a local folder, or of a hub name.

    `field`: the setting that named it. Raises `SettingError` where there is none, or its layers are
    not ours.
    """
    said = f"{field} {source!r}"
    config = _found("AutoConfig", source, f"{said}: no configuration found").get_text_config()
    for kind, form in FORMATS.items():
        if form.model_type == config.model_type:
            form.check(config, said)
            return kind, config
    raise SettingError(f"{said} is a {config.model_type}; known: {', '.join(FORMATS)}")


def backbone_from(backbone: Backbone, text: str) -> Backbone:
    """The backbone with kind, sizes and weights of a text encoder (a local folder, or a hub name).

    Raises `SettingError` like `text_config`.
    """
    kind, config = text_config(text)
    sizes = {f: getattr(config, t) for f, t in FORMATS[kind].sizes.items() if f != "vocabulary"}
    return checked(Backbone, {**dict(backbone), **sizes, "text": kind, "text_weights": text})


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
    found, config = text_config(source, field)
    if found != kind:
        hint = f"; set the backbone's text to {found!r}" if field == "text_weights" else ""
        raise SettingError(f"{field} {source!r} is a {found}, not a {kind}{hint}")
    if wrong := FORMATS[kind].differing(config, ours, called):
        hint = f" (set the data's text.tokenizer to {source!r})" if "vocabulary" in wrong else ""
        raise SettingError(f"{field} {source!r} does not fit: {wrong}{hint}")


def text_tensors(source: str) -> dict[str, Tensor]:
    """The weights of a text encoder, by our roles; those of its MLM head too, where it has one.

    Raises `SettingError` that lists encoder weights the folder (or hub name) lacks.
    """
    form = FORMATS[text_config(source)[0]]
    model, missing = _model(form.reader, source)
    state = model.state_dict()
    absent = form.roles({key: state[key] for key in missing})
    if lacking := sorted(role for role in absent if not role.startswith("heads.")):
        raise SettingError(f"the weights {source!r} lack {', '.join(lacking)}")
    headless = "heads.mlm.dense.weight" in absent
    found = form.roles(state)
    return {k: v for k, v in found.items() if not (headless and k.startswith("heads."))}


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


def _model(reader: str, source: str) -> tuple[Any, Collection[str]]:
    """A model of a class of transformers, in float32, and the weights that its folder lacks."""
    import transformers

    with _quiet():
        model, info = getattr(transformers, reader).from_pretrained(
            source,
            local_files_only=Path(source).is_dir(),
            output_loading_info=True,
            dtype=torch.float32,
        )
    return model, info["missing_keys"]


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
