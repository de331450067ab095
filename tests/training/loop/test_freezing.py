"""Frozen towers do not move by a bit, learn when they shall, and are run once per picture."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from pydantic import JsonValue
from torch import Tensor

from architectures import build, registry
from architectures.freezing import TOWERS, HeldStill, Tower, no_tower, tower_parts
from architectures.frozen import SettingError
from architectures.stacks.image_tower import ImageTower
from harness.planning.freeze_notes import freeze_notes
from harness.planning.plan import plan
from harness.planning.prepare import prepared
from harness.runs.assemble import counted_flops, kept_pictures, load_data
from harness.study import SCALES, Cell, Freeze, Objectives, Span, Study, Variant
from harness.training.data.batches import Batches
from harness.training.data.corpus import Corpus
from harness.training.data.transforms import Augment
from harness.training.loop import freezing
from harness.training.loop.flops import image_flops, mean_flops, training_flops
from harness.training.loop.freezing import KeptStates, why_not_kept
from harness.training.loop.trainer import Trainer
from harness.training.randomness import stream
from harness.training.settings.loop import Budget, Measure, Numerics
from harness.training.settings.objectives import ITC, ITM
from harness.training.settings.spec import TrainSpec
from tests.training.objectives.conftest import BATCH, FULL, SMALL, for_design

BOTH = Freeze(image=True, text=True)
HALVES = Freeze(image=Span(until=0.5), text=Span(after=0.5))
DESIGNS = list(registry.names())
DEEPER = SMALL.model_copy(update={"image_layers": 3})
FIELDS: list[tuple[str, dict[str, JsonValue]]] = [
    ("split_bert", {"attention": "joint"}),
    ("split_bert", {"image_from": [2, 0, 1, 0], "text_layers": 3}),
    ("full_text_deep_fusion", {"image_from": [0, 2], "image_concat": True}),
    ("shared_stack", {"image_from": [1]}),
]
"""Ways in which fusion reads the tower besides each design's own."""
NO_IMAGE = {"multiway", "single_stream"}
NO_TEXT = {"multiway", "single_stream", "query_bottleneck"}


def built(name: str, objectives: Objectives, device: str = "cpu") -> build.FusionDesign:
    torch.manual_seed(0)
    with torch.device(device):
        return build.construct(name, {}, SMALL, 200, objectives.active())


def frozen_in(name: str) -> Freeze:
    return Freeze(image=name not in NO_IMAGE, text=name not in NO_TEXT)


@pytest.fixture
def trainer(corpus: Corpus) -> Callable[..., Trainer]:
    def prepared_for(
        name: str, freeze: Freeze, *, steps: int = 10, batch: int = BATCH, **fields: JsonValue
    ) -> Trainer:
        objectives, backbone = for_design(name), DEEPER if fields else SMALL
        spec = TrainSpec(
            design=name, config=fields, backbone=backbone, data="", objectives=objectives,
            freeze=freeze, budget=Budget(steps=steps), batch_size=batch, seed=0,
            measure=Measure(points=2),
        )  # fmt: skip
        batches = Batches(corpus.train, corpus.tokenizer, batch, 0, objectives.mlm)
        design = build.design(
            name, fields, backbone, corpus.tokenizer.vocabulary,
            draw=lambda role: stream(0, "init", role), objectives=objectives.active(),
        )  # fmt: skip
        return Trainer(spec, design, batches, [])

    return prepared_for


def weights(trainer: Trainer) -> dict[str, Tensor]:
    return {role: p.detach().clone() for role, p in trainer.design.named_parameters()}


def run(trainer: Trainer, steps: int) -> None:
    while trainer.step < steps:
        trainer.one_step()


def roles(trainer: Trainer, *towers: Tower) -> set[str]:
    parts = (tower_parts(trainer.design, tower) for tower in towers)
    return {role for part in parts for role in part.roles(trainer.design)}


def moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {role for role, value in after.items() if not torch.equal(value, before[role])}


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        *(pytest.param(name, {}, id=name) for name in DESIGNS),
        *(
            pytest.param(name, fields, id=f"{name} {' '.join(fields)}", marks=pytest.mark.slow)
            for name, fields in FIELDS
        ),
    ],
)
def test_a_frozen_tower_stays_and_what_is_kept_of_it_changes_no_bit(
    name: str,
    fields: dict[str, JsonValue],
    trainer: Callable[..., Trainer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With teacher, queue and dropout, over more than an epoch: some pictures come again, beside
    some that the first epoch left out."""
    kept = trainer(name, frozen_in(name), steps=3, batch=16, **fields)
    before, frozen = weights(kept), roles(kept, *TOWERS)
    assert frozen == kept.freezing.never_learn
    run(kept, 3)
    after = weights(kept)
    assert not moved(before, after) & frozen
    assert {r.partition(".")[0] for r in moved(before, after)} >= {"heads"}
    held = {id(p) for group in kept.optimizer.param_groups for p in group["params"]}
    own = dict(kept.design.named_parameters())
    assert not any(id(own[role]) in held for role in frozen)
    assert all(p.requires_grad for p in own.values()) and kept.design.training
    monkeypatch.setattr(Trainer, "_keeps", lambda _: False)
    anew = trainer(name, frozen_in(name), steps=3, batch=16, **fields)
    run(anew, 3)
    assert (kept.kept is not None) == (name not in {*NO_IMAGE, "in_backbone"})
    assert anew.kept is None and not moved(after, weights(anew))
    assert kept.note_sums.keys() == anew.note_sums.keys()
    assert all(torch.equal(value, anew.note_sums[n]) for n, value in kept.note_sums.items())
    assert all(torch.equal(term.loss_sum, anew.sums[n].loss_sum) for n, term in kept.sums.items())


@pytest.mark.parametrize("name", DESIGNS)
def test_what_is_of_a_tower_is_what_its_modality_alone_goes_through(name: str) -> None:
    design = built(name, Objectives())
    assert {t for t in TOWERS if no_tower(design, t)} == {
        *({"image"} if name in NO_IMAGE else ()),
        *({"text"} if name in NO_TEXT else ()),
    }
    image, text = (tower_parts(design, tower).roles(design) for tower in TOWERS)
    assert not image & text and not any("cross" in role for role in image | text)
    assert not any(role.startswith("heads.") for role in image | text)
    states = design.encode_image(torch.zeros(2, 3, SMALL.image_size, SMALL.image_size))
    with HeldStill(design, ["image"] if image else []).inside():
        still = design.encode_image(torch.zeros(2, 3, SMALL.image_size, SMALL.image_size))
    assert states.distinct_UPD.requires_grad
    assert still.distinct_UPD.requires_grad == (not image)


def test_a_shared_stack_learns_its_cross_attention_alone(trainer: Callable[..., Trainer]) -> None:
    frozen = trainer("shared_stack", Freeze(text=True))
    before = weights(frozen)
    run(frozen, 1)
    layers = {role for role in moved(before, weights(frozen)) if role.startswith("layers.")}
    assert layers and all(".cross_" in role for role in layers)


def test_dropout_is_off_where_it_is_frozen_and_in_the_teacher_there(
    trainer: Callable[..., Trainer],
) -> None:
    its = trainer("split_bert", Freeze(text=Span(until=0.5)))
    twin = its.state.twin
    assert twin is not None
    for step in (1, 10):
        with its.freezing.at(step):
            its.state.teach(its.design, its.batches.at(0), packed=True)
            for design in (its.design, twin.design):
                modes = {n: m.training for n, m in design.named_modules() if n[-8:] == ".dropout"}
                assert modes.pop("embeddings.dropout") is (step == 10)
                assert modes["layers.0.dropout"] is (step == 10) and modes["layers.6.dropout"]


def test_a_schedule_freezes_in_its_steps_and_goes_on_after_a_stop_to_the_bit(
    trainer: Callable[..., Trainer],
) -> None:
    whole = trainer("split_bert", HALVES, steps=6)
    image, text = (roles(whole, tower) for tower in TOWERS)
    snapshots, each = {}, [weights(whole)]
    for step in range(1, 7):
        run(whole, step)
        each.append(weights(whole))
        snapshots[step] = copy.deepcopy(whole.snapshot())
    assert not moved(each[0], each[3]) & image and text <= moved(each[0], each[3])
    assert not moved(each[3], each[6]) & text and image <= moved(each[3], each[4])
    assert whole.freezing.never_learn == frozenset()
    for stop in (2, 3, 4):
        resumed = trainer("split_bert", HALVES, steps=6)
        resumed.restore(snapshots[stop])
        run(resumed, 6)
        assert not moved(each[6], weights(resumed)) and resumed.chain == whole.chain
        ours, theirs = (t.optimizer.state_dict()["state"] for t in (resumed, whole))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[k][n], theirs[k][n]) for k in ours for n in ours[k])


def test_the_curve_of_a_part_that_never_learns_is_not_there(
    trainer: Callable[..., Trainer],
) -> None:
    its = trainer("split_bert", Freeze(image=True))
    run(its, 1)
    assert "grad_norm_image" not in its.note_sums and "grad_norm_text" in its.note_sums


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_kernel_mixes_pictures(dtype: torch.dtype) -> None:
    """Why kept states are those of any other batch: rows are alike to the bit in any company."""
    backbone = SCALES["nano"]
    tower = ImageTower(backbone)
    for weight in tower.parameters():
        torch.nn.init.normal_(weight, std=0.08)
    torch.manual_seed(0)
    pictures = torch.randn(64, 3, backbone.image_size, backbone.image_size)
    with torch.no_grad(), torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        all_UPD = tower(pictures).distinct_UPD
        for rows in ([0], [63, 5], [*range(64)][::-1], [*range(0, 64, 3)], [*range(37)]):
            assert torch.equal(tower(pictures[rows]).distinct_UPD, all_UPD[rows])


def test_each_picture_is_encoded_once_and_the_ledger_counts_that(
    trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []
    encode = ImageTower._run

    def counting(self: ImageTower, image_BCHW: Tensor, *, every_layer: bool) -> tuple[Tensor, ...]:
        rows.append(len(image_BCHW))
        return encode(self, image_BCHW, every_layer=every_layer)

    its = trainer("split_bert", Freeze(image=True), steps=5, batch=16)
    different = its._source.different(5)
    monkeypatch.setattr(ImageTower, "_run", counting)
    run(its, 5)
    assert sum(rows) == different < 40 < 5 * 16  # two epochs, of each eight are left out
    design = built("split_bert", FULL, "meta")
    sizes = {"text_tokens": 16, "rows": 16, "words": 6.0, "swapped": 1.0}
    counted = [training_flops(design, FULL, **sizes),
               training_flops(design, FULL, frozen=["image"], **sizes),
               training_flops(design, FULL, frozen=["image"], kept=True, **sizes)]  # fmt: skip
    patches, width, p = 4, 16, 5
    tower = 2 * patches * 3 * 8 * 8 * width + 2 * (12 * p * width**2 + 2 * p**2 * width)
    assert counted[1] - counted[2] == pytest.approx(2 * tower)  # the design's and the teacher's
    assert image_flops(design) == tower

    def of_sample(frozen: tuple[Tower, ...], kept: bool) -> float:
        return counted[len(frozen) + kept]

    run_of = {"steps": 5, "rows": 16, "kept": different, "image": tower}
    mean = mean_flops(of_sample, Freeze(image=True), **run_of)
    assert mean == pytest.approx(counted[2] + tower * different / (5 * 16))
    part = mean_flops(of_sample, Freeze(image=Span(until=0.4)), **run_of)
    assert part == pytest.approx(0.4 * counted[2] + 0.6 * counted[0] + tower * different / (5 * 16))


def test_a_frozen_tower_has_no_backward_pass() -> None:
    """ITC alone reads the tower: of three products of a block one is left, and of two of the
    patches; the ITC head too has one less, of what it reads."""
    only = Objectives(itm=ITM(weight=0), mlm=FULL.mlm.model_copy(update={"weight": 0.0}), itc=ITC())
    sizes = {"text_tokens": 16, "rows": BATCH}
    design = built("dual_encoder", only, "meta")
    learns, frozen = (training_flops(design, only, frozen=f, **sizes) for f in ((), ("image",)))
    block = 2 * (12 * 5 * 16**2 + 2 * 5**2 * 16)
    assert learns - frozen == pytest.approx(2 * block + 2 * 4 * 3 * 8 * 8 * 16 + 2 * 16 * 8)


def test_why_states_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    split, fused = (built(name, FULL, "meta") for name in ("split_bert", "in_backbone"))
    plain, usual = Augment(), (Numerics(), Augment(), 100)
    assert why_not_kept(split, BOTH, *usual) == ""
    assert why_not_kept(split, Freeze(image=Span(until=0.5)), *usual) == ""
    assert "first step" in why_not_kept(split, Freeze(image=Span(after=0.5)), *usual)
    cuts = Augment(kind="crop")
    assert "data.augment" in why_not_kept(split, BOTH, Numerics(), cuts, 100)
    assert "GPU" in why_not_kept(split, BOTH, Numerics(device="cuda"), plain, 100)
    assert "one by one" in why_not_kept(fused, BOTH, *usual)
    monkeypatch.setattr(freezing, "MOST_MIB", 1)
    assert "4,000 pictures would take 1 MiB" in why_not_kept(split, BOTH, Numerics(), plain, 4000)


def test_steps_are_counted_by_what_is_frozen_in_them() -> None:
    its = Freeze(image=Span(until=0.5), text=Span(after=0.25))
    assert freezing.stretches(its, 8) == {("image",): 2, ("image", "text"): 2, ("text",): 4}
    assert freezing.stretches(Freeze(), 8) == {(): 8}
    assert freezing.stretches(Freeze(image=Span(after=0.99), text=True), 8) == {("text",): 8}


def test_settings_read_as_words() -> None:
    assert Freeze(image=True, text=False) == Freeze(image=Span())
    assert Freeze().with_field("image", True).with_field("image.until", 0.5).image == Span(
        until=0.5
    )
    assert list(Span(after=0.25, until=0.5).steps(8)) == [3, 4]
    with pytest.raises(SettingError, match=r"after 0\.5 must be below until 0\.5"):
        Span(after=0.5, until=0.5)


def test_the_plan_says_what_is_frozen_and_why_not(tiny: Study, outputs: Path) -> None:
    cells = (Cell(variant=Variant("split_bert", text_layers=2), label="a"),
             Cell(variant=Variant("single_stream"), label="b"))  # fmt: skip
    open_study = tiny.model_copy(update={"cells": cells, "control": "a", "seeds": (0,)})
    study = open_study.model_copy(update={"freeze": Freeze(image=True, text=Span(until=0.5))})
    planned = plan(study, outputs)
    keys = [row.spec.train_key() for row in plan(open_study, outputs).rows]
    assert planned.rows[0].spec.train_key() != keys[0]
    assert planned.rows[1].spec.train_key() == keys[1]
    reasons = planned.rows[1].spec.asked.not_applicable
    assert {what: why for what, why in reasons.items() if what != "itc"} == {
        "freeze.image": "single_stream has no layer of the image alone",
        "freeze.text": "single_stream has no layer of text alone",
    }
    corpora = prepared(planned, outputs)
    lines = freeze_notes(planned, corpora)
    assert len(lines) == 4 and lines[0].startswith(
        "cell a: the image tower is frozen in every step, "
    )
    assert "cell a: the text tower is frozen from step 1 to 3, " in lines[1]
    assert lines[3] == "cell a: frozen states of pictures are computed once, at most 0.1 MiB"
    spec, plain = planned.rows[0].spec, plan(open_study, outputs).rows[0].spec
    corpus = load_data(spec, outputs)
    assert kept_pictures(spec, corpus)(6) == 48
    share = counted_flops(spec, corpus) / counted_flops(plain, corpus)
    assert share < 0.8
    assert lines[2].startswith(f"cell a: it takes {share:.0%} of the training FLOPs")


def test_kept_states_come_back_in_the_order_asked() -> None:
    kept, shown = KeptStates(4), []

    def encode(image_BCHW: Tensor) -> tuple[Tensor, ...]:
        shown.append(len(image_BCHW))
        return (image_BCHW.flatten(2).double(),)

    pictures = torch.arange(4.0).view(4, 1, 1, 1)
    for rows, new in (([1, 3], 2), ([3, 0], 1), ([0, 1], 0)):
        with kept.of(torch.tensor(rows), []):
            (states,) = kept(pictures[rows], encode)
        assert states.flatten().tolist() == rows
        assert sum(shown) == new + sum(shown[: len(shown) - bool(new)])


def test_a_design_without_a_tower_is_refused(trainer: Callable[..., Trainer]) -> None:
    with pytest.raises(SettingError, match=r"freeze\.image: single_stream has no layer"):
        trainer("single_stream", BOTH)
