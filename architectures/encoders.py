"""Image tower (timm), and sizes, weights and tokenizers of text encoders (transformers): the only
import of either, inside functions, so that a tool that only lists designs stays quick.

Nothing is looked up on a hub unless a setting names one: `vision_weights="hub"`, or
`text_weights` that is no folder.

Shape suffixes: B rows, C channels, H height, W width, P image tokens, D width.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from architectures.backbone import Backbone, TextName
from architectures.checkpoints import check_keys, resize_positions
from architectures.contract import ImageStates
from architectures.frozen import SettingError, checked, nearest
from architectures.published import bert, clip, distilbert, roberta
from architectures.published.text_format import SIZES, TextFormat

CLASSIFIER = ("head.", "head_dist.", "fc_norm.")
"""Keys of a checkpoint's classifier, which a tower has no use for."""


class ImageTower(nn.Module):
    """A timm ViT without its classifier: all tokens after the final norm, class token first."""

    def __init__(self, backbone: Backbone, *, blocks: int | None = None) -> None:
        """`blocks`: how many of the lowest blocks it has; None: all of the backbone's. More than
        those start fresh; without any there is no final norm either.
        """
        super().__init__()
        eps, inner = backbone.image_norm_eps, backbone.image_mlp
        own: dict[str, Any] = {}
        if eps is not None:
            own["norm_layer"] = functools.partial(nn.LayerNorm, eps=eps)
        if inner is not None:  # half a column more, since timm cuts the product to a whole number
            own["mlp_ratio"] = (inner + 0.5) / backbone.image_width
        self.vit = _vit(
            backbone.vision,
            **own,
            img_size=backbone.image_size,
            patch_size=backbone.patch_size,
            in_chans=backbone.image_channels,
            embed_dim=backbone.image_width,
            depth=backbone.image_layers if blocks is None else blocks,
            num_heads=backbone.image_heads,
        )
        self.vit.patch_embed.node = "patches"
        for block in self.vit.blocks:
            block.node = "layer"
        self.left_out: tuple[str, ...] = ()
        if blocks == 0:
            self.vit.norm = nn.Identity()
            self.left_out = ("norm.",)

    def leave_out(self, *parts: str) -> None:
        """Takes parts of the ViT away; a checkpoint's weights of them are passed over."""
        for part in parts:
            owner, _, name = part.rpartition(".")
            setattr(self.vit.get_submodule(owner), name, None)
        self.left_out += parts

    def forward(
        self, image_BCHW: Tensor, *, every_layer: bool = False, embed_only: bool = False
    ) -> ImageStates:
        """(B, C, H, W) normalised pixels -> states; `layers` are raw block outputs. `embed_only`:
        tokens before the first block, for ITC their mean (the class token has seen nothing yet).
        """
        if embed_only:
            embedded_BPD = self.embed(image_BCHW)
            return ImageStates(distinct_UPD=embedded_BPD, pooled=embedded_BPD.mean(1))
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
        depth = min(len(self.vit.blocks), backbone.image_layers)
        state = {
            key: value
            for key, value in state.items()
            if not key.startswith((*CLASSIFIER, *self.left_out)) and _block_of(key) < depth
        }
        own = {key: value for key, value in self.vit.state_dict().items() if _block_of(key) < depth}
        scales = [key for key in own if key.endswith(".gamma")]
        if not any(key.endswith(".gamma") for key in state):  # without scales is with scales of 1
            state |= {key: torch.ones_like(own[key]) for key in scales}
        if "pos_embed" in state and "pos_embed" in own:
            prefix = own["pos_embed"].shape[1] - backbone.patches
            state["pos_embed"] = resize_positions(state["pos_embed"], backbone.patches, prefix)
        weight = state.get("patch_embed.proj.weight")
        if weight is not None and weight.shape[1] != backbone.image_channels:
            from timm.models import adapt_input_conv

            adapted = adapt_input_conv(backbone.image_channels, weight, weight.shape[1])
            state["patch_embed.proj.weight"] = adapted
        check_keys(source, own, state)
        self.vit.load_state_dict(state, strict=False)


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
