"""FLOPs of a training sample: against formulae by hand, and against real steps of every design."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from architectures import build
from architectures.backbone import scale
from harness.runs.assemble import counted_flops
from harness.training.data.batches import Batches
from harness.training.data.corpus import Corpus, load_corpus
from harness.training.loop.flops import training_flops
from harness.training.objectives.forward import terms, total
from harness.training.objectives.itm import Negatives
from harness.training.objectives.state import ObjectiveState
from harness.training.settings.objectives import ITC, ITM, LM, MLM, SHORT_OBJECTIVES, Objectives
from harness.training.settings.spec import Asked, RunSpec, TrainSpec
from tests.architectures.views.test_cost import TINY, D, L, P, V, block
from tests.training.objectives.conftest import DATA, FULL, SMALL, for_design, some_designs

ROWS = 4
FORWARD_AND_BACKWARD = 2 * 3
"""FLOPs per multiply-accumulate of a product: forward, and the gradients of both factors."""


def counted(fields: dict, objectives: Objectives) -> float:
    with torch.device("meta"):
        design = build.construct("split_bert", fields, TINY, V, objectives.active())
    return training_flops(design, objectives, text_tokens=L, rows=ROWS)


def towers() -> float:
    """Three image blocks and one text layer; pixels need no gradient."""
    patches = 2 * 2 * (P - 1) * 3 * 8 * 8 * D
    return FORWARD_AND_BACKWARD * (3 * block(P) + block(L)) + patches


def test_itc_equals_the_formula():
    only = Objectives(itm=ITM(weight=0), mlm=MLM(weight=0))
    width = TINY.itc_width
    head = FORWARD_AND_BACKWARD * (2 * D * width + 2 * ROWS * width)  # cosines, both ways
    assert counted({"text_layers": 1}, only) == towers() + head


def test_itm_makes_keys_and_values_of_an_image_once_for_its_three_rows():
    only = Objectives(itc=ITC(weight=0), mlm=MLM(weight=0))
    once = 3 * 2 * P * D**2
    lower = 2 * (12 * L * D**2 + 2 * L * D**2)  # self-attention, MLP; queries and output of cross
    last = 2 * L * D**2 + (2 + 2 + 8) * D**2  # keys, values of all words; [CLS] alone asks
    scores = 2 * (2 * L**2 * D + 2 * L * P * D) + 2 * L * D + 2 * P * D
    heads = 2 * D
    fused = FORWARD_AND_BACKWARD * (once + 3 * (lower + last + scores + heads))
    assert counted({"text_layers": 1}, only) == pytest.approx(towers() + fused, rel=1e-6)


def test_lm_computes_every_position_and_the_vocabulary_at_each():
    only = Objectives(itc=ITC(weight=0), itm=ITM(weight=0), mlm=MLM(weight=0), lm=LM(weight=1))
    layer = 14 * L * D**2 + 2 * P * D**2 + 2 * L**2 * D + 2 * L * P * D
    head = L * (D**2 + D * V)
    said = FORWARD_AND_BACKWARD * (3 * layer + head)
    assert counted({"text_layers": 1}, only) == pytest.approx(towers() + said, rel=1e-6)


def test_an_objective_without_a_head_costs_nothing():
    with torch.device("meta"):
        design = build.construct("dual_encoder", {"text_layers": 2}, TINY, V)
    all_three = training_flops(design, Objectives(), text_tokens=L, rows=ROWS)
    alone = Objectives(itm=ITM(weight=0), mlm=MLM(weight=0))
    assert all_three == training_flops(design, alone, text_tokens=L, rows=ROWS)
    none = Objectives(itc=ITC(weight=0))
    assert training_flops(design, none, text_tokens=L, rows=ROWS) == 0
    assert block(L) * 2 * 2 * 3 < all_three


SIZES = {"small": SMALL, "base": scale("base")}
TEACHING = {"alone": SHORT_OBJECTIVES, "taught": FULL}


@pytest.fixture(scope="session")
def corpora(tmp_path_factory: pytest.TempPathFactory):
    """Scenes at the picture size of a backbone."""
    made: dict[str, Corpus] = {}

    def of(name: str) -> Corpus:
        if name not in made:
            made[name] = load_corpus(DATA, SIZES[name].image_size, tmp_path_factory.mktemp(name))
        return made[name]

    return of


@pytest.mark.parametrize(
    ("size", "teaching"),  # the formulae above are of objectives without a teacher
    [
        ("small", "taught"),
        *(pytest.param("base", teaching, marks=pytest.mark.slow) for teaching in TEACHING),
    ],
)
@some_designs
def test_within_one_percent_of_a_counted_real_step(name, teaching, size, corpora) -> None:
    """The step of a real batch, as `Trainer` makes it, on the meta device and so padded."""
    corpus, rows = corpora(size), 40
    objectives = for_design(name, TEACHING[teaching])
    train = TrainSpec(
        design=name, backbone=SIZES[size], objectives=objectives, batch_size=rows, seed=0, data=""
    )
    spec = RunSpec(train=train, asked=Asked(data=DATA))
    batch = Batches(corpus.train, corpus.tokenizer, rows, 0, objectives.mlm).at(0).to("meta")
    with torch.device("meta"):
        design = build.construct(
            name, {}, SIZES[size], corpus.tokenizer.vocabulary, objectives.active()
        )
    state = ObjectiveState(objectives, design.train()).to("meta")
    wrong_B = torch.zeros(rows, dtype=torch.int64, device="meta")
    with FlopCounterMode(display=False) as counter:
        taught = state.teach(design, batch, packed=False)
        losses = terms(design, state, batch, negatives=Negatives(wrong_B, wrong_B), taught=taught)
        total(losses.terms, objectives).backward()
    assert counted_flops(spec, corpus) == pytest.approx(counter.get_total_flops() / rows, rel=0.01)
