"""Data at a URL are those of a folder: the same key, the same pixels, until the bucket changes."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.training.data import at_urls
from harness.training.data.buckets import Bucket, BucketError
from harness.training.data.cache import DataError
from harness.training.data.corpus import content_key, load_corpus
from harness.training.data.group_files import folder_digest
from harness.training.settings.data import Pictures
from tests.training.data.conftest import png

ROWS = 12


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty bucket, for a machine that has seen none."""
    monkeypatch.setenv("FUSELAB_CACHE", str(tmp_path / "machine"))
    monkeypatch.setattr(at_urls, "_followed", {})
    return f"memory://{uuid.uuid4().hex}/data"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A JSON list with pictures beside it, the same rows as two parquet files, and groups."""
    folder = tmp_path / "here"
    (folder / "images").mkdir(parents=True)
    words = [f"a caption of number {number}" for number in range(ROWS)]
    for number in range(ROWS):
        (folder / "images" / f"{number}.png").write_bytes(png(number))
    rows = [{"image": f"images/{n}.png", "caption": words[n]} for n in range(ROWS)]
    (folder / "train.json").write_text(json.dumps(rows))
    for part in range(2):
        some = range(part, ROWS, 2)
        columns = {"image": [png(n) for n in some], "caption": [words[n] for n in some]}
        pq.write_table(pa.table(columns), folder / f"part-{part}.parquet")
    pair = {"group": "one", "images": ["images/0.png", "images/1.png"], "captions": ["a", "b"]}
    (folder / "groups.jsonl").write_text(json.dumps({**pair, "match": [[1, 0], [0, 1]]}) + "\n")
    return folder


def put(folder: Path, url: str) -> Bucket:
    bucket = Bucket(url)
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        bucket.put(file.relative_to(folder).as_posix(), file)
    return bucket


def pictures(train: str, root: str = "") -> Pictures:
    return Pictures(train=train, root=root, val_share=0.2, test_share=0.2)


@pytest.mark.parametrize("name", ["train.json", "part-*.parquet", "part-0.parquet"])
@pytest.mark.parametrize("other_root", [False, True])
def test_where_data_lie_changes_nothing(
    name: str, other_root: bool, folder: Path, url: str, tmp_path: Path
) -> None:
    put(folder, url)
    here = pictures(f"{folder}/{name}", str(folder) if other_root else "")
    away = pictures(f"{url}/{name}", url if other_root else "")
    assert content_key(here, 8) == content_key(away, 8)
    one, two = (load_corpus(data, 8, tmp_path / f"cache {data is away}") for data in (here, away))
    assert np.array_equal(one.train.images_NHWC, two.train.images_NHWC)
    assert one.content == two.content


def test_another_object_is_another_content(folder: Path, url: str) -> None:
    bucket, data = put(folder, url), pictures(f"{url}/train.json")
    before = content_key(data, 8)
    bucket.write("images/3.png", png(99))
    assert content_key(data, 8) != before
    bucket.put("images/3.png", folder / "images" / "3.png")
    assert content_key(data, 8) == before


def test_what_is_there_is_not_fetched_again(
    folder: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(folder, url)
    fetched: list[str] = []
    get = Bucket.get
    monkeypatch.setattr(Bucket, "get", lambda its, files: (fetched.extend(files), get(its, files)))
    content_key(pictures(f"{url}/train.json"), 8)
    assert len(fetched) == ROWS + 1
    monkeypatch.setattr(at_urls, "_followed", {})  # as in the next process
    content_key(pictures(f"{url}/train.json"), 8)
    assert len(fetched) == ROWS + 1


def test_an_object_that_is_gone_goes_here_too(folder: Path, url: str) -> None:
    bucket = put(folder, url)
    both = at_urls.local(f"{url}/part-*.parquet")
    bucket.remove("part-1.parquet")
    assert at_urls.local(f"{url}/part-*.parquet") == both
    assert [path.name for path in Path(both).parent.glob("part-*")] == ["part-0.parquet"]


def test_a_folder_of_a_task_may_lie_there(folder: Path, url: str) -> None:
    put(folder, url)
    assert folder_digest(url) == folder_digest(str(folder))


def test_what_cannot_be_used_is_called_by_its_url(folder: Path, url: str) -> None:
    bucket = put(folder, url)
    with pytest.raises(DataError, match=f"train={url}/none.json does not exist"):
        content_key(pictures(f"{url}/none.json"), 8)
    bucket.write("broken.parquet", b"PAR1 and no more")
    with pytest.raises(DataError, match=f"{url}/broken.parquet cannot be read as parquet"):
        content_key(pictures(f"{url}/broken.parquet"), 8)
    bucket.remove("images/3.png")
    with pytest.raises(DataError, match=f"{url}/train.json, row 3"):
        load_corpus(pictures(f"{url}/train.json"), 8, folder / "cache")


def test_a_name_leads_out_of_no_folder(url: str) -> None:
    bucket = Bucket(url)
    store = bucket.fs.store
    bucket.write("inside", b"")
    for name in ("../outside", "a/../../outside", "folder/", "a//b"):
        store[f"{bucket.base}/{name}"] = store[f"{bucket.base}/inside"]
    assert [*bucket.list()] == ["inside"]


def test_a_bucket_that_is_away_is_no_missing_file(
    folder: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> None:
        raise PermissionError("Access Denied")

    monkeypatch.setattr("fsspec.implementations.memory.MemoryFileSystem.find", away)
    with pytest.raises(BucketError, match=r"Access Denied.*give credentials"):
        content_key(pictures(f"{url}/train.json"), 8)
