"""Describes what a run is trained in: versions, commit, device."""

from __future__ import annotations

import functools
import importlib.metadata
import platform
import subprocess
import sys
from pathlib import Path

from harness.outputs.records import Environment
from harness.training.settings.loop import Numerics

LIBRARIES = ("fuselab", "torch", "transformers", "timm", "numpy", "ray")
"""Whose versions a result may depend on."""
ROOT = Path(__file__).parents[2]


def environment(numerics: Numerics) -> Environment:
    """Describes what this process is, for a run with these numerics."""
    commit, dirty = _commit()
    return Environment(
        commit=commit,
        dirty=dirty,
        python=platform.python_version(),
        libraries={name: _version(name) for name in LIBRARIES},
        device=_device(numerics.device),
        threads=numerics.threads,
        workers=numerics.workers,
    )


def _version(library: str) -> str:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


@functools.cache
def _commit() -> tuple[str, bool]:
    """Gives the sources' commit, and if tracked files differ from it; empty outside a checkout."""
    if not (ROOT / ".git").exists():
        return "", False
    git = ["git", "-C", str(ROOT)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True)
        changed = subprocess.run(
            [*git, "status", "--porcelain", "--untracked-files=no"], capture_output=True, text=True
        )
    except OSError:  # no git here
        return "", False
    return head.stdout.strip(), bool(changed.stdout.strip())


def _device(kind: str) -> str:
    if kind == "cuda" and "torch" in sys.modules:
        return f"cuda: {sys.modules['torch'].cuda.get_device_name()}"
    return f"cpu: {_processor()}"


@functools.cache
def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
