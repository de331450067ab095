"""Every objective equals a version written with loops, in value and gradient."""

import math

import hypothesis.strategies as st
import pytest
import torch
import transformers
from hypothesis import given, settings

from harness.training.objectives import itc, itm
from harness.training.objectives.term import Term, classified
from harness.training.settings.objectives import ITC, ITM

NOT_READ = torch.tensor(float("nan"))


def aligned(
    cosine: torch.Tensor, temperature: torch.Tensor, match: torch.Tensor, settings: ITC
) -> Term:
    """Both ways over the batch alone."""
    one = itc.Scores(cosine_BK=cosine, match_BK=match)
    other = itc.Scores(cosine_BK=cosine.T, match_BK=match.T)
    return itc.aligned(one, other, temperature, settings)[0]


# settings are quick: matrices of at most 8 x 8
quick = settings(max_examples=40, deadline=None)


@st.composite
def similarities(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor, float]:
    size = draw(st.integers(2, 8))
    seed = draw(st.integers(0, 2**31))
    drawing = torch.Generator().manual_seed(seed)
    cosine = torch.rand(size, size, generator=drawing, dtype=torch.float64) * 2 - 1
    match = torch.rand(size, size, generator=drawing) < draw(st.sampled_from([0.0, 0.2, 0.6]))
    match.fill_diagonal_(True)
    return cosine, match, draw(st.floats(0.03, 0.5))


def one_way_by_loops(
    cosine: torch.Tensor, match: torch.Tensor, temperature: torch.Tensor, same: str
) -> torch.Tensor:
    size, total = len(cosine), torch.zeros((), dtype=torch.float64)
    for i in range(size):
        kept = [j for j in range(size) if j == i or same != "masked" or not match[i, j]]
        denominator = sum(torch.exp(cosine[i, j] / temperature) for j in kept)
        right = [j for j in kept if j == i or (same == "positive" and match[i, j])]
        for j in right:
            probability = torch.exp(cosine[i, j] / temperature) / denominator
            total = total - torch.log(probability) / len(right)
    return total


@quick
@given(similarities(), st.sampled_from(["positive", "masked", "negative"]))
def test_itc(drawn: tuple[torch.Tensor, torch.Tensor, float], same: str) -> None:
    cosine, match, temperature = drawn
    results = []
    for loops in (False, True):
        x = cosine.clone().requires_grad_()
        t = torch.tensor(temperature, dtype=torch.float64, requires_grad=True)
        if loops:
            both = one_way_by_loops(x, match, t, same) + one_way_by_loops(x.T, match.T, t, same)
            loss = both / (2 * len(x))
        else:
            loss = aligned(x, t, match, ITC.model_validate({"same": same})).loss
        loss.backward()
        results.append((loss.detach(), x.grad, t.grad))
    for ours, naive in zip(*results, strict=True):
        torch.testing.assert_close(ours, naive, rtol=1e-9, atol=1e-9)


def hinge_by_loops(cosine: torch.Tensor, match: torch.Tensor, settings: ITC) -> torch.Tensor:
    """Images to texts and texts to images, over the whole batch."""
    size, total = len(cosine), cosine.sum() * 0
    for i in range(size):
        for scores, same in ((cosine[i], match[i]), (cosine[:, i], match[:, i])):
            found = [torch.zeros((), dtype=torch.float64)]
            for j in range(size):
                if j == i or (settings.same != "negative" and same[j]):
                    continue
                above = settings.margin - scores[i] + scores[j]
                found += [above] if above > 0 else []
            total = total + (max(found) if settings.loss == "hinge_max" else sum(found))
    return total


@quick
@given(
    similarities(),
    st.sampled_from(["positive", "masked", "negative"]),
    st.sampled_from(["hinge_sum", "hinge_max"]),
    st.sampled_from([0.05, 0.2, 1.5]),
)
def test_hinge(
    drawn: tuple[torch.Tensor, torch.Tensor, float], same: str, loss: str, margin: float
) -> None:
    cosine, match, temperature = drawn
    wanted = ITC.model_validate({"same": same, "loss": loss, "margin": margin})
    results = []
    for loops in (False, True):
        x = cosine.clone().requires_grad_()
        t = torch.tensor(temperature, dtype=torch.float64, requires_grad=True)
        found = hinge_by_loops(x, match, wanted) / (2 * len(x))
        if not loops:
            found = aligned(x, t, match, wanted).loss
        found.backward()
        assert t.grad is None and x.grad is not None
        results.append((found.detach(), x.grad))
    for ours, naive in zip(*results, strict=True):
        torch.testing.assert_close(ours, naive, rtol=1e-9, atol=1e-9)


@quick
@given(similarities(), st.sampled_from(["positive", "masked", "negative"]), st.floats(-12, 2))
def test_sigmoid(drawn: tuple[torch.Tensor, torch.Tensor, float], same: str, start: float) -> None:
    """Every pair once, divided by the rows; in value and gradient."""
    cosine, match, temperature = drawn
    wanted = ITC.model_validate({"same": same, "loss": "sigmoid"})
    results = []
    for loops in (False, True):
        x = cosine.clone().requires_grad_()
        t, bias = (
            torch.tensor(value, dtype=torch.float64, requires_grad=True)
            for value in (temperature, start)
        )
        if loops:
            loss = x.sum() * 0
            for i in range(len(x)):
                for j in range(len(x)):
                    if i != j and match[i, j] and same == "masked":
                        continue
                    matches = i == j or (same == "positive" and bool(match[i, j]))
                    logit = x[i, j] / t + bias
                    loss = loss + torch.log1p(torch.exp(-logit if matches else logit)) / len(x)
        else:
            one = itc.Scores(cosine_BK=x, match_BK=match)
            other = itc.Scores(cosine_BK=x.T, match_BK=match.T)
            loss = itc.aligned(one, other, t, wanted, bias=bias)[0].loss
        loss.backward()
        results.append((loss.detach(), x.grad, t.grad, bias.grad))
    for ours, naive in zip(*results, strict=True):
        torch.testing.assert_close(ours, naive, rtol=1e-9, atol=1e-9)


def test_sigmoid_is_siglips() -> None:
    """The loss that transformers' SiglipModel gives from the same features, scale and bias."""
    torch.manual_seed(0)
    sizes = dict(
        hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        vocab_size=40, max_position_embeddings=8,
    )  # fmt: skip
    config = transformers.SiglipConfig(
        text_config={**sizes, "pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 3},
        vision_config={**sizes, "image_size": 16, "patch_size": 8},
    )
    model = transformers.SiglipModel(config).eval()
    with torch.no_grad():
        model.logit_scale.fill_(math.log(10))
        model.logit_bias.fill_(-3.0)
    ids, pixels = torch.randint(4, 40, (6, 8)), torch.randn(6, 3, 16, 16)
    theirs = model(input_ids=ids, pixel_values=pixels, return_loss=True)
    cosine = theirs.image_embeds @ theirs.text_embeds.T
    own = torch.eye(6, dtype=torch.bool)
    one, other = (itc.Scores(cosine_BK=x, match_BK=own) for x in (cosine, cosine.T))
    ours = itc.sigmoid(one, other, torch.tensor(0.1), torch.tensor(-3.0), "positive")
    torch.testing.assert_close(ours.loss, theirs.loss)


def test_a_hinge_by_hand() -> None:
    """Two pairs: own cosines 0.5 and 0.4, crossed 0.45 and -0.3, margin 0.2."""
    cosine = torch.tensor([[0.5, 0.45], [-0.3, 0.4]])
    own = torch.eye(2, dtype=torch.bool)
    for loss in ("hinge_sum", "hinge_max"):  # of one negative a row the sum is the largest
        term = aligned(cosine, NOT_READ, own, ITC.model_validate({"loss": loss}))
        torch.testing.assert_close(term.loss_sum, torch.tensor(0.15 + 0.25))
        assert (int(term.correct), int(term.items)) == (3, 4)
    all_match = torch.ones(2, 2, dtype=torch.bool)
    term = aligned(cosine, NOT_READ, all_match, ITC(loss="hinge_max"))
    assert float(term.loss_sum) == 0.0 and int(term.correct) == 4


def test_itc_is_exact_in_float32_too() -> None:
    drawing = torch.Generator().manual_seed(0)
    cosine = torch.rand(16, 16, generator=drawing) * 2 - 1
    match = torch.eye(16, dtype=torch.bool)
    ours = aligned(cosine, torch.tensor(0.03), match, ITC()).loss
    exact = aligned(cosine.double(), torch.tensor(0.03, dtype=torch.float64), match, ITC()).loss
    torch.testing.assert_close(ours.double(), exact, rtol=1e-5, atol=1e-5)


def test_itc_counts_any_matching_column_as_right() -> None:
    match = torch.tensor([[True, True], [False, True]])
    cosine = torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    term = aligned(cosine, torch.tensor(0.1), match, ITC())
    # rows: image 0 -> text 1 matches, image 1 -> text 1; columns: text 0 ties, argmax image 0
    assert (int(term.correct), int(term.items)) == (4, 4)


@quick
@given(similarities())
def test_drawn_negatives_never_match(drawn: tuple[torch.Tensor, torch.Tensor, float]) -> None:
    cosine, match, temperature = drawn
    drawing = torch.Generator().manual_seed(1)
    logits = cosine / temperature
    found = itm.draw_negatives(logits, logits.T, match, ITM(hard_share=0.5), drawing)
    for i in range(len(match)):
        text, image = int(found.text_for_image_B[i]), int(found.image_for_text_B[i])
        assert (text == -1) == bool(match[i].all())
        assert (image == -1) == bool(match[:, i].all())
        assert text == -1 or not match[i, text]
        assert image == -1 or not match[image, i]


@pytest.mark.parametrize("hard_share", [1.0, 0.25, 0.0])
def test_negatives_follow_their_distribution(hard_share: float) -> None:
    logits = torch.tensor([[5.0, 2.0, 1.0, 0.0]]).expand(4, 4)
    match = torch.eye(4, dtype=torch.bool)
    drawing = torch.Generator().manual_seed(0)
    drawn_with = itm.weights(logits, match, ITM(hard_share=hard_share))
    draws = torch.stack([itm.draw_rows(drawn_with, drawing)[0] for _ in range(4000)])
    weights = [math.exp(x) for x in (2.0, 1.0, 0.0)]
    for j, weight in enumerate(weights, 1):
        share = hard_share * weight / sum(weights) + (1 - hard_share) / 3
        spread = 4 * math.sqrt(share * (1 - share) / 4000)
        assert abs(float((draws == j).float().mean()) - share) < spread


def test_the_same_generator_draws_the_same() -> None:
    logits, match = torch.zeros(8, 8), torch.eye(8, dtype=torch.bool)
    first, second = (
        itm.draw_negatives(logits, logits, match, ITM(), torch.Generator().manual_seed(3))
        for _ in range(2)
    )
    assert torch.equal(first.image_for_text_B, second.image_for_text_B)
    assert torch.equal(first.text_for_image_B, second.text_for_image_B)


@pytest.mark.parametrize("labels", [[0, -100, 2, 1], [-100, -100, -100, -100]])
def test_classified_leaves_out_unlabelled_rows(labels: list[int]) -> None:
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    term = classified(logits, torch.tensor(labels))
    kept = [(row, label) for row, label in zip(logits, labels, strict=True) if label >= 0]
    naive = sum(
        (-row[label] + torch.logsumexp(row, 0) for row, label in kept), start=torch.zeros(())
    )
    torch.testing.assert_close(term.loss, naive / max(len(kept), 1))
    assert int(term.items) == len(kept)
    assert int(term.correct) == sum(int(row.argmax()) == label for row, label in kept)
    term.loss.backward()
    assert logits.grad is not None and torch.isfinite(logits.grad).all()
