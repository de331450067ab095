"""FLOPs of learning a task: what is counted beforehand is what real steps cost, of every design."""

from collections.abc import Callable

import pytest
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from architectures import registry
from architectures.contract import FusionDesign
from harness.training.data.corpus import Corpus
from harness.training.loop.loop import Loop
from harness.training.scoring import registry as tasks
from harness.training.settings.objectives import MLM, Objectives
from harness.training.settings.tasks import Grounding, Retrieval
from tests.training.tasks.conftest import BACKBONE
from tests.training.tasks.test_learnt import OURS, QUICK, SIZES, TASKS, TRAIN

ALL = TASKS | {
    "entailment, with a twin": TASKS["entailment"].with_field("finetune.distil", 0.4),
    "vqa decoder, with a twin": TASKS["vqa decoder"].with_field("finetune.distil", 0.4),
    "nlvr2, a type row each": TASKS["nlvr2"].with_field("picture_types", "each"),
    "retrieval": Retrieval(finetune=QUICK),
    "grounding": Grounding(items=36, train_items=72, finetune=QUICK),
}
FAST = ("nlvr2", "vqa decoder, with a twin", "retrieval")
"""Of split_bert."""
EPOCH = SIZES["train_items"] // QUICK.batch_size
CASES = [
    pytest.param(n, t, marks=() if n == "split_bert" and t in FAST else pytest.mark.slow)
    for n in OURS
    for t in ALL
]


@pytest.mark.parametrize(("name", "task"), CASES)
def test_within_one_percent_of_counted_real_steps(
    name: str, task: str, two_objects: Corpus, small: Callable[..., FusionDesign]
) -> None:
    settings, design_class = ALL[task], registry.find(name)
    facts = design_class.facts(registry.config(name, {}), BACKBONE)
    if tasks.find(settings.name).why_not(facts, Objectives(), settings):
        return
    served = tuple(o for o in ("itc", "itm") if not facts.why_not(o))
    design = small(name, two_objects.tokenizer.vocabulary, served)
    weights = {f"{o}.weight": float(o in served) for o in ("itc", "itm")}
    objectives = Objectives(mlm=MLM(weight=0)).with_fields(weights)
    train = TRAIN.model_copy(update={"objectives": objectives})
    loop = tasks.find(settings.name).loop(design, two_objects, settings, train)
    # Questions have more answers in one batch than in another.
    real = counted(loop, steps=EPOCH if "decoder" in task else 1)
    assert loop.flops_per_sample() == pytest.approx(real, rel=0.01)


def counted(loop: Loop, steps: int) -> float:
    """FLOPs of a sample, in real steps."""
    loop.packed, samples = False, 0
    # The CPU's fused attention, which is taken without gradients, is unknown to torch's counter.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        for step in range(steps):
            batch = loop.batches.at(step)
            loop.before_step()
            loop.forward(batch, step)[1].backward()
            samples += len(batch.ids_BL)
    return counter.get_total_flops() / samples
