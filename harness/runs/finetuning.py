"""Fine-tunes a trained design for a task in a folder of its own, or opens what was learnt."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from architectures.contract import FusionDesign
from harness.outputs.copies import removed
from harness.outputs.folder import RunFolder
from harness.outputs.records import DamagedFile
from harness.runs.kept import read_weights, write_weights
from harness.runs.spending import note, resume, write_ledger
from harness.training.data.corpus import Corpus
from harness.training.loop.loop import Loop
from harness.training.scoring import registry as tasks
from harness.training.settings.spec import RunSpec
from harness.training.settings.tasks import TaskSpec


def loop_of(design: FusionDesign, corpus: Corpus, task: TaskSpec, spec: RunSpec) -> Loop:
    """Makes the loop that teaches a design a task; the design itself stays as it is."""
    return tasks.find(task.name).loop(design, corpus, task, spec.train)


def finetuned(
    folder: RunFolder,
    spec: RunSpec,
    design: FusionDesign,
    corpus: Corpus,
    task: TaskSpec,
    should_stop: Callable[[], bool],
) -> nn.Module | None:
    """Returns what learnt the task, on its device in evaluation mode; None where a stop was asked
    for: the next call goes on. `design`: the trained one.
    """
    loop = loop_of(design, corpus, task, spec)
    its = folder.finetuning(spec.finetune_key(task))
    its.path.mkdir(parents=True, exist_ok=True)
    try:
        if its.weights.exists():
            loop.final().load_state_dict(read_weights(its))
            return loop.final().eval()
        resume(loop, its)
    except (ValueError, RuntimeError, DamagedFile) as error:
        first = str(error).partition("\n")[0].partition("; ")[0]  # a run has another remedy
        raise ValueError(
            f"delete that folder to fine-tune again, {its.path} cannot be used: {first}"
        ) from error
    weights = list(loop.final().parameters())
    loop.ledger.flops_per_sample = loop.flops_per_sample()
    loop.ledger.parameters = sum(weight.numel() for weight in weights)
    loop.ledger.trainable = sum(weight.numel() for weight in weights if weight.requires_grad)
    for measurement in loop.train(should_stop):
        note(loop, its, measurement)
        step = f"learns {task.title}: step {loop.step} of {loop.steps}"
        folder.set_status("done", step, durable=False)
        if measurement.stopped:
            return None
    write_ledger(loop, its)
    write_weights(its, loop.final().state_dict())
    removed(its.checkpoint)
    return loop.final().eval()
