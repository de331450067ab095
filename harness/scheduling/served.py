"""Serves a page of how far studies are, to this machine only, for reading only.

Nothing of a request is made into a path: a study is shown if its name is one of those that were
run. A page of another site cannot read it by a name of its own that leads here, since only requests
for the loopback address are answered.
"""

from __future__ import annotations

import os
import socket
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import jinja2

from architectures.frozen import SettingError
from harness.outputs.records import DamagedFile
from harness.scheduling.watching import View, Watch
from harness.words import clock

LOOPBACK = "127.0.0.1"
EVERY = 5
"""Seconds after which a browser asks again."""
SAFE = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'"


class StatusServer(ThreadingHTTPServer):
    """Answers on the loopback address with pages of the studies of an outputs folder."""

    daemon_threads = True

    def __init__(self, outputs: Path, port: int) -> None:
        """Takes the port; 0: a free one. Raises SettingError where it is taken."""
        self.outputs = outputs
        self._watches: dict[str, Watch] = {}
        self._one_at_a_time = threading.Lock()
        environment = jinja2.Environment(
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            loader=jinja2.FileSystemLoader(Path(__file__).parent),
            trim_blocks=True,
        )
        self._template = environment.get_template("watching.html")
        try:
            super().__init__((LOOPBACK, port), _Handler)
        except OSError as error:
            raise _not_usable(port, error) from None

    @property
    def names(self) -> list[str]:
        """Lists the studies that were run."""
        return sorted(path.parent.name for path in self.outputs.glob("studies/*/study.json"))

    def page(self, path: str) -> str | None:
        """Returns the page at a path; None where there is none."""
        names, name = self.names, path.removeprefix("/study/")
        if path == "/":
            return self._rendered("Studies", None)
        if not path.startswith("/study/") or name not in names:
            return None
        with self._one_at_a_time:
            watch = self._watches.setdefault(name, Watch(self.outputs, name))
            return self._rendered(name, watch.look())

    def _rendered(self, title: str, view: View | None) -> str:
        return self._template.render(
            title=title, view=view, names=self.names, every=EVERY, clock=clock
        )


def check_port(port: int) -> None:
    """Raises SettingError where another process has a port that something else is to take."""
    try:
        socket.create_server((LOOPBACK, port)).close()
    except OSError as error:
        raise _not_usable(port, error) from None


def _not_usable(port: int, error: OSError) -> SettingError:
    reason = os.strerror(error.errno or 0)
    return SettingError(f"port {port} cannot be used ({reason}): name another one")


class _Handler(BaseHTTPRequestHandler):
    """Answers GET; other methods are refused by what it inherits."""

    server: StatusServer
    timeout = 10
    server_version, sys_version = "fuselab", ""

    def do_GET(self) -> None:
        port = self.server.server_port
        if self.headers.get("Host") not in (f"{LOOPBACK}:{port}", f"localhost:{port}"):
            self._answer(HTTPStatus.MISDIRECTED_REQUEST, "Ask by the loopback address.")
            return
        try:
            page = self.server.page(unquote(urlsplit(self.path).path))
        except (DamagedFile, SettingError, OSError) as error:
            self._answer(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))
            return
        if page is None:
            self._answer(HTTPStatus.NOT_FOUND, "There is no such page.")
        else:
            self._answer(HTTPStatus.OK, page, "text/html")

    def _answer(self, status: HTTPStatus, text: str, kind: str = "text/plain") -> None:
        body = text.encode("utf-8", "replace")
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", SAFE)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing of requests on the terminal."""
