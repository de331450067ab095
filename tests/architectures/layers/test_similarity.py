"""Late interaction against a loop over tokens, ColPali's scores, and itself in pieces."""

import itertools

import pytest
import torch
from torch.nn import functional as F
from transformers.models.colpali.processing_colpali import ColPaliProcessor

from architectures.frozen import SettingError
from architectures.layers import similarity
from architectures.layers.heads import itc_head
from architectures.layers.similarity import similarities

SIZES = [(3, 5, 4, 6, 8), (1, 1, 1, 1, 2), (2, 9, 7, 3, 16)]
"""Images, tokens of one, texts, positions of one, width."""


def features(images: int, tokens: int, texts: int, length: int, width: int, dtype=torch.float64):
    """Unit vectors, the first words of each text real."""
    drawing = torch.Generator().manual_seed(images * length + width)
    image = torch.randn(images, tokens, width, generator=drawing, dtype=dtype)
    text = torch.randn(texts, length, width, generator=drawing, dtype=dtype)
    count = torch.randint(1, length + 1, (texts,), generator=drawing)
    real = torch.arange(length) < count[:, None]
    padded = F.normalize(text, dim=-1).masked_fill(~real[..., None], 0.0)
    return F.normalize(image, dim=-1).requires_grad_(), padded.requires_grad_(), count.tolist()


def by_loops(image, text, count, how, asks):
    """One pair after another, one token after another; padding is cut off."""
    rows = []
    for one, (other, words) in itertools.product(image, zip(text, count, strict=True)):
        words_asking = [max(token @ word for token in one) for word in other[:words]]
        tokens_asking = [max(token @ word for word in other[:words]) for token in one]
        of_words, of_tokens = torch.stack(words_asking).mean(), torch.stack(tokens_asking).mean()
        ways = {"text": of_words, "image": of_tokens, None: (of_words + of_tokens) / 2}
        rows.append(torch.stack(words_asking).sum() if how == "late_sum" else ways[asks])
    return torch.stack(rows).view(len(image), len(text))


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("asks", ["image", "text", None])
@pytest.mark.parametrize("how", ["late_mean", "late_sum"])
@pytest.mark.parametrize("at_once", [similarity.TOKENS_AT_ONCE, 40, 1])
def test_every_pair_as_a_loop_over_tokens(monkeypatch, sizes, how, asks, at_once) -> None:
    monkeypatch.setattr(similarity, "TOKENS_AT_ONCE", at_once)
    image, text, count = features(*sizes)
    ours, naive = similarities(image, text, how, asks), by_loops(image, text, count, how, asks)
    torch.testing.assert_close(ours, naive, rtol=1e-12, atol=1e-12)
    slope = torch.randn_like(ours)
    gradients = torch.autograd.grad((ours * slope).sum(), (image, text))
    wanted = torch.autograd.grad((naive * slope).sum(), (image, text))
    torch.testing.assert_close(gradients, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("sizes", SIZES)
def test_colpalis_scores_with_padding(sizes) -> None:
    image, text, _ = (x.detach() if hasattr(x, "detach") else x for x in features(*sizes))
    image, text = image.float(), text.float()
    wanted = ColPaliProcessor.score_retrieval(None, text, image).T
    torch.testing.assert_close(similarities(image, text, "late_sum"), wanted, rtol=1e-5, atol=1e-5)


def test_padding_is_no_word_that_an_image_finds() -> None:
    """A word opposite to the image is closer than padding, whose product is 0, would be."""
    image = torch.tensor([[[1.0, 0.0]]])
    text = torch.tensor([[[-1.0, 0.0], [0.0, 0.0]]])
    assert similarities(image, text, "late_mean", "image").item() == -1.0
    assert similarities(image, text, "late_mean", "text").item() == -1.0


@pytest.mark.parametrize("packed", [False, True])
def test_features_are_all_tokens_mapped_and_padding_zero(make, batch, packed: bool) -> None:
    """With the weights of the pooled head: a study of both differs in how they are compared."""
    design, pooled = (make("dual_encoder", {"similarity": s}) for s in ("late_mean", "pooled"))
    images, ids, real = batch
    image, text = design.encode_image(images), design.encode_text(ids, real, packed=packed)
    image_BPE, text_BLE = itc_head(design).features(image, text)
    weights, same = design.state_dict(), pooled.state_dict()
    assert weights.keys() == same.keys()
    assert all(torch.equal(weights[role], same[role]) for role in weights)
    assert not real.all() and not text_BLE[~real].any()
    first = itc_head(pooled).features(image, text)  # of [CLS] on both sides
    torch.testing.assert_close((image_BPE[:, 0], text_BLE[:, 0]), first)
    torch.testing.assert_close(text_BLE[real].norm(dim=-1), text_BLE.new_ones(int(real.sum())))


def test_tokens_of_an_earlier_layer_are_refused(make) -> None:
    with pytest.raises(
        SettingError, match=r"'late_sum' compares the last tokens, .*itc_layer is 1"
    ):
        make("dual_encoder", {"similarity": "late_sum", "itc_layer": 1})


def test_features_under_half_precision_have_gradients_that_are_numbers(make, batch) -> None:
    design = make("dual_encoder", {"similarity": "late_mean"}, dtype=torch.float32)
    images, ids, real = batch
    with torch.autocast("cpu", torch.bfloat16):
        image = design.encode_image(images.float())
        text = design.encode_text(ids, real)
        scores = similarities(*itc_head(design).features(image, text), "late_mean")
    assert scores.dtype == torch.float32
    scores.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in design.parameters())
