"""Every design that writes captions: no word learns of those after it, and BLIP's captioner."""

import pytest
import torch
from safetensors.torch import load_file
from transformers import BlipConfig, BlipForConditionalGeneration

from architectures import build, registry
from architectures.contract import WritesCaptions
from architectures.facts import OBJECTIVES, USUAL_OBJECTIVES, Facts
from architectures.weights.published.blip import RULES
from architectures.weights.published.names import tensors
from harness.training.objectives.lm import captioned, next_tokens
from harness.training.settings.objectives import Objectives
from tests.architectures.conftest import VOCABULARY
from tests.architectures.designs.test_designs import awake, every_design
from tests.architectures.published_models import BLIP, saved
from tests.architectures.reference import randomised

LM = ("itm", "lm")


def writes(name, fields, backbone) -> bool:
    cls, config = registry.find(name), registry.config(name, fields)
    return not cls.facts(config, backbone).why_not("lm")


def said(design, batch, prefix_B, *, packed=False):
    """The logits (B, L, V) of every position."""
    images, ids, real = batch
    text = design.encode_caption(ids, real, prefix_B, packed=packed)
    fused = design.fuse(design.encode_image(images), text)
    return design.heads["lm"](fused.text_BRD)


def reached(design, logits) -> set[str]:
    """Roles of the weights that logits depend on."""
    design.zero_grad()
    logits.logsumexp(-1).sum().backward()
    return {role for role, p in design.named_parameters() if p.grad is not None and p.grad.any()}


def test_objectives_are_listed_once():
    assert tuple(Objectives.model_fields)[: len(OBJECTIVES)] == OBJECTIVES
    assert Objectives().active() == USUAL_OBJECTIVES
    assert all(Facts(
        no_fuse="x", no_align="x", text_layers=0, fusion_layers=0, image_layers=0, pooled_width=1
    ).why_not(name) for name in OBJECTIVES)  # fmt: skip


@every_design
def test_a_design_says_whether_it_writes(small, make, name, fields):
    design = make(name, fields, objectives=OBJECTIVES)
    assert ("lm" in design.heads) == writes(name, fields, small)
    if "lm" in design.heads:
        assert isinstance(design, WritesCaptions)
        assert design.heads["lm"].decoder.weight is design.word_embedding().weight
        if "mlm" in design.heads:  # a causal stack has none
            assert design.heads["lm"].dense.weight is not design.heads["mlm"].dense.weight


@every_design
def test_no_word_learns_of_those_after_it(small, make, batch, name, fields):
    """Another word at a place changes what is said from there on, and nothing before it; of those
    that are given, every place. The picture changes all.
    """
    if not writes(name, fields, small):
        return
    design = awake(make(name, fields, objectives=LM))
    images, ids, real = batch
    prefix_B = torch.tensor([1, 1, 2, 3, 1, 4, 2, 1])
    logits = said(design, batch, prefix_B)
    for place in range(1, 7):
        other = ids.clone()
        other[:, place] = (ids[:, place] + 7 - 4) % (VOCABULARY - 4) + 4
        changed = said(design, (images, other, real), prefix_B)
        differs = (changed - logits).abs().amax(-1) > 1e-9
        at_L = torch.arange(7)
        reads = (at_L >= place) | (place < prefix_B)[:, None]
        assert torch.equal(differs & real, reads & real & real[:, place, None])
    packed = said(design, batch, prefix_B, packed=True)
    torch.testing.assert_close(packed[real], logits[real])
    swapped = said(design, (images.roll(1, 0), ids, real), prefix_B)
    assert ((swapped - logits).abs().amax(-1)[real] > 1e-9).all()
    hidden = design.fuse(design.encode_image(images), design.encode_text(ids, real)).text_BRD
    by_lm, by_mlm = (reached(design, x) for x in (logits, design.heads["lm"](hidden)))
    assert by_lm == by_mlm - {"encode.weight"}  # [ENC] of a shared stack


@every_design
def test_states_of_some_rows_stay_causal(small, make, batch, name, fields):
    if not writes(name, fields, small):
        return
    design = make(name, fields, objectives=LM)
    images, ids, real = batch
    prefix_B = torch.tensor([1, 1, 2, 3, 1, 4, 2, 1])
    image = design.encode_image(images)
    for packed in (False, True):
        text = design.encode_caption(ids, real, prefix_B, packed=packed)
        whole_BLD = design.fuse(image, text).text_BRD
        rows = torch.tensor([5, 2, 5])
        some = design.fuse(image.take(rows), text.take(rows)).text_BRD
        torch.testing.assert_close(some[real[rows]], whole_BLD[rows][real[rows]])
        first, rest = (design.fuse(image.take(part), its).text_BRD for part, its in
                       zip(torch.arange(8).split([3, 5]), text.split(3), strict=True))  # fmt: skip
        torch.testing.assert_close(torch.cat([first, rest])[real], whole_BLD[real])


# ---- The loss ------------------------------------------------------------------------------------


class Rows:
    """What LM reads of a batch."""

    def __init__(self, ids, real, prefix):
        self.ids_BL, self.text_is_real_BL, self.prefix_B = ids, real, prefix


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("prefix", [None, [1, 2, 3, 1, 5, 4, 2, 1]])
def test_the_loss_is_a_loop_over_tokens(make, batch, prefix, smoothing):
    """Every target from the caption as far as it, decoded by itself."""
    design = make("split_bert", {"text_layers": 6}, objectives=LM)
    images, ids, real = batch
    image = design.encode_image(images)
    prefix_B = None if prefix is None else torch.tensor(prefix)
    loss, right, items = 0.0, 0, 0
    for b in range(8):
        given = 1 if prefix is None else prefix[b]
        for place in range(given, int(real[b].sum())):
            with torch.no_grad():
                so_far = ids[b : b + 1, :place]
                text = design.encode_caption(so_far, so_far > 0, torch.tensor([given]))
                fused = design.fuse(image.take(torch.tensor([b])), text)
                log_V = design.heads["lm"](fused.text_BRD[0, -1]).log_softmax(-1)
            target = ids[b, place]
            loss -= float((1 - smoothing) * log_V[target] + smoothing * log_V.mean())
            right, items = right + int(log_V.argmax() == target), items + 1
    for packed in (False, True):
        term = captioned(design, image, Rows(ids, real, prefix_B), smoothing=smoothing,
                         packed=packed)  # fmt: skip
        assert (int(term.correct), int(term.items)) == (right, items)
        assert float(term.loss.detach()) == pytest.approx(loss / items, abs=1e-5)


def test_padding_and_what_is_given_are_no_targets():
    ids = torch.tensor([[1, 7, 8, 9, 2, 0, 0], [1, 5, 2, 0, 0, 0, 0]])
    labels = next_tokens(ids, ids > 0, torch.tensor([2, 1]))
    assert labels.tolist() == [[-100, 8, 9, 2, -100, -100, -100], [5, 2] + [-100] * 5]


def test_the_head_starts_from_that_of_a_bert(make, tmp_path):
    """As MLM's own does, beside it and in its place."""
    saved("BertForMaskedLM", tmp_path)
    weights = {"text_weights": str(tmp_path), "text_layers": 4, "weights_allow": ("text_heads",)}
    for objectives in (LM, ("mlm", "lm")):
        design = make("split_bert", {"text_layers": 2}, objectives=objectives, **weights)
        bert = load_file(tmp_path / "model.safetensors")
        head = design.heads["lm"]
        named = "cls.predictions.transform.dense.weight"
        assert torch.equal(head.dense.weight.float(), bert[named])
        assert torch.equal(head.decoder.bias.float(), bert["cls.predictions.bias"])


# ---- BLIP's captioner ----------------------------------------------------------------------------

WORDS = 52


@pytest.fixture(params=[(16, 4), (24, 2)], ids=["4 layers", "2 wider layers"])
def captioner(request):
    """BLIP's, every weight drawn at random."""
    width, depth = request.param
    text = {"hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": depth}
    text = {**BLIP["text_config"], **text, "label_smoothing": 0.1}
    config = BlipConfig(**{**BLIP, "text_config": text})
    for part in (config, config.text_config, config.vision_config):
        part._attn_implementation = "eager"
    captioner = randomised(BlipForConditionalGeneration(config))
    with torch.no_grad():  # so that the lowest layers' gradients are not too small to compare
        for name, parameter in captioner.named_parameters():
            parameter += float("norm" in name.lower() and name.endswith("weight"))
    return captioner.eval()


def by_role(state):
    """Weights, or gradients, of its captioner by our roles."""
    named = {name.replace("text_decoder.", "text_encoder."): x for name, x in state.items()}
    return {role.replace("heads.mlm.", "heads.lm."): x for role, x in tensors(named, RULES).items()}


@pytest.mark.parametrize("packed", [False, True])
def test_blip_captions_from_pixels_and_ids(captioner, small, batch, packed):
    """Logits, the smoothed loss, and the gradient of every weight."""
    text = captioner.config.text_config
    sizes = {"text_width": text.hidden_size, "text_mlp": text.intermediate_size,
             "text_layers": text.num_hidden_layers, "image_norm_eps": 1e-5}  # fmt: skip
    design = build.construct("shared_stack", {}, small.with_fields(sizes), WORDS, ("lm",)).eval()
    weights = by_role(captioner.state_dict())
    own = {"encode.weight", "embeddings.token_type.weight"}  # BLIP has no types, LM reads no [ENC]
    with torch.no_grad():
        for role, parameter in design.named_parameters():
            parameter.copy_(torch.zeros_like(parameter) if role in own else weights[role])
    images, ids, real = batch
    labels = ids.masked_fill(~real, -100)
    feed = dict(pixel_values=images.float(), input_ids=ids, attention_mask=real.long())
    theirs = captioner(**feed, labels=labels)
    image = design.encode_image(images.float())
    states = design.encode_caption(ids, real, torch.ones(8).long(), packed=packed)
    logits = design.heads["lm"](design.fuse(image, states).text_BRD)
    torch.testing.assert_close(logits[real], theirs.logits[real], rtol=1e-5, atol=1e-5)
    term = captioned(design, image, Rows(ids, real, None), smoothing=0.1, packed=packed)
    torch.testing.assert_close(term.loss, theirs.loss, rtol=1e-5, atol=1e-5)
    for loss in (term.loss, theirs.loss):
        (10 * loss).backward()
    wanted = by_role({name: p.grad for name, p in captioner.named_parameters()})
    ours = {role: p.grad for role, p in design.named_parameters() if role not in own}
    assert ours.keys() == wanted.keys()
    torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-4)
    seen = {role: float(x.abs().max()) for role, x in wanted.items()}
    assert all(value > 1e-3 for role, value in seen.items() if "key.bias" not in role), seen
