"""The queue: order, start, state; and a pair in it is never its own negative."""

from __future__ import annotations

import collections
import io

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from harness.training.data.batches import Batches
from harness.training.data.corpus import Corpus
from harness.training.data.identity import Identity
from harness.training.objectives import itc
from harness.training.objectives.pairs import Pairs
from harness.training.objectives.queue import NOBODY, Queue
from harness.training.settings.objectives import MLM
from tests.training.objectives.situations import quick


def numbered(first: int, count: int, vectors: int = 0, captions: int = 2) -> Pairs:
    """Pair n holds the number n everywhere."""
    n_N = torch.arange(first, first + count)
    image = (vectors, 3) if vectors else (3,)
    return Pairs(
        image_NE=n_N.float().reshape(-1, *[1] * len(image)).expand(count, *image),
        text_NE=n_N.float()[:, None].expand(count, 3),
        identity=Identity(
            group_B=n_N,
            picture_B=n_N + 1000,
            caption_B=n_N + 2000,
            captions_BC=n_N[:, None].expand(count, captions) + 2000,
        ),
    )


def numbers(pairs: Pairs) -> list[int]:
    """What the pairs hold, where all parts of a pair agree."""
    n_N = pairs.identity.group_B
    expected = numbered(0, 1).identity
    for value in (pairs.image_NE.flatten(1), pairs.text_NE):
        assert (value == n_N[:, None]).all()
    for name in ("picture_B", "caption_B"):
        assert torch.equal(getattr(pairs.identity, name), n_N + getattr(expected, name))
    assert (pairs.identity.captions_BC == n_N[:, None] + 2000).all()
    return n_N.tolist()


@quick
@given(st.lists(st.integers(1, 9), max_size=12), st.integers(1, 7), st.sampled_from([0, 2]))
def test_it_holds_the_last_pairs_in_a_ring(pushes: list[int], size: int, vectors: int) -> None:
    """Against a deque; pushes change in size, and may be larger than the queue."""
    queue = Queue(size, image=(vectors, 3) if vectors else (3,), width=3, noise=None)
    held: collections.deque[int] = collections.deque(maxlen=size)
    count = 0
    for push in pushes:
        queue.push(numbered(count, push, vectors))
        held.extend(range(count, count + push))
        count += push
        assert sorted(numbers(queue.kept())) == list(held)
        assert queue.filled == len(held)
        from_oldest = torch.roll(
            queue.kept().identity.group_B, -queue.place * (queue.filled == size)
        )
        assert from_oldest.tolist() == list(held)


def test_an_empty_start_gives_no_keys() -> None:
    queue = Queue(4, image=(3,), width=3, noise=None)
    assert len(queue.kept()) == 0 == queue.filled
    both = Pairs.join([numbered(0, 2), queue.kept()])
    assert numbers(both) == [0, 1]


def test_noise_is_unit_vectors_that_match_nothing_and_leave_first() -> None:
    queue = Queue(5, image=(2, 3), width=4, noise=torch.Generator())
    kept = queue.kept()
    assert len(kept) == 5 == queue.filled and not torch.equal(kept.text_NE[0], kept.text_NE[1])
    for vectors in (kept.image_NE, kept.text_NE):
        torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(vectors.shape[:-1]))
    rows = numbered(0, 2, captions=3)
    padded = rows.identity.captions_BC.clone()
    padded[:, 1:] = -1
    identity = Identity(**{**vars(rows.identity), "captions_BC": padded})
    rows = Pairs(image_NE=rows.image_NE, text_NE=rows.text_NE, identity=identity)
    assert not any(match.any() for match in rows.matches_with(kept))
    noise = Queue(5, image=(3,), width=3, noise=torch.Generator())
    before = noise.text_QE.clone()
    noise.push(numbered(7, 2))
    assert (noise.keys_Q3[:, 0] == torch.tensor([7, 8, NOBODY, NOBODY, NOBODY])).all()
    assert torch.equal(noise.text_QE[2:], before[2:])
    assert (noise.captions_QC[2:] == NOBODY).all() and noise.filled == 5


def filled(size: int, pushes: int) -> Queue:
    queue = Queue(size, image=(3,), width=3, noise=None)
    for i in range(pushes):
        queue.push(numbered(3 * i, 3))
    return queue


@pytest.mark.parametrize("pushes", [0, 1, 3])
@pytest.mark.parametrize("onto", [0, 2])
def test_state_comes_back_from_a_file(pushes: int, onto: int) -> None:
    """Place and fill too; also onto a queue that has seen nothing, or other pairs."""
    queue, file = filled(5, pushes), io.BytesIO()
    torch.save(queue.state_dict(), file)
    file.seek(0)
    other = filled(5, onto)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert (other.place, other.filled) == (queue.place, queue.filled)
    for step in (100, 200):  # what comes next goes to the same places
        assert numbers(other.kept()) == numbers(queue.kept())
        assert all(map(torch.equal, other.buffers(), queue.buffers()))
        for one in (queue, other):
            one.push(numbered(step, 4))


def test_pushed_features_are_copies_without_gradient() -> None:
    pairs = numbered(0, 2)
    image = pairs.image_NE.clone().requires_grad_()
    queue = Queue(3, image=(3,), width=3, noise=None)
    queue.push(Pairs(image_NE=image, text_NE=pairs.text_NE, identity=pairs.identity))
    image.data.fill_(9.0)
    assert not queue.kept().image_NE.requires_grad and numbers(queue.kept()) == [0, 1]


@pytest.mark.parametrize("same", ["positive", "masked"])
def test_a_pair_is_never_its_own_negative(corpus: Corpus, same: str) -> None:
    """Real keys, a queue larger than the data, across the border of epochs: whatever in the queue
    shows the picture or says the caption of a row is never wanted to be far from it.
    """
    batches = Batches(corpus.train, corpus.tokenizer, 8, 0, MLM())
    queue = Queue(60, image=(3,), width=3, noise=None)
    seen: list[int] = []
    again = 0
    for step in range(batches.steps_per_epoch + 2):
        batch = batches.at(step)
        zeros = torch.zeros(8, 3)
        rows = Pairs(image_NE=zeros, text_NE=zeros, identity=batch.identity)
        keys = Pairs.join([rows, queue.kept()])
        for cosine, match in zip(rows.cosines_with(keys), rows.matches_with(keys), strict=True):
            wanted, left_out = itc.targets(itc.Scores(cosine_BK=cosine, match_BK=match), same)
            negative = (wanted == 0) & ~left_out
            for i, picture in enumerate(batch.rows_B.tolist()):
                earlier = [8 + q for q, one in enumerate(seen) if one == picture]
                again += len(earlier)
                assert not negative[i, earlier].any()
        queue.push(rows)
        seen += batch.rows_B.tolist()
    assert len(queue.kept()) == len(seen) and again >= 16  # those of the second epoch, twice each
