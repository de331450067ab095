import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from harness.training.data.cache import DataError, stored, write_array
from harness.training.data.corpus import load_corpus
from harness.training.settings.data import Scenes

SLOW_BUILD = """
import sys, time
from pathlib import Path
from harness.training.data.cache import stored
def build(folder):
    (folder / "half").write_text("written by " + sys.argv[2])
    print("building", flush=True)
    time.sleep(float(sys.argv[3]))
    (folder / "rest").write_text("done")
stored(Path(sys.argv[1]), "key", build)
"""


def build(folder: Path) -> None:
    (folder / "half").write_text("here")
    (folder / "rest").write_text("done")


def start(cache: Path, name: str, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SLOW_BUILD, str(cache), name, str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path.cwd())


def visible(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir() if not path.name.startswith("."))


def test_built_once_and_found_again(tmp_path: Path) -> None:
    entry = stored(tmp_path / "new", "key", build)
    assert (entry / "rest").read_text() == "done"

    def again(folder: Path) -> None:
        raise AssertionError("built twice")

    assert stored(tmp_path / "new", "key", again) == entry


def test_a_killed_build_leaves_nothing_that_looks_finished(tmp_path: Path) -> None:
    with start(tmp_path, "victim", 60) as victim:
        assert victim.stdout is not None and victim.stdout.readline() == "building\n"
        os.kill(victim.pid, signal.SIGKILL)
    assert not (tmp_path / "key").exists()
    assert len(visible(tmp_path)) == 1, "the half-built folder is still there"
    assert (stored(tmp_path, "key", build) / "half").read_text() == "here"
    assert visible(tmp_path) == ["key"], "the next build sweeps up"


def test_two_processes_build_once(tmp_path: Path) -> None:
    with start(tmp_path, "first", 0.5) as first:
        assert first.stdout is not None and first.stdout.readline() == "building\n"
        with start(tmp_path, "second", 0) as second:
            out, _ = second.communicate()
    assert (first.returncode, second.returncode, out) == (0, 0, "")
    assert (tmp_path / "key" / "half").read_text() == "written by first"


@pytest.mark.parametrize("damage", ["truncate", "delete", "manifest", "flip", "sum"])
def test_a_damaged_entry_is_built_again(tmp_path: Path, damage: str) -> None:
    entry = stored(tmp_path, "key", build)
    if damage == "truncate":
        (entry / "rest").write_text("do")
    elif damage == "delete":
        (entry / "rest").unlink()
    elif damage == "flip":  # of the same size and time, seen whole before in this process
        state = (entry / "rest").stat()
        (entry / "rest").write_text("dooe")
        os.utime(entry / "rest", ns=(state.st_atime_ns, state.st_mtime_ns))
    elif damage == "sum":
        (entry / "manifest.json").write_text('{"rest": {"bytes": 4}}')
    else:
        (entry / "manifest.json").write_text("[")
    assert (stored(tmp_path, "key", build) / "rest").read_text() == "done"
    assert visible(tmp_path) == ["key"]


def test_no_space_left_is_said_and_swept_up(tmp_path: Path) -> None:
    def full(folder: Path) -> None:
        (folder / "data.npy").symlink_to("/dev/full")
        write_array(folder / "data.npy", [np.zeros(10**5)], (10**5,), np.int64)

    with pytest.raises(DataError, match=r"no space left while writing .*key"):
        stored(tmp_path, "key", full)
    assert visible(tmp_path) == []


def test_an_error_of_the_build_passes_and_is_swept_up(tmp_path: Path) -> None:
    def fails(folder: Path) -> None:
        build(folder)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        stored(tmp_path, "key", fails)
    assert visible(tmp_path) == []


def test_an_array_written_in_pieces_reads_as_a_whole(tmp_path: Path) -> None:
    whole = np.arange(60, dtype=np.uint8).reshape(5, 4, 3)
    pieces = (whole[i : i + 2, :, ::-1][:, :, ::-1] for i in range(0, 5, 2))
    write_array(tmp_path / "a.npy", pieces, whole.shape, np.uint8)
    assert np.array_equal(np.load(tmp_path / "a.npy", mmap_mode="r"), whole)


def test_a_reader_keeps_its_files_while_a_damaged_entry_is_replaced(tmp_path: Path) -> None:
    def numbers(folder: Path) -> None:
        write_array(folder / "a.npy", [np.arange(9)], (9,), np.int64)
        (folder / "other").write_text("x")

    entry = stored(tmp_path, "key", numbers)
    seen = np.load(entry / "a.npy", mmap_mode="r")
    (entry / "other").unlink()
    stored(tmp_path, "key", numbers)
    assert seen.tolist() == list(range(9))


def test_an_entry_of_before_there_were_sums_is_kept(tmp_path: Path) -> None:
    entry = stored(tmp_path, "key", build)
    (entry / "manifest.json").write_text('{"half": 4, "rest": 4}')

    def again(folder: Path) -> None:
        raise AssertionError("built twice")

    assert stored(tmp_path, "key", again) == entry


def test_a_byte_that_a_disk_changed_in_the_pixels_is_not_trained_on(tmp_path: Path) -> None:
    data = Scenes(train=16, val=4, test=4)
    whole = load_corpus(data, 16, tmp_path)
    images = np.array(whole.train.images_NHWC)
    (pixels,) = tmp_path.glob("*/train.images.npy")
    content = bytearray(pixels.read_bytes())
    content[500] ^= 1
    pixels.write_bytes(content)
    again = load_corpus(data, 16, tmp_path)
    assert np.array_equal(again.train.images_NHWC, images)
    assert again.content == whole.content
