"""What must never be in the sources."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent
# A machine's own folders, and hosts of package registries.
FORBIDDEN = re.compile(r"/home/\w+/|/root/|(?:pypi|pythonhosted|npmjs|debian)\.(?:org|com)")


def test_no_machine_path_and_no_registry_host() -> None:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    found = []
    for name in listed:
        if name == "tests/test_words.py":
            continue
        text = (ROOT / name).read_bytes().decode(errors="replace")
        found += [f"{name}: {match.group()}" for match in FORBIDDEN.finditer(text)]
    assert not found
