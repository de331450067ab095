"""Joint stacks against what they are named after: ViLT, VisualBERT, METER's merged variant, VLMo.

ViLT and VisualBERT are transformers' models, whose weights come in by the published names. METER's
merged variant and VLMo are written here from references.md with loops over rows, heads and tokens.
"""

import math

import pytest
import torch
import transformers
from torch import Tensor

from architectures import registry
from architectures.backbone import Backbone
from architectures.checkpoints import load_whole
from architectures.cost import cost
from architectures.frozen import SettingError
from architectures.joint import Joint
from architectures.layout import Layout
from architectures.published.vilt import vilt_tensors

WORDS, L, P = 50, 7, 5
EVEN = Backbone(
    vision="vit_tiny_patch16_224", image_size=16, patch_size=8, image_width=24, image_layers=3,
    image_heads=2, image_norm_eps=1e-12, text_width=24, text_layers=3, text_heads=2, text_mlp=40,
    max_positions=12, dropout=0.0, init_std=0.2, itc_width=8,
)  # fmt: skip


@pytest.fixture
def batch(batch):
    """The shared batch in float32: pictures, ids with padding, and which are real."""
    images, ids, real = batch
    return images.float(), ids, real


def close(ours, wanted, tolerance=1e-5):
    torch.testing.assert_close(ours, wanted, rtol=tolerance, atol=tolerance)


def randomised(model):
    """Every weight of a reference drawn anew, norms and biases too, so that none can be swapped."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def built(name, fields, backbone, weights, objectives=()):
    design = registry.construct(name, fields, backbone, WORDS, objectives=objectives).eval()
    load_whole(design, weights)
    return design


# ---- ViLT ---------------------------------------------------------------------------------------


@pytest.fixture
def vilt():
    config = transformers.ViltConfig(
        vocab_size=WORDS, hidden_size=24, num_hidden_layers=3, num_attention_heads=2,
        intermediate_size=96, image_size=16, patch_size=8, max_position_embeddings=12,
        hidden_dropout_prob=0.0,
    )  # fmt: skip
    config._attn_implementation = "eager"
    return randomised(transformers.ViltForMaskedLM(config))


def as_a_set(image_BPD: Tensor) -> Tensor:
    """Image tokens in the order of their first value: transformers shuffles patches."""
    order_BP = image_BPD[..., 0].argsort(dim=1)
    return image_BPD.gather(1, order_BP[..., None].expand_as(image_BPD))


def vilt_outputs(vilt, batch):
    images, ids, real = batch
    found = vilt.vilt(
        input_ids=ids, attention_mask=real.long(), pixel_values=images,
        pixel_mask=torch.ones(len(images), 16, 16, dtype=torch.int64),
    )  # fmt: skip
    text, image = found.last_hidden_state.tensor_split([L], dim=1)
    return text, image, found.pooler_output


@pytest.mark.parametrize("packed", [False, True])
def test_single_stream_equals_vilt(vilt, batch, packed):
    images, ids, real = batch
    design = built("single_stream", {}, EVEN, vilt_tensors(vilt.state_dict()), ("mlm",))
    text, image, pooled = vilt_outputs(vilt, batch)
    states = design.encode_image(images), design.encode_text(ids, real, packed=packed)
    fused = design.fuse(*states)
    close(fused.text_BRD[real], text[real])
    close(fused.pooled_BD, pooled)
    close(fused.image_BPD[:, 0], image[:, 0])
    close(as_a_set(fused.image_BPD), as_a_set(image))
    close(design.heads["mlm"](fused.text_BRD[real]), vilt.mlm_score(text[real]))


def test_gradients_equal_vilts(vilt, batch):
    images, ids, real = batch
    design = built("single_stream", {}, EVEN, vilt_tensors(vilt.vilt.state_dict()))
    text, image, pooled = vilt_outputs(vilt, batch)
    (text[real].pow(3).sum() + image.pow(3).sum() + pooled.sum()).backward()
    fused = design.fuse(design.encode_image(images), design.encode_text(ids, real))
    ours = fused.text_BRD[real].pow(3).sum() + fused.image_BPD.pow(3).sum()
    (ours + fused.pooled_BD.sum()).backward()
    wanted = vilt_tensors({name: p.grad for name, p in vilt.vilt.named_parameters()})
    compare_gradients(design, wanted)


def compare_gradients(design, wanted):
    found = {role: p.grad for role, p in design.named_parameters()}
    assert found.keys() == wanted.keys()
    for role, grad in found.items():
        close(grad, wanted[role], 1e-4)
