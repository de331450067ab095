"""`fuselab look`: what a trained design says of a picture, what it cannot, and bad input."""

import copy
import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from architectures import build
from architectures.frozen import SettingError
from architectures.layers.heads import MLMHead
from harness.commands.look import _check
from harness.commands.main import app
from harness.export.export import export
from harness.export.opened import Opened, opened
from harness.outputs.find import find_run
from harness.outputs.records import ScoresRecord
from harness.training.data.items.items import Items
from harness.training.objectives import said
from harness.training.tasks import grounding
from tests.architectures.conftest import seeded

FUSED, ALIGNED = "tiny/k1/0", "tiny/dual_encoder/0"


def look(ran: Path, tmp_path: Path, *words: str, status: int = 0) -> str:
    """Runs the command as in 80 columns and returns what it prints."""
    out = ["--out", str(tmp_path / "map.png")] if status == 0 and "--out" not in words else []
    command = ["look", *words, *out, "--outputs", str(ran)]
    result = CliRunner().invoke(app, command, env={"COLUMNS": "80"})
    assert result.exit_code == status, result.output
    return result.output


@pytest.fixture(scope="module")
def fused(ran: Path) -> Opened:
    return opened(ran, FUSED)


def test_a_run_says_match_words_map_and_captions(ran: Path, tmp_path: Path) -> None:
    output = look(ran, tmp_path, FUSED, "test:3", "--say", "a red circle")
    assert re.search(r"'a red circle': matches with probability 0\.\d{3}, cosine", output)
    for word in ("a", "red", "circle"):
        assert re.search(rf"^ *{word} +\S+ \d+ % +\S+ \d+ % +\S+ \d+ %", output, re.M), output
    assert "the first 16 by ITC, ranked again by ITM" in output
    with Image.open(tmp_path / "map.png") as picture:
        assert picture.width > 500


def test_what_a_design_cannot_do_is_said_in_words(ran: Path, tmp_path: Path) -> None:
    output = look(ran, tmp_path, ALIGNED, "test:3", "--say", "a red circle")
    assert "'a red circle': cosine" in output and "%" not in output
    assert "No match probability, because its towers meet only in the contrastive loss." in output
    assert "No masked words, because its towers meet only in the contrastive loss." in output
    assert "(by ITC)" in output and (tmp_path / "map.png").exists()  # a map of its image tower


def test_a_file_is_read_like_the_row_it_was(ran: Path, tmp_path: Path, fused: Opened) -> None:
    Image.fromarray(fused.picture("test:3")).save(tmp_path / "3.png")
    by_row = look(ran, tmp_path, FUSED, "test:3", "--say", "blue")
    assert look(ran, tmp_path, FUSED, str(tmp_path / "3.png"), "--say", "blue") == by_row


def test_an_exported_folder_says_the_same_but_for_captions(
    ran: Path, tmp_path: Path, fused: Opened
) -> None:
    export(ran, FUSED, tmp_path / "mine")
    picture = tmp_path / "3.png"
    Image.fromarray(fused.picture("test:3")).save(picture)
    by_run = look(ran, tmp_path, FUSED, str(picture), "--say", "a red circle").splitlines()
    by_folder = look(ran, tmp_path, str(tmp_path / "mine"), str(picture), "--say", "a red circle")
    assert by_folder.splitlines()[:5] == by_run[:5]
    assert "No captions: mine is an exported folder, which holds no data." in by_folder
    output = look(ran, tmp_path, str(tmp_path / "mine"), "test:3", "--say", "red", status=2)
    assert "without data; name a file" in output


def test_grounding_items_are_drawn_without_the_model(
    ran: Path, tmp_path: Path, fused: Opened
) -> None:
    assert fused.run
    items = Items(
        images_PHWC=np.zeros((3, 8, 8, 3), dtype=np.uint8),
        picture_NI=np.arange(3)[:, None],
        texts=("red", "blue", "green"),
        box=((0.0, 0.0, 0.5, 0.5),) * 3,
    )
    map_Nhw = np.ones((3, 4, 4))
    scores = grounding.scores_of(items, map_Nhw, map_Nhw, "Grad-CAM by hand", {})
    file = fused.run.scores / "where.json"
    record = ScoresRecord(
        task="where", protocol=scores.protocol, scores=scores.scores, levels=scores.levels
    )
    record.write(file)
    np.savez_compressed(file.with_suffix(".npz"), **scores.predictions)
    fused.run.weights.rename(tmp_path / "away")
    try:
        assert "wrote" in look(ran, tmp_path, FUSED)
    finally:
        (tmp_path / "away").rename(fused.run.weights)
        file.unlink()
        file.with_suffix(".npz").unlink()
    with Image.open(tmp_path / "map.png") as picture:
        assert picture.width > picture.height  # two items in the first line


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((FUSED, "--say", "red"), "of which picture"),
        ((FUSED, "missing.png", "--say", "red"), "IMAGE missing.png: there is no such file"),
        ((FUSED, "test:24", "--say", "red"), "test has rows 0 to 23"),
        ((FUSED, "test:-1"), "test has rows 0 to 23"),
        ((FUSED, "test:3", "--say", "red " * 70), "has 72 tokens, .* reads at most 64"),
        ((FUSED, "test:3", "--say", "red", "--out", "map.txt"), "ends in .png or .svg"),
        ((FUSED, "test:3", "--say", "red", "--layer", "7"), "take 0 to 1"),
        ((FUSED,), "no scores of grounding"),
        (("tiny/k7/0", "test:3"), "k7"),
        (("zzz", "test:3"), "'zzz' fits no run"),
    ],
)
def test_bad_input_is_said_in_a_line(
    ran: Path, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    output = look(ran, tmp_path, *words, status=2)
    assert re.search(message, output) and len(output.splitlines()) == 1, output


def test_what_is_no_picture_and_no_run_is_refused(ran: Path, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    output = look(ran, tmp_path, FUSED, str(tmp_path / "text.png"), status=2)
    assert "not a picture that can be read" in output
    output = look(ran, tmp_path, str(tmp_path), "test:3", status=2)
    assert "none that `fuselab export` wrote" in output
    (find_run(ran, FUSED).path / "status.json").rename(tmp_path / "status")
    try:
        output = look(ran, tmp_path, FUSED, "test:3", status=2)
    finally:
        (tmp_path / "status").rename(find_run(ran, FUSED).path / "status.json")
    assert "only finished runs are exported or looked at" in output


def test_words_are_hidden_in_turn_whole(fused: Opened) -> None:
    tokens = fused.tokenizer
    text = "A red  circle zzxqj"
    rows = said.hidden_words(tokens, text)
    assert [word for word, *_ in rows] == ["A", "red", "circle", "zzxqj"]
    whole = tokens.backend.encode(text).ids
    for word, ids, place in rows:
        assert ids.count(tokens.mask_id) == 1 and ids[place] == tokens.mask_id
        pieces = tokens.backend.encode(word).ids[1:-1]
        assert [*ids[:place], *pieces, *ids[place + 1 :]] == whole
    masked = said.hidden_words(tokens, "a [MASK] circle [MASK]")
    assert [(word, place) for word, _, place in masked] == [("[MASK]", 2), ("[MASK]", 4)]


def test_unknown_words_are_named(ran: Path, tmp_path: Path, fused: Opened) -> None:
    assert said.unknown_words(fused.tokenizer, "red \u4f60 circle") == ["\u4f60"]
    output = look(ran, tmp_path, FUSED, "test:3", "--say", "red \u4f60 circle")
    assert "'\u4f60' cannot be spelled by its tokenizer" in output
    output = look(ran, tmp_path, FUSED, "test:3", "--say", "\u4f60", status=2)
    assert "knows none of these words" in output


def test_guesses_are_the_heads_softmax_over_words(fused: Opened) -> None:
    image = fused.picture("test:3")
    design, tokens = fused.design, fused.tokenizer
    (row,) = said.filled(design, tokens, image, "a [MASK] circle", top=3)
    ids = torch.tensor([tokens.backend.encode("a [MASK] circle").ids])
    pixels = torch.tensor(image).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.no_grad():
        text = design.encode_text(ids, torch.ones_like(ids, dtype=torch.bool))
        logits = design.heads["mlm"](design.fuse(design.encode_image(pixels), text).text_BRD)[0, 2]
    odds = logits.softmax(-1)
    best = [i for i in odds.argsort(descending=True).tolist() if i not in tokens.special_ids][:3]
    assert [word for word, _ in row.guesses] == [tokens.backend.id_to_token(i) for i in best]
    assert [p for _, p in row.guesses] == pytest.approx([float(odds[i]) for i in best], rel=1e-4)


@pytest.fixture
def writer(fused: Opened) -> Opened:
    """The same with a head of LM, as it was drawn."""
    design = copy.deepcopy(fused.design)
    torch.manual_seed(0)
    design.heads["lm"] = MLMHead(design.word_embedding(), 1e-12).eval()
    return dataclasses.replace(fused, design=design)


@torch.no_grad()
def by_hand(opened: Opened, pixels: np.ndarray) -> list[int]:
    """Word after word, each from the whole caption so far by itself."""
    design, tokens = opened.design, opened.tokenizer
    image = design.encode_image(torch.tensor(pixels).permute(2, 0, 1)[None] / 127.5 - 1)
    ids = [tokens.cls_id]
    while len(ids) < said.SAID and (len(ids) == 1 or ids[-1] != tokens.sep_id):
        so_far = torch.tensor([ids])
        text = design.encode_caption(so_far, so_far >= 0, torch.tensor([1]))
        logits = design.heads["lm"](design.fuse(image, text).text_BRD)[0, -1].tolist()
        ids.append(max([*tokens.word_ids.tolist(), tokens.sep_id], key=logits.__getitem__))
    return ids


def test_a_caption_is_said_word_after_word(ran, tmp_path, writer, monkeypatch) -> None:
    tokens, picture = writer.tokenizer, writer.picture("test:3")
    bias = writer.design.heads["lm"].decoder.bias.data
    lengths = []
    for end in (-9.0, 0.5, 9.0):  # never, now and then, at once
        bias[tokens.sep_id] = end
        ids = by_hand(writer, picture)
        lengths.append(len(ids))
        assert said.caption(writer.design, tokens, picture) == tokens.decode(ids)
    assert lengths[0] == said.SAID > lengths[1] > lengths[2] == 2
    bias[tokens.sep_id] = 0.5
    monkeypatch.setattr("harness.export.opened.opened", lambda *_: writer)
    assert f"It says: {said.caption(writer.design, tokens, picture)!r}" in look(
        ran, tmp_path, FUSED, "test:3"
    )


def test_a_caption_ends_where_image_tokens_leave_no_place(fused: Opened) -> None:
    tokens, small = fused.tokenizer, fused.design.backbone
    fields = {"mask": "causal", "positions": "shared"}
    design = build.design(
        "token_insertion", fields, small, tokens.vocabulary,
        objectives=("itc", "itm", "lm"), draw=seeded(0),
    ).eval()  # fmt: skip
    assert design.longest_text < min(said.SAID, small.longest_text)
    design.heads["lm"].decoder.bias.data[tokens.sep_id] = -99.0
    lengths = []
    design.embeddings.register_forward_pre_hook(lambda _, its: lengths.append(its[0].shape[1]))
    said.caption(design, tokens, fused.picture("test:3"))
    assert max(lengths) == design.longest_text - 1
    longest = dataclasses.replace(fused, design=design, name="inserted")
    with pytest.raises(SettingError, match=f"reads at most {design.longest_text}: use fewer"):
        _check(longest, "red " * design.longest_text)


def test_without_lm_no_caption_is_said(ran, tmp_path, fused: Opened) -> None:
    output = look(ran, tmp_path, FUSED, "test:3")
    assert "No caption of its own, because it was trained without LM." in output
    output = look(ran, tmp_path, ALIGNED, "test:3")
    assert "No caption of its own, because its towers meet only in the contrastive loss." in output
    with pytest.raises(SettingError, match="split_bert says no caption, because it was trained"):
        said.caption(fused.design, fused.tokenizer, fused.picture("test:3"))


def test_best_captions_are_ranked_by_itm_among_the_first_by_itc(fused: Opened) -> None:
    assert fused.corpus
    image = fused.picture("test:3")
    captions = sorted({c for own in fused.corpus.test.captions for c in own})
    every = said.matches(fused.design, fused.tokenizer, image, captions)
    assert [each.text for each in every] == captions
    listed = sorted(every, key=lambda each: -(each.cosine or 0))[: said.RANKED]
    wanted = sorted(listed, key=lambda each: -(each.match or 0))[:5]
    best = said.best_captions(fused.design, fused.tokenizer, image, captions, 5)
    assert [each.match for each in best] == pytest.approx([each.match for each in wanted], abs=1e-5)
