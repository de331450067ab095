import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from harness.training.data.batches import Batches
from harness.training.data.cache import DataError
from harness.training.data.corpus import Corpus, content_key, load_corpus
from harness.training.data.decoding import Decoded, Square, decode
from harness.training.data.holding_out import families, hold_out
from harness.training.settings.data import Pictures, Text
from harness.training.settings.objectives import MLM
from tests.training.data.conftest import encoded, png

Write = Callable[..., str]


def square(**changes: Any) -> Square:
    return Square(**{"side": 8, "channels": 3, "fit": "squash"} | changes)


def seen(content: Any, folder: Path = Path(), **changes: Any) -> np.ndarray:
    decoded = decode(content, folder, square(**changes))
    assert not decoded.problem, decoded.problem
    return decoded.image_SSC


def halves(mode: str, left: Any, right: Any, size: tuple[int, int] = (8, 8)) -> Image.Image:
    picture = Image.new(mode, size, left)
    picture.paste(right, (size[0] // 2, 0, *size))
    return picture


def load(data: Pictures, tmp_path: Path, **options: Any) -> Corpus:
    return load_corpus(data, 8, tmp_path / "cache", **options)


def test_a_plain_picture_is_decoded_as_pillow_does() -> None:
    content = png(3, size=(8, 8))
    assert np.array_equal(seen(content), np.asarray(Image.open(io.BytesIO(content))))


def test_transparency_is_put_on_white() -> None:
    rgba = halves("RGBA", (255, 0, 0, 255), (0, 0, 255, 0))
    palette = halves("P", 0, 1)
    palette.putpalette([255, 0, 0, 0, 0, 255])
    keyed = halves("RGB", (255, 0, 0), (0, 0, 255))
    for content in (
        encoded(rgba),
        encoded(palette, transparency=1),
        encoded(keyed, transparency=(0, 0, 255)),
    ):
        image = seen(content)
        assert image[:, 0].tolist() == [[255, 0, 0]] * 8
        assert image[:, -1].tolist() == [[255, 255, 255]] * 8
    half = seen(encoded(Image.new("LA", (8, 8), (0, 128))))
    assert abs(half.astype(int) - 127).max() <= 1


def test_palettes_greys_and_sixteen_bits_become_rgb() -> None:
    palette = halves("P", 0, 1)
    palette.putpalette([10, 20, 30, 40, 50, 60])
    assert seen(encoded(palette))[0, 0].tolist() == [10, 20, 30]
    assert seen(encoded(Image.new("L", (8, 8), 77)))[0, 0].tolist() == [77] * 3
    deep = Image.fromarray(np.full((8, 8), 200 * 256 + 5, dtype=np.uint16))
    assert seen(encoded(deep))[0, 0].tolist() == [200] * 3
    assert seen(encoded(Image.new("1", (8, 8), 1)))[0, 0].tolist() == [255] * 3
    assert seen(png(size=(8, 8)), channels=1).shape == (8, 8, 1)


def test_exif_orientation_is_applied() -> None:
    upright = halves("RGB", (255, 0, 0), (0, 0, 255))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter to the right: left becomes top
    image = seen(encoded(upright, exif=exif))
    assert image[0].tolist() == [[255, 0, 0]] * 8 and image[-1].tolist() == [[0, 0, 255]] * 8


def test_fits() -> None:
    wide = Image.new("RGB", (24, 8), "black")
    wide.paste((255, 0, 0), (8, 0, 16, 8))
    content = encoded(wide)
    assert seen(content, fit="crop").tolist() == [[[255, 0, 0]] * 8] * 8
    padded = seen(content, fit="pad")
    assert padded[0].tolist() == padded[-1].tolist() == [[255, 255, 255]] * 8
    assert padded[4, 0].tolist() == [0, 0, 0]
    squashed = seen(content)
    assert squashed[0, 0].tolist() == [0, 0, 0] and squashed[0, 4, 0] > 200


def test_cells_are_bytes_records_or_paths(tmp_path: Path) -> None:
    content = png(5)
    (tmp_path / "a.png").write_bytes(content)
    plain = seen(content)
    for cell in (
        {"bytes": content, "path": None},
        {"bytes": content, "path": "nowhere.png"},
        {"bytes": None, "path": "a.png"},
        "a.png",
        str(tmp_path / "a.png"),
    ):
        assert np.array_equal(seen(cell, tmp_path), plain)


@pytest.mark.parametrize(
    "cell", [b"", b"not a picture", png()[:60], None, 7, "", "missing.png", {"bytes": None}]
)
def test_what_is_no_picture_is_said_not_raised(cell: Any) -> None:
    decoded: Decoded = decode(cell, Path(), square())
    assert "not a picture that can be read" in decoded.problem
    assert not decoded.image_SSC.any()


def test_the_picture_key_does_not_depend_on_the_size_or_the_file_format() -> None:
    picture = Image.fromarray(
        np.random.default_rng(0).integers(256, size=(9, 7, 3), dtype=np.uint8)
    )
    cells = [encoded(picture), encoded(picture, "bmp")]
    keys = {decode(c, Path(), square(side=s)).picture_hash for c in cells for s in (4, 8)}
    assert len(keys) == 1
    assert (
        decode(png(0), Path(), square()).picture_hash
        != decode(png(1), Path(), square()).picture_hash
    )


def test_rows_come_through_in_order_with_groups_and_lists(parquet: Write, tmp_path: Path) -> None:
    pictures = [png(i, size=(8, 8)) for i in range(6)]
    captions = [[f"word{i}", f" other{i} "] for i in range(6)]
    groups = ["x", "x", "y", "z", "z", "w"]
    train = parquet(picture=pictures, words=captions, thing=groups)
    rest = parquet("rest.parquet", picture=pictures[:2], words=["a", "b"], thing=["v", "w"])
    data = Pictures(
        train=train, val=rest, test=rest, image="picture", caption="words", group="thing"
    )
    corpus = load(data, tmp_path)
    assert corpus.train.captions == tuple((f"word{i}", f"other{i}") for i in range(6))
    for image, content in zip(corpus.train.images_NHWC, pictures, strict=True):
        assert np.array_equal(image, seen(content))
    group = corpus.train.group_N
    assert [[bool(a == b) for b in group] for a in group[:3]] == [
        [True, True, False, False, False, False],
        [True, True, False, False, False, False],
        [False, False, True, False, False, False],
    ]
    assert corpus.val.captions == (("a",), ("b",))
    batch = Batches(corpus.train, corpus.tokenizer, 6, 0, MLM()).at(0)
    order = batch.rows_B.tolist()
    assert batch.match_BB.tolist() == [[groups[i] == groups[t] for t in order] for i in order]


def test_a_glob_is_read_in_order_of_names(parquet: Write, tmp_path: Path) -> None:
    for i in (2, 0, 1):
        parquet(f"part-{i}.parquet", image=[png(i)], caption=[f"word{i}"])
    part = parquet("rest.parquet", image=[png(9)], caption=["rest"])
    data = Pictures(train=str(tmp_path / "part-*.parquet"), val=part, test=part)
    assert load(data, tmp_path).train.captions == (("word0",), ("word1",), ("word2",))


def test_without_groups_equal_pictures_and_captions_still_match(
    parquet: Write, tmp_path: Path
) -> None:
    train = parquet(image=[png(0), png(0), png(1), png(2)], caption=["a b", "c", "A  B", "d"])
    corpus = load(Pictures(train=train, val=train, test=train), tmp_path)
    batch = Batches(corpus.train, corpus.tokenizer, 4, 0, MLM()).at(0)
    same = {(0, 1), (0, 2)}  # by picture, by caption; 1 and 2 share neither
    rows = batch.rows_B.tolist()
    expected = [[i == t or (min(i, t), max(i, t)) in same for t in rows] for i in rows]
    assert batch.match_BB.tolist() == expected
    assert set(corpus.notes) >= {
        "4 of 4 test pictures share a picture with train",
        "4 of 4 test pictures share a caption with train",
    }


def test_a_datasets_folder_reads_as_the_same_rows(parquet: Write, tmp_path: Path) -> None:
    import datasets

    content, captions = [png(i) for i in range(5)], [["one", "two"], ["b"], ["c"], ["d"], ["e"]]
    cells = [{"bytes": c, "path": None} for c in content]
    saved = datasets.Dataset.from_dict({"image": cells, "caption": captions}).cast_column(
        "image", datasets.Image()
    )
    datasets.disable_progress_bars()
    saved.save_to_disk(tmp_path / "saved")
    datasets.DatasetDict({"train": saved}).save_to_disk(tmp_path / "both")
    other = parquet(image=content, caption=captions)
    one = load(Pictures(train=str(tmp_path / "saved"), val=other, test=other), tmp_path)
    two = load(Pictures(train=other, val=other, test=other), tmp_path)
    assert np.array_equal(one.train.images_NHWC, two.train.images_NHWC)
    assert one.train.captions == two.train.captions and one.content == two.content
    with pytest.raises(DataError, match="holds several splits; name one of its folders: train"):
        load(Pictures(train=str(tmp_path / "both")), tmp_path)


def test_held_out_rows_share_no_group_or_picture_with_train(parquet: Write, tmp_path: Path) -> None:
    groups = [i // 2 for i in range(40)]
    pictures = [png(i if i != 39 else 0) for i in range(40)]  # the last shows the first again
    train = parquet(image=pictures, caption=[f"c{i}" for i in range(40)], group=groups)
    data = Pictures(train=train, group="group", val_share=0.2, test_share=0.2)
    corpus = load(data, tmp_path)
    assert len(corpus.train) >= 22
    captions = {c for s in (corpus.train, corpus.val, corpus.test) for (c,) in s.captions}
    assert len(captions) == 40 and not any("share" in note for note in corpus.notes)
    other = load(data.with_field("seed", 1), tmp_path)
    assert other.test.captions != corpus.test.captions
    larger = load_corpus(data, 12, tmp_path / "cache")
    assert larger.test.captions == corpus.test.captions, "the size does not move the split"


@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=1, max_size=40),
    st.integers(0, 3),
)
@settings(deadline=None)
def test_families_are_the_linked_rows(rows: list[tuple[int, int]], seed: int) -> None:
    groups, pictures = [str(g) for g, _ in rows], np.array([p for _, p in rows])
    family = families(groups, pictures)
    # naive: spread the smallest number along every link until nothing changes
    naive = list(range(len(rows)))
    for _ in rows:
        for a, (g, p) in enumerate(rows):
            linked = [naive[b] for b, (h, q) in enumerate(rows) if g == h or p == q]
            naive[a] = min(linked)
    same = [[a == b for b in naive] for a in naive]
    assert (family[:, None] == family).tolist() == same
    if family.max() >= 4:
        held = hold_out(groups, pictures, {"val": 0.2, "test": 0.2}, seed)
        assert sorted(np.concatenate(list(held.values())).tolist()) == list(range(len(rows)))
        kinds = [set(family[part].tolist()) for part in held.values()]
        assert all(kinds) and sum(map(len, kinds)) == len(set().union(*kinds))


def test_too_few_groups_or_no_share_to_hold_out_is_said(parquet: Write, tmp_path: Path) -> None:
    train = parquet(image=[png(0), png(1)], caption=["a", "b"])
    with pytest.raises(DataError, match="2 groups of rows: too few to hold out"):
        load(Pictures(train=train), tmp_path)
    with pytest.raises(
        DataError, match="no val pictures: name a source for val or raise val_share"
    ):
        load(Pictures(train=train, val_share=0), tmp_path)


def test_the_content_key_is_the_content_not_the_path(parquet: Write, tmp_path: Path) -> None:
    columns = {"image": [png(i) for i in range(4)], "caption": list("abcd")}
    one, two = parquet("one.parquet", **columns), parquet("two.parquet", **columns)
    key = content_key(Pictures(train=one), 8)
    assert key == content_key(Pictures(train=two), 8)
    changed = [
        Pictures(train=one, fit="pad"), Pictures(train=one, text=Text(vocabulary=99)),
        Pictures(train=one, augment="crop"), Pictures(train=one, seed=1),
        Pictures(train=parquet("three.parquet", **columns | {"caption": list("abce")})),
    ]  # fmt: skip
    keys = [content_key(data, 8) for data in changed]
    keys += [content_key(Pictures(train=one), 16), content_key(Pictures(train=one), 8, 1)]
    assert len({key, *keys}) == len(keys) + 1


def test_the_content_key_sees_picture_files_that_are_named(parquet: Write, tmp_path: Path) -> None:
    for i in range(4):
        (tmp_path / f"{i}.png").write_bytes(png(i))
    train = parquet(image=[f"{i}.png" for i in range(4)], caption=list("abcd"))
    data = Pictures(train=train, val_share=0.25, test_share=0.25)
    before, corpus = content_key(data, 8), load(data, tmp_path)
    (tmp_path / "2.png").write_bytes(png(99, size=(30, 30)))
    assert content_key(data, 8) != before
    assert load(data, tmp_path).content != corpus.content


def test_another_vocabulary_does_not_decode_again(parquet: Write, tmp_path: Path) -> None:
    path = parquet(image=[png(i) for i in range(9)], caption=[f"word number {i}" for i in range(9)])
    data = Pictures(train=path)
    one = load(data, tmp_path)
    before = {p.name for p in (tmp_path / "cache").glob("*/train.images.npy")}
    two = load(data.with_field("text.vocabulary", 32), tmp_path)
    assert len(list((tmp_path / "cache").glob("*/train.images.npy"))) == len(before) == 1
    assert one.content != two.content and two.tokenizer.vocabulary <= 32 < one.tokenizer.vocabulary
