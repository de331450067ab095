"""Outputs at a URL, on a bucket in memory: what one machine writes another one reads, and holds."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from architectures.frozen import SettingError
from harness.lab import Lab
from harness.outputs import cleaning, copies, leases
from harness.outputs.copies import WorkingCopy, opened, place_of, refreshed, removed, shown, there
from harness.outputs.files import Locked, atomic_file, exclusive, outside
from harness.outputs.folder import LoopFolder, RunFolder
from harness.outputs.for_all import stored_for_all
from harness.planning.plan import plan
from harness.runs.run import execute
from harness.study import Study
from harness.training.data import buckets
from harness.training.data.buckets import Bucket, BucketError
from tests.harness.machines import Machines, in_memory
from tests.harness.test_run import final


@pytest.fixture
def machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machines:
    return Machines(tmp_path, monkeypatch)


def test_a_folder_stays_a_folder(tmp_path: Path) -> None:
    assert opened(tmp_path) == opened(str(tmp_path)) == place_of(tmp_path) == tmp_path.resolve()
    assert shown(tmp_path / "a") == str(tmp_path / "a")
    assert not copies._open


@pytest.mark.parametrize("url", ["memory://b/o", "memory:/b/o", Path("memory://b/o")])
def test_a_url_may_have_been_a_path(url: str | Path, machines: Machines) -> None:
    with machines.on("one"):
        assert place_of(opened(url)) == "memory://b/o"


def test_what_is_written_stands_in_the_bucket_and_on_other_machines(machines: Machines) -> None:
    url = in_memory()
    with machines.on("one"):
        one = RunFolder(opened(url), "key")
        one.set_status("running", step=1)
        with atomic_file(one.weights, durable=True) as part:
            part.write_bytes(b"heavy")
        assert shown(one.path) == f"{url}/runs/key"
    with machines.on("two"):
        two = RunFolder(opened(url), "key")
        assert two.written_status().step == 1
        assert there(two.weights) and not two.weights.exists()  # fetched where it is read
        assert copies.fetched(two.weights).read_bytes() == b"heavy"
    with machines.on("one"):
        one.set_status("running", step=2)
        with atomic_file(one.weights, durable=True) as part:
            part.write_bytes(b"others")
        (one.path / "left").write_text("never sent")
    with machines.on("two"):
        refreshed(two.path)
        assert two.written_status().step == 2
        assert there(two.weights) and not two.weights.exists()  # those of before are gone
        assert removed(two.weights) == 6 and not there(two.weights)
    with machines.on("one"):
        refreshed(one.path)
        assert not one.weights.exists() and not (one.path / "left").exists()


def test_progress_is_noted_now_and_then(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    put = Bucket.put

    def counted(bucket: Bucket, name: str, file: Path, *, patient: bool = True) -> None:
        written.append(name)
        put(bucket, name, file)

    monkeypatch.setattr(Bucket, "put", counted)
    with machines.on("one"):
        folder = RunFolder(opened(in_memory()), "key")
        folder.set_status("running")
        for step in range(20):
            folder.set_status("running", step=step, durable=False)
        folder.set_status("done")
        assert written == ["runs/key/status.json"] * 2
        monkeypatch.setattr(copies, "NOTE_SECONDS", 0.0)
        folder.set_status("done", durable=False)
        assert len(written) == 3


def test_every_process_has_a_copy_of_its_own(machines: Machines) -> None:
    with machines.on("one"):
        bucket = Bucket(in_memory())
        first, second = WorkingCopy(bucket), WorkingCopy(bucket)
        assert first.root != second.root and first.shared == second.shared
        assert (first.root / "cache").samefile(second.root / "cache")
        first.close()  # as where its process ends
        assert WorkingCopy(bucket).root == first.root


def test_only_one_machine_holds_a_run(machines: Machines) -> None:
    url, folders = in_memory(), {}
    for name in ("one", "two"):
        with machines.on(name):
            folders[name] = RunFolder(opened(url), "key")
            folders[name].path.mkdir(parents=True)
    with machines.on("one"), folders["one"].lock():
        assert folders["one"].is_locked()
        with pytest.raises(Locked, match="by this process"), folders["one"].lock():
            pass
        with machines.on("two"):
            assert folders["two"].is_locked()
            with pytest.raises(Locked, match="by another process"), folders["two"].lock():
                pass
    with machines.on("two"):
        assert not folders["two"].is_locked()
        with folders["two"].lock():
            pass
        assert not Bucket(url).list("leases")


@pytest.mark.parametrize("where", ["here", "elsewhere"])
def test_a_dead_holder_is_followed(
    where: str, machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once where its process was of this machine, else when its lease has ended."""
    url = in_memory()
    with machines.on("one"):
        dead = WorkingCopy(Bucket(url))
        hold = dead.lease("budgets", "busy")
        hold.__enter__()
        if where == "here":
            dead.close()
    with machines.on("one" if where == "here" else "two"):
        lock = opened(url) / "budgets" / "lock"
        if where == "elsewhere":
            with pytest.raises(Locked), exclusive(lock, "busy"):
                pass
            monkeypatch.setattr(leases, "LEASE_SECONDS", -1.0)
        with exclusive(lock, "busy"), pytest.raises(Locked, match="taken over"):
            dead.leases._renewed["budgets"] = 0.0  # nothing was heard for long
            dead.leases.check("budgets/step.json")


def test_never_two_hold_at_once(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.random", lambda: 0.01)
    inside, most, held = 0, 0, 0
    with machines.on("one"):
        bucket = Bucket(in_memory())
        processes = [WorkingCopy(bucket) for _ in range(4)]

    def work(process: WorkingCopy) -> None:
        nonlocal inside, most, held
        until = time.monotonic() + 1
        while time.monotonic() < until:
            try:
                with process.leases.held("runs/key", "busy"):
                    inside += 1
                    most, held = max(most, inside), held + 1
                    time.sleep(0.002)
                    inside -= 1
            except Locked:
                pass

    threads = [threading.Thread(target=work, args=[process]) for process in processes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1 and held > 1


def test_a_wish_to_stop_travels(machines: Machines) -> None:
    url = in_memory()
    with machines.on("node"):
        copy = WorkingCopy(Bucket(url))
        there_ = RunFolder(copy.root, "key")
        there_.path.mkdir(parents=True)
    with machines.on("driver"):
        here = RunFolder(opened(url), "key")
        here.path.mkdir(parents=True)
        here.ask_to_stop()
    copy._look_for_stop("runs/key")
    assert there_.stop_file.exists()


def test_a_finished_folder_is_made_once_for_all(machines: Machines) -> None:
    url, made = in_memory(), []

    def fill(folder: Path) -> None:
        made.append(folder)
        (folder / "deep").mkdir()
        (folder / "deep" / "weights").write_bytes(b"bits")

    for name in ("one", "two", "one"):
        with machines.on(name):
            entry = stored_for_all(opened(url) / "warm_start", "bert", fill)
            assert (entry / "deep" / "weights").read_bytes() == b"bits"
    assert len(made) == 1


def test_a_bucket_that_is_away_interrupts(monkeypatch: pytest.MonkeyPatch) -> None:
    """And is waited for, where time may help."""
    waited: list[float] = []
    monkeypatch.setattr(buckets.time, "sleep", waited.append)
    bucket = Bucket(in_memory())

    def away(*_: object, **__: object) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr(bucket.fs, "pipe_file", away)
    with pytest.raises(BucketError, match=r"no route.*look at the network") as caught:
        bucket.write("a", b"")
    assert waited == [*buckets.WAITS]
    error = RuntimeError("of torch")
    error.__cause__ = caught.value
    assert "no route" in outside(error) and not outside(RuntimeError("of torch"))


def test_a_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "s3fs", None)
    with pytest.raises(SettingError, match=r"pip install 'fuselab\[s3\]'"):
        Bucket("s3://bucket/outputs")
    with pytest.raises(SettingError, match="is no URL that can be used"):
        Bucket("nothing://bucket")


def test_clean_frees_the_bucket(machines: Machines) -> None:
    url = in_memory()
    with machines.on("one"):
        folder = RunFolder(opened(url), "key")
        for file in (folder.weights, folder.checkpoint):
            with atomic_file(file) as part:
                part.write_bytes(bytes(2**20))
        folder.set_status("done")
    with machines.on("two"):
        assert cleaning.clean(opened(url), weights=True)["weights"] == 1.0
    assert [*Bucket(url).list("runs")] == ["runs/key/status.json"]


def test_a_run_outlives_a_bucket_that_is_away_and_no_longer(
    tiny: Study, machines: Machines, ran: Path, shared_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Progress that cannot be noted ends nothing; a checkpoint that cannot be kept interrupts."""
    monkeypatch.setattr(buckets, "WAITS", ())
    monkeypatch.setattr(copies, "NOTE_SECONDS", 0.0)
    spec, put, away = plan(tiny, ran).specs[0], Bucket.put, True

    def failing(bucket: Bucket, name: str, file: Path, *, patient: bool = True) -> None:
        if not patient or (away and name.endswith("checkpoint.pt")):
            raise bucket._error(ConnectionError("no route"))
        put(bucket, name, file)

    monkeypatch.setattr(Bucket, "put", failing)
    with machines.on("one"):
        outputs = _with_cache(in_memory(), shared_cache)
        folder = RunFolder(outputs, spec.train_key())
        assert execute(spec, outputs) == "interrupted"
        assert "no route" in folder.written_status().message and not there(folder.checkpoint)
        away = False
        assert execute(spec, outputs) == "done"
        copies.fetched(folder.weights)
        assert final(folder) == final(RunFolder(ran, spec.train_key()))


class Killed(BaseException):
    """What no handler catches."""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_kill_at_any_write_loses_nothing(
    tiny: Study, machines: Machines, ran: Path, shared_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run dies at its n-th write, and goes on elsewhere: to the same bits, for every n."""
    spec = plan(tiny, ran).specs[0]
    whole = final(RunFolder(ran, spec.train_key()))
    put, left, writes = Bucket.put, 0, 0

    def dying(bucket: Bucket, name: str, file: Path, *, patient: bool = True) -> None:
        nonlocal left, writes
        left, writes = left - 1, writes + 1
        if left == 0:
            raise Killed
        put(bucket, name, file)

    monkeypatch.setattr(Bucket, "put", dying)
    n, states = 0, set()
    while not states or writes > n:
        n += 1
        url, left, writes = in_memory(), n, 0
        with machines.on(f"first {n}"):
            outputs = _with_cache(url, shared_cache)
            try:
                execute(spec, outputs)
            except Killed:
                writes = n + 1
        left = 0
        with machines.on(f"second {n}"):
            outputs = _with_cache(url, shared_cache)
            folder = RunFolder(outputs, spec.train_key())
            states.add(folder.recovered_status().state)
            done = folder.written_status().state == "done"
            assert not done or there(folder.weights)
            assert execute(spec, outputs) == "done"
            copies.fetched(folder.weights)
            assert final(folder) == whole, n
    assert states == {"waiting", "interrupted", "done"} and n > 15


def _with_cache(url: str, cache: Path) -> Path:
    """Opens outputs whose data need no second decoding."""
    outputs = opened(url)
    (outputs / "cache").unlink()
    (outputs / "cache").symlink_to(cache)
    return outputs


def test_a_lab_reads_what_another_machine_ran(tiny: Study, machines: Machines, ran: Path) -> None:
    """Records alone: of a study that was run in a folder and copied into the bucket."""
    url = in_memory()
    bucket = Bucket(url)
    for file in sorted(path for top in copies.RECORDS for path in (ran / top).rglob("*")):
        if file.is_file() and file.name != "lock":
            bucket.put(file.relative_to(ran).as_posix(), file)
    with machines.on("reader"):
        lab = Lab(url)
        assert lab.results("tiny").scores.equals(Lab(ran).results("tiny").scores)
        assert not [*lab.outputs.rglob("weights.pt")]
        run = next(iter(lab.results("tiny").runs["run"]))
        assert lab.predictions(run, "retrieval").keys()
        weights = LoopFolder(lab.outputs / "runs" / run).weights
        assert there(weights) and not weights.exists()
        with pytest.raises(SettingError, match=f"under {url}/studies"):
            lab.results("tinny")
