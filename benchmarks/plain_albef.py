"""ALBEF's pre-training step (Li et al. 2021) written plainly, as salesforce/ALBEF computes it.

What our step is measured against, and a second opinion on its numbers.

Eager, padded, a pass for everything: softmax attention spelled out, an additive mask of -10000,
nn.Dropout, positives and negatives of ITM in calls of their own, vocabulary logits at every
position, the teacher updated parameter by parameter. It shares no code with the product, and its
parameters have the names of the published checkpoints.

    python benchmarks/plain_albef.py FOLDER

holds it against the numbers that the original gave (the folder of `albef_golden.py`), in float64:
one line a number, exits 1 where one is off by more than 1e-9. Guess: 1e-13. Cost: seconds.

Shape suffixes: B rows, L text positions, P image tokens, K what is read, D width, H heads, E width
of ITC, Q places of the queue, V vocabulary, N candidates (B + Q).
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LIMIT = 1e-9
TWINNED = ("visual_encoder", "text_encoder", "vision_proj", "text_proj")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizes:
    """By default those that `step.py` times."""

    image_size: int = 64
    patch: int = 8
    image_width: int = 192
    image_layers: int = 6
    image_heads: int = 3
    text_width: int = 192
    text_layers: int = 12
    split: int = 6
    """Layers of text alone; the others read the image."""
    text_heads: int = 3
    text_mlp: int = 768
    vocabulary: int = 30522
    positions: int = 512
    itc_width: int = 256
    queue: int = 4096
    dropout: float = 0.1
    momentum: float = 0.995
    masked: float = 0.15
    padding_id: int = 0
    cls_id: int = 101
    mask_id: int = 103


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inputs:
    """A batch. What is None is drawn, as published."""

    images: Tensor
    """(B, 3, S, S), normalised."""
    ids: Tensor
    """(B, L)"""
    real: Tensor
    """(B, L) int64: 1 at words, 0 at padding."""
    masked_ids: Tensor | None = None
    """(B, L), with words hidden."""
    labels: Tensor | None = None
    """(B, L): what was hidden, -100 elsewhere."""
    negatives: tuple[Tensor, Tensor] | None = None
    """(B,) each: for every text an image of another row, for every image a text."""


# ---- The image tower -----------------------------------------------------------------------------


class ViTAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x_BPD: Tensor) -> Tensor:
        rows, tokens, width = x_BPD.shape
        split = self.qkv(x_BPD).reshape(rows, tokens, 3, self.heads, width // self.heads)
        q, k, v = split.permute(2, 0, 3, 1, 4)
        scores = (q @ k.transpose(-2, -1)) * (width // self.heads) ** -0.5
        mixed = scores.softmax(-1) @ v
        return self.proj(mixed.transpose(1, 2).reshape(rows, tokens, width))


class ViTBlock(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn = ViTAttention(width, heads)
        parts = {"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)}
        self.mlp = nn.ModuleDict(parts)

    def forward(self, x_BPD: Tensor) -> Tensor:
        x_BPD = x_BPD + self.attn(self.norm1(x_BPD))
        return x_BPD + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x_BPD))))


class ViT(nn.Module):
    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        width = sizes.image_width
        tokens = (sizes.image_size // sizes.patch) ** 2 + 1
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, tokens, width))
        self.patch_embed = nn.ModuleDict(
            {"proj": nn.Conv2d(3, width, kernel_size=sizes.patch, stride=sizes.patch)}
        )
        blocks = (ViTBlock(width, sizes.image_heads) for _ in range(sizes.image_layers))
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """-> (B, P, D), the class token first."""
        patches = self.patch_embed["proj"](images_BCHW).flatten(2).transpose(1, 2)
        x_BPD = torch.cat([self.cls_token.expand(len(patches), -1, -1), patches], dim=1)
        x_BPD = x_BPD + self.pos_embed
        for block in self.blocks:
            x_BPD = block(x_BPD)
        return self.norm(x_BPD)


# ---- Text and fusion: one BERT -------------------------------------------------------------------


class Reading(nn.Module):
    """Query, key, value and explicit softmax attention."""

    def __init__(self, sizes: Sizes, reads: int) -> None:
        super().__init__()
        self.heads = sizes.text_heads
        self.query = nn.Linear(sizes.text_width, sizes.text_width)
        self.key = nn.Linear(reads, sizes.text_width)
        self.value = nn.Linear(reads, sizes.text_width)
        self.dropout = nn.Dropout(sizes.dropout)

    def _heads(self, x_BLD: Tensor) -> Tensor:
        return x_BLD.view(*x_BLD.shape[:2], self.heads, -1).permute(0, 2, 1, 3)

    def forward(self, x_BLD: Tensor, read_BKD: Tensor, added_B11K: Tensor) -> Tensor:
        q, k, v = (
            self._heads(self.query(x_BLD)),
            self._heads(self.key(read_BKD)),
            self._heads(self.value(read_BKD)),
        )
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]) + added_B11K
        mixed = self.dropout(scores.softmax(-1)) @ v
        return mixed.permute(0, 2, 1, 3).contiguous().view(x_BLD.shape)


class AddAndNorm(nn.Module):
    """Linear, dropout, the residual, LayerNorm."""

    def __init__(self, sizes: Sizes, inner: int) -> None:
        super().__init__()
        self.dense = nn.Linear(inner, sizes.text_width)
        self.LayerNorm = nn.LayerNorm(sizes.text_width, eps=1e-12)
        self.dropout = nn.Dropout(sizes.dropout)

    def forward(self, found: Tensor, x_BLD: Tensor) -> Tensor:
        return self.LayerNorm(self.dropout(self.dense(found)) + x_BLD)


class BertAttention(nn.Module):
    def __init__(self, sizes: Sizes, reads: int) -> None:
        super().__init__()
        self.self, self.output = Reading(sizes, reads), AddAndNorm(sizes, sizes.text_width)

    def forward(self, x_BLD: Tensor, read_BKD: Tensor, added_B11K: Tensor) -> Tensor:
        return self.output(self.self(x_BLD, read_BKD, added_B11K), x_BLD)


class BertLayer(nn.Module):
    def __init__(self, sizes: Sizes, *, fuses: bool) -> None:
        super().__init__()
        self.attention = BertAttention(sizes, sizes.text_width)
        if fuses:
            self.crossattention = BertAttention(sizes, sizes.image_width)
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(sizes.text_width, sizes.text_mlp)})
        self.output = AddAndNorm(sizes, sizes.text_mlp)

    def forward(
        self, x_BLD: Tensor, text_added: Tensor, image_BPD: Tensor | None, image_added: Tensor
    ) -> Tensor:
        x_BLD = self.attention(x_BLD, x_BLD, text_added)
        if image_BPD is not None:
            x_BLD = self.crossattention(x_BLD, image_BPD, image_added)
        return self.output(F.gelu(self.intermediate["dense"](x_BLD)), x_BLD)


class BertEmbeddings(nn.Module):
    position_ids: Tensor

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.register_buffer("position_ids", torch.arange(sizes.positions)[None])
        self.word_embeddings = nn.Embedding(sizes.vocabulary, sizes.text_width)
        self.position_embeddings = nn.Embedding(sizes.positions, sizes.text_width)
        self.token_type_embeddings = nn.Embedding(2, sizes.text_width)
        self.LayerNorm = nn.LayerNorm(sizes.text_width, eps=1e-12)
        self.dropout = nn.Dropout(sizes.dropout)

    def forward(self, ids_BL: Tensor) -> Tensor:
        x_BLD = self.word_embeddings(ids_BL)
        x_BLD = x_BLD + self.token_type_embeddings(torch.zeros_like(ids_BL))
        x_BLD = x_BLD + self.position_embeddings(self.position_ids[:, : ids_BL.shape[1]])
        return self.dropout(self.LayerNorm(x_BLD))


class MLMHead(nn.Module):
    def __init__(self, sizes: Sizes, words: nn.Embedding) -> None:
        super().__init__()
        width = sizes.text_width
        norm = nn.LayerNorm(width, eps=1e-12)
        self.transform = nn.ModuleDict({"dense": nn.Linear(width, width), "LayerNorm": norm})
        self.bias = nn.Parameter(torch.zeros(sizes.vocabulary))
        self.decoder = nn.Linear(width, sizes.vocabulary)
        self.decoder.weight, self.decoder.bias = words.weight, self.bias

    def forward(self, x_BLD: Tensor) -> Tensor:
        hidden = self.transform["LayerNorm"](F.gelu(self.transform["dense"](x_BLD)))
        return self.decoder(hidden)


class TextEncoder(nn.Module):
    """Layers below `split` are of text alone, those above read the image."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.split = sizes.split
        layers = (BertLayer(sizes, fuses=j >= sizes.split) for j in range(sizes.text_layers))
        self.bert = nn.ModuleDict(
            {
                "embeddings": BertEmbeddings(sizes),
                "encoder": nn.ModuleDict({"layer": nn.ModuleList(layers)}),
            }
        )
        words = self.bert["embeddings"].word_embeddings
        self.cls = nn.ModuleDict({"predictions": MLMHead(sizes, words)})

    def text(self, ids_BL: Tensor, real_BL: Tensor) -> Tensor:
        return self._through(slice(0, self.split), self.bert["embeddings"](ids_BL), real_BL)

    def fusion(self, x_BLD: Tensor, real_BL: Tensor, image_BPD: Tensor) -> Tensor:
        return self._through(slice(self.split, None), x_BLD, real_BL, image_BPD)

    def logits(self, ids_BL: Tensor, real_BL: Tensor, image_BPD: Tensor) -> Tensor:
        """(B, L, V): every layer, and words at every position."""
        fused = self.fusion(self.text(ids_BL, real_BL), real_BL, image_BPD)
        return self.cls["predictions"](fused)

    def _through(
        self, part: slice, x_BLD: Tensor, real_BL: Tensor, image_BPD: Tensor | None = None
    ) -> Tensor:
        def added(real: Tensor) -> Tensor:
            return (1.0 - real[:, None, None].to(x_BLD.dtype)) * -10000.0

        shown = real_BL if image_BPD is None else real_BL.new_ones(image_BPD.shape[:2])
        text_added, image_added = added(real_BL), added(shown)
        for layer in self.bert["encoder"]["layer"][part]:
            x_BLD = layer(x_BLD, text_added, image_BPD, image_added)
        return x_BLD


# ---- The step ------------------------------------------------------------------------------------


class PlainALBEF(nn.Module):
    """Model, teacher and queue; `forward` gives the losses of a step, in the published order."""

    image_queue: Tensor
    text_queue: Tensor
    queue_ptr: Tensor

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.temp = nn.Parameter(torch.tensor(0.07))
        self.visual_encoder, self.text_encoder = ViT(sizes), TextEncoder(sizes)
        self.vision_proj = nn.Linear(sizes.image_width, sizes.itc_width)
        self.text_proj = nn.Linear(sizes.text_width, sizes.itc_width)
        self.itm_head = nn.Linear(sizes.text_width, 2)
        self.apply(_draw)
        for name in TWINNED:
            twin = copy.deepcopy(getattr(self, name)).requires_grad_(False)
            setattr(self, f"{name}_m", twin)
        for name in ("image_queue", "text_queue"):
            noise_EQ = torch.randn(sizes.itc_width, sizes.queue)
            self.register_buffer(name, F.normalize(noise_EQ, dim=0))
        self.register_buffer("queue_ptr", torch.zeros(1, dtype=torch.long))
        self.notes: dict[str, Tensor] | None = None
        """Where one is given, what was computed on the way is left in it."""

    def note(self, **found: Tensor) -> None:
        if self.notes is not None:
            self.notes |= {name: x.detach().clone() for name, x in found.items()}

    def forward(self, given: Inputs, alpha: float) -> dict[str, Tensor]:
        """`mlm`, `ita` (which is ITC) and `itm`."""
        with torch.no_grad():
            self.temp.clamp_(0.001, 0.5)
        image_BPD = self.visual_encoder(given.images)
        text_BLD = self.text_encoder.text(given.ids, given.real)
        image_feat = F.normalize(self.vision_proj(image_BPD[:, 0]), dim=-1)
        text_feat = F.normalize(self.text_proj(text_BLD[:, 0]), dim=-1)
        with torch.no_grad():
            self._update_teacher()
            image_m_BPD = self.visual_encoder_m(given.images)
            text_m_BLD = self.text_encoder_m.text(given.ids, given.real)
            image_feat_m = F.normalize(self.vision_proj_m(image_m_BPD[:, 0]), dim=-1)
            text_feat_m = F.normalize(self.text_proj_m(text_m_BLD[:, 0]), dim=-1)
        self.note(image_tokens=image_BPD, text_hidden=text_BLD)
        self.note(image_feat=image_feat, text_feat=text_feat)
        self.note(image_tokens_m=image_m_BPD, text_hidden_m=text_m_BLD)
        self.note(image_feat_m=image_feat_m, text_feat_m=text_feat_m)
        ita, sim_i2t, sim_t2i = self._ita(image_feat, text_feat, image_feat_m, text_feat_m, alpha)
        self._enqueue(image_feat_m, text_feat_m)
        itm = self._itm(given, image_BPD, text_BLD, sim_i2t.detach(), sim_t2i.detach())
        mlm = self._mlm(given, image_BPD, image_m_BPD, alpha)
        self.note(loss_ita=ita, loss_itm=itm, loss_mlm=mlm, loss_total=mlm + ita + itm)
        return {"mlm": mlm, "ita": ita, "itm": itm}

    @torch.no_grad()
    def _update_teacher(self) -> None:
        for name in TWINNED:
            pairs = zip(
                getattr(self, name).parameters(),
                getattr(self, f"{name}_m").parameters(),
                strict=True,
            )
            for online, twin in pairs:
                twin.data = twin.data * self.sizes.momentum + online.data * (
                    1.0 - self.sizes.momentum
                )

    def _ita(
        self, image: Tensor, text: Tensor, image_m: Tensor, text_m: Tensor, alpha: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The loss, and the similarities (B, N) of images to texts and of texts to images."""
        images_EN = torch.cat([image_m.t(), self.image_queue.clone()], dim=1)
        texts_EN = torch.cat([text_m.t(), self.text_queue.clone()], dim=1)
        with torch.no_grad():
            sim_i2t_m, sim_t2i_m = image_m @ texts_EN / self.temp, text_m @ images_EN / self.temp
            own = torch.zeros_like(sim_i2t_m)
            own.fill_diagonal_(1)
            i2t_targets = alpha * sim_i2t_m.softmax(1) + (1 - alpha) * own
            t2i_targets = alpha * sim_t2i_m.softmax(1) + (1 - alpha) * own
        sim_i2t, sim_t2i = image @ texts_EN / self.temp, text @ images_EN / self.temp
        loss_i2t = -(F.log_softmax(sim_i2t, dim=1) * i2t_targets).sum(1).mean()
        loss_t2i = -(F.log_softmax(sim_t2i, dim=1) * t2i_targets).sum(1).mean()
        self.note(sim_i2t=sim_i2t, sim_t2i=sim_t2i, sim_i2t_m=sim_i2t_m, sim_t2i_m=sim_t2i_m)
        self.note(sim_i2t_targets=i2t_targets, sim_t2i_targets=t2i_targets)
        self.note(loss_i2t=loss_i2t, loss_t2i=loss_t2i, temp=self.temp)
        return (loss_i2t + loss_t2i) / 2, sim_i2t, sim_t2i

    @torch.no_grad()
    def _enqueue(self, image_feat_m: Tensor, text_feat_m: Tensor) -> None:
        start, rows = int(self.queue_ptr), len(image_feat_m)
        self.image_queue[:, start : start + rows] = image_feat_m.T
        self.text_queue[:, start : start + rows] = text_feat_m.T
        self.queue_ptr[0] = (start + rows) % self.sizes.queue

    def _itm(
        self, given: Inputs, image_BPD: Tensor, text_BLD: Tensor, sim_i2t: Tensor, sim_t2i: Tensor
    ) -> Tensor:
        fused = self.text_encoder.fusion(text_BLD, given.real, image_BPD)
        rows = len(image_BPD)
        weights_i2t, weights_t2i = sim_i2t[:, :rows].softmax(1), sim_t2i[:, :rows].softmax(1)
        weights_i2t.fill_diagonal_(0)
        weights_t2i.fill_diagonal_(0)
        image_of_text, text_of_image = given.negatives or (_drawn(weights_t2i), _drawn(weights_i2t))
        negative = self.text_encoder.fusion(
            torch.cat([text_BLD, torch.stack([text_BLD[i] for i in text_of_image])]),
            torch.cat([given.real, torch.stack([given.real[i] for i in text_of_image])]),
            torch.cat([torch.stack([image_BPD[i] for i in image_of_text]), image_BPD]),
        )
        logits = self.itm_head(torch.cat([fused[:, 0], negative[:, 0]]))
        labels = torch.cat([given.ids.new_ones(rows), given.ids.new_zeros(2 * rows)])
        self.note(itm_neg_weights_i2t=weights_i2t, itm_neg_weights_t2i=weights_t2i)
        self.note(fusion_hidden_pos=fused, fusion_cls_neg=negative[:, 0])
        self.note(itm_logits=logits, itm_logits_pos=logits[:rows], itm_labels=labels)
        return F.cross_entropy(logits, labels)

    def _mlm(self, given: Inputs, image_BPD: Tensor, image_m_BPD: Tensor, alpha: float) -> Tensor:
        ids, labels = given.masked_ids, given.labels
        if ids is None or labels is None:
            ids, labels = self._masked(given.ids)
        with torch.no_grad():
            logits_m = self.text_encoder_m.logits(ids, given.real, image_m_BPD)
            soft = logits_m.softmax(-1)
        logits = self.text_encoder.logits(ids, given.real, image_BPD)
        hard = F.cross_entropy(logits.view(-1, logits.shape[-1]), labels.view(-1))
        distilled = -(F.log_softmax(logits, dim=-1) * soft).sum(-1)[labels != -100].mean()
        self.note(mlm_logits=logits, mlm_logits_m=logits_m, mlm_soft_targets=soft[labels != -100])
        self.note(mlm_ce_part=hard, mlm_distill_part=distilled)
        return (1 - alpha) * hard + alpha * distilled

    def _masked(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Of the hidden words 80 % become [MASK], half of the rest any word."""

        def chosen(share: float) -> Tensor:
            return torch.rand(ids.shape, device=ids.device) < share

        sizes = self.sizes
        hidden = chosen(sizes.masked) & (ids != sizes.padding_id) & (ids != sizes.cls_id)
        labels = ids.where(hidden, -100)
        replaced = hidden & chosen(0.8)
        other = hidden & ~replaced & chosen(0.5)
        ids = ids.masked_fill(replaced, sizes.mask_id)
        return torch.randint_like(ids, sizes.vocabulary).where(other, ids), labels


def _draw(module: nn.Module) -> None:
    """Weights of N(0, 0.02); what is timed depends on none of them."""
    if isinstance(module, nn.Linear | nn.Embedding | nn.Conv2d):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear | nn.Conv2d) and module.bias is not None:
        nn.init.zeros_(module.bias)


def _drawn(weights_BB: Tensor) -> Tensor:
    """A column for each row, one after another."""
    return torch.tensor([int(torch.multinomial(weights, 1)) for weights in weights_BB])


def optimizer_of(model: PlainALBEF, rate: float = 1e-4) -> torch.optim.AdamW:
    """AdamW; tensors of one dimension and biases do not decay."""
    learns = {name: p for name, p in model.named_parameters() if p.requires_grad}
    still = [p for name, p in learns.items() if p.ndim == 1 or name.endswith(".bias")]
    decays = [p for name, p in learns.items() if not (p.ndim == 1 or name.endswith(".bias"))]
    groups = [{"params": still, "weight_decay": 0.0}, {"params": decays, "weight_decay": 0.02}]
    return torch.optim.AdamW(groups, lr=rate)


# ---- Held against the original -------------------------------------------------------------------


def sizes_of(config: dict[str, Any]) -> Sizes:
    """Of a golden folder's `config.json`."""
    vision, bert = config["vision"], config["bert"]
    return Sizes(
        image_size=vision["image_res"],
        patch=vision["patch_size"],
        image_width=vision["width"],
        image_layers=vision["depth"],
        image_heads=vision["heads"],
        text_width=bert["hidden_size"],
        text_layers=bert["num_hidden_layers"],
        split=bert["fusion_layer"],
        text_heads=bert["num_attention_heads"],
        text_mlp=bert["intermediate_size"],
        vocabulary=bert["vocab_size"],
        positions=bert["max_position_embeddings"],
        itc_width=config["embed_dim"],
        queue=config["queue_size"],
        momentum=config["momentum"],
        masked=config["mlm_probability"],
        padding_id=bert["pad_token_id"],
        cls_id=bert["cls_token_id"],
        mask_id=bert["mask_token_id"],
    )


def golden_model(folder: Path) -> PlainALBEF:
    """The folder's checkpoint in float64, without dropout."""
    model = PlainALBEF(sizes_of(json.loads((folder / "config.json").read_text())))
    model.load_state_dict(torch.load(folder / "checkpoint.pth", weights_only=True)["model"])
    return model.double().eval()


def golden_inputs(folder: Path) -> tuple[Inputs, float]:
    """The folder's batch, and alpha."""
    stored = torch.load(folder / "pretrain_inputs.pt", weights_only=True)
    return Inputs(
        images=stored["images"].double(),
        ids=stored["input_ids"],
        real=stored["attention_mask"],
        masked_ids=stored["mlm_input_ids"],
        labels=stored["mlm_labels"],
        negatives=(stored["itm_neg_image_for_text"], stored["itm_neg_text_for_image"]),
    ), float(stored["alpha"])


def golden_numbers(folder: Path) -> dict[str, Any]:
    """All that `pretrain_outputs_f64.pt` holds, computed here; a dict where that is one."""
    given, alpha = golden_inputs(folder)
    model = golden_model(folder)
    model.notes = found = {}
    sum(model(given, alpha).values(), torch.tensor(0.0)).backward()
    names = ("image_queue", "text_queue", "queue_ptr")
    after = {f"after_{name}": getattr(model, name) for name in names}
    grads = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    twins = {name: p for name, p in model.named_parameters() if not p.requires_grad}
    whole = model.text_encoder
    with torch.no_grad():
        image, text = model.visual_encoder(given.images), whole.text(given.ids, given.real)
        fresh = golden_model(folder)(given, 0.0)
    return {
        **found,
        **after,
        **{f"alpha0_loss_{name}": loss for name, loss in fresh.items()},
        "multimodal_hidden_pos": whole.fusion(text, given.real, image),
        "grads": grads,
        "grad_norms": {name: x.norm() for name, x in grads.items()},
        "after_ema_tensors": twins,
        "after_ema_norm_and_sum": {
            name: torch.stack([x.norm(), x.sum()]) for name, x in twins.items()
        },
    }


def differences(folder: Path) -> Iterator[tuple[str, float]]:
    """Name and largest absolute error of every stored number; infinite where one is missing."""
    stored = torch.load(folder / "pretrain_outputs_f64.pt", weights_only=True)
    found = golden_numbers(folder)
    for name, wanted in stored.items():
        if not isinstance(wanted, dict):
            yield name, _error(found.get(name), wanted)
            continue
        errors = [_error(found[name].get(key), x) for key, x in wanted.items()]
        yield f"{name} ({len(errors)})", max(errors)


def _error(ours: Tensor | None, wanted: Any) -> float:
    wanted = torch.as_tensor(wanted, dtype=torch.float64)
    if ours is None or ours.shape != wanted.shape:
        return math.inf
    return float((ours.detach() - wanted).abs().max().nan_to_num(nan=math.inf))


def main(words: list[str] | None = None) -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    errors = dict(differences(parser.parse_args(words).folder))
    for name, error in errors.items():
        print(f"{name:32} {error:10.3e}{'' if error <= LIMIT else '  WRONG'}")
    wrong = sum(not error <= LIMIT for error in errors.values())
    print(f"{len(errors) - wrong} agree, {wrong} wrong")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
