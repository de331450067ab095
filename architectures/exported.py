"""A trained design is written to a folder that needs nothing else, and loaded to the same bits;
so is the model of a task, a design with the head or decoder that it was fine-tuned with.

    config.json          under `fuselab`: design, fields, backbone, vocabulary, heads, digests, and
                         of a task's model `task`, what it says and how
    model.safetensors    every weight by its role, tied ones once
    tokenizer.json, ...  the tokenizer, as transformers keeps it
    image_tower/         the ViT, as timm keeps it
    text_encoder/        the layers of text alone, as transformers keeps them

A tower has a folder where the design has one by itself; `write` says why where it has not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import JsonValue
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from architectures import build
from architectures.backbone import Backbone
from architectures.contract import FusionDesign
from architectures.downstream.model import TaskModel
from architectures.downstream.record import TaskRecord
from architectures.frozen import F, SettingError, checked, path_named
from architectures.layers.blocks import Embeddings
from architectures.stacks.image_tower import ImageTower
from architectures.stacks.towers import TwoTowers
from architectures.weights import from_timm, from_transformers, widths
from architectures.weights.published import fuselab
from architectures.weights.published.fuselab import CONFIG, FORMAT, WEIGHTS

DESIGN_FILE = "design.py"
"""The source of a user's own design, where the folder holds one."""
IMAGE, TEXT = "image_tower", "text_encoder"
OTHER_SCORES = (
    "under backbone.parameterisation mup its attention divides scores by another number than these "
    "libraries do"
)


def write(
    folder: Path,
    model: FusionDesign | TaskModel,
    *,
    tokenizer: Any,
    pixels: Mapping[str, object],
    about: Mapping[str, object],
    task: TaskRecord | None = None,
) -> dict[str, str]:
    """Fills an empty folder with a design, or the model of a task, in float32 on the CPU.

    `tokenizer`: one of transformers (`from_transformers.tokenizer`); `pixels`: what pictures must
    look like, as timm says it (`mean`, `std`, ...); `about`: what else the configuration should
    say; `task`: of a task's model, what built it. Returns the folders of towers that were not
    written -> why.
    """
    design = design_of(model)
    save_file(_once(model), folder / WEIGHTS)
    tokenizer.save_pretrained(folder)
    absent = {
        IMAGE: _image_tower(design, pixels, folder),
        TEXT: _text_encoder(design, tokenizer, folder),
    }
    absent = {name: why for name, why in absent.items() if why}
    record = {
        **about,
        "format": FORMAT,
        "design": design.name,
        "version": design.version,
        "config": standing_alone(design.config).model_dump(mode="json"),
        "backbone": standing_alone(design.backbone).model_dump(mode="json"),
        "vocabulary": design.vocabulary,
        "objectives": list(design.heads),
        "pixels": dict(pixels),
        **({fuselab.TASK: task.model_dump(mode="json")} if task else {}),
        "absent": absent,
        "weights": fuselab.digest_of_file(folder / WEIGHTS),
    }
    config = {"fuselab": {**record, "digest": fuselab.digest(record)}}
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n")
    return absent


def load(folder: Path | str) -> FusionDesign | TaskModel:
    """Builds the design of an exported folder, with its heads, in eval mode on the CPU; of a folder
    that was exported for a task its model, whose `design` is the design.

    A design of a user's own file must be registered before (`registry.load_file`). Raises
    `SettingError` that says what is missing, altered or damaged.
    """
    folder = path_named(folder)
    record = fuselab.check(folder)
    model: FusionDesign | TaskModel
    try:
        model = design = build.construct(
            record["design"],
            record["config"],
            checked(Backbone, record["backbone"]),
            record["vocabulary"],
            record["objectives"],
        )
        if task := task_of(record):
            model = task.model(design)
    except SettingError as error:
        own = folder / DESIGN_FILE
        hint = f"; its own file is {own}: read it, then registry.load_file(it)"
        raise SettingError(f"{folder}: {error}{hint if own.exists() else ''}") from None
    if design.version != record["version"]:
        raise SettingError(
            f"{folder} holds {design.name} of version {record['version']}, here it is version "
            f"{design.version} and computes something else; use the fuselab that wrote it"
        )
    fill(model, load_file(folder / WEIGHTS), str(folder / WEIGHTS))
    return model.eval()


def design_of(model: FusionDesign | TaskModel) -> FusionDesign:
    """Returns the design itself, of a task's model that within."""
    return model.design if isinstance(model, TaskModel) else model


def task_of(record: Mapping[str, JsonValue]) -> TaskRecord | None:
    """Returns what an exported folder (`fuselab.record`) says of its task; None: it has none."""
    task = record.get(fuselab.TASK)
    return checked(TaskRecord, task, "task.") if isinstance(task, dict) else None


def standing_alone(settings: F) -> F:
    """Returns settings that name no other weights to start from: the folder holds them all."""
    fields = dict(settings)
    return checked(
        type(settings), {k: "random" if k.endswith("_weights") else v for k, v in fields.items()}
    )


@torch.no_grad()
def fill(model: FusionDesign | TaskModel, state: Mapping[str, Tensor], source: str) -> None:
    """Sets every weight of a model. Raises `SettingError` that lists what does not fit."""
    own = _once(model)
    wrong = [
        f"{role} {_shape(state.get(role))}, here {_shape(own.get(role))}"
        for role in sorted(own.keys() | state.keys())
        if _shape(own.get(role)) != _shape(state.get(role))
    ]
    if wrong:
        more = f" and {len(wrong) - 8} more" if len(wrong) > 8 else ""
        raise SettingError(
            f"{source} does not fit {design_of(model).name}: {'; '.join(wrong[:8])}{more}"
        )
    for role, value in own.items():
        value.copy_(state[role])


def _once(model: nn.Module) -> dict[str, Tensor]:
    """Maps every role to its weight, tied weights by their first role."""
    every = {role for role, _ in model.named_parameters(remove_duplicate=False)}
    tied = every - {role for role, _ in model.named_parameters()}
    return {role: x.contiguous() for role, x in model.state_dict().items() if role not in tied}


def _image_tower(design: FusionDesign, pixels: Mapping[str, object], folder: Path) -> str:
    """Writes the ViT; returns why not, where the design has none of its own."""
    tower, (depth, _) = getattr(design, "image", None), design.towers_alone()
    if not depth:
        return f"{design.name} has no layer of the image alone"
    if not isinstance(tower, ImageTower):
        return f"{design.name} has an image tower of its own kind"
    if widths.scales_scores(tower):
        return OTHER_SCORES
    sizes = {**tower.sizes, "depth": depth}
    plain = from_timm.vit(design.backbone.vision, **sizes)
    if plain.norm.eps != tower.vit.norm.eps:
        return (
            f"a folder of timm cannot say image_norm_eps = {tower.vit.norm.eps}, "
            f"{design.backbone.vision} has {plain.norm.eps}"
        )
    state = tower.vit.state_dict()
    plain.load_state_dict({name: state[name] for name in plain.state_dict()})
    size = (design.backbone.image_channels, *2 * (design.backbone.image_size,))
    from_timm.save_vit(plain, sizes, {**pixels, "input_size": size}, folder / IMAGE)
    return ""


def _text_encoder(design: FusionDesign, tokenizer: Any, folder: Path) -> str:
    """Writes embeddings and layers of text alone; returns why not, where there are none."""
    _, depth = design.towers_alone()
    if not depth:
        return f"{design.name} has no layer of text alone"
    if design.facts(design.config, design.backbone).causal:
        return f"words of {design.name} read earlier ones only, which no folder of BERT says"
    embeddings, layers = getattr(design, "embeddings", None), getattr(design, "layers", None)
    if isinstance(design, TwoTowers):
        embeddings, layers = design.text_encoder()
    if not isinstance(embeddings, Embeddings) or not isinstance(layers, nn.ModuleList):
        return f"{design.name} has a text tower of its own kind"
    if widths.scales_scores(layers):
        return OTHER_SCORES
    parts = {"embeddings": embeddings, "text_norm": getattr(design, "text_norm", None)}
    parts |= {f"layers.{j}": layer for j, layer in enumerate(layers[:depth])}
    weights = {
        f"{part}.{name}": value
        for part, module in parts.items()
        if module is not None
        for name, value in module.state_dict().items()
    }
    sizes = design.backbone.with_field("text_layers", depth)
    from_transformers.save_text(embeddings.kind, sizes, weights, tokenizer, folder / TEXT)
    return ""


def _shape(value: Tensor | None) -> str:
    return "none" if value is None else str(tuple(value.shape))
