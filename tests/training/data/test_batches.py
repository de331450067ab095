import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tokenizers
import torch
from tokenizers import models

from architectures.frozen import SettingError
from harness.training.data.batches import Batch, Batches, validation_batches
from harness.training.data.corpus import Corpus, load_corpus
from harness.training.data.identity import matches
from harness.training.data.masking import mask_words, widest, word_starts
from harness.training.data.tokenizer import Tokenizer
from harness.training.data.transforms import Augment, augmented
from harness.training.data.wordpiece import train_wordpiece
from harness.training.randomness import stream
from harness.training.settings.data import Scenes
from harness.training.settings.objectives import MLM

SAMPLED = (
    "image_BCHW", "ids_BL", "text_is_real_BL", "masked_ids_BL", "mask_positions_BR",
    "mask_labels_BR", "match_BB", "rows_B",
)  # fmt: skip


def batches(corpus: Corpus, size: int = 32, seed: int = 0, **options: object) -> Batches:
    return Batches(corpus.train, corpus.tokenizer, size, seed, MLM(), **options)


def same(one: Batch, other: Batch) -> bool:
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in SAMPLED)


@pytest.mark.parametrize("kind", ["none", "crop_flip"])
def test_any_order_and_any_restart_give_the_same_batches(corpus: Corpus, kind: str) -> None:
    augment = Augment(kind=kind, smallest_crop=0.5)
    forward = batches(corpus, augment=augment)
    seen = [forward.at(step) for step in range(40)]
    backward = batches(corpus, augment=augment)
    for step in (39, 3, 20, 3, 0):
        assert same(backward.at(step), seen[step])
    assert not same(seen[0], seen[1])
    assert not same(batches(corpus, seed=1, augment=augment).at(0), seen[0])


def test_an_epoch_shows_every_picture_once_and_drops_the_incomplete_end(corpus: Corpus) -> None:
    some = batches(corpus, size=128)  # 600 pictures: 4 batches, 88 pictures left out
    assert some.steps_per_epoch == 4
    epochs = [torch.cat([some.at(e * 4 + s).rows_B for s in range(4)]).tolist() for e in range(2)]
    for rows in epochs:
        assert len(set(rows)) == len(rows) == 512
    assert epochs[0] != epochs[1] and set(epochs[0]) != set(epochs[1])


def test_a_batch_holds_what_the_split_says(corpus: Corpus) -> None:
    batch, train = batches(corpus).at(7), corpus.train
    for i, row in enumerate(batch.rows_B.tolist()):
        assert np.array_equal(batch.image_BCHW[i].permute(1, 2, 0), train.images_NHWC[row])
        assert corpus.tokenizer.decode(batch.ids_BL[i]) in train.captions[row]
        assert batch.text_is_real_BL[i].sum() == (batch.ids_BL[i] != corpus.tokenizer.pad_id).sum()
    assert batch.ids_BL.shape == (32, corpus.tokenizer.length)
    assert torch.equal(batch.match_BB, matches(batch.identity, batch.identity))
    assert batch.match_BB.diagonal().all()


def test_every_caption_of_a_picture_is_drawn_equally_often(corpus: Corpus) -> None:
    some = batches(corpus, size=600)
    counts = np.zeros(3)
    for step in range(20):
        batch = some.at(step)
        caption = batch.identity.caption_B[:, None] == batch.identity.captions_BC
        counts += caption.sum(0).numpy()
    assert counts.sum() == 12_000 and abs(counts / 4000 - 1).max() < 0.05


def test_the_digest_chain_goes_on_after_a_restart(corpus: Corpus) -> None:
    whole, half, some = "", "", batches(corpus)
    for step in range(20):
        whole = some.after(whole, some.at(step))
        half = whole if step == 11 else half
    restarted = batches(corpus)
    for step in range(12, 20):
        half = restarted.after(half, restarted.at(step))
    assert half == whole


@pytest.mark.slow
def test_another_process_with_another_cache_goes_on_with_the_same_digest(tmp_path: Path) -> None:
    data = Scenes(train=64, val=8, test=8)
    corpus = load_corpus(data, 16, tmp_path)
    chain, some = "", batches(corpus, size=16)
    for step in range(6):
        chain = some.after(chain, some.at(step))
        if step == 2:
            half = chain
    script = (
        "import sys; from pathlib import Path;"
        "from harness.training.settings.data import Scenes;"
        "from harness.training.settings.objectives import MLM;"
        "from harness.training.data.corpus import load_corpus;"
        "from harness.training.data.batches import Batches;"
        "c = load_corpus(Scenes(train=64, val=8, test=8), 16, Path(sys.argv[1]));"
        "b = Batches(c.train, c.tokenizer, 16, 0, MLM()); chain = sys.argv[2]\n"
        "for step in range(3, 6): chain = b.after(chain, b.at(step))\n"
        "print(chain)"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "elsewhere"), half]
    assert subprocess.run(command, capture_output=True, text=True).stdout.strip() == chain


@pytest.mark.parametrize("name", [n for n in SAMPLED if n != "rows_B"])
def test_the_digest_sees_every_tensor_that_is_fed(corpus: Corpus, name: str) -> None:
    some = batches(corpus, size=4)
    one, other = some.at(0), some.at(0)
    changed = getattr(other, name).view(-1)
    changed[0] = ~changed[0] if changed.dtype == torch.bool else changed[0] + 1
    assert some.after("", one) == some.after("", some.at(0)) != some.after("", other)
    assert some.after("", one) != some.after("x", one)


@pytest.mark.parametrize("size", [0, 601])
def test_a_batch_that_the_data_cannot_fill_is_refused(corpus: Corpus, size: int) -> None:
    with pytest.raises(SettingError, match=f"batch size {size} does not fit 600 train pictures"):
        batches(corpus, size=size)


def test_prefixes_are_drawn_alike_and_leave_all_else_as_it_was(corpus: Corpus) -> None:
    """Every length from none to the most is as likely; a worker's part has its own rows'."""
    plain, some = batches(corpus, size=200), batches(corpus, size=200, prefix=0.5)
    shares = []
    for step in range(12):
        batch, other = some.at(step), plain.at(step)
        assert other.prefix_B is None and batch.prefix_B is not None
        assert some.after("", batch) == plain.after("", other)
        assert torch.equal(some.at(step).prefix_B, batch.prefix_B)
        most_B = (batch.text_is_real_BL.sum(1) - 2) // 2
        given_B = batch.prefix_B - 1
        assert (given_B >= 0).all() and (given_B <= most_B).all()
        shares += [given_B[most_B == 3]]
        assert torch.equal(batch.part(1, 4).prefix_B, batch.prefix_B[50:100])
    counts = torch.cat(shares).bincount(minlength=4)
    assert counts.sum() > 300 and (counts / counts.sum() - 0.25).abs().max() < 0.06


def test_masks_follow_the_rule_of_bert(corpus: Corpus) -> None:
    tokenizer, mlm = corpus.tokenizer, MLM()
    ids = np.concatenate([corpus.train.ids_KL.astype(np.int64)] * 20)
    masked = mask_words(ids, tokenizer, mlm, stream(0, "test"))
    chosen = masked.labels_BR >= 0
    word = ~np.isin(ids, tokenizer.special_ids)
    assert abs(chosen.sum() / word.sum() - mlm.share) < 0.002
    row, _ = np.nonzero(chosen)
    position = masked.positions_BR[chosen]
    assert word[row, position].all(), "special tokens and padding are never predicted"
    assert len(set(zip(row, position, strict=True))) == chosen.sum(), "no position twice"
    assert np.array_equal(ids[row, position], masked.labels_BR[chosen])
    untouched = np.ones_like(word)
    untouched[row, position] = False
    assert np.array_equal(masked.ids_BL[untouched], ids[untouched])
    now = masked.ids_BL[row, position]
    is_mask, stays = now == tokenizer.mask_id, now == masked.labels_BR[chosen]
    assert abs(is_mask.mean() - 0.8) < 0.01 and abs(stays.mean() - 0.1) < 0.01
    swapped = now[~is_mask & ~stays]
    assert set(swapped) <= set(tokenizer.word_ids) and len(set(swapped)) > 100
    by_place = np.bincount(position, minlength=ids.shape[1]) / np.maximum(word.sum(0), 1)
    assert abs(by_place[1:6] - mlm.share).max() < 0.01, "every place alike"


def test_whole_words_are_hidden_whole() -> None:
    """A vocabulary so small that most words are in pieces."""
    captions = ["walking talking", "talkative walker", "a stalker talks walking"] * 40
    tokenizer = train_wordpiece(captions, 30).with_length(24)
    ids = tokenizer.encode(captions)[0].numpy()
    mlm = MLM(share=0.3, whole_words=True)
    masked = mask_words(ids, tokenizer, mlm, stream(0, "test"))
    hidden = np.zeros_like(ids, dtype=bool)
    row, slot = np.nonzero(masked.labels_BR != -100)
    hidden[row, masked.positions_BR[row, slot]] = True
    pieces = [tokenizer.backend.id_to_token(i) for i in range(tokenizer.vocabulary)]
    goes_on = np.array([piece.startswith("##") for piece in pieces])[ids]
    assert goes_on.mean() > 0.3
    assert (hidden[:, 1:] == hidden[:, :-1])[goes_on[:, 1:]].all()
    words = tokenizer.is_word_V[ids] & ~goes_on
    assert abs(hidden[words].mean() - mlm.share) < 0.06
    assert not hidden[~tokenizer.is_word_V[ids]].any()


def test_byte_level_words_begin_with_a_space_or_the_text() -> None:
    known = ["<s>", "</s>", "<pad>", "<mask>", "Ġb", "a", "c", "Ġd"]
    backend = tokenizers.Tokenizer(models.BPE({t: i for i, t in enumerate(known)}, []))
    tokenizer = Tokenizer(backend=backend, length=7, pad_id=2, unknown_id=-1, cls_id=0, sep_id=1,
                          mask_id=3, special_ids=(0, 1, 2, 3))  # fmt: skip
    ids = np.array([[0, 5, 6, 4, 5, 7, 1]])  # <s> a c _b a _d </s>
    assert word_starts(ids, tokenizer).tolist() == [[0, 1, 1, 3, 3, 5, 6]]


def test_a_vocabulary_that_marks_no_words_is_refused() -> None:
    backend = tokenizers.Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    tokenizer = Tokenizer(backend=backend, length=3, pad_id=0, unknown_id=0, cls_id=0, sep_id=0,
                          mask_id=0, special_ids=(0,))  # fmt: skip
    with pytest.raises(SettingError, match=r"whole_words.*do not say where words begin"):
        mask_words(np.array([[0, 1, 0]]), tokenizer, MLM(whole_words=True), stream(0, "test"))


def test_positions_ascend_and_padding_is_as_said(corpus: Corpus) -> None:
    batch = batches(corpus, size=600).at(0)
    for positions, labels in zip(batch.mask_positions_BR, batch.mask_labels_BR, strict=True):
        count = int((labels >= 0).sum())
        assert positions[:count].tolist() == sorted(set(positions[:count].tolist()))
        assert not positions[count:].any() and (labels[count:] == -100).all()


def test_a_batch_without_any_mask_gets_one(corpus: Corpus) -> None:
    ids = corpus.train.ids_KL[:2].astype(np.int64)
    for index in range(50):
        masked = mask_words(ids, corpus.tokenizer, MLM(share=1e-6), stream(0, "test", index))
        assert (masked.labels_BR >= 0).sum() == 1
    nothing = np.full_like(ids, corpus.tokenizer.cls_id)
    masked = mask_words(nothing, corpus.tokenizer, MLM(), stream(0, "test"))
    assert (masked.labels_BR == -100).all() and np.array_equal(masked.ids_BL, nothing)


def test_the_width_is_the_binomial_tail() -> None:
    for words in (1, 7, 22, 62):
        chance = np.ones(1)  # of each count of draws, word by word
        for _ in range(words):
            chance = np.convolve(chance, [0.85, 0.15])
        above = 1 - np.cumsum(chance)
        width = widest(words, 0.15)
        assert above[width] < 1e-4 and (width == 1 or above[width - 1] >= 1e-4)
    assert widest(0, 0.15) == 1


def test_validation_batches_are_fixed_and_hold_true_negatives(corpus: Corpus) -> None:
    made = [
        validation_batches(corpus.val, corpus.tokenizer, 70, 32, MLM()) for _ in range(2)
    ]  # fmt: skip
    assert [len(batch) for batch in made[0]] == [24, 23, 23]
    assert len({row for batch in made[0] for row in batch.rows_B.tolist()}) == 70
    for one, other in zip(*made, strict=True):
        assert same(one, other)
        assert torch.equal(one.negative_text_B, other.negative_text_B)
        here = torch.arange(len(one))
        assert not one.match_BB[here, one.negative_text_B].any()
        assert not one.match_BB[one.negative_image_B, here].any()
        assert len(set(one.negative_text_B.tolist())) > 8
    assert len(validation_batches(corpus.val, corpus.tokenizer, 10**6, 96, MLM())[0]) == 96


def test_no_negative_where_everything_matches(corpus: Corpus) -> None:
    (batch,) = validation_batches(corpus.val, corpus.tokenizer, 1, 8, MLM())
    assert batch.negative_image_B.tolist() == batch.negative_text_B.tolist() == [-1]


def test_pixels_are_normalised() -> None:
    image = torch.tensor([0, 51, 255], dtype=torch.uint8).reshape(1, 3, 1, 1)
    batch = Batch(**{f: None for f in Batch.__annotations__} | {"image_BCHW": image})
    assert torch.allclose(batch.pixels().flatten(), torch.tensor([-1, -0.6, 1]))
    assert batch.pixels().dtype == torch.float32


def test_a_moved_batch_is_whole(corpus: Corpus) -> None:
    (batch,) = validation_batches(corpus.val, corpus.tokenizer, 4, 4, MLM())
    there = batch.to("meta")
    assert there.image_BCHW.is_meta and there.identity.group_B.is_meta
    assert there.negative_text_B is not None and there.negative_text_B.is_meta
    assert there.step == batch.step and len(there) == 4


def gradient(size: int = 16) -> np.ndarray:
    """Red grows to the right, green downwards: a cut shows where it was taken."""
    x, y = np.meshgrid(np.arange(size) * 10, np.arange(size) * 10)
    return np.stack([x, y, np.zeros_like(x)], axis=2).astype(np.uint8)


def test_crops_are_as_large_as_asked_and_anywhere() -> None:
    images = np.stack([gradient()] * 2000)
    cut = augmented(images, Augment(kind="crop", smallest_crop=0.25), stream(0, "test")).astype(int)
    width = (cut[:, 8, 15, 0] - cut[:, 8, 0, 0]) / 150
    height = (cut[:, 15, 8, 1] - cut[:, 0, 8, 1]) / 150
    assert (width > 0).all(), "crop alone does not flip"
    area = width * height
    assert 0.2 < area.min() < 0.3 and area.max() > 0.9 and abs(area.mean() - 0.61) < 0.05
    left = cut[:, 8, 0, 0]
    assert left.min() < 5 and left.max() > 60
    flipped = augmented(images, Augment(kind="crop_flip", smallest_crop=0.25), stream(0, "test"))
    backwards = flipped[:, 8, 15, 0].astype(int) < flipped[:, 8, 0, 0]
    assert abs(backwards.mean() - 0.5) < 0.05
    assert np.array_equal(flipped[~backwards], cut[~backwards])
    assert np.array_equal(flipped[backwards][:, :, ::-1], cut[backwards])


def test_a_full_crop_and_none_leave_grey_pictures_as_they_are() -> None:
    images = gradient()[None, :, :, :1]
    assert augmented(images, Augment(), stream(0, "test")) is images
