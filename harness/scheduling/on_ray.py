"""Runs as Ray core tasks: workers on this machine or on a cluster. The only import of ray."""

from __future__ import annotations

import contextlib
import functools
import gc
import logging
import os
import secrets
import socket
from collections.abc import Collection, Hashable, Iterator, Mapping
from pathlib import Path

from architectures.frozen import SettingError
from architectures.registry import bring
from harness.outputs.copies import opened as opened_outputs
from harness.outputs.copies import place_of
from harness.outputs.files import Locked, State
from harness.scheduling.here import Work, work_of
from harness.scheduling.progress import working
from harness.scheduling.session import OutOfMemory, ProcessDied
from harness.training.settings.spec import RunSpec

REACHED_WITHIN = 10.0
"""Seconds in which a cluster must answer."""

_in_doubt = False
"""In a worker: a run began in this process and has not ended well."""


def _in_worker(
    work: Work | None, spec: RunSpec, outputs: Path | str, own_file: bytes | None
) -> State | None:
    """One run in a Ray worker; None where an earlier run left the process in doubt. `own_file`: the
    text of the user's file that holds the design, which this machine may lack. `outputs`: a folder
    or URL."""
    global _in_doubt
    if _in_doubt:
        return None
    _in_doubt = True
    try:
        if own_file is not None:
            bring(spec.asked.design_file, own_file)
        state = work_of(work)(spec, opened_outputs(outputs, pull=False))
    except Locked:
        _in_doubt = False
        raise
    gc.collect()
    _in_doubt = state not in ("done", "interrupted")
    return state


def _by_several(spec: RunSpec, outputs: Path | str, own_file: bytes | None) -> State:
    """One run by several workers, which are started, watched and ended from this process."""
    from harness.scheduling.several import execute_by_several

    return execute_by_several(spec, outputs, own_file)


class Workers:
    """Ray's workers. Those of CPU runs are kept from run to run, as a new one imports for seconds;
    a run on a GPU, and one that is tried again, has a process of its own."""

    def __init__(self, outputs: Path, work: Work | None, gpu_share: float) -> None:
        import ray

        self._ray, self._work, self._gpu_share = ray, work, gpu_share
        self._outputs = place_of(outputs)
        self._kept = ray.remote(max_retries=0)(_in_worker)
        self._own = ray.remote(max_retries=0, max_calls=1)(_in_worker)
        self._own_files: dict[str, bytes] = {}
        self._several = ray.remote(max_retries=0, max_calls=1)(_by_several)

    def _needs(self, spec: RunSpec) -> dict[str, float]:
        """Returns what each worker of a run needs on its machine."""
        gpu = {"GPU": self._gpu_share} if spec.train.numerics.device == "cuda" else {}
        return {"CPU": spec.train.numerics.threads, **gpu}

    def slots(self, spec: RunSpec) -> int:
        needs = self._needs(spec)
        has = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        places = sum(min(int(h.get(name, 0) / n) for name, n in needs.items()) for h in has)
        workers = spec.train.numerics.workers
        if workers > 1 and needs.get("GPU", 1) < 1:
            raise SettingError(
                f"--gpu-share {self._gpu_share:g}: workers of one run cannot share a GPU "
                f"(numerics.workers is {workers}); leave it out"
            )
        if places < workers:
            resources = "; ".join(str({name: h.get(name, 0) for name in needs}) for h in has)
            several = f"{workers} times (numerics.workers), each " if workers > 1 else ""
            raise SettingError(
                f"a run needs {needs} {several}on one machine (numerics.threads, "
                f"numerics.device), but there is: {resources}"
            )
        return places // workers

    def start(self, spec: RunSpec, *, fresh: bool) -> Hashable:
        needs, name = self._needs(spec), spec.asked.design_file
        if name and name not in self._own_files:
            self._own_files[name] = Path(name).read_bytes()
        own_file = self._own_files.get(name)
        if spec.train.numerics.workers > 1:  # who starts them needs nothing itself
            return self._several.options(num_cpus=0).remote(spec, self._outputs, own_file)
        task = self._own if fresh or "GPU" in needs else self._kept
        placed = task.options(num_cpus=needs["CPU"], num_gpus=needs.get("GPU", 0))
        return placed.remote(self._work, spec, self._outputs, own_file)

    def ended(self, handles: Collection[Hashable], seconds: float) -> list[Hashable]:
        return self._ray.wait(list(handles), timeout=seconds)[0]

    def answer(self, handle: Hashable) -> State | None:
        errors = self._ray.exceptions
        try:
            return self._ray.get(handle)
        except errors.OutOfMemoryError:
            raise OutOfMemory("ended by Ray before the machine ran out of memory") from None
        except (errors.WorkerCrashedError, errors.NodeDiedError):
            raise ProcessDied("its process died") from None
        except errors.RayTaskError as error:
            raise error.cause from None


@contextlib.contextmanager
def opened(address: str | None, threads: int) -> Iterator[None]:
    """A quiet Ray of our own, or a connection to the one at the address, closed afterwards.

    A session that is open already, as in a notebook, is used and left open.
    """
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0")
    if address:
        # Else Ray writes a token under HOME, which may be read-only; a cluster's own is the user's.
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    else:
        os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=_token())
    with working("starting Ray"):
        import ray
    if ray.is_initialized():
        yield
        return
    _read_secret()
    variables = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    pins = dict.fromkeys(variables, str(threads))
    if address:
        with working(f"connecting to {address}"):
            ray.init(
                address,
                runtime_env={"env_vars": pins},
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
    else:
        root = str(Path(__file__).resolve().parents[2])  # for a project that is not installed
        path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        with (
            working("starting Ray"),
            _environment({**pins, "PYTHONPATH": path}),
        ):  # which Ray's processes inherit
            # "local": never a stray cluster that a file or RAY_ADDRESS points to. Only specs
            # and states travel, so the object store is about the smallest one allowed.
            ray.init(
                "local",
                include_dashboard=False,
                object_store_memory=80 * 2**20,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
    try:
        yield
    finally:
        ray.shutdown()


def reach(address: str) -> None:
    """Raises `SettingError` where nothing answers at a cluster's address: Ray itself goes on trying
    for seven minutes."""
    if address == "auto":
        return
    host, _, port = address.rpartition("://")[2].rpartition(":")
    wanted = "write it as HOST:PORT, as `ray start --head` says it"
    if not host or not port.isdigit():
        raise SettingError(f"--address {address!r} is no address of a Ray cluster; {wanted}")
    try:
        socket.create_connection((host, int(port)), timeout=REACHED_WITHIN).close()
    except (OSError, OverflowError, UnicodeError) as error:
        raise SettingError(f"--address {address!r}: no Ray answers there ({error})") from None


def _read_secret() -> None:
    """Has Ray read its secret from the environment. It does so once, at its import, which a
    notebook or another module may have done before the secret stood there."""
    from ray import _raylet as compiled  # has no types

    compiled.Config.initialize("")  # type: ignore[attr-defined]
    compiled.AuthenticationTokenLoader.instance().reset_cache()  # type: ignore[attr-defined]


@functools.cache
def _token() -> str:
    """The secret that our own Ray asks for: other users of this machine do not know it. One for
    this process, because Ray reads it once."""
    return secrets.token_hex(32)


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    old = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in old.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
