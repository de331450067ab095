"""Says whether this machine can do what studies still ask for as their runs were done before."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

from architectures.frozen import SettingError
from harness.outputs.code import code_digest
from harness.outputs.doctor import Examined, Fault, spec_of
from harness.outputs.environment import environment
from harness.outputs.folder import RunFolder
from harness.outputs.records import (
    Certificate,
    DamagedFile,
    Environment,
    LedgerRecord,
    read_if_there,
)
from harness.training.settings.loop import Numerics
from harness.training.settings.spec import RunSpec

LEAST_FREE = 2**30
"""Bytes on the disk below which a run is likely to find it full."""


def machine(outputs: Path, keys: Sequence[str]) -> Examined:
    """Compares this machine with what the runs were done on, and with what is still to be done. It
    is a fault only where runs are not done yet: they could not be done, or would not be paired."""
    folders = [RunFolder(outputs, key) for key in keys]
    to_do = [folder for folder in folders if folder.recovered_status().state != "done"]
    problems = [*_room(outputs, folders), *_other_surroundings(folders)]
    for folder in folders:
        try:
            spec = spec_of(folder)
        except SettingError:
            continue  # said of the records
        if spec:
            problems += [*_lacking(spec.train.numerics), *_other_code(folder, spec)]
    problems = list(dict.fromkeys(problems))
    free = shutil.disk_usage(outputs).free / 2**30
    memory = psutil.virtual_memory().available / 2**30
    seen = f"{os.cpu_count()} cores, {memory:.1f} GiB of memory and {free:.1f} GiB of disk free"
    if not to_do:
        return Examined(part="machine", seen=seen, notes=tuple(f"{a}; {b}" for a, b in problems))
    faults = tuple(Fault(text=what, remedy=remedy) for what, remedy in problems)
    return Examined(part="machine", seen=f"{seen}, {len(to_do)} runs to do", faults=faults)


Problem = tuple[str, str]
"""What is wrong, and what helps."""


def _room(outputs: Path, folders: Sequence[RunFolder]) -> Iterator[Problem]:
    free = shutil.disk_usage(outputs).free
    if free < LEAST_FREE:
        yield f"{free / 2**20:.0f} MiB of disk are free", "free some: `fuselab clean`"
    peak = max((_peak_mib(folder) for folder in folders), default=0.0)
    available = psutil.virtual_memory().available / 2**20
    if peak > available:
        what = f"a run took {peak:.0f} MiB of memory, and {available:.0f} MiB are free"
        yield what, "end other work, or run with --local"
    if not os.access(outputs, os.W_OK):
        yield f"{outputs} cannot be written to", "change its owner or mode"


def _peak_mib(folder: RunFolder) -> float:
    try:
        record = read_if_there(LedgerRecord, folder.ledger)
    except DamagedFile:
        return 0.0
    return record.spent.peak_mib if record else 0.0


def _lacking(numerics: Numerics) -> Iterator[Problem]:
    if numerics.threads > (os.cpu_count() or 1):
        what = f"runs ask for {numerics.threads} threads, and this machine has {os.cpu_count()}"
        yield what, "take a larger machine: bits depend on the number of threads"
    if numerics.device == "cuda":
        from harness.training.loop.numerics import check_device

        try:
            check_device(numerics)
        except SettingError as error:
            yield str(error), "take a machine that has one"


def _other_surroundings(folders: Sequence[RunFolder]) -> Iterator[Problem]:
    """Compares versions and device of now with those that each run was trained under."""
    for folder in folders:
        try:
            record = read_if_there(Environment, folder.environment)
        except DamagedFile:
            continue
        if record is None:
            continue
        device = "cuda" if record.device.startswith("cuda") else "cpu"
        now = environment(Numerics(threads=max(record.threads, 1), device=device))
        then = {"python": record.python, **record.libraries}
        here = {"python": now.python, **now.libraries}
        apart = [
            f"{name} {version}, now {here.get(name, 'not there')}"
            for name, version in then.items()
            if here.get(name) != version
        ]
        if apart:
            what = f"runs were trained under {', '.join(apart)}"
            yield what, "install those versions, or what is still run is not paired with them"
        if record.device != now.device and device == "cpu":
            what = f"runs were trained on {record.device}, and this is {now.device}"
            yield what, "go on there, or what is still run is not paired with them"


def _other_code(folder: RunFolder, spec: RunSpec) -> Iterator[Problem]:
    try:
        certificate = read_if_there(Certificate, folder.certificate)
        now = code_digest(spec.asked.design_file)
    except (DamagedFile, OSError):
        return
    if certificate and certificate.code != (now,):
        what = f"runs were trained by other sources ({'+'.join(certificate.code)}, now {now})"
        yield what, "go on with those, or what is still run is not paired with them"
