"""Image tower (timm), and BERT's sizes, weights and tokenizers (transformers): the only import of
either, inside functions, so that a tool that only lists designs stays quick.

Nothing is looked up on a hub unless the backbone names one: `vision_weights="hub"`, or
`text_weights` that is no folder.

Shape suffixes: B rows, C channels, H height, W width, P image tokens, D width.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from architectures.backbone import TEXT_KINDS, Backbone
from architectures.contract import ImageStates
from architectures.frozen import SettingError, nearest
from architectures.published.bert import bert_tensors
from architectures.published.clip import clip_tensors

CLASSIFIER = ("head.", "head_dist.", "fc_norm.")
"""Keys of a checkpoint's classifier, which a tower has no use for."""


class ImageTower(nn.Module):
    """A timm ViT without its classifier: all tokens after the final norm, class token first."""

    node: ClassVar[str] = "image tower"

    def __init__(self, backbone: Backbone, *, blocks: int | None = None) -> None:
        """`blocks`: how many of the lowest blocks it has; None: all of the backbone's."""
        super().__init__()
        eps = backbone.image_norm_eps
        norms = {} if eps is None else {"norm_layer": functools.partial(nn.LayerNorm, eps=eps)}
        self.vit = _vit(
            backbone.vision,
            **norms,
            img_size=backbone.image_size,
            patch_size=backbone.patch_size,
            in_chans=backbone.image_channels,
            embed_dim=backbone.image_width,
            depth=backbone.image_layers if blocks is None else blocks,
            num_heads=backbone.image_heads,
        )

    def forward(self, image_BCHW: Tensor, *, every_layer: bool = False) -> ImageStates:
        """(B, C, H, W) normalised pixels -> states; `layers` are raw block outputs."""
        layers: tuple[Tensor, ...] = ()
        if every_layer:
            tokens_BPD, outputs = self.vit.forward_intermediates(
                image_BCHW, output_fmt="NLC", return_prefix_tokens=True
            )
            layers = tuple(torch.cat([prefix, patches], 1) for patches, prefix in outputs)
        else:
            tokens_BPD = self.vit.forward_features(image_BCHW)
        return ImageStates(distinct_UPD=tokens_BPD, pooled=tokens_BPD[:, 0], layers=layers)

    def embed(self, image_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) normalised pixels -> tokens before the first block: class token, then
        patches, with their positions.
        """
        vit = self.vit
        return vit.norm_pre(vit.patch_drop(vit._pos_embed(vit.patch_embed(image_BCHW))))

    def load(self, backbone: Backbone) -> None:
        """Takes the weights that `backbone.vision_weights` names; `random` changes nothing.

        The position table is resized (bicubic) where the grid differs, the patch embedding adapted
        where channels differ. Raises `SettingError` that lists missing and unexpected keys.
        """
        if backbone.vision_weights == "random":
            return
        source = f"vision_weights {backbone.vision_weights!r}"
        state = _vision_state(backbone)
        depth = len(self.vit.blocks)
        state = {
            key: value
            for key, value in state.items()
            if not key.startswith(CLASSIFIER) and _block_of(key) < depth
        }
        own = self.vit.state_dict()
        if "pos_embed" in state and "pos_embed" in own:
            prefix = own["pos_embed"].shape[1] - backbone.patches
            state["pos_embed"] = resize_positions(state["pos_embed"], backbone.patches, prefix)
        weight = state.get("patch_embed.proj.weight")
        if weight is not None and weight.shape[1] != backbone.image_channels:
            from timm.models import adapt_input_conv

            adapted = adapt_input_conv(backbone.image_channels, weight, weight.shape[1])
            state["patch_embed.proj.weight"] = adapted
        _check_keys(source, own, state)
        self.vit.load_state_dict(state)


def _block_of(key: str) -> int:
    """The block that a key of a checkpoint belongs to; -1: none."""
    return int(key.split(".")[1]) if key.startswith("blocks.") else -1


def _vit(name: str, **sizes: Any) -> Any:
    import timm
    from timm.models.vision_transformer import VisionTransformer

    if not timm.is_model(name):
        raise nearest(name, timm.list_models("vit_*") + timm.list_models("deit_*"), "vision")
    try:
        vit = timm.create_model(name, pretrained=False, num_classes=0, **sizes)
    except TypeError:
        vit = None
    if not isinstance(vit, VisionTransformer) or vit.cls_token is None:
        raise SettingError(
            f"vision {name!r} is no ViT with a class token; take for example vit_base_patch16_224"
        )
    return vit


def _vision_state(backbone: Backbone) -> dict[str, Tensor]:
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


def _clip_vision(backbone: Backbone, folder: Path) -> dict[str, Tensor]:
    """The image tower of a folder of CLIPModel or CLIPVisionModel, by timm's names.

    Raises `SettingError` where the folder has none, lacks weights, or differs in heads, activation
    or epsilon.
    """
    from transformers import AutoConfig, CLIPVisionModel

    source = f"vision_weights {str(folder)!r}"
    try:
        with _quiet():
            kind = AutoConfig.from_pretrained(folder, local_files_only=True).model_type
    except (OSError, ValueError) as error:
        said = str(error).splitlines()[0]
        raise SettingError(f"{source}: no configuration found: {said}") from None
    if kind not in ("clip", "clip_vision_model"):
        raise SettingError(f"{source} is the folder of a {kind}, not of a CLIP")
    with _quiet():
        model, info = CLIPVisionModel.from_pretrained(
            folder, local_files_only=True, output_loading_info=True, dtype=torch.float32
        )
    if info["missing_keys"]:
        raise SettingError(f"{source} lack {', '.join(sorted(info['missing_keys']))}")
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
    found = clip_tensors({f"vision_model.{k}": v for k, v in model.state_dict().items()})
    return {role.removeprefix("image.vit."): value for role, value in found.items()}


def resize_positions(table_1PD: Tensor, patches: int, prefix: int) -> Tensor:
    """A ViT's position table for another square grid: the first `prefix` rows are kept, the grid
    is resized bicubic without antialiasing (salesforce/ALBEF's rule).
    """
    kept_1PD, grid_1PD = table_1PD[:, :prefix], table_1PD[:, prefix:]
    if grid_1PD.shape[1] == patches:
        return table_1PD
    old, new = round(grid_1PD.shape[1] ** 0.5), round(patches**0.5)
    grid_1DHW = grid_1PD.reshape(1, old, old, -1).permute(0, 3, 1, 2)
    grid_1DHW = F.interpolate(grid_1DHW, size=(new, new), mode="bicubic", align_corners=False)
    return torch.cat([kept_1PD, grid_1DHW.flatten(2).transpose(1, 2)], dim=1)


def _check_keys(source: str, own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    sizes = [
        f"{key} {tuple(state[key].shape)}, here {tuple(own[key].shape)}"
        for key in sorted(own.keys() & state.keys())
        if own[key].shape != state[key].shape
    ]
    said = [
        f"{what}: {', '.join(keys[:8])}" + (f" and {len(keys) - 8} more" if len(keys) > 8 else "")
        for what, keys in (
            ("missing", sorted(own.keys() - state.keys())),
            ("unexpected", sorted(state.keys() - own.keys())),
            ("of another size", sizes),
        )
        if keys
    ]
    if said:
        raise SettingError(f"{source} does not fit the image tower; {'; '.join(said)}")


# ---- BERT ---------------------------------------------------------------------------------------

SIZES = {
    "text_width": "hidden_size",
    "text_layers": "num_hidden_layers",
    "text_heads": "num_attention_heads",
    "text_mlp": "intermediate_size",
    "max_positions": "max_position_embeddings",
}
"""Field of `Backbone` -> field of BERT's configuration."""


def bert_config(source: str) -> Any:
    """The configuration of a BERT: a local folder, or a hub name.

    Raises `SettingError` where there is none, or it is not a BERT whose layers are ours.
    """
    from transformers import AutoConfig

    try:
        with _quiet():
            config = AutoConfig.from_pretrained(source, local_files_only=Path(source).is_dir())
    except (OSError, ValueError) as error:
        said = str(error).splitlines()[0]
        raise SettingError(f"text_weights {source!r}: no configuration found: {said}") from None
    if config.model_type != "bert":
        raise SettingError(f"text_weights {source!r} is a {config.model_type}, not a bert")
    ours = {"hidden_act": "gelu", "layer_norm_eps": TEXT_KINDS["bert"].eps, "type_vocab_size": 2}
    for field, value in ours.items():
        if getattr(config, field) != value:
            raise SettingError(
                f"text_weights {source!r}: {field} is {getattr(config, field)!r}, "
                f"but text layers are built with {value!r}"
            )
    return config


def backbone_from(backbone: Backbone, text: str) -> Backbone:
    """The backbone with the sizes and weights of a BERT (a local folder, or a hub name)."""
    config = bert_config(text)
    sizes = {field: getattr(config, theirs) for field, theirs in SIZES.items()}
    return Backbone(**{**dict(backbone), **sizes, "text_weights": text})


def check_text(backbone: Backbone, vocabulary: int) -> None:
    """Raises `SettingError` where a backbone's sizes are not those of its `text_weights`."""
    source = backbone.text_weights
    if source == "random":
        return
    config = bert_config(source)
    wrong = [
        f"{field} is {getattr(backbone, field)}, {theirs} there is {getattr(config, theirs)}"
        for field, theirs in SIZES.items()
        if getattr(backbone, field) != getattr(config, theirs)
    ]
    if vocabulary != config.vocab_size:
        wrong.append(
            f"the tokenizer has {vocabulary} words, vocab_size there is {config.vocab_size} "
            f"(set the data's text.tokenizer to {source!r})"
        )
    if wrong:
        raise SettingError(
            f"the backbone and its text_weights {source!r} differ: {'; '.join(wrong)}"
        )


def text_tensors(source: str) -> dict[str, Tensor]:
    """The weights of a BERT, by our roles; those of its MLM head too, where it has one.

    Reads folders (or hub names) of BertModel, BertForMaskedLM and BertForPreTraining. Raises
    `SettingError` that lists encoder weights the folder lacks.
    """
    from transformers import BertForMaskedLM

    with _quiet():
        model, info = BertForMaskedLM.from_pretrained(
            source,
            local_files_only=Path(source).is_dir(),
            output_loading_info=True,
            dtype=torch.float32,
        )
    missing = set(info["missing_keys"])
    lacking = sorted(key for key in missing if not key.startswith("cls."))
    if lacking:
        raise SettingError(f"text_weights {source!r} lack {', '.join(lacking)}")
    headless = any(key.startswith("cls.predictions.transform") for key in missing)
    state = bert_tensors(model.state_dict())
    return {k: v for k, v in state.items() if not (headless and k.startswith("heads."))}


def load_tokenizer(name: str) -> Any:
    """A tokenizer of transformers: a local folder, or a hub name.

    Raises `SettingError` where there is none.
    """
    from transformers import AutoTokenizer

    try:
        with _quiet():
            return AutoTokenizer.from_pretrained(name, local_files_only=Path(name).is_dir())
    except (OSError, ValueError) as error:
        said = str(error).splitlines()[0]
        raise SettingError(f"tokenizer {name!r} cannot be loaded: {said}") from None


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
