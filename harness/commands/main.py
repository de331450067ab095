"""This is the command line, and the composition root: it alone joins studies, harness and reports.

Every heavy import stands inside a command, so that `--help` answers at once.
"""

from __future__ import annotations

from harness.commands import designs, data, studies, pages, extend, verdicts  # isort: skip (--help's order)
from harness.commands import compare, noise, folders, doctor, look, convert  # isort: skip (--help's order)
from harness.commands.options import app

__all__ = [
    "app", "compare", "convert", "data", "designs", "doctor", "extend", "folders", "look", "noise",
    "pages", "studies", "verdicts",
]  # fmt: skip
