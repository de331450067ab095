"""Does `split_bert` compute what salesforce/ALBEF computes, to the last digits?

A folder holds a checkpoint in the published format, its sizes, inputs, and the numbers the original
gave for them. Guess: float64 agrees to 1e-12, float32 to 1e-5. Cost: seconds.

    python benchmarks/albef_golden.py FOLDER

One line per stored number: file, name, largest absolute error in float64 and in float32 (`-` where
none is stored), or NOT COVERED where the product cannot compute it yet; totals on the last line.
Exits 1 where an error is above 1e-8 (float64) or 2e-5 (float32), or a shape differs; 2, with the
reason, where a folder lacks what is needed.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from architectures import registry
from architectures.backbone import TEXT_KINDS, Backbone
from architectures.checkpoints import load_whole, resize_positions
from architectures.contract import FusionDesign
from architectures.frozen import SettingError
from architectures.published.albef import albef_tensors

LIMITS = {torch.float64: 1e-8, torch.float32: 2e-5}
SUFFIX = {torch.float64: "f64", torch.float32: "f32"}
KIND = TEXT_KINDS["bert"]
CONSTANTS = {
    "vision": {"qkv_bias": (True,), "activation": ("gelu", "gelu (erf)")},
    "bert": {"layer_norm_eps": (KIND.eps,), "hidden_act": ("gelu", "gelu (erf)")},
}
"""What the design is built with: a config that says otherwise is none of ALBEF's."""
Numbers = dict[str, Tensor]
Line = tuple[str, str, list[float | None] | str]
"""File, name, and errors in float64 and float32, or why it is not covered (may be empty)."""


class LackingError(Exception):
    """What a folder lacks, in words."""


def read_config(folder: Path) -> dict[str, Any]:
    """The sizes, checked against what the design is built with."""
    config = json.loads(needed(folder, "config.json").read_text())
    for part, constants in CONSTANTS.items():
        for name, known in constants.items():
            if config[part].get(name, known[0]) not in known:
                raise LackingError(
                    f"config.json: {part}.{name} is {config[part][name]!r}, not {known[0]!r}: "
                    "split_bert cannot be built so"
                )
    width, reads = config["vision"]["width"], config["bert"].get("encoder_width")
    if reads not in (None, width):
        raise LackingError(f"config.json: bert.encoder_width {reads} is not vision.width {width}")
    return config


def needed(folder: Path, name: str) -> Path:
    if not (folder / name).is_file():
        raise LackingError(f"{folder} lacks {name}")
    return folder / name


def load(path: Path) -> dict[str, Any]:
    return torch.load(path, map_location="cpu", weights_only=True)


@functools.cache
def checkpoint(folder: Path) -> dict[str, Tensor]:
    state = load(needed(folder, "checkpoint.pth"))
    return state.get("model", state)


@functools.cache
def design_of(folder: Path, dtype: torch.dtype, image_size: int) -> FusionDesign:
    """The registered design of the folder's sizes, filled by our loader; `image_size` may differ
    from the checkpoint's.
    """
    config = read_config(folder)
    vision, bert = config["vision"], config["bert"]
    backbone = Backbone(
        image_size=image_size,
        image_channels=vision.get("in_channels", 3),
        patch_size=vision["patch_size"],
        image_width=vision["width"],
        image_layers=vision["depth"],
        image_heads=vision["heads"],
        image_mlp=round(vision.get("mlp_ratio", 4) * vision["width"]),
        image_norm_eps=vision.get("layer_norm_eps", 1e-6),
        text_width=bert["hidden_size"],
        text_layers=bert["num_hidden_layers"],
        text_heads=bert["num_attention_heads"],
        text_mlp=bert["intermediate_size"],
        max_positions=bert["max_position_embeddings"],
        itc_width=config["embed_dim"],
    )
    fields = {"text_layers": bert["fusion_layer"]}
    design = registry.construct("split_bert", fields, backbone, bert["vocab_size"]).to(dtype)
    tensors = {role: x.to(dtype) for role, x in albef_tensors(checkpoint(folder)).items()}
    types = "embeddings.token_type.weight"  # row 0 alone is read, however many there are
    tensors[types] = torch.cat([tensors[types], tensors[types]])[: KIND.types]
    load_whole(design, tensors)
    return design.eval()


def pretrain(design: FusionDesign, given: dict[str, Any]) -> Numbers:
    """The forward numbers of the pre-training step."""
    pixels = given["images"].to(next(design.parameters()).dtype)
    real = given["attention_mask"].bool()
    image, text = design.encode_image(pixels), design.encode_text(given["input_ids"], real)
    image_feat, text_feat = design.heads["itc"](image.pooled_BD, text.pooled_BD)
    whole = design.fuse(image, text)
    rows = torch.arange(len(pixels))
    images = torch.cat([given["itm_neg_image_for_text"], rows])
    texts = torch.cat([rows, given["itm_neg_text_for_image"]])
    nothing = given["input_ids"][:1, :0].expand(len(texts), 0)
    negative = design.fuse(image.take(images), text.take(texts), read_at_BR=nothing)
    match = design.heads["itm"](torch.cat([whole.pooled_BD, negative.pooled_BD]))
    masked = design.fuse(image, design.encode_text(given["mlm_input_ids"], real))
    return {
        "image_tokens": image.tokens_BPD,
        "text_hidden": text.tokens_BLD,
        "image_feat": image_feat,
        "text_feat": text_feat,
        "fusion_hidden_pos": whole.text_BRD,
        "multimodal_hidden_pos": whole.text_BRD,
        "fusion_cls_neg": negative.pooled_BD,
        "itm_logits": match,
        "itm_logits_pos": match[: len(rows)],
        "mlm_logits": design.heads["mlm"](masked.text_BRD),
    }


def retrieval(design: FusionDesign, given: dict[str, Any]) -> Numbers:
    """The embeddings and their cosines; scoring is the retrieval task's."""
    pixels = given["images"].to(next(design.parameters()).dtype)
    text = design.encode_text(given["input_ids"], given["attention_mask"].bool())
    image_embeds, text_embeds = design.heads["itc"](
        design.encode_image(pixels).pooled_BD, text.pooled_BD
    )
    return {
        "image_embeds": image_embeds,
        "text_embeds": text_embeds,
        "sims_i2t": image_embeds @ text_embeds.T,
    }


COVERED: dict[str, Callable[[FusionDesign, dict[str, Any]], Numbers]] = {
    "pretrain": pretrain,
    "retrieval": retrieval,
}


def error(ours: Tensor, stored: Any) -> float:
    """Largest absolute difference; infinite where shapes differ."""
    if not isinstance(stored, Tensor) or ours.shape != stored.shape:
        return float("inf")
    return float((ours - stored).abs().max()) if stored.numel() else 0.0


def outputs(folder: Path) -> Iterator[Line]:
    """What is stored in `*_outputs_f64.pt` and `*_outputs_f32.pt`."""
    parts = sorted({file.name.rpartition("_outputs_")[0] for file in folder.glob("*_outputs_*.pt")})
    if not parts:
        raise LackingError(f"{folder} lacks numbers to compare: no *_outputs_f64.pt, *_f32.pt")
    for part in parts:
        files = {dtype: folder / f"{part}_outputs_{suffix}.pt" for dtype, suffix in SUFFIX.items()}
        stored = {dtype: load(file) if file.is_file() else {} for dtype, file in files.items()}
        ours, inputs = {}, folder / f"{part}_inputs.pt"
        if part in COVERED and inputs.is_file():
            given = load(inputs)
            for dtype in LIMITS:
                design = design_of(folder, dtype, given["images"].shape[-1])
                ours[dtype] = COVERED[part](design, given)
        lacking = part in COVERED and not ours
        for name in dict.fromkeys(name for numbers in stored.values() for name in numbers):
            if not ours or name not in ours[torch.float64]:
                yield f"{part}_outputs", name, f"{inputs.name} is missing" if lacking else ""
                continue
            yield (
                f"{part}_outputs",
                name,
                [
                    error(ours[dtype][name], stored[dtype][name]) if name in stored[dtype] else None
                    for dtype in LIMITS
                ],
            )


def positions(folder: Path) -> Iterator[Line]:
    """Position tables of another grid; a file of its own, which a folder need not have."""
    file = folder / "pos_embed_resized.pt"
    stored = load(file) if file.is_file() else {}
    for name, wanted in stored.items():
        if not isinstance(wanted, Tensor):
            continue  # the image size; the number of rows says it too
        if name not in checkpoint(folder):
            yield file.stem, name, "the checkpoint has none"
            continue
        table = checkpoint(folder)[name].to(wanted.dtype)
        found = error(resize_positions(table, wanted.shape[1] - 1, prefix=1), wanted)
        yield file.stem, name, [found if dtype is wanted.dtype else None for dtype in LIMITS]


def metrics(folder: Path) -> Iterator[Line]:
    """Retrieval's metrics; a file of its own, which a folder need not have."""
    file = folder / "retrieval_metrics.json"
    for name in json.loads(file.read_text()) if file.is_file() else ():
        yield file.stem, name, ""


def compare(folder: Path) -> int:
    """Prints the comparison; returns the exit status."""
    agree = wrong = missing = 0
    for file, name, errors in (*outputs(folder), *positions(folder), *metrics(folder)):
        if isinstance(errors, str):
            missing += 1
            print(f"{file:24} {name:32} NOT COVERED{f': {errors}' if errors else ''}")
            continue
        # `not <=` so that a NaN is wrong.
        limits = zip(errors, LIMITS.values(), strict=True)
        bad = any(e is not None and not e <= limit for e, limit in limits)
        wrong, agree = wrong + bad, agree + (not bad)
        shown = " ".join("     -    " if e is None else f"{e:10.3e}" for e in errors)
        print(f"{file:24} {name:32} {shown}{'  WRONG' if bad else ''}")
    print(f"{agree} agree, {wrong} wrong, {missing} not covered")
    return int(wrong > 0)


@torch.no_grad()
def main(words: list[str] | None = None) -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args(words).folder
    try:
        return compare(folder)
    except KeyError as lacking:
        said = f"{folder}: config.json or an input file lacks {lacking}"
    except (LackingError, SettingError, ValueError) as lacking:
        said = str(lacking)
    print(said, file=sys.stderr)
    return 2


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
