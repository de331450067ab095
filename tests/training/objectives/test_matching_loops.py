"""ITM and MLM against loops: weights of negatives, the 3 B rows and labels, distillation."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from architectures.contract import ImageStates, TextStates
from architectures.layout import Layout
from harness.training.data.identity import matches
from harness.training.objectives import itm
from harness.training.objectives.mlm import masked_words
from harness.training.objectives.term import classified
from harness.training.settings.objectives import ITM
from tests.training.objectives import loops
from tests.training.objectives.situations import Situation, close, identity_of, quick, situations

DTYPES = (torch.float64, torch.float32)


def random(seed: int, *shape: int) -> torch.Tensor:
    """Numbers that float32 holds, in float64."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def number(found: tuple) -> list[torch.Tensor]:
    return [torch.tensor(x, dtype=torch.float64) for x in found]


@quick
@given(
    situations(pushes=0),
    st.integers(0, 2**31),
    st.sampled_from(["masked", "negative"]),
    st.sampled_from([0.0, 0.25, 1.0]),
)
def test_weights_of_negatives(
    situation: Situation, seed: int, same: str, hard_share: float
) -> None:
    """Masked before the softmax, or, as published, the own pair's weight set to 0 after it."""
    rows = situation.rows
    logits = (random(seed, len(rows), len(rows)) / situation.temperature).float().double()
    matching = [[loops.same_thing(image, text) for text in rows] for image in rows]
    match_BB = matches(identity_of(rows), identity_of(rows))
    given_ = (logits.tolist(), matching, same, hard_share)
    naive = torch.tensor(loops.itm_weights(*given_), dtype=torch.float64)
    for dtype in DTYPES:
        drawn = itm.weights(logits.to(dtype), match_BB, ITM(same=same, hard_share=hard_share))
        close(drawn, naive)
        assert (drawn[naive == 0] == 0).all()  # a true pair is never drawn


def states(size: int, packed: bool) -> tuple[ImageStates, TextStates]:
    """Row i holds the number i everywhere; captions differ in length."""
    numbers = torch.arange(size, dtype=torch.float64)
    real_BL = torch.arange(4) < 1 + torch.arange(size)[:, None] % 4
    layout = Layout.of(real_BL, packed=packed)
    tokens_BLD = numbers[:, None, None].expand(size, 4, 2)
    image = ImageStates(
        distinct_UPD=numbers[:, None, None].expand(size, 3, 2), pooled=numbers[:, None]
    )
    text = TextStates(tokens_TD=layout.pack(tokens_BLD), layout=layout, pooled=numbers[:, None])
    return image, text


@quick
@given(st.data(), st.integers(1, 6), st.booleans())
def test_the_rows_of_itm(data: st.DataObject, size: int, packed: bool) -> None:
    """B pairs as they are, B captions with a wrong picture, B pictures with a wrong caption."""
    wrong = st.lists(st.integers(-1, size - 1), min_size=size, max_size=size)
    images, texts = data.draw(wrong), data.draw(wrong)
    found = itm.rows_of(
        *states(size, packed), itm.Negatives(torch.tensor(images), torch.tensor(texts))
    )
    expected = [(i, i, 1) for i in range(size)]
    expected += [(image, i, 0 if image >= 0 else -100) for i, image in enumerate(images)]
    expected += [(i, text, 0 if text >= 0 else -100) for i, text in enumerate(texts)]
    image_rows, text_rows, labels = found
    assert labels.tolist() == [label for _, _, label in expected]
    for row, (image, text, label) in enumerate(expected):
        if label == -100:
            continue  # there is a row, and nothing is learnt of it
        assert (image_rows.tokens_BPD[row] == image).all()
        words = text_rows.tokens_BLD[row][text_rows.text_is_real_BL[row]]
        assert len(words) == 1 + text % 4 and (words == text).all()
        assert image_rows.pooled_BD[row] == image and text_rows.pooled_BD[row] == text


@quick
@given(st.integers(0, 2**31), st.lists(st.sampled_from([0, 0, 1, -100]), min_size=3, max_size=9))
def test_itm_loss_and_gradient(seed: int, labels: list[int]) -> None:
    logits = random(seed, len(labels), 2) * 4
    loss, slopes = number(loops.words(logits.tolist(), labels))
    for dtype in DTYPES:
        ours = logits.to(dtype, copy=True).requires_grad_()
        term = classified(ours, torch.tensor(labels))
        term.loss.backward()
        close(term.loss, loss)
        close(ours.grad, slopes)


@quick
@given(
    st.integers(0, 2**31),
    st.integers(0, 6),
    st.integers(2, 9),
    st.sampled_from([None, 0.0, 0.4, 1.0]),
    st.sampled_from([1.0, 20.0]),
)
def test_mlm(seed: int, hidden: int, words: int, alpha: float | None, spread: float) -> None:
    """With a teacher (alpha is not None) and without; also where nothing is hidden."""
    logits, taught = random(seed, hidden, words) * spread, random(seed + 1, hidden, words) * spread
    drawing = torch.Generator().manual_seed(seed)
    labels = torch.randint(words, (hidden,), generator=drawing)
    given_, said = (logits.tolist(), labels.tolist()), None if alpha is None else taught.tolist()
    loss, slopes = number(loops.words(*given_, said, alpha or 0.0))
    for dtype in DTYPES:
        ours = logits.to(dtype, copy=True).requires_grad_()
        term, parts = masked_words(
            ours, labels, None if said is None else taught.to(dtype), alpha or 0
        )
        term.loss.backward()
        close(term.loss, loss)
        close(ours.grad, slopes.reshape(logits.shape))
        assert int(term.items) == hidden
        assert set(parts) == (set() if alpha is None else {"mlm_hard_loss", "mlm_distil_loss"})
        for name, share in (("mlm_hard_loss", 0.0), ("mlm_distil_loss", 1.0)):
            if alpha is not None:
                close(parts[name], number(loops.words(*given_, said, share))[0])


def test_the_teacher_of_mlm_learns_nothing() -> None:
    logits, taught = random(0, 3, 5).requires_grad_(), random(1, 3, 5).requires_grad_()
    term, _ = masked_words(logits, torch.tensor([0, 1, 2]), taught, 0.4)
    term.loss.backward()
    assert logits.grad is not None and taught.grad is None


@pytest.mark.parametrize("same", ["masked", "negative"])
def test_drawn_rows_by_hand(same: str) -> None:
    """Three pictures, of which the last two are one: masked draws leave each a single caption."""
    match = torch.tensor([[1, 0, 0], [0, 1, 1], [0, 1, 1]], dtype=torch.bool)
    drawn = itm.weights(torch.zeros(3, 3), match, ITM(same=same))
    half, third = 1 / 2, 1 / 3
    by_hand = {
        "masked": [[0, half, half], [1, 0, 0], [1, 0, 0]],
        "negative": [[0, third, third], [third, 0, third], [third, third, 0]],
    }
    torch.testing.assert_close(drawn, torch.tensor(by_hand[same], dtype=torch.float32))
