"""Wrong captions of the same words: drawn apart from all else, fused as if one by one."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch.nn.functional import cross_entropy
from torch.utils.flop_counter import FlopCounterMode

from architectures import build, registry
from architectures.backbone import scale
from harness.runs.assemble import counted_flops
from harness.training.data.batches import Batches, digest_after
from harness.training.data.cache import DataError
from harness.training.data.corpus import Corpus, load_corpus
from harness.training.objectives.forward import terms, total
from harness.training.objectives.itm import Negatives
from harness.training.objectives.state import ObjectiveState
from harness.training.randomness import stream
from harness.training.settings.data import Pictures, Scenes, Text
from harness.training.settings.objectives import ITM, Objectives
from harness.training.settings.spec import Asked, RunSpec, TrainSpec
from tests.training.objectives.conftest import SMALL, for_design

DATA = Scenes(
    train=60, val=8, test=8, objects=(2, 2), sizes=("large",), text=Text(vocabulary=200)
)  # fmt: skip
ROWS = 6
SWAPS = Objectives(itm=ITM(swap_share=0.5, hard_share=0.0))
MATCHING = [name for name in registry.names() if "itm" in for_design(name, SWAPS).active()]


@pytest.fixture(scope="module")
def pairs_of_things(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return load_corpus(DATA, SMALL.image_size, tmp_path_factory.mktemp("cache"), swaps=True)


def batches(corpus: Corpus, share: float) -> Batches:
    return Batches(
        corpus.train, corpus.tokenizer, ROWS, 3, SWAPS.mlm, swap_share=share
    )  # fmt: skip


def test_they_say_the_same_words_of_the_same_row(pairs_of_things: Corpus) -> None:
    corpus = pairs_of_things
    brought = 0
    for step in range(8):
        batch = batches(corpus, 0.5).at(step)
        for row, at in enumerate(batch.swapped_at_B.tolist()):
            if at >= 0:
                words, others = batch.ids_BL[row], batch.swapped_ids_SL[at]
                assert sorted(words.tolist()) == sorted(others.tolist())
                assert words.tolist() != others.tolist()
                assert batch.swapped_is_real_SL[at].equal(others != corpus.tokenizer.pad_id)
                brought += 1
    assert 12 < brought < 36  # of 48 rows, half
    assert (batches(corpus, 1.0).at(0).swapped_at_B == torch.arange(ROWS)).all()


def test_nothing_else_is_drawn_anew(pairs_of_things: Corpus) -> None:
    """Pictures, captions and masks of a step are those of a run without such negatives."""
    without, with_swaps = (batches(pairs_of_things, share).at(5) for share in (0.0, 0.5))
    assert without.swapped_ids_SL is None
    bare = dataclasses.replace(
        with_swaps, swapped_ids_SL=None, swapped_is_real_SL=None, swapped_at_B=None
    )
    assert digest_after("", bare) == digest_after("", without) == digest_after("", with_swaps)
    again = batches(pairs_of_things, 0.5).at(5)
    assert again.swapped_ids_SL.equal(with_swaps.swapped_ids_SL)


@pytest.mark.parametrize("name", MATCHING)
@pytest.mark.parametrize("packed", [False, True])
def test_each_pair_as_if_alone(name: str, packed: bool, pairs_of_things: Corpus) -> None:
    corpus, objectives = pairs_of_things, for_design(name, SWAPS)
    batch = batches(corpus, 0.5).at(1)
    assert len(batch.swapped_ids_SL) in range(1, ROWS)
    design = build.design(
        name, {}, SMALL, corpus.tokenizer.vocabulary, objectives=objectives.active(),
        draw=lambda role: stream(0, "init", role),
    ).eval()  # fmt: skip
    wrong_B = torch.arange(ROWS).roll(1)
    state = ObjectiveState(objectives, design)
    with torch.no_grad():
        losses = terms(
            design, state, batch, negatives=Negatives(wrong_B, wrong_B), packed=packed
        )  # fmt: skip
    expected = 0.0
    for row in range(ROWS):
        at, wrong = int(batch.swapped_at_B[row]), int(wrong_B[row])
        third = batch.ids_BL[wrong] if at < 0 else batch.swapped_ids_SL[at]
        for picture, ids, label in (
            (row, batch.ids_BL[row], 1), (wrong, batch.ids_BL[row], 0), (row, third, 0),
        ):  # fmt: skip
            with torch.no_grad():
                image = design.encode_image(batch.pixels()[picture, None])
                text = design.encode_text(ids[None], ids[None] != corpus.tokenizer.pad_id)
                logits = design.heads["itm"](design.fuse(image, text).pooled_BD)
            expected += float(cross_entropy(logits, torch.tensor([label])))
    assert float(losses.terms["itm"].loss) == pytest.approx(expected / (3 * ROWS), rel=1e-5)


@pytest.mark.parametrize("name", ["split_bert", "single_stream"])
def test_their_flops_are_counted(name: str, tmp_path: Path) -> None:
    nano, rows = scale("nano"), 30
    corpus = load_corpus(DATA, nano.image_size, tmp_path, swaps=True)
    objectives = for_design(name, SWAPS)
    spec = TrainSpec(
        design=name, backbone=nano, objectives=objectives, batch_size=rows, seed=0, data=""
    )
    every = Batches(corpus.train, corpus.tokenizer, rows, 0, objectives.mlm, swap_share=0.5)
    batch = next(b for b in map(every.at, range(40)) if len(b.swapped_ids_SL) == rows // 2)
    batch = batch.to("meta")
    with torch.device("meta"):
        design = build.construct(
            name, {}, nano, corpus.tokenizer.vocabulary, objectives.active()
        ).train()  # fmt: skip
        wrong_B = torch.zeros(rows, dtype=torch.int64)
    state = ObjectiveState(objectives, design).to("meta")
    with FlopCounterMode(display=False) as counter:
        losses = terms(design, state, batch, negatives=Negatives(wrong_B, wrong_B))
        total(losses.terms, objectives).backward()
    counted = counted_flops(RunSpec(train=spec, asked=Asked(data=DATA)), corpus)
    assert counted == pytest.approx(counter.get_total_flops() / rows, rel=0.01)


def test_captions_of_ones_own_by_rule(tmp_path: Path) -> None:
    """Half of these captions have two words that may change places, and the notes say so."""
    colours = ["red", "blue", "green", "black"]
    words = [f"{a} hat on {b} table" for a in colours for b in colours if a != b]
    words += [f"picture {number}" for number in range(len(words))]
    file = tmp_path / "own.parquet"
    pictures = []
    for number in range(len(words)):
        buffer = io.BytesIO()
        Image.new("RGB", (16, 16), (number, 2 * number, 255)).save(buffer, "png")
        pictures.append(buffer.getvalue())
    pq.write_table(pa.table({"image": pictures, "caption": words}), file)
    data = Pictures(train=str(file))
    corpus = load_corpus(data, 16, tmp_path / "cache", swaps=True)
    assert any("have their words in another arrangement" in note for note in corpus.notes)
    assert 0 < corpus.train.swapped_share < 1
    texts = [caption for captions in corpus.train.captions for caption in captions]
    for text, ids in zip(texts, corpus.train.swapped_ids_KL, strict=True):
        swapped = corpus.tokenizer.decode(ids)
        assert (swapped == "") == text.startswith("picture")
        assert sorted(swapped.split()) == (sorted(text.split()) if swapped else [])
    assert load_corpus(data, 16, tmp_path / "cache").train.swapped_ids_KL is None


def test_captions_without_any_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"swap_share.*no training caption"):
        load_corpus(Scenes(train=8, val=2, test=2), 16, tmp_path, swaps=True)
