"""Watching a study from outside: in a terminal, and on a page that only this machine can read."""

from __future__ import annotations

import http.client
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.commands.main import app
from harness.outputs.folder import RunFolder
from harness.results.folders import study_record
from harness.scheduling import progress
from harness.scheduling.served import StatusServer
from harness.scheduling.watching import Watch

SCRIPT = "<script>alert(1)</script>"


@pytest.fixture
def going(ran: Path, tmp_path: Path) -> Path:
    """`tiny` as its driver leaves it in the middle: one run done, one failed, one running."""
    outputs = tmp_path / "going"
    shutil.copytree(ran / "studies", outputs / "studies")
    done, failed, running, *_ = study_record(outputs, "tiny").keys
    for key in (done, failed, running):
        (outputs / "runs" / key).mkdir(parents=True)
    RunFolder(outputs, done).set_status("done", step=6, steps=6)
    RunFolder(outputs, failed).set_status("failed", f"ValueError: {SCRIPT}\nno way", step=1)
    RunFolder(outputs, running).set_status("running", step=2, steps=6)
    return outputs


def test_a_view_counts_states_and_names_what_went_wrong(going: Path) -> None:
    view = Watch(going, "tiny").look()
    assert dict(view.counts) == {"done": 1, "failed": 1, "running": 1, "waiting": 3}
    (line,) = view.lines
    assert (line.label, line.step, line.steps, line.seconds_left) == ("k2 seed 0", 2, 6, None)
    assert view.troubles == {"k1 seed 1": f"failed: ValueError: {SCRIPT} no way"}
    assert not view.ended and "? left; k2 seed 0 2/6" in view.in_words()


def test_the_time_left_comes_from_what_was_seen(
    going: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step takes 5 s: 3 steps of the run and 18 of those that wait are left."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    watch = Watch(going, "tiny")
    running = RunFolder(going, study_record(going, "tiny").keys[2])
    for step in (2, 3, 4):  # start-up ends where the run is first seen moving
        running.set_status("running", step=step)
        view = watch.look()
        now[0] += 5
    assert view.lines[0].seconds_left == pytest.approx(10)
    assert view.seconds_left == pytest.approx(5 * (2 + 18))
    running.set_status("done", step=6)
    assert watch.look().seconds_left == pytest.approx(5 * 18, rel=0.5)


def test_looking_takes_no_lock_that_a_run_may_want(
    going: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RunFolder, "lock", lambda folder: pytest.fail("took the lock"))
    Watch(going, "tiny").look()


def test_watch_ends_with_the_study(ran: Path) -> None:
    shown = CliRunner().invoke(app, ["status", "tiny", "--watch", "--outputs", str(ran)])
    assert shown.exit_code == 0, shown.output
    assert shown.output == "6 done\n"


def test_watch_goes_on_until_the_study_is_done(
    going: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses = []

    def done(seconds: float) -> None:
        pauses.append(seconds)
        for key in study_record(going, "tiny").keys:
            (going / "runs" / key).mkdir(exist_ok=True)
            RunFolder(going, key).set_status("done", step=6)

    monkeypatch.setattr("harness.commands.show.time.sleep", done)
    words = ["status", "tiny", "--watch", "--every", "2", "--outputs", str(going)]
    shown = CliRunner().invoke(app, words)
    assert shown.exit_code == 0 and pauses == [2.0]
    first, *between, last = shown.output.splitlines()
    assert first == f"k1 seed 1: failed: ValueError: {SCRIPT} no way"
    assert len(between) == 1 and last == "6 done"


@pytest.fixture
def server(going: Path) -> Iterator[StatusServer]:
    with StatusServer(going, 0) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def asked(
    server: StatusServer, path: str, method: str = "GET", host: str = ""
) -> tuple[int, str, dict[str, str]]:
    """Status, text and headers of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    try:
        connection.request(method, path, headers={"Host": host} if host else {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), dict(answer.getheaders())
    finally:
        connection.close()


def test_the_page_shows_a_study_and_asks_again_by_itself(server: StatusServer) -> None:
    status, page, headers = asked(server, "/study/tiny")
    assert status == 200 and "k2 seed 0" in page and "2/6" in page and "3 waiting" in page
    assert 'http-equiv="refresh"' in page
    assert SCRIPT not in page and "&lt;script&gt;" in page
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    status, page, _ = asked(server, "/")
    assert status == 200 and '<a href="/study/tiny">tiny</a>' in page


def test_the_page_is_on_the_loopback_address_alone(server: StatusServer) -> None:
    assert server.server_address[0] == "127.0.0.1"


@pytest.mark.parametrize(
    ("path", "method", "host", "status"),
    [
        ("/study/none", "GET", "", 404),
        ("/study/../../etc/passwd", "GET", "", 404),
        ("/study/..%2f..%2fetc%2fpasswd", "GET", "", 404),
        ("/study/", "GET", "", 404),
        ("/studies/tiny/study.json", "GET", "", 404),
        ("/", "POST", "", 501),
        ("/", "DELETE", "", 501),
        ("/", "GET", "evil.example", 421),
        ("/", "GET", "evil.example:5001", 421),
    ],
)
def test_nothing_else_is_answered(
    server: StatusServer, path: str, method: str, host: str, status: int
) -> None:
    assert asked(server, path, method, host)[0] == status


def test_a_port_that_is_taken_is_said(server: StatusServer, going: Path) -> None:
    from architectures.frozen import SettingError

    with pytest.raises(SettingError, match=f"port {server.server_port} cannot be used"):
        StatusServer(going, server.server_port)


@pytest.mark.parametrize("ports", [("--port", "TAKEN"), ("--status-port", "TAKEN")])
def test_each_port_of_the_pages_that_is_taken_is_said_at_once(
    server: StatusServer, ran: Path, monkeypatch: pytest.MonkeyPatch, ports: tuple[str, str]
) -> None:
    monkeypatch.setattr("subprocess.Popen", None)  # MLflow is not started
    taken = str(server.server_port)
    free = {"--port": "--status-port", "--status-port": "--port"}[ports[0]]
    with socket.create_server(("127.0.0.1", 0)) as other:
        number = str(other.getsockname()[1])
    words = ["ui", ports[0], taken, free, number, "--outputs", str(ran)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2, result.output
    assert f"port {taken} cannot be used (Address already in use): name another" in " ".join(
        result.output.replace("│", " ").split()
    )
