"""WordPiece tokenizers are trained on a study's own captions."""

from __future__ import annotations

import string
from collections.abc import Sequence

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from architectures.frozen import SettingError
from harness.training.data.tokenizer import SPECIAL, Tokenizer, words_of

_LATIN = string.ascii_letters + string.digits


def train_wordpiece(
    captions: Sequence[str], vocabulary: int, normaliser: str = "bert", alphabet: str = "captions"
) -> Tokenizer:
    """Trains a WordPiece with BERT's rules; the same captions give the same vocabulary.

    `normaliser`, `alphabet`: see `settings.Text`. Raises `SettingError` where letters alone are
    more than `vocabulary`.

    The library numbers letters inside words (`##a`) in the order of a hash table, which also breaks
    ties between merges, so two trainings differ. Naming them first, as if special, fixes
    both; the tokenizer is then built anew from the vocabulary, where they are not special.
    """
    blank = wordpiece(dict(zip(SPECIAL, range(len(SPECIAL)), strict=True)), normaliser)
    words = words_of(blank, list(dict.fromkeys(captions)))
    more = set(blank.normalizer.normalize_str(_LATIN)) if alphabet == "latin" else set[str]()
    letters = sorted({letter for word in words for letter in word} | more)
    inside = sorted({letter for word in words for letter in word[1:]} | more)
    first = [*SPECIAL, *letters, *(f"##{letter}" for letter in inside)]
    if len(first) > vocabulary:
        raise SettingError(
            f"text.vocabulary={vocabulary} is less than the letters of the captions need: "
            f"{len(first)}"
        )
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocabulary,
        special_tokens=first,
        limit_alphabet=len(letters),
        show_progress=False,
    )
    blank.train_from_iterator(captions, trainer)
    ids = range(len(SPECIAL))
    special = dict(zip(("pad_id", "unknown_id", "cls_id", "sep_id", "mask_id"), ids, strict=True))
    backend = wordpiece(blank.get_vocab(with_added_tokens=True), normaliser)
    return Tokenizer(backend=backend, length=0, special_ids=tuple(ids), **special)


def wordpiece(vocabulary: dict[str, int], normaliser: str) -> tokenizers.Tokenizer:
    wordpiece = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    wordpiece.add_special_tokens(list(SPECIAL))
    wordpiece.normalizer = _normalizer(normaliser)
    wordpiece.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    wordpiece.decoder = decoders.WordPiece()
    wordpiece.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return wordpiece


def _normalizer(name: str) -> normalizers.Normalizer:
    if name == "bert":
        return normalizers.BertNormalizer(lowercase=True)
    keeps_marks = normalizers.BertNormalizer(lowercase=name == "lower", strip_accents=False)
    return normalizers.Sequence([normalizers.NFC(), keeps_marks])
