"""Writes what a loop measures and goes on from into its folder, whether it trains or fine-tunes."""

from __future__ import annotations

import time

from harness.outputs.folder import LoopFolder
from harness.outputs.measured import MeasuredLine
from harness.outputs.records import DamagedFile, LedgerRecord
from harness.runs.kept import RETRAIN, read_checkpoint, write_checkpoint
from harness.training.loop.loop import Loop, Measurement


def resume(loop: Loop, folder: LoopFolder) -> None:
    """Goes on from the checkpoint, where there is one; measurements after it are forgotten and made
    again. Raises ValueError or `DamagedFile` where what is kept cannot be used."""
    if folder.checkpoint.exists():
        try:
            loop.restore(read_checkpoint(folder))
        except KeyError as lacking:
            raise ValueError(
                f"checkpoint.pt lacks {lacking}, so other code wrote it; delete it to start "
                "this run again"
            ) from lacking
    loop.ledger.attempts += 1
    kept = [line for line in folder.metric_lines() if line.step <= loop.step]
    if loop.step == 0:
        kept = []
    measured = {step for step in loop.measured if step <= loop.step}
    if loop.step and (gaps := measured - {line.step for line in kept}):
        steps = ", ".join(map(str, sorted(gaps)))
        raise DamagedFile(folder.metrics, f"lacks what was measured at steps {steps}", RETRAIN)
    folder.rewrite_metrics(kept)


def note(loop: Loop, folder: LoopFolder, measurement: Measurement) -> None:
    """Writes a measurement into the folder, and a checkpoint where one is due."""
    ledger = loop.ledger
    ledger.flops = ledger.flops_per_sample * ledger.samples
    if measurement.values:
        folder.append_metrics(
            MeasuredLine(
                step=measurement.step,
                samples=ledger.samples,
                seconds=round(ledger.train_seconds, 4),
                time=time.time(),
                values=measurement.values,
                chain=loop.chain,
                chains=measurement.chains,
            )
        )
    if measurement.checkpoint:
        folder.sync_metrics()  # what a checkpoint covers is never measured again
        write_checkpoint(folder, loop.snapshot())
        write_ledger(loop, folder)


def write_ledger(loop: Loop, folder: LoopFolder) -> None:
    """Writes what was spent so far."""
    LedgerRecord(spent=loop.ledger).write(folder.ledger)
