"""Losses of labelled tasks, against loops."""

import math

import pytest
import torch

from harness.training.objectives.labels import (
    answer_losses,
    answered,
    expected_worth,
    labelled,
    multi_labelled,
)

LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.5, 1.5, 0.0]], dtype=torch.float64)
TAUGHT = torch.tensor([[0.0, 1.0, 0.0], [3.0, 0.0, 0.0]], dtype=torch.float64, requires_grad=True)
LABELS = torch.tensor([0, 2])


def log_softmax(row):
    total = math.log(sum(math.exp(x) for x in row))
    return [x - total for x in row]


@pytest.mark.parametrize("distil", [0.0, 0.4, 1.0])
def test_one_label_a_row(distil):
    logits = LOGITS.clone().requires_grad_()
    term = labelled(logits, LABELS, TAUGHT, distil)
    loss = 0.0
    for row, label, taught in zip(LOGITS.tolist(), LABELS.tolist(), TAUGHT.tolist(), strict=True):
        log = log_softmax(row)
        soft = [math.exp(x) for x in log_softmax(taught)]
        loss -= (1 - distil) * log[label]
        loss -= distil * sum(p * x for p, x in zip(soft, log, strict=True))
    assert term.loss.item() == pytest.approx(loss / 2)
    assert (int(term.items), float(term.correct)) == (2, 1.0)
    term.loss.backward()
    assert logits.grad is not None and TAUGHT.grad is None
    assert labelled(LOGITS, LABELS).loss == labelled(LOGITS, LABELS, TAUGHT, 0.0).loss


def test_answers_right_to_a_degree():
    targets = torch.tensor([[1.0, 0.3, 0.0], [0.0, 0.6, 0.0]])
    term = multi_labelled(LOGITS, targets)
    loss = 0.0
    for row, wanted in zip(LOGITS.tolist(), targets.tolist(), strict=True):
        for x, target in zip(row, wanted, strict=True):
            p = 1 / (1 + math.exp(-x))
            loss -= target * math.log(p) + (1 - target) * math.log(1 - p)
    assert float(term.loss) == pytest.approx(loss / 2)
    assert float(term.correct) == pytest.approx(1.6) and int(term.items) == 2


def test_labels_that_tie_earn_their_mean_and_no_number_earns_nothing():
    worth = torch.tensor([[1.0, 0.0, 0.5], [1.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    logits = torch.tensor([[0.0, 0.0, 0.0], [2.0, 2.0, 1.0], [math.nan] * 3])
    torch.testing.assert_close(expected_worth(logits, worth), torch.tensor([0.5, 0.5, 0.0]))
    for label in range(3):  # a constant one gets chance, whichever label is right
        constant = labelled(torch.zeros(4, 3), torch.full((4,), label))
        assert float(constant.correct) / 4 == pytest.approx(1 / 3)


def test_decoded_answers():
    torch.manual_seed(0)
    logits = torch.randn(3, 4, 6, dtype=torch.float64)
    taught = torch.randn(3, 4, 6, dtype=torch.float64)
    ids = torch.tensor([[1, 3, 2, 0], [1, 4, 5, 2], [1, 5, 2, 0]])
    real, weight = ids > 0, torch.tensor([0.5, 1.0, 0.25])
    logits[0, 0, 3] = logits[0, 1, 2] = logits[2, 0, 5] = 9.0  # the first is wholly right,
    logits[1, 0, 0] = logits[2, 1, 0] = 9.0  # the others are not
    losses = []
    for row, its, wanted in zip(logits.tolist(), taught.tolist(), ids.tolist(), strict=True):
        loss = 0.0
        for place, token in enumerate(wanted[1:]):
            if token:
                log = log_softmax(row[place])
                soft = [math.exp(x) for x in log_softmax(its[place])]
                loss -= 0.6 * log[token]
                loss -= 0.4 * sum(p * x for p, x in zip(soft, log, strict=True))
        losses.append(loss)
    ours = answer_losses(logits, ids, real, taught, 0.4)
    assert ours.tolist() == pytest.approx(losses)
    term = answered(logits, ids, real, weight, 2, taught, 0.4)
    assert float(term.loss) == pytest.approx((0.5 * losses[0] + losses[1] + 0.25 * losses[2]) / 2)
    assert int(term.items) == 2 and float(term.correct) == 0.5
    changed = logits.clone()
    changed[:, -1] = 100.0  # nothing follows the last position
    assert answered(changed, ids, real, weight, 2, taught, 0.4).loss == term.loss


def test_half_precision_is_summed_in_float32():
    logits = torch.randn(64, 3).bfloat16()
    labels, targets = torch.zeros(64, dtype=torch.int64), torch.zeros(64, 3)
    assert labelled(logits, labels).loss_sum.dtype == torch.float32
    assert multi_labelled(logits, targets).loss_sum.dtype == torch.float32
    ids = torch.ones(64, 3, dtype=torch.int64)
    term = answered(logits[:, None].expand(64, 3, 3), ids, ids > 0, torch.ones(64), 9)
    assert term.loss_sum.dtype == torch.float32
