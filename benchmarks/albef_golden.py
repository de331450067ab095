"""Does `split_bert` compute what salesforce/ALBEF computes, to the last digits?

A folder holds a checkpoint in the published format, inputs, and the numbers the original gave for
them. Guess: float64 agrees to 1e-12, float32 to 1e-5. Cost: seconds.

    python benchmarks/albef_golden.py FOLDER

One line per stored number: file, name, largest absolute error in float64 and in float32, or
NOT COVERED where the product cannot compute it yet; totals on the last line. Exits 1 where an
error is above 1e-8 (float64) or 2e-5 (float32).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from architectures import registry
from architectures.backbone import Backbone
from architectures.checkpoints import load_whole
from architectures.contract import FusionDesign
from architectures.encoders import resize_positions
from architectures.published.albef import albef_tensors

LIMITS = {torch.float64: 1e-8, torch.float32: 2e-5}
SUFFIX = {torch.float64: "f64", torch.float32: "f32"}
Numbers = dict[str, Tensor]


def design_of(folder: Path, dtype: torch.dtype) -> FusionDesign:
    """The registered design of the folder's sizes, filled by our loader."""
    config = json.loads((folder / "config.json").read_text())
    vision, bert = config["vision"], config["bert"]
    backbone = Backbone(
        image_size=vision["image_res"],
        image_channels=vision["in_channels"],
        patch_size=vision["patch_size"],
        image_width=vision["width"],
        image_layers=vision["depth"],
        image_heads=vision["heads"],
        text_width=bert["hidden_size"],
        text_layers=bert["num_hidden_layers"],
        text_heads=bert["num_attention_heads"],
        text_mlp=bert["intermediate_size"],
        max_positions=bert["max_position_embeddings"],
        itc_width=config["embed_dim"],
    )
    fields = {"text_layers": bert["fusion_layer"]}
    design = registry.construct("split_bert", fields, backbone, bert["vocab_size"])
    load_whole(design, albef_tensors(checkpoint(folder)))
    return design.to(dtype).eval()


def checkpoint(folder: Path) -> dict[str, Tensor]:
    return torch.load(folder / "checkpoint.pth", weights_only=True)["model"]


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


def positions(folder: Path) -> Iterator[tuple[str, str, list[float | None]]]:
    """The resized position tables, which exist in float64 only."""
    stored = torch.load(folder / "pos_embed_resized.pt", weights_only=True)
    patches = (stored.pop("image_res") // json.loads((folder / "config.json").read_text())[
        "vision"]["patch_size"]) ** 2  # fmt: skip
    for name, wanted in stored.items():
        table = resize_positions(checkpoint(folder)[name].double(), patches, prefix=1)
        yield "pos_embed_resized", name, [float((table - wanted).abs().max()), None]


def outputs(folder: Path) -> Iterator[tuple[str, str, list[float | None] | None]]:
    """File, name and errors in float64 and float32; None for errors: not covered."""
    designs = {dtype: design_of(folder, dtype) for dtype in LIMITS}
    for file in sorted(folder.glob("*_outputs_f64.pt")):
        part = file.name.removesuffix("_outputs_f64.pt")
        stored, ours = {}, {}
        for dtype, suffix in SUFFIX.items():
            path = folder / f"{part}_outputs_{suffix}.pt"
            stored[dtype] = torch.load(path, weights_only=True) if path.exists() else {}
            if part in COVERED:
                given = torch.load(folder / f"{part}_inputs.pt", weights_only=True)
                ours[dtype] = COVERED[part](designs[dtype], given)
        for name in stored[torch.float64]:
            if name not in ours.get(torch.float64, {}):
                yield part, name, None
                continue
            yield (
                part,
                name,
                [
                    float((ours[dtype][name] - values[name]).abs().max())
                    if name in values
                    else None
                    for dtype, values in stored.items()
                ],
            )


@torch.no_grad()
def main(folder: Path) -> int:
    """Prints the comparison; returns the exit status."""
    torch.set_num_threads(1)
    covered = wrong = missing = 0
    for file, name, errors in [*outputs(folder), *positions(folder)]:
        if errors is None:
            missing += 1
            print(f"{file:24} {name:32} NOT COVERED")
            continue
        covered += 1
        # `not <=` so that a NaN is wrong.
        bad = any(
            e is not None and not e <= limit
            for e, limit in zip(errors, LIMITS.values(), strict=True)
        )
        wrong += bad
        shown = " ".join("     -    " if e is None else f"{e:10.3e}" for e in errors)
        print(f"{file:24} {name:32} {shown}{'  WRONG' if bad else ''}")
    for name in json.loads((folder / "retrieval_metrics.json").read_text()):
        missing += 1
        print(f"{'retrieval_metrics':24} {name:32} NOT COVERED")
    print(f"{covered - wrong} agree, {wrong} wrong, {missing} not covered")
    return int(wrong > 0)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python benchmarks/albef_golden.py FOLDER")
    sys.exit(main(Path(sys.argv[1])))
