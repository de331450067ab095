"""Every run once, failures named, deaths forgiven, stops kept: with a stand-in for training."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from architectures.frozen import SettingError
from harness.outputs import records
from harness.outputs.files import State
from harness.outputs.folder import RunFolder
from harness.outputs.records import ScoresRecord, Status, read_if_there
from harness.scheduling import progress, session, silence
from harness.scheduling.on_ray import opened
from harness.scheduling.schedule import run_all
from harness.study import Budget, Numerics, Retrieval, Scenes
from harness.training.settings.spec import Asked, RunSpec, TrainSpec
from harness.words import clock

ROOT = Path(__file__).parents[2]
STEPS = 5


def spec_of(does: str = "", seed: int = 0, threads: int = 1, steps: int = STEPS) -> RunSpec:
    """A run whose config says what the stand-in does."""
    train = TrainSpec(
        design="any", config={"does": does}, data="", budget=Budget(steps=steps), batch_size=2,
        seed=seed, numerics=Numerics(threads=threads),
    )  # fmt: skip
    return RunSpec(train=train, asked=Asked(data=Scenes(), tasks=(Retrieval(),)))


def work(spec: RunSpec, outputs: Path) -> State:
    """Stands in for `harness.runs.run.execute`: each step a checkpoint, each attempt a log line."""
    folder = RunFolder(outputs, spec.train_key())
    folder.path.mkdir(parents=True, exist_ok=True)
    does, _, how_often = str(spec.train.config["does"]).partition(" ")
    if does == "raise":
        raise ValueError("no such picture")
    with folder.lock():
        begun_at = max(folder.written_status().checkpoint_step, 0)
        with (folder.path / "attempts").open("a") as file:
            file.write(f"{os.getpid()} {begun_at}\n")
        attempts = len(attempts_of(spec, outputs))
        for step in range(begun_at + 1, STEPS + 1):
            folder.set_status("running", step=step, steps=STEPS, checkpoint_step=step)
            if does == "die" and attempts <= int(how_often):
                os.kill(os.getpid(), signal.SIGKILL)
            if does == "hang" and attempts == 1 and step == 3:
                os.kill(os.getpid(), signal.SIGSTOP)
            time.sleep(float(how_often) if does == "slow" else 0.002)
            if folder.stop_file.exists():
                folder.set_status("interrupted", "stopped on request")
                return "interrupted"
        if does in ("failed", "diverged") and attempts == 1:
            folder.set_status(does, "as asked")
            return does
        for task in spec.asked.tasks:
            scored = ScoresRecord(task=task.name, score_key=spec.score_key(task))
            scored.write(folder.score_file(task.name))
        folder.set_status("done")
        return "done"


def attempts_of(spec: RunSpec, outputs: Path) -> list[list[str]]:
    """[process id, step it began at] of every attempt at a run."""
    path = RunFolder(outputs, spec.train_key()).path / "attempts"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def state_of(spec: RunSpec, outputs: Path) -> State:
    return RunFolder(outputs, spec.train_key()).status().state


def here(specs: list[RunSpec], outputs: Path, **more: object) -> list[State]:
    return list(run_all(specs, outputs, local=True, work=work, **more).values())


def test_every_run_once_and_finished_ones_not_again(tmp_path: Path) -> None:
    specs = [spec_of(seed=0), spec_of(seed=1), spec_of(seed=0)]
    assert here(specs, tmp_path) == ["done", "done"]
    assert here(specs, tmp_path) == ["done", "done"]
    assert [len(attempts_of(spec, tmp_path)) for spec in specs] == [1, 1, 1]


def test_local_loads_no_ray() -> None:
    code = (
        "import sys, harness.scheduling.schedule; "
        "sys.exit('ray' in sys.modules or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_a_missing_score_is_made(tmp_path: Path) -> None:
    here([spec_of()], tmp_path)
    RunFolder(tmp_path, spec_of().train_key()).score_file("retrieval").unlink()
    here([spec_of()], tmp_path)
    assert len(attempts_of(spec_of(), tmp_path)) == 2


@pytest.mark.parametrize("does", ["failed", "diverged"])
def test_failures_stay_until_a_retry_is_asked_for(tmp_path: Path, does: str) -> None:
    specs = [spec_of(does), spec_of()]
    assert here(specs, tmp_path) == [does, "done"]
    assert here(specs, tmp_path) == [does, "done"]
    assert here(specs, tmp_path, retry_failed=True) == ["done", "done"]
    assert [len(attempts_of(spec, tmp_path)) for spec in specs] == [2, 1]


def test_what_is_raised_outside_a_run_is_recorded_as_failed(tmp_path: Path) -> None:
    assert here([spec_of("raise"), spec_of()], tmp_path) == ["failed", "done"]
    status = RunFolder(tmp_path, spec_of("raise").train_key()).status()
    assert status.message == "ValueError: no such picture"


def test_interrupted_runs_go_on(tmp_path: Path) -> None:
    RunFolder(tmp_path, spec_of().train_key()).set_status("running", checkpoint_step=3, step=4)
    assert state_of(spec_of(), tmp_path) == "interrupted"
    assert here([spec_of()], tmp_path) == ["done"]
    assert attempts_of(spec_of(), tmp_path)[0][1] == "3"


def test_a_run_in_another_process_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "POLL_SECONDS", 0.05)
    other = threading.Thread(target=work, args=(spec_of("slow 0.5"), tmp_path))
    other.start()
    time.sleep(0.2)
    assert here([spec_of("slow 0.5"), spec_of()], tmp_path) == ["done", "done"]
    other.join()
    assert len(attempts_of(spec_of("slow 0.5"), tmp_path)) == 1


def test_the_hook_hears_of_every_change(tmp_path: Path) -> None:
    heard: list[str] = []
    here([spec_of(), spec_of("failed")], tmp_path, on_change=heard.extend)
    assert set(heard) == {spec_of().train_key(), spec_of("failed").train_key()}
    heard.clear()
    here([spec_of()], tmp_path, on_change=heard.extend)
    assert not heard


def test_a_failing_hook_ends_no_run_and_is_heard_at_the_end(tmp_path: Path) -> None:
    calls = []

    def hook(keys: list[str]) -> None:
        calls.append(keys)
        raise OSError("the tracking server is gone")

    specs = [spec_of(seed=seed) for seed in range(3)]
    with pytest.raises(OSError, match="gone"):
        here(specs, tmp_path, on_change=hook)
    assert [state_of(spec, tmp_path) for spec in specs] == ["done"] * 3
    assert len(calls) == 2 and len(calls[1]) == 3


def test_ctrl_c_keeps_a_checkpoint_and_says_how_to_go_on(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(sys, "argv", ["/bin/fuselab", "run", "my study"])
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    specs = [spec_of("slow 0.5"), spec_of()]
    with pytest.raises(SystemExit) as stopped:
        here(specs, tmp_path)
    assert stopped.value.code == 130
    assert [state_of(spec, tmp_path) for spec in specs] == ["interrupted", "waiting"]
    said = capfd.readouterr().err
    assert "fuselab run 'my study'" in said and "1 interrupted, 1 waiting" in said
    assert here(specs, tmp_path) == ["done", "done"]
    assert attempts_of(specs[0], tmp_path)[1][1] == "1"


def test_a_second_ctrl_c_leaves_at_once(tmp_path: Path) -> None:
    for after in (0.3, 0.4):
        threading.Timer(after, os.kill, (os.getpid(), signal.SIGINT)).start()
    allowed, ended = threading.Event(), threading.Event()

    def stubborn(*_: object) -> State:
        allowed.wait(120)
        ended.set()
        return "done"

    with pytest.raises(SystemExit):
        run_all([spec_of()], tmp_path, local=True, work=stubborn)
    assert not ended.is_set(), "it waited for the run"
    allowed.set()


def test_time_left_leaves_out_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now[0]))
    pace = progress.Pace()
    assert pace.left({}, 10, 1) is None and clock(None) == "?"
    pace.begin("a", 5)
    now[0] += 30
    assert pace.left({"a": 6}, 20, 2) is None, "seen moving for the first time"
    now[0] += 10
    # 10 s for 5 steps; 20 to go, two at a time
    assert pace.left({"a": 11}, 20, 2) == 20
    pace.end("a", 11)
    pace.begin("b", 0)
    now[0] += 99
    assert pace.left({"b": 0}, 20, 2) == 20


# -- with Ray


@pytest.fixture(scope="module")
def ray_open() -> Iterator[None]:
    with opened(None, threads=1):
        yield


def on_ray(specs: list[RunSpec], outputs: Path, **more: object) -> list[State]:
    return list(run_all(specs, outputs, work=work, **more).values())


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_ray_forgives_two_deaths(ray_open: None, tmp_path: Path) -> None:
    specs = [spec_of("die 2"), spec_of("die 9"), spec_of()]
    assert on_ray(specs, tmp_path) == ["done", "failed", "done"]
    begun_at = [step for _, step in attempts_of(specs[0], tmp_path)]
    assert begun_at == ["0", "1", "2"], "each attempt goes on from the checkpoint"
    assert "died" in RunFolder(tmp_path, specs[1].train_key()).status().message


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_process_that_hangs_is_ended_and_its_run_goes_on(
    ray_open: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(records, "SILENT_SECONDS", 1.0)
    monkeypatch.setattr(silence, "HUNG_SECONDS", 3.0)
    spec = spec_of("hang")
    assert on_ray([spec], tmp_path) == ["done"]
    assert [step for _, step in attempts_of(spec, tmp_path)] == ["0", "3"]
    assert "its process hangs and is ended" in "".join(capsys.readouterr())


def test_only_a_process_of_this_machine_that_holds_the_run_is_ended(tmp_path: Path) -> None:
    folder, here = RunFolder(tmp_path, "run"), socket.gethostname()
    folder.path.mkdir(parents=True)
    long_ago = time.time() - 2 * silence.HUNG_SECONDS

    def heard(process: str) -> str:
        status = Status(state="running", updated=long_ago, process=process)
        return silence.Silence().of(folder, status)

    with subprocess.Popen(["sleep", "60"]) as sleeper:
        own = f"{here}:{sleeper.pid}"
        assert heard(own).endswith("is stopped, or hangs"), "it let go of the run"
        with folder.lock():
            for other in (f"elsewhere:{sleeper.pid}", f"{here}:{os.getpid()}", ""):
                assert heard(other).endswith("is stopped, or hangs")
            assert sleeper.poll() is None
            assert heard(own).endswith("hangs and is ended")
        assert sleeper.wait(10) == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_ray_keeps_workers_but_none_that_failed(ray_open: None, tmp_path: Path) -> None:
    good = [spec_of(seed=seed) for seed in range(6)]
    assert on_ray(good, tmp_path) == ["done"] * 6
    used = {attempts_of(spec, tmp_path)[0][0] for spec in good}
    assert len(used) <= 2
    bad = [spec_of("failed", seed=seed) for seed in range(4)]
    assert on_ray([*bad, spec_of(seed=9)], tmp_path) == ["failed"] * 4 + ["done"]
    processes = [attempts_of(spec, tmp_path)[0][0] for spec in [*bad, spec_of(seed=9)]]
    assert len(set(processes)) == 5, "a process in which a run failed is not used again"


@pytest.mark.slow
def test_ray_says_what_can_never_start(ray_open: None, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="512"):
        on_ray([spec_of(), spec_of(threads=512)], tmp_path)
    assert state_of(spec_of(), tmp_path) == "waiting"


DRIVER = """
import sys
sys.path.insert(0, {root!r})
from pathlib import Path
import test_schedule as t
if __name__ == "__main__":
    specs = [t.spec_of("slow 2", seed=s) for s in range(3)]
    print(*t.run_all(specs, Path(sys.argv[1]), work=t.work).values())
"""


def driver(tmp_path: Path) -> subprocess.Popen[str]:
    """A command in another folder, with a home that cannot be written, in its own group."""
    script = tmp_path / "driver.py"
    script.write_text(DRIVER.format(root=str(ROOT)))
    env = {**os.environ, "HOME": "/proc/none", "RAY_ADDRESS": "192.0.2.7:6379",
           "PYTHONPATH": str(Path(__file__).parent)}  # fmt: skip
    return subprocess.Popen(
        [sys.executable, str(script), str(tmp_path / "out")], cwd=tmp_path, env=env, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def until_one_runs(outputs: Path) -> None:
    limit = time.monotonic() + 90
    while time.monotonic() < limit:
        if any(read_if_there(Status, p) for p in outputs.glob("runs/*/status.json")):
            return
        time.sleep(0.05)
    pytest.fail("no run began")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_killed_driver_loses_nothing(tmp_path: Path) -> None:
    first = driver(tmp_path)
    until_one_runs(tmp_path / "out")
    time.sleep(3)
    first.kill()
    first.communicate()
    out, _ = driver(tmp_path).communicate(timeout=120)
    assert out.split() == ["done"] * 3
    begun_at = [
        [line.split()[1] for line in path.read_text().splitlines()]
        for path in (tmp_path / "out").glob("runs/*/attempts")
    ]
    assert max(map(len, begun_at)) == 2, "a run was cut off and went on"
    assert all(steps[0] == "0" and "0" not in steps[1:] for steps in begun_at)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_ctrl_c_in_a_terminal_reaches_the_driver_only(tmp_path: Path) -> None:
    """A terminal sends it to the whole process group; workers must live to write a checkpoint."""
    process = driver(tmp_path)
    until_one_runs(tmp_path / "out")
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=90)
    assert process.returncode == 130
    assert "2 interrupted, 1 waiting" in said and "Traceback" not in said


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_ray_may_have_been_imported_before() -> None:
    """As in a notebook: Ray reads the mode of its secret at its import, and ours comes later."""
    code = (
        "import ray; from harness.scheduling.on_ray import opened\nwith opened(None, 1): print(1)"
    )
    plain = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=plain,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.split()[-1:]) == (0, ["1"]), done.stderr[-500:]


@pytest.mark.slow
def test_a_stranger_is_refused_by_our_ray(ray_open: None) -> None:
    """Another process joins with the secret of this one, and not without it or with another."""
    import ray

    address = ray.get_runtime_context().gcs_address
    code = f"import ray; ray.init({address!r}, logging_level=50); print('in')"
    plain = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    for given, let_in in (
        ({"RAY_AUTH_MODE": "disabled"}, False),
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}, False),
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": os.environ["RAY_AUTH_TOKEN"]}, True),
    ):
        command = [sys.executable, "-c", code]
        answer = subprocess.run(command, env=plain | given, capture_output=True, text=True)
        assert ("in" in answer.stdout.split()) == let_in, answer.stderr[-300:]
