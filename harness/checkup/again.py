"""Does steps of a run again and compares them with what was kept, bit by bit."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

from architectures.frozen import SettingError
from harness.outputs.code import code_digest
from harness.outputs.folder import RunFolder
from harness.outputs.measured import MeasuredLine
from harness.outputs.records import Certificate, read_if_there
from harness.runs.assemble import build_design, load_data, training_batches
from harness.runs.kept import read_checkpoint
from harness.runs.run import trainer_of
from harness.training.loop import numerics
from harness.training.loop.loop import Measurement
from harness.training.settings.spec import RunSpec
from harness.warm_start import make as warm_start
from harness.warm_start.keys import key


@dataclasses.dataclass(frozen=True, kw_only=True)
class Again:
    """What came of doing steps of a run again."""

    first: int
    last: int
    """Steps that were done, both included."""
    values: int
    """Values of curves that were compared."""
    digests: int
    """Digests of batches that were compared."""
    differences: tuple[str, ...]
    """What is not the same to the last bit."""
    other_code: bool
    """Whether the sources that train have changed since."""


def again(spec: RunSpec, outputs: Path, steps: int) -> Again:
    """Does at least so many steps again, to the measurement after them, and writes nothing.

    From the checkpoint where the run keeps one and has measured more since; else, as a run that has
    ended keeps none, from its first step. Raises `SettingError` where the run has measured nothing,
    or what it started from is gone.
    """
    folder = RunFolder(outputs, spec.train_key())
    lines = {line.step: line for line in folder.metric_lines()}
    if len(lines) < 2:
        raise SettingError(f"run {folder.key} has measured nothing after a step yet")
    if spec.train.warm_start and not (outputs / "warm_start" / key(spec)).is_dir():
        raise SettingError(f"what run {folder.key} started from (warm_start/) is not there")
    numerics.prepare(spec.train.numerics)
    corpus = load_data(spec, outputs)
    start = warm_start.made(spec, corpus, outputs)
    design = build_design(spec, corpus.tokenizer.vocabulary, start)
    trainer = trainer_of(spec, design, corpus, training_batches(spec, corpus))
    if folder.checkpoint.exists():
        snapshot = read_checkpoint(folder)
        if any(step > snapshot["step"] for step in lines):
            trainer.restore(snapshot)
    first, until = trainer.step, min(trainer.step + steps, max(lines))
    differences, values, digests = list[str](), 0, 0
    for measurement in trainer.train(bool):
        if line := lines.get(measurement.step):
            differences += _differences(line, measurement, trainer.chain)
            values += len(line.values)
            digests += bool(line.chain) + len(line.chains)
        if measurement.step >= until:
            break
    numerics.release()
    certificate = read_if_there(Certificate, folder.certificate)
    now = code_digest(spec.asked.design_file)
    return Again(
        first=first + 1,
        last=trainer.step,
        values=values,
        digests=digests,
        differences=tuple(differences),
        other_code=bool(certificate and certificate.code != (now,)),
    )


def _differences(line: MeasuredLine, measurement: Measurement, chain: str) -> Iterator[str]:
    at = f"step {line.step}"
    chains = {**line.chains, line.step: line.chain} if line.chain else line.chains
    new = {**measurement.chains, line.step: chain}
    for step, digest in sorted(chains.items()):
        if new.get(step) != digest:
            yield f"step {step}: the batches fed up to here"
            break
    for name in sorted({*line.values, *measurement.values}):
        before, now = _bits(line.values, name), _bits(measurement.values, name)
        if before != now:
            was, became = line.values.get(name), measurement.values.get(name)
            yield f"{at}: {name} was {was!r}, is {became!r}"


def _bits(values: Mapping[str, float], name: str) -> bytes:
    return struct.pack("<d", values[name]) if name in values else b""
