"""Answers that can be given and how right each is; texts as tokens."""

from pathlib import Path

import numpy as np
import pytest

from harness.training.data.corpus import Corpus, load_corpus
from harness.training.data.items.answers import answer_list, targets_of, vqa_accuracy
from harness.training.data.items.item_floors import item_floors, majority_of
from harness.training.data.items.item_sets import item_sets
from harness.training.data.items.items import Items, ItemSets
from harness.training.data.items.tokens import token_facts, tokens_of
from harness.training.settings.tasks import VQA, Sentences


def answered(*answers: dict[str, float]) -> Items:
    count = len(answers)
    return Items(
        images_PHWC=np.zeros((1, 4, 4, 3), dtype=np.uint8),
        picture_NI=np.zeros((count, 1), dtype=np.int64),
        texts=("?",) * count,
        labels=tuple(next(iter(of_item)) for of_item in answers),
        answers=tuple(tuple(of_item.items()) for of_item in answers),
    )


TRAIN = answered({"yes": 0.6, "no": 0.4}, {"red": 1.0}, {"no": 0.6, "blue": 0.4}, {"ash": 1.0})


def test_the_commonest_answers_come_first_and_ties_by_the_alphabet() -> None:
    assert answer_list(TRAIN, 10) == ("ash", "no", "red", "yes", "blue")
    assert answer_list(TRAIN, 2) == ("ash", "no")
    backwards = TRAIN.take([3, 2, 1, 0])
    assert answer_list(backwards, 10) == answer_list(TRAIN, 10)


def test_three_of_ten_people_are_enough() -> None:
    items = answered({"red": 0.7, "blue": 0.2, "ash": 0.1}, {"no": 1.0}, {"green": 1.0})
    targets_NK = targets_of(items, ("ash", "no", "red", "blue"))
    assert targets_NK.dtype == np.float32
    expected = [[1 / 3, 0, 1, 2 / 3], [0, 1, 0, 0], [0, 0, 0, 0]]
    assert np.allclose(targets_NK, expected)
    assert targets_of(answered({"a": 0.3, "b": 0.7}), ("a", "b")).tolist() == [[1.0, 1.0]]


def test_accuracy_of_answers_that_are_given() -> None:
    items = answered({"red": 0.7, "blue": 0.2, "ash": 0.1}, {"no": 1.0}, {"two dogs": 1.0})
    assert np.allclose(vqa_accuracy(("blue", "yes", " Two  Dogs"), items), [2 / 3, 0, 1])
    with pytest.raises(ValueError, match="argument 2 is longer"):
        vqa_accuracy(("red",), items)


def test_targets_and_accuracy_agree(two_things: Corpus) -> None:
    sets = item_sets(two_things, VQA(train_items=200, items=100))
    answers = answer_list(sets.train, 3129)
    targets_NK = targets_of(sets.test, answers)
    best_N = targets_NK.argmax(axis=1)
    accuracy_N = vqa_accuracy([answers[best] for best in best_N], sets.test)
    assert np.array_equal(accuracy_N, targets_NK.max(axis=1)) and accuracy_N.mean() > 0.9


def test_floors_earn_by_the_rule_of_designs(tmp_path: Path) -> None:
    """Enough people say no to every question: who always says no is right."""
    items = answered(*[{"yes": 0.6, "no": 0.4}, {"no": 0.6, "yes": 0.4}, {"no": 1.0}] * 10)
    sets = ItemSets(train=items, val=items, test=items, content="weighted")
    floors = item_floors(sets, tmp_path)
    assert floors and majority_of(items) == floors.majority == 1.0
    assert floors.text_only == floors.picture_only == 1.0
    rare = answered({"no": 0.9, "yes": 0.1}, {"red": 0.9, "yes": 0.1}, {"ash": 0.9, "yes": 0.1})
    assert np.isclose(majority_of(rare), 1 / 3)


def test_texts_are_padded_to_the_longest_or_cut(corpus: Corpus) -> None:
    words = corpus.tokenizer
    texts = ("red circle", "small blue square at top left", "red")
    ids_NL = tokens_of(words, texts, 64)
    assert ids_NL.dtype == np.int32 and (ids_NL[:, 0] == words.cls_id).all()
    assert ids_NL.shape[1] == max((ids_NL != words.pad_id).sum(axis=1))
    assert words.decode(ids_NL[0]) == "red circle"
    cut_NL = tokens_of(words, texts, 4)
    assert cut_NL.shape == (3, 4) and cut_NL[1, -1] == words.sep_id
    facts = token_facts(words, (*texts, "quiz"), 4)
    assert (facts.texts, facts.cut, facts.longest) == (4, 2, ids_NL.shape[1])
    assert tokens_of(words, (), 4).shape == (0, 0)


def test_two_texts_have_a_separator_each(corpus: Corpus) -> None:
    words = corpus.tokenizer
    (ids_L,) = tokens_of(words, ("red circle [SEP] blue",), 64)
    first, second = (tokens_of(words, (text,), 64)[0] for text in ("red circle", "blue"))
    assert ids_L.tolist() == [*first, *second[1:]]


def test_with_every_latin_letter_no_word_of_items_is_unknown(two_things: Corpus) -> None:
    task = Sentences(train_items=80, items=80)
    texts = item_sets(two_things, task).train.texts
    unknown, cut = token_facts(two_things.tokenizer, texts, 8).notes
    assert "data.text.alphabet='latin'" in unknown and cut.startswith("80 of 80 texts are cut")
    latin = load_corpus(two_things.data.with_field("text.alphabet", "latin"), 16, two_things.cache)
    assert token_facts(latin.tokenizer, texts, 64).notes == ()
    (note,) = token_facts(latin.tokenizer, ("red?", "red! quiz"), 64).notes
    assert note.endswith("as '?'"), "no setting helps where letters are spelled already"
    assert latin.training != two_things.training
