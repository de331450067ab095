"""Folders of items to write, and a small corpus of scenes of two things."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.training.data.corpus import Corpus, load_corpus
from harness.training.data.items.folders import folder_sets
from harness.training.data.items.items import ItemSets
from harness.training.data.items.listed import ItemTask
from harness.training.settings.graded_scenes import graded_scenes
from tests.training.data.conftest import png

Write = Callable[..., Path]
SIZE = (12, 8)
"""Width and height of the pictures that are written."""


@pytest.fixture(scope="session")
def two_things(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    data = graded_scenes("binding").with_fields({"train": 400, "val": 200, "test": 200})
    return load_corpus(data, 16, tmp_path_factory.mktemp("cache"))


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes files of lines (`train=[...]`), and pictures 0.png to 9.png, into a folder."""

    def written(ending: str = ".jsonl", **files: list) -> Path:
        folder = tmp_path / "items"
        folder.mkdir(exist_ok=True)
        for seed in range(10):
            (folder / f"{seed}.png").write_bytes(png(seed, SIZE))
        for name, lines in files.items():
            texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
            content = "".join(f"{text}\n" for text in texts)
            (folder / f"{name}{ending}").write_bytes(content.encode("utf-8", "surrogateescape"))
        return folder

    return written


def opened(task: ItemTask, side: int = 8) -> ItemSets:
    """The items of a folder, their cache beside it."""
    return folder_sets(task, side, 3, Path(task.source).parent / "cache")
