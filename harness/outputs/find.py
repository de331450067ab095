"""Finds runs and studies of an outputs folder by what a person calls them."""

from __future__ import annotations

from pathlib import Path

from architectures.frozen import SettingError, nearest
from harness.outputs.copies import shown
from harness.outputs.folder import RunFolder, studies


def find_run(outputs: Path, asked: str) -> RunFolder:
    """Finds the run named by its train key, by the beginning of it, or by STUDY/CELL/SEED.

    Raises `SettingError` where none or several fit.
    """
    if "/" in asked:
        return RunFolder(outputs, _run_of_cell(outputs, asked))
    keys = sorted(path.parent.name for path in outputs.glob("runs/*/spec.json"))
    fits = [key for key in keys if key.startswith(asked)]
    if len(fits) != 1:
        several = f"{len(fits)} runs: {', '.join(fits[:8])}; give more of it"
        none = "no run; give the name of a folder there, or STUDY/CELL/SEED"
        raise SettingError(
            f"{asked!r} fits {several if fits else none} ({shown(outputs / 'runs')})"
        )
    return RunFolder(outputs, fits[0])


def _run_of_cell(outputs: Path, asked: str) -> str:
    study, _, rest = asked.partition("/")
    cell, slash, seed = rest.rpartition("/")
    if not slash:
        raise SettingError(f"{asked!r}: write it as STUDY/CELL/SEED, for example demo/6+6/0")
    records = studies(outputs)
    if study not in records:
        raise nearest(
            study, records, f"study under {shown(outputs / 'studies')} (option --outputs)"
        )
    rows = records[study].rows
    if cell not in (cells := list(dict.fromkeys(row.cell for row in rows))):
        raise nearest(cell, cells, f"cell of study {study!r}")
    runs = {str(row.seed): row.run for row in rows if row.cell == cell}
    if seed not in runs:
        raise nearest(seed, runs, f"seed of cell {cell!r}")
    return runs[seed]
