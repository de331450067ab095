"""Does `split_bert` compute what salesforce/ALBEF computes, to the last digits?

A folder holds a checkpoint in the published format, its sizes, inputs, and the numbers the original
gave for them. Guess: float64 agrees to 1e-12, float32 to 1e-5. Cost: seconds.

    python benchmarks/albef_golden.py FOLDER

One line per stored number: file, name, largest error in float64 and in float32 (`-` where none is
stored; absolute, relative beyond 1), or NOT COVERED where the product cannot compute it yet; totals
on the last line.
Exits 1 where an error is above 1e-8 (float64) or 2e-5 (float32), a shape differs, or a number is
not covered; 2, with the reason, where a folder lacks what is needed.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import functools
import json
import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from architectures import build
from architectures.backbone import TEXT_KINDS, Backbone
from architectures.contract import FusionDesign
from architectures.downstream import gradcam
from architectures.downstream.answers import AnswerModel
from architectures.downstream.classifier import Classifier
from architectures.downstream.joint import joint_vector
from architectures.downstream.model import TaskModel
from architectures.frozen import SettingError
from architectures.weights.checkpoints import load_whole
from architectures.weights.positions import resize_positions
from architectures.weights.published.albef import albef_roles, albef_tensors
from harness.training.data.batches import Batch
from harness.training.data.identity import Identity, matches
from harness.training.objectives.compared import match_logits
from harness.training.objectives.forward import compared, terms, total
from harness.training.objectives.itc import Scores, one_way, softened, targets
from harness.training.objectives.itm import Negatives, rows_of, weights
from harness.training.objectives.labels import answer_losses, answered, labelled
from harness.training.objectives.state import ObjectiveState
from harness.training.objectives.teacher import Taught
from harness.training.objectives.twin import ModelTwin
from harness.training.scoring.ranking import Shortlist, hits_at
from harness.training.settings.objectives import ALBEF_OBJECTIVES

LIMITS = {torch.float64: 1e-8, torch.float32: 2e-5}
SUFFIX = {torch.float64: "f64", torch.float32: "f32"}
KIND = TEXT_KINDS["bert"]
CONSTANTS = {
    "vision": {"qkv_bias": (True,), "activation": ("gelu", "gelu (erf)")},
    "bert": {"layer_norm_eps": (KIND.eps,), "hidden_act": ("gelu", "gelu (erf)")},
}
"""What the design is built with: a config that says otherwise is none of ALBEF's."""
Numbers = dict[str, Any]
PUBLISHED = {"itc": "ita", "itm": "itm", "mlm": "mlm"}
"""Our objectives -> what the original calls them."""
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
    design = build.construct("split_bert", fields, backbone, bert["vocab_size"]).to(dtype)
    tensors = {role: x.to(dtype) for role, x in albef_tensors(checkpoint(folder)).items()}
    types = "embeddings.token_type.weight"  # row 0 alone is read, however many there are
    tensors[types] = torch.cat([tensors[types], tensors[types]])[: KIND.types]
    load_whole(design, tensors)
    return design.eval()


class Given(Batch):
    """A batch whose images are pixels already."""

    def pixels(self) -> Tensor:
        return self.image_BCHW


def given_batch(given: dict[str, Any], dtype: torch.dtype) -> Given:
    """The stored inputs: every caption and picture something of its own, a word predicted wherever
    a label stands.
    """
    rows, length = given["input_ids"].shape
    number_B = torch.arange(rows)
    captions_B1 = number_B[:, None]
    identity = Identity(
        group_B=number_B, picture_B=number_B, caption_B=number_B, captions_BC=captions_B1
    )
    return Given(
        step=0,
        rows_B=number_B,
        image_BCHW=given["images"].to(dtype),
        ids_BL=given["input_ids"],
        text_is_real_BL=given["attention_mask"].bool(),
        masked_ids_BL=given["mlm_input_ids"],
        mask_positions_BR=torch.arange(length).expand(rows, length),
        mask_labels_BR=given["mlm_labels"],
        hidden_N=(given["mlm_labels"].flatten() != -100).nonzero().squeeze(1),
        identity=identity,
        match_BB=matches(identity, identity),
    )


def stored_state(
    folder: Path, design: FusionDesign, alpha: float, changes: Mapping[str, object] | None = None
) -> ObjectiveState:
    """Temperature, queue and teacher as the checkpoint holds them. `changes`: dotted paths of
    objectives that differ from the published pre-training."""
    dtype = next(design.parameters()).dtype
    stored = {r: x.to(dtype) for r, x in albef_roles(checkpoint(folder)).items()}
    if lacking := [
        name
        for name in ("temperature", "queue.image", "queue.text", "queue.place")
        if name not in stored
    ]:
        raise LackingError(f"{folder}: checkpoint.pth lacks {', '.join(lacking)}")
    places = stored["queue.image"].shape[1]
    published = ALBEF_OBJECTIVES.with_field("itc.queue", places)
    for path in ("itc.distil", "mlm.distil"):
        published = published.with_field(path, alpha)
    momentum = read_config(folder).get("momentum", published.teacher.momentum)
    published = published.with_fields({"teacher.momentum": momentum, **(changes or {})})
    state = ObjectiveState(published, design).to(dtype).eval()
    assert state.queue is not None and state.twin is not None
    with torch.no_grad():
        state.temperature.copy_(stored["temperature"])
        state.queue.image_QE.copy_(stored["queue.image"].T)
        state.queue.text_QE.copy_(stored["queue.text"].T)
        state.queue.place = int(stored["queue.place"])
        for role, weight in state.twin.design.named_parameters():
            source = stored.get(f"momentum.{role}")
            if source is None:
                raise LackingError(f"{folder}: checkpoint.pth lacks the momentum twin of {role}")
            weight.copy_(source if source.shape == weight.shape else torch.cat([source] * 2)[:2])
    return state


def pretrain(folder: Path, design: FusionDesign, given: dict[str, Any]) -> Numbers:
    """The pre-training step, by the code that trains: losses, targets, teacher, queue, gradients,
    with alpha and without.
    """
    dtype = next(design.parameters()).dtype
    batch = given_batch(given, dtype)
    wrong = Negatives(given["itm_neg_image_for_text"], given["itm_neg_text_for_image"])
    found = forward_numbers(design, given, batch)
    for alpha, prefix in ((given["alpha"], ""), (0.0, "alpha0_")):
        state = stored_state(folder, design, alpha)
        state.before_step(epochs=math.inf)
        taught = state.teach(design, batch, packed=False)
        design.zero_grad()
        losses = terms(design, state, batch, negatives=wrong, taught=taught)
        means = {name: term.loss for name, term in losses.terms.items()}
        found |= {f"{prefix}loss_{PUBLISHED[name]}": loss for name, loss in means.items()}
        if prefix:
            break
        whole = total(losses.terms, state.settings)
        whole.backward()
        found |= {"loss_total": whole, "temp": state.temperature}
        found |= {"mlm_ce_part": losses.notes["mlm_hard_loss"],
                  "mlm_distill_part": losses.notes["mlm_distil_loss"]}  # fmt: skip
        found |= taught_numbers(design, state, batch, taught)
        found |= weight_numbers(folder, design, state)
        state.remember(taught, batch.identity)
        found |= queue_numbers(state)
    return found


def forward_numbers(design: FusionDesign, given: dict[str, Any], batch: Batch) -> Numbers:
    """States and logits, also where no loss reads them."""
    image = design.encode_image(batch.pixels())
    real = batch.text_is_real_BL
    text = design.encode_text(batch.ids_BL, real)
    image_feat, text_feat = design.heads["itc"](image.pooled_BD, text.pooled_BD)
    whole = design.fuse(image, text)
    rows = batch.rows_B
    images = torch.cat([given["itm_neg_image_for_text"], rows])
    texts = torch.cat([rows, given["itm_neg_text_for_image"]])
    nothing = given["input_ids"][:1, :0].expand(len(texts), 0)
    negative = design.fuse(image.take(images), text.take(texts), read_at_BR=nothing)
    match = design.heads["itm"](torch.cat([whole.pooled_BD, negative.pooled_BD]))
    masked = design.fuse(image, design.encode_text(batch.masked_ids_BL, real))
    wrong = Negatives(given["itm_neg_image_for_text"], given["itm_neg_text_for_image"])
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
        "itm_labels": rows_of(image, text, wrong)[2],
        "mlm_logits": design.heads["mlm"](masked.text_BRD),
    }


@torch.no_grad()
def taught_numbers(
    design: FusionDesign, state: ObjectiveState, batch: Batch, taught: Taught | None
) -> Numbers:
    """What the teacher says, the similarities and targets of ITC, and the weights of ITM's draw."""
    assert state.twin is not None and taught is not None and taught.words_NV is not None
    twin, real = state.twin.design, batch.text_is_real_BL
    image, text = twin.encode_image(batch.pixels()), twin.encode_text(batch.ids_BL, real)
    masked = twin.fuse(image, twin.encode_text(batch.masked_ids_BL, real))
    own = design.heads["itc"](
        design.encode_image(batch.pixels()).pooled_BD,
        design.encode_text(batch.ids_BL, real).pooled_BD,
    )
    itc_settings, itm_settings = state.settings.itc, state.settings.itm
    found = {
        "image_tokens_m": image.tokens_BPD,
        "text_hidden_m": text.tokens_BLD,
        "image_feat_m": taught.image_BE,
        "text_feat_m": taught.text_BE,
        "mlm_logits_m": twin.heads["mlm"](masked.text_BRD),
        "mlm_soft_targets": taught.words_NV.softmax(-1),
    }
    match_BB, rows = batch.match_BB, len(batch)
    alpha, temperature = itc_settings.distil, state.temperature
    for side, scores in zip(
        ("i2t", "t2i"), compared(own, batch.identity, state, taught), strict=True
    ):
        assert scores.taught_BK is not None
        hard, left_out = targets(scores, itc_settings.same)
        soft = softened(scores, temperature, left_out)
        found[f"sim_{side}"] = scores.cosine_BK / temperature
        found[f"sim_{side}_m"] = scores.taught_BK / temperature
        found[f"sim_{side}_targets"] = alpha * soft + (1 - alpha) * hard.to(soft)
        found[f"loss_{side}"] = one_way(scores, temperature, itc_settings.same, alpha)[0].loss
        found[f"itm_neg_weights_{side}"] = weights(
            scores.cosine_BK[:, :rows] / temperature, match_BB, itm_settings
        )
    return found


def by_name(folder: Path, named: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors by role (`momentum.ROLE` of the teacher) -> by every name that the checkpoint has for
    them, cut to its rows (of token types).
    """
    stored = checkpoint(folder)
    roles = {name: next(iter(albef_roles({name: x}))) for name, x in stored.items()}
    return {
        name: named[role][: len(stored[name])] if stored[name].ndim else named[role]
        for name, role in roles.items()
        if role in named
    }


def weight_numbers(folder: Path, design: FusionDesign, state: ObjectiveState) -> Numbers:
    """Gradients and the teacher's weights after the step."""
    assert state.twin is not None
    online = {**dict(design.named_parameters()), "temperature": state.temperature}
    grads = {role: p.grad for role, p in online.items() if p.grad is not None}
    twin = dict(state.twin.design.named_parameters())
    grads_by, twin_by = (
        by_name(folder, named)
        for named in (grads, {f"momentum.{role}": p.detach() for role, p in twin.items()})
    )
    return {
        "grads": grads_by,
        "grad_norms": {name: x.norm() for name, x in grads_by.items()},
        "after_ema_tensors": twin_by,
        "after_ema_norm_and_sum": {
            name: torch.stack([x.norm(), x.sum()]) for name, x in twin_by.items()
        },
    }


def queue_numbers(state: ObjectiveState) -> Numbers:
    """After the step."""
    assert state.queue is not None
    return {
        "after_image_queue": state.queue.image_QE.T,
        "after_text_queue": state.queue.text_QE.T,
        "after_queue_ptr": torch.tensor([state.queue.place]),
    }


@torch.no_grad()
def retrieval(folder: Path, design: FusionDesign, given: dict[str, Any]) -> Numbers:
    """The embeddings, their cosines, and match logits of the best k, by the code that scores."""
    pixels = given["images"].to(next(design.parameters()).dtype)
    image = design.encode_image(pixels)
    text = design.encode_text(given["input_ids"], given["attention_mask"].bool())
    image_embeds, text_embeds = design.heads["itc"](image.pooled_BD, text.pooled_BD)
    cosines_IT = image_embeds @ text_embeds.T
    numbers = {"image_embeds": image_embeds, "text_embeds": text_embeds, "sims_i2t": cosines_IT}
    for key, prefix in (("k_test", ""), ("k_test_wide", "wide_")):
        if key in given:
            for side, turn in (("i2t", np.asarray), ("t2i", np.transpose)):
                scores_QC = turn(cosines_IT.numpy())
                nothing_QC = np.zeros_like(scores_QC, dtype=bool)  # right ones: read where NaN is
                listed_QC = Shortlist.of(scores_QC, nothing_QC, given[key]).scored_QC
                logits_IT = match_logits(design, image, text, turn(listed_QC))
                numbers[f"{prefix}score_{side}"] = torch.from_numpy(turn(logits_IT))
    return numbers


FINE_TUNED = {"itc.same": "positive", "itm.same": "masked", "itm.hard_share": 1.0, "mlm.weight": 0,
              "mlm.distil": 0}  # fmt: skip
"""Retrieval's fine-tuning beside pre-training: pictures of one id share the targets of ITC, none is
drawn as another's negative, and no word is masked."""


def retrieval_train(folder: Path, design: FusionDesign, given: dict[str, Any]) -> Numbers:
    """The fine-tuning step of retrieval, by the code that trains. Our weights of the draw sum to 1
    over what may be drawn; the original's to the softmax's mass there, by which they are shown."""
    dtype = next(design.parameters()).dtype
    words = torch.full_like(given["input_ids"], -100)
    batch = given_batch({**given, "mlm_input_ids": given["input_ids"], "mlm_labels": words}, dtype)
    identity = dataclasses.replace(batch.identity, group_B=given["idx"])
    batch = dataclasses.replace(batch, identity=identity, match_BB=matches(identity, identity))
    state = stored_state(folder, design, given["alpha"], FINE_TUNED)
    assert state.queue is not None
    state.queue.keys_Q3[:, 0] = given["idx_queue"].squeeze(0)
    state.before_step(epochs=math.inf)
    taught = state.teach(design, batch, packed=False)
    wrong = Negatives(given["itm_neg_image_for_text"], given["itm_neg_text_for_image"])
    losses = terms(design, state, batch, negatives=wrong, taught=taught)
    numbers: Numbers = {f"loss_{PUBLISHED[name]}": x.loss for name, x in losses.terms.items()}
    with torch.no_grad():
        real = batch.text_is_real_BL
        image, text = design.encode_image(batch.pixels()), design.encode_text(batch.ids_BL, real)
        image_rows, text_rows, _ = rows_of(image, text, wrong)
        nothing = batch.ids_BL[:1, :0].expand(3 * len(batch), 0)
        fused = design.fuse(image_rows, text_rows, read_at_BR=nothing)
        numbers["itm_logits"] = design.heads["itm"](fused.pooled_BD)
        features = design.heads["itc"](image.pooled_BD, text.pooled_BD)
        both_ways = compared(features, batch.identity, state, taught)
        for side, scores in zip(("i2t", "t2i"), both_ways, strict=True):
            numbers |= side_numbers(side, scores, state, batch)
    state.remember(taught, batch.identity)
    after = state.queue.keys_Q3[:, 0][None]
    return numbers | {
        "after_idx_queue": after,
        "after_queue_ptr": torch.tensor([state.queue.place]),
    }


def side_numbers(side: str, scores: Scores, state: ObjectiveState, batch: Batch) -> Numbers:
    """Similarities, targets, loss and weights of the draw of one direction."""
    itc, temperature = state.settings.itc, state.temperature
    hard, left_out = targets(scores, itc.same)
    soft = softened(scores, temperature, left_out)
    logits_BB = scores.cosine_BK[:, : len(batch)] / temperature
    mass_B1 = logits_BB.softmax(1).masked_fill(batch.match_BB, 0).sum(1, keepdim=True)
    return {
        "sim_targets": hard.to(soft),
        f"sim_{side}": scores.cosine_BK / temperature,
        f"sim_{side}_targets": itc.distil * soft + (1 - itc.distil) * hard.to(soft),
        f"loss_{side}": one_way(scores, temperature, itc.same, itc.distil)[0].loss,
        f"weights_{side}": weights(logits_BB, batch.match_BB, state.settings.itm) * mass_B1,
    }


VARIANTS = {"": (), "variant2_": ("own_variant2",)}
"""Prefix of numbers -> replacements of weights that they are of, in the file of the state."""


def task_weights(folder: Path, task: str, variant: str, text_layers: int) -> dict[str, Tensor]:
    """The weights of a fine-tuned model by the roles of ours, of its twin by `momentum.ROLE`."""
    stored, source = load(needed(folder, f"{task}_state.pth")), checkpoint(folder)
    state = {name: source[origin] for name, origin in stored["from_checkpoint"].items()}
    for part in ("own", *VARIANTS[variant]):
        state |= stored[part]
    weights = {}
    for role, value in albef_roles(state).items():
        twin, role = role.startswith("momentum."), role.removeprefix("momentum.")
        weights[f"momentum.{our_role(role, task, text_layers)}" if twin else
                our_role(role, task, text_layers)] = value  # fmt: skip
    return weights


def our_role(role: str, task: str, text_layers: int) -> str:
    """Our role of a published one: the head's, the decoder's, or the design's, where NLVR2 has two
    fusion layers for each.
    """
    role = role.replace("decoder.heads.mlm.", "decoder.head.")
    role = role.replace("heads.task.0.", "head.inner.").replace("heads.task.2.", "head.outer.")
    if role.startswith(("decoder.", "head.")):
        return role
    match = re.match(r"layers\.(\d+)\.(.*)", role)
    if task == "nlvr" and match and int(match[1]) >= text_layers:
        place, image = divmod(int(match[1]) - text_layers, 2)
        role = f"layers.{text_layers + place}.{image}.{match[2]}"
    return f"design.{role}"


@torch.no_grad()
def filled(model: TaskModel, weights: Mapping[str, Tensor], prefix: str = "") -> None:
    """Copies every weight but those of heads that no task reads."""
    for role, parameter in model.named_parameters():
        if role.startswith("design.heads."):
            continue
        if prefix + role not in weights:
            raise LackingError(f"the stored state lacks {prefix}{role}")
        value = weights[prefix + role].to(parameter)
        if role.endswith("pos_embed"):
            value = resize_positions(value, parameter.shape[1] - 1, prefix=1)
        parameter.copy_(value if value.shape == parameter.shape else torch.cat([value] * 2)[:2])


M = TypeVar("M", bound=TaskModel)


def task_model(
    folder: Path, design: FusionDesign, task: str, variant: str, make: Callable[[FusionDesign], M]
) -> tuple[M, ModelTwin[M]]:
    """Our model of a task and its twin, with the stored weights."""
    config, dtype = read_config(folder), next(design.parameters()).dtype
    model = make(copy.deepcopy(design)).to(dtype).eval()
    weights = task_weights(folder, task, variant, config["bert"]["fusion_layer"])
    filled(model, weights)
    twin = ModelTwin(model, config.get(task, {}).get("momentum", 0.995))
    filled(twin.model, weights, "momentum.")
    return model, twin


def classified(model: Classifier, twin: ModelTwin[Classifier], given: dict[str, Any]) -> Numbers:
    """Logits, the twin's, and the loss, by the code that fine-tunes."""
    dtype = next(model.parameters()).dtype
    pictures = [given[name] for name in ("images", "image0", "image1") if name in given]
    image_BICHW = torch.stack(pictures, 1).to(dtype)
    ids_BL, real_BL = given["input_ids"], given["attention_mask"].bool()
    logits = model(image_BICHW, ids_BL, real_BL)
    taught = twin.ask(model, lambda twin: twin(image_BICHW, ids_BL, real_BL))
    loss = labelled(logits, given["targets"], taught, given["alpha"]).loss
    return {"logits": logits, "train_logits_m": taught, "train_loss": loss}


@torch.no_grad()
def entailment(folder: Path, design: FusionDesign, given: dict[str, Any]) -> Numbers:
    """SNLI-VE."""
    labels = read_config(folder).get("ve", {}).get("num_labels", 3)
    model, twin = task_model(folder, design, "ve", "", lambda design: Classifier(design, labels))
    return classified(model, twin, given)


@torch.no_grad()
def reasoning(folder: Path, design: FusionDesign, given: dict[str, Any]) -> Numbers:
    """NLVR2, as the loader leaves it and with layers of a pair that differ."""
    numbers: Numbers = {}
    for variant in VARIANTS:
        model, twin = task_model(
            folder, design, "nlvr", variant,
            lambda design: Classifier(design, 2, images=2, form="duplicated"),
        )  # fmt: skip
        ours = classified(model, twin, given)
        image_BICHW = torch.stack([given["image0"], given["image1"]], 1)
        image = model.design.encode_image(image_BICHW.flatten(0, 1).to(ours["logits"].dtype))
        text = model.design.encode_text(given["input_ids"], given["attention_mask"].bool())
        ours["fusion_cls"] = joint_vector(model.design, image, text)
        numbers |= {f"{variant}{name}": value for name, value in ours.items()}
    return numbers


@torch.no_grad()
def answers(folder: Path, design: FusionDesign, given: dict[str, Any]) -> Numbers:
    """VQA: the loss, and the ranking with the first token counted twice and once."""
    numbers: Numbers = {}
    for variant in VARIANTS:
        model, twin = task_model(folder, design, "vqa", variant, AnswerModel)
        ours = answer_losses_of(model, twin, given) | ranking(model, given)
        numbers |= {f"{variant}{name}": value for name, value in ours.items()}
    return numbers


def answer_losses_of(
    model: AnswerModel, twin: ModelTwin[AnswerModel], given: dict[str, Any]
) -> Numbers:
    """The losses, by the code that fine-tunes."""
    pixels = given["images"].to(next(model.parameters()).dtype)
    counts = torch.as_tensor(given["k"])
    ids_AL, real_AL = given["answer_ids"], given["answer_mask"].bool()
    inputs = (pixels, given["question_ids"], given["question_mask"].bool(), ids_AL, real_AL,
              torch.arange(len(counts)).repeat_interleave(counts))  # fmt: skip
    logits = model(*inputs)
    taught = twin.ask(model, lambda twin: twin(*inputs))
    alpha, whole = given["alpha"], (ids_AL, real_AL, given["weights"], len(counts))
    return {
        "train_answer_logits": logits,
        "train_answer_logits_m": taught[:, :-1],
        "train_per_answer_loss": answer_losses(logits, ids_AL, real_AL, taught, alpha),
        "train_loss": answered(logits, *whole, taught, alpha).loss,
        "alpha0_train_loss": answered(logits, *whole).loss,
    }


def ranking(model: AnswerModel, given: dict[str, Any]) -> Numbers:
    """The ranking, by the code that scores. Where answers tie with the k-th by their first token,
    the original lists some of them and we all: ours are cut to k.
    """
    pixels = given["images"].to(next(model.parameters()).dtype)
    question = model.question_states(pixels, given["question_ids"], given["question_mask"].bool())
    candidates = given["candidate_ids"], given["candidate_mask"].bool()
    k, count = given["rank_k"], len(given["candidate_ids"])
    every = model.rank(question, *candidates, count)
    start_B1 = candidates[0][:1, :1].expand(len(pixels), 1)
    once, twice = (
        dataclasses.replace(
            ranked, **{f.name: getattr(ranked, f.name)[:, :k] for f in dataclasses.fields(ranked)}
        )
        for ranked in (
            model.rank(question, *candidates, k, first_token_twice=both) for both in (False, True)
        )
    )
    numbers = {
        "question_states": question.tokens_BLD,
        "first_token_logits": model.decoder(start_B1, start_B1 > 0, question)[:, 0],
        "prob_first_token": every.first_BK.exp().gather(1, every.listed_BK.argsort(1)),
        "first_stage_ids": once.listed_BK,
        "first_stage_probs": once.first_BK.exp(),
        "candidate_answer_loss": -once.likelihood_BK,
        "log_probs_sum": twice.score_BK,
    }
    for name, ranked in (("topk", twice), ("rerank_without_double_count", once)):
        ids_BK, log_BK = ranked.best()
        numbers |= {f"{name}_ids": ids_BK, f"{name}_probs": log_BK.exp()}
    return numbers


def grounding(folder: Path, design: FusionDesign, given: dict[str, Any]) -> Numbers:
    """Grad-CAM maps by ITM and by ITC, by the code of the task, with their ingredients."""
    config, real = read_config(folder), given["attention_mask"].bool()
    pixels = given["images"].to(next(design.parameters()).dtype)
    blocks = config["gradcam"]
    by_itm = gradcam.maps(
        design,
        pixels,
        given["input_ids"],
        real,
        by="itm",
        layer=blocks["itm_block"] - config["bert"]["fusion_layer"],
    )
    by_itc = gradcam.maps(
        design,
        pixels,
        given["input_ids"],
        real,
        by="itc",
        layer=blocks["itc_block"],
        temperature=float(checkpoint(folder)["temp"]),
    )
    return {
        "itm_map": by_itm.map_Bhw,
        "itm_logits": by_itm.score,
        "itm_cross_attention": by_itm.attention,
        "itm_cross_attention_grad": by_itm.gradient,
        "itc_map": by_itc.map_Bhw,
        "itc_sim": by_itc.score,
    }


COVERED: dict[str, Callable[[Path, FusionDesign, dict[str, Any]], Numbers]] = {
    "pretrain": pretrain,
    "retrieval": retrieval,
    "retrieval_train": retrieval_train,
    "ve": entailment,
    "nlvr": reasoning,
    "vqa": answers,
    "gradcam": grounding,
}
"""Part of a folder -> our numbers of it."""


def error(ours: Any, stored: Any) -> float:
    """Largest difference, absolute or, of numbers beyond 1 (sums over tokens), as a share of the
    stored one; infinite where shapes differ.
    """
    if isinstance(ours, dict):
        if not isinstance(stored, dict) or not stored:
            return float("inf")
        errors = [error(ours.get(name), torch.as_tensor(x)) for name, x in stored.items()]
        return float(torch.tensor(errors).max())  # NaN stays, unlike with Python's max
    if not isinstance(ours, Tensor) or not isinstance(stored, Tensor) or ours.shape != stored.shape:
        return float("inf")
    difference = (ours.detach() - stored).abs() / stored.abs().clamp(min=1)
    return float(difference.max()) if stored.numel() else 0.0


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
                images = given["image0" if "image0" in given else "images"]
                design = design_of(folder, dtype, images.shape[-1])
                ours[dtype] = COVERED[part](folder, design, given)
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
    """Retrieval's metrics; a file of its own, which a folder need not have. The original breaks
    ties by NumPy's unstable sort, so ours, the mean over tie orders, has to lie in their range.
    """
    file, inputs = folder / "retrieval_metrics.json", folder / "retrieval_inputs.pt"
    given = load(inputs) if inputs.is_file() else {}
    for name, stored in (json.loads(file.read_text()) if file.is_file() else {}).items():
        bounds = stored.get("range_over_tie_orders")
        tables = score_tables(folder, given, name) if bounds and "img2txt" in given else ()
        if not tables:
            yield file.stem, name, ""
            continue
        ours = recalls(given, *tables)
        outside = [max(low - ours[r], ours[r] - high, 0.0) for r, (low, high) in bounds.items()]
        if all(low == high for low, high in bounds.values()):
            outside.append(abs(float(np.mean(list(ours.values()))) - stored["itm_eval"]["r_mean"]))
        worst = max(outside)
        yield file.stem, name, [None, worst] if name.startswith("f32") else [worst, None]


def score_tables(folder: Path, given: dict[str, Any], name: str) -> tuple[np.ndarray, ...]:
    """The scores that a metric is of, images to texts and texts to images: `made_up` of the inputs,
    `f64_k4` and the like our own; none where there are none.
    """
    if name == "made_up":
        source, prefix = given, "made_up_"
    else:
        suffix, _, k = name.partition("_k")
        dtype = next((dtype for dtype, its in SUFFIX.items() if its == suffix), None)
        prefixes = {
            str(given.get("k_test")): "score_",
            str(given.get("k_test_wide")): "wide_score_",
        }
        if dtype is None or k not in prefixes:
            return ()
        design = design_of(folder, dtype, given["images"].shape[-1])
        source, prefix = retrieval(folder, design, given), prefixes[k]
    return tuple(source[f"{prefix}{side}"].numpy() for side in ("i2t", "t2i"))


def recalls(given: dict[str, Any], i2t: np.ndarray, t2i: np.ndarray) -> dict[str, float]:
    """R@1, R@5 and R@10 in percent, by the original's names."""
    right_IT = np.zeros(i2t.shape, dtype=bool)
    for image, texts in given["img2txt"].items():
        right_IT[image, texts] = True
    sides = {"txt": (i2t, right_IT), "img": (t2i, right_IT.T)}
    return {
        f"{side}_r{k}": 100 * float(hits_at(scores, right, k).mean())
        for side, (scores, right) in sides.items()
        for k in (1, 5, 10)
    }


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
    return int(wrong + missing > 0)


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
