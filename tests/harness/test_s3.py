"""Outputs on S3: on moto's server in this process, which speaks S3 over loopback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from harness.commands.main import app
from harness.lab import Lab
from harness.outputs import copies
from harness.outputs.folder import RunFolder
from harness.outputs.records import LedgerRecord
from harness.study import Study
from harness.training.data.buckets import Bucket
from harness.training.data.corpus import content_key
from harness.training.settings.data import Pictures
from tests.harness.machines import Machines
from tests.harness.nodes import WARM
from tests.harness.test_run import final
from tests.training.data.conftest import png

ROOT = Path(__file__).parents[2]
DRIVER = """
import sys
from harness.lab import Lab
from tests.harness.conftest import TINY
print(*Lab(sys.argv[1]).run(TINY, local=sys.argv[2] == "local").values())
"""


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The address of a server that keeps objects in memory."""
    from moto.server import ThreadedMotoServer

    moto = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    moto.start()
    yield "http://{}:{}".format(*moto.get_host_and_port())
    moto.stop()


@pytest.fixture
def url(server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Outputs in a new bucket, with credentials that open it."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    url = f"s3://{uuid.uuid4().hex}/outputs"
    bucket = Bucket(url)
    bucket.fs.mkdir(bucket.base.partition("/")[0])
    return url


@pytest.fixture
def machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machines:
    return Machines(tmp_path, monkeypatch)


def said(*words: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == code, result.output
    return " ".join(result.output.replace("│", " ").split())


def has_bits_of(outputs: Path, lab: Lab, study: str) -> list[int]:
    """Compares every run of a study with that in another folder; returns how often each began."""
    attempts = []
    for run in lab.results(study).runs["run"]:
        folder = RunFolder(lab.outputs, run)
        copies.fetched(folder.weights)
        assert final(folder) == final(RunFolder(outputs, run))
        attempts.append(LedgerRecord.read(folder.ledger).spent.attempts)
    return attempts


def test_a_bucket_keeps_whole_objects(url: str, tmp_path: Path) -> None:
    bucket, file = Bucket(url), tmp_path / "file"
    assert bucket.list() == {} and not bucket.has("a/b")
    file.write_bytes(b"one")
    bucket.put("a/b", file)
    bucket.write("a/bc", b"")
    first = bucket.list("a/b")
    assert [*first] == ["a/b"] and first["a/b"].size == 3
    assert abs(first["a/b"].time - time.time()) < 60
    bucket.write("a/b", b"two")
    assert bucket.list("a")["a/b"].mark != first["a/b"].mark
    bucket.get({"a/b": tmp_path / "new" / "b"})
    assert (tmp_path / "new" / "b").read_bytes() == bucket.read("a/b") == b"two"
    assert [*bucket.folder("a")] == ["a/b", "a/bc"] and bucket.folder("none") == {}
    assert [*bucket.matching("*/b")] == ["a/b"]
    for name in ("a/b", "a/bc", "none"):
        bucket.remove(name)
    assert bucket.list() == {}


def test_what_is_wrong_is_said_at_once(
    url: str, machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    with machines.on("one"):
        none = said("status", "demo", "--outputs", "s3://no-such-bucket/outputs", code=2)
        assert "does not exist): make the bucket, or mend its name" in none
        empty = said("status", "demo", "--outputs", url, code=2)
        assert f"unknown study under {url}/studies" in empty.replace("/ ", "/")
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        copies._open.clear()
        no_key = said("status", "demo", "--outputs", url, code=2)
        assert "give credentials" in no_key and "AWS_ACCESS_KEY_ID" in no_key
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        away = said("status", "demo", "--outputs", url, code=2)
        assert "Could not connect" in away and "AWS_ENDPOINT_URL" in away


def test_data_on_s3_are_the_same_data(url: str, tmp_path: Path, machines: Machines) -> None:
    pq.write_table(
        pa.table({"image": [png(n) for n in range(9)], "caption": ["a"] * 9}),
        tmp_path / "rows.parquet",
    )
    Bucket(url).put("rows.parquet", tmp_path / "rows.parquet")
    with machines.on("one"):
        keys = {
            content_key(Pictures(train=f"{where}/rows.parquet"), 8) for where in (url, tmp_path)
        }
    assert len(keys) == 1


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_study_has_the_same_bits_on_s3(
    tiny: Study, url: str, machines: Machines, ran: Path, without_figures: None
) -> None:
    with machines.on("one"):
        lab = Lab(url)
        assert set(lab.run(tiny, local=True).values()) == {"done"}
        assert not Bucket(url).list("leases")
    with machines.on("two"):
        has_bits_of(ran, Lab(url), "tiny")
    with machines.on("three"):
        assert said("status", "tiny", "--outputs", url).count("done") == 6
        assert f"at {url}/reports/tiny" in said("report", "tiny", "--outputs", url)
        assert "reports/tiny/page.html" in Bucket(url).list("reports")
        said("verdict", "tiny", "--outputs", url, code=3)
        assert said("publish", "--outputs", url) == "published tiny"
        said("doctor", "tiny", "--outputs", url, code=0)
        said("index", "--outputs", url)
        said("export", "tiny/k1/0", str(ran.parent / f"exported {url[5:9]}"), "--outputs", url)
    with machines.on("four"):
        assert "reports/index.html" in Bucket(url).list("reports")
        reads = json.loads(Bucket(url).read("studies/tiny/reads.json"))
        assert [read["seeds"] for read in reads["reads"]] == [2]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_workers_have_the_same_bits_on_s3(
    tiny: Study, url: str, outputs: Path, machines: Machines
) -> None:
    """Each worker has a copy of its own of the bucket; the first one alone writes."""
    two = tiny.model_copy(update={"cells": tiny.cells[:1], "seeds": (0,)})
    two = two.with_field("numerics.workers", 2)
    assert list(Lab(outputs).run(two).values()) == ["done"]
    with machines.on("one"):
        assert list(Lab(url).run(two).values()) == ["done"]
        assert not Bucket(url).list("leases")
        assert not [name for name in Bucket(url).list("runs") if "ray_train" in name]
    with machines.on("two"):
        assert has_bits_of(outputs, Lab(url), "tiny") == [1]


def driver(url: str, cache: Path, how: str = "local") -> subprocess.Popen[str]:
    environment = {**os.environ, "FUSELAB_CACHE": str(cache), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", DRIVER, url, how]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True, **pipes)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_killed_driver_is_followed_from_another_cache(
    url: str, ran: Path, tmp_path: Path, machines: Machines
) -> None:
    bucket = Bucket(url)
    killed = driver(url, tmp_path / "first")
    while not any(name.endswith("checkpoint.pt") for name in bucket.list("runs")):
        assert killed.poll() is None, killed.communicate()
        time.sleep(0.02)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    assert bucket.list("leases")
    second = driver(url, tmp_path / "second")
    out, errors = second.communicate(timeout=300)
    assert out.split() == ["done"] * 6, errors[-3000:]
    with machines.on("reader"):
        has_bits_of(ran, Lab(url), "tiny")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_drivers_do_nothing_twice(
    url: str, ran: Path, tmp_path: Path, machines: Machines
) -> None:
    """One through Ray, the other not; on caches of their own, as two machines have."""
    drivers = [driver(url, tmp_path / how, how) for how in ("local", "ray")]
    for each in drivers:
        out, errors = each.communicate(timeout=500)
        assert out.split() == ["done"] * 6, errors[-3000:]
    with machines.on("reader"):
        assert has_bits_of(ran, Lab(url), "tiny") == [1] * 6


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_nodes_share_nothing_but_the_bucket(
    url: str, outputs: Path, tmp_path: Path, machines: Machines
) -> None:
    """One dies; the other starts from the towers that the driver made, and goes on."""
    command = [sys.executable, "-m", "tests.harness.nodes", url, str(tmp_path / "caches")]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert "killed a node" in ended.stdout
    for name in ("node 0", "node 1"):
        shared = tmp_path / "caches" / name / "outputs"
        (vit,) = shared.glob("*/shared/warm_start/*/vit.safetensors")
        kept = Bucket(url).read(f"warm_start/{vit.parent.name}/vit.safetensors")
        assert vit.read_bytes() == kept
    assert set(Lab(outputs).run(WARM, local=True).values()) == {"done"}
    with machines.on("reader"):
        has_bits_of(outputs, Lab(url), "warm")
