from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers, processors

from architectures.frozen import SettingError
from harness.training.data.cache import DataError
from harness.training.data.tokenized import tokenized
from harness.training.data.tokenizer import SPECIAL, Tokenizer
from harness.training.data.wordpiece import train_wordpiece
from harness.training.settings.data import Text

CAPTIONS = {
    "train": ["A red circle", "a blue circle at top left", "two red rings"],
    "val": ["a red ring"],
    "test": ["a blue square at the very top of it all"],
}
WORDS = [*SPECIAL, "a", "red", "circle", "blue", "ring", "##s"]


def saved_tokenizer(
    folder: Path, words: list[str] = WORDS, ends: bool = True, **special: str
) -> str:
    """A local folder as transformers writes it."""
    from transformers import PreTrainedTokenizerFast

    backend = Backend(models.WordPiece({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    if ends:
        ids = [("[CLS]", words.index("[CLS]")), ("[SEP]", words.index("[SEP]"))]
        backend.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, ids)
    names = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    names |= {"mask_token": "[MASK]"} | special
    theirs = PreTrainedTokenizerFast(
        tokenizer_object=backend, **{n: t for n, t in names.items() if t}
    )
    theirs.save_pretrained(folder)
    return str(folder)


def test_special_tokens_come_first_and_captions_are_lower_case() -> None:
    tokenizer, _, _ = tokenized(Text(), CAPTIONS)
    assert [tokenizer.backend.token_to_id(t) for t in SPECIAL] == [0, 1, 2, 3, 4]
    assert set(tokenizer.word_ids) == set(range(5, tokenizer.vocabulary))
    ids, real = tokenizer.encode(["A RED circle", "a red circle"])
    assert ids[0].tolist() == ids[1].tolist()
    assert ids[0, :5].tolist()[0] == tokenizer.cls_id and ids[0][real[0]][-1] == tokenizer.sep_id
    assert tokenizer.decode(ids[0]) == "a red circle"


def test_every_row_has_the_length_of_the_longest_training_caption() -> None:
    tokenizer, ids, facts = tokenized(Text(vocabulary=200), CAPTIONS)
    longest = int((ids["train"] != 0).sum(1).max())
    assert {split.shape[1] for split in ids.values()} == {longest} == {tokenizer.length}
    assert facts["captions"] == 5 and facts["train_cut"] == 0


def test_cut_captions_keep_their_end_token_and_are_counted() -> None:
    tokenizer, ids, facts = tokenized(Text(vocabulary=200, max_tokens=6), CAPTIONS)
    assert tokenizer.length == 6 and facts["test_cut"] == 1
    assert ids["test"][0, -1] == tokenizer.sep_id
    tokenizer.backend.enable_truncation(max_length=6)  # the library's own rule is the reference
    theirs = [e.ids for e in tokenizer.backend.encode_batch(CAPTIONS["test"])]
    assert ids["test"].tolist() == theirs


def test_words_of_val_and_test_are_not_learned() -> None:
    tokenizer, _, _ = tokenized(Text(), CAPTIONS)
    assert "square" not in tokenizer.backend.get_vocab()
    assert "circle" in tokenizer.backend.get_vocab()


def test_training_again_gives_the_same_vocabulary() -> None:
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abcdefgh"), 4)) for _ in range(300)]
    captions = [" ".join(rng.choice(words, 6)) for _ in range(200)]  # many ties
    first = train_wordpiece(captions, 150).backend.get_vocab()
    assert len(first) == 150
    for _ in range(10):  # the library's hash tables have another order each time
        assert train_wordpiece(captions, 150).backend.get_vocab() == first


def test_inner_letters_are_not_words_of_their_own() -> None:
    tokenizer, _, _ = tokenized(Text(), CAPTIONS)
    said = tokenizer.backend.encode("##e circle e").tokens  # in the vocabulary, but not special
    assert said == ["[CLS]", "[UNK]", "[UNK]", "e", "circle", "e", "[SEP]"]


def test_a_vocabulary_below_the_letters_is_refused() -> None:
    with pytest.raises(SettingError, match=r"text.vocabulary=8 is less than .* need: \d+"):
        tokenized(Text(vocabulary=8), CAPTIONS)


def test_saved_and_loaded_is_the_same(tmp_path: Path) -> None:
    tokenizer, ids, _ = tokenized(Text(), CAPTIONS)
    tokenizer.save(tmp_path)
    again = Tokenizer.load(tmp_path)
    assert again.encode(CAPTIONS["val"])[0].tolist() == ids["val"].tolist()
    assert again.special_ids == tokenizer.special_ids and again.length == tokenizer.length


def test_a_hugging_face_folder_is_used_as_it_is(tmp_path: Path) -> None:
    words = ["[MASK]", "a", "[SEP]", "red", "[PAD]", "circle", "[UNK]", "[CLS]"]
    name = saved_tokenizer(tmp_path, words)
    tokenizer, ids, facts = tokenized(Text(tokenizer=name), CAPTIONS)
    assert (tokenizer.pad_id, tokenizer.mask_id, tokenizer.vocabulary) == (4, 0, 8)
    assert tokenizer.word_ids.tolist() == [1, 3, 5]
    assert ids["val"][0, :5].tolist() == [7, 1, 3, 6, 2], "[CLS] a red [UNK] [SEP]"
    assert set(ids["val"][0, 5:]) == {4}
    assert facts["unknown_share"] > 0.2


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"mask_token": ""}, "no mask token"), ({"ends": False}, "must end"),
     ({"pad_token": "[SEP]"}, "not pad by it")],
)  # fmt: skip
def test_a_tokenizer_that_cannot_serve_is_refused(
    tmp_path: Path, changes: dict[str, str], said: str
) -> None:
    name = saved_tokenizer(tmp_path, **changes)
    with pytest.raises(SettingError, match=said):
        tokenized(Text(tokenizer=name), CAPTIONS)


def test_other_splits_reach_neither_words_nor_length() -> None:
    tokenizer, ids, facts = tokenized(Text(vocabulary=200), CAPTIONS)
    longer = CAPTIONS | {"test": ["a red ring " * 9], "val": ["quartz " * 9]}
    other, others_ids, others_facts = tokenized(Text(vocabulary=200), longer)
    assert tokenizer.length == other.length == 8  # a blue circle at top left
    assert tokenizer.backend.to_str() == other.backend.to_str()
    assert np.array_equal(ids["train"], others_ids["train"])
    assert others_facts["test_cut"] == others_facts["val_cut"] == 1
    assert others_ids["test"][0, -1] == tokenizer.sep_id and facts["train_cut"] == 0


HINDI = ["\u0915\u0942\u0938", "\u0915\u0941\u0938"]  # two words that differ in a vowel sign


@pytest.mark.parametrize(("normaliser", "alike"), [("bert", 2), ("lower", 0), ("none", 0)])
def test_marks_that_are_letters(normaliser: str, alike: int) -> None:
    captions = {"train": [*HINDI, "\u00c9t\u00e9", "E\u0301te\u0301"], "val": ["a"], "test": ["a"]}
    tokenizer, ids, facts = tokenized(Text(normaliser=normaliser), captions)
    one, other, composed, apart = ids["train"].tolist()
    assert (one == other) == (normaliser == "bert")
    assert facts["captions_alike"] == alike
    assert composed == apart, "a letter may be written in two ways"
    assert tokenizer.decode(composed) == {"bert": "ete", "lower": "\u00e9t\u00e9"}.get(
        normaliser, "\u00c9t\u00e9"
    )


def test_a_normaliser_is_of_a_trained_tokenizer_only() -> None:
    with pytest.raises(ValueError, match="normaliser is for a trained wordpiece"):
        Text(tokenizer="bert-base-uncased", normaliser="lower")


def test_a_caption_without_a_token_is_refused() -> None:
    with pytest.raises(
        DataError, match=r"val: of the caption '\\ufffd' the tokenizer leaves nothing"
    ):
        tokenized(Text(), CAPTIONS | {"val": ["\ufffd"]})


def test_a_tokenizer_without_a_fast_form_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    class Slow:
        is_fast = False

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", lambda *a, **k: Slow())
    with pytest.raises(SettingError, match=r"tokenizer 'slow' \(Slow\) has no fast form"):
        tokenized(Text(tokenizer="slow"), CAPTIONS)
