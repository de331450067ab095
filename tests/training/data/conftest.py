"""A small corpus of scenes, built once, and a maker of small parquet files."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from harness.training.data.corpus import Corpus, load_corpus
from harness.training.settings.data import Scenes


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    data = Scenes(train=600, val=96, test=96)
    return load_corpus(data, 16, tmp_path_factory.mktemp("cache"))


def png(seed: int = 0, size: tuple[int, int] = (12, 8), mode: str = "RGB", **options: Any) -> bytes:
    """A picture of noise, its bytes as a file's; equal seeds are equal pictures."""
    shape = (size[1], size[0], len(Image.new(mode, (1, 1)).getbands()))
    noise = np.random.default_rng(seed).integers(256, size=shape, dtype=np.uint8)
    return encoded(Image.fromarray(noise.squeeze(), mode=None), **options)


def encoded(picture: Image.Image, form: str = "png", **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()


@pytest.fixture
def parquet(tmp_path: Path) -> Callable[..., str]:
    """Writes columns to a file and returns its path."""

    def write(name: str = "train.parquet", **columns: Any) -> str:
        path = tmp_path / name
        pq.write_table(pa.table(columns), path)
        return str(path)

    return write
