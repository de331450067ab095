"""The final model as a study declares it: the mean that it says, scored, exported, resumed to the
bit, and nothing of the training changed by it.
"""

import copy
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from architectures.contract import FusionDesign
from architectures.frozen import SettingError
from harness.export.export import export
from harness.lab import Lab
from harness.outputs.folder import RunFolder
from harness.outputs.records import LedgerRecord, ScoresRecord
from harness.planning.checks import final_weights
from harness.planning.plan import plan, write_study
from harness.runs.run import execute
from harness.study import ALBEF_OBJECTIVES, Cell, Final, Study, Variant
from harness.training.loop.final import Averaged
from harness.training.loop.trainer import Trainer
from harness.training.settings.spec import RunSpec
from tests.harness.conftest import TINY
from tests.harness.test_run import elsewhere
from tests.harness.test_run import final as bits_of

MEAN = Final(kind="mean", measurements=2)
EMA = Final(kind="ema", decay=0.7)
KINDS = pytest.mark.parametrize("final", [MEAN, EMA], ids=["mean", "ema"])


def spec_of(study: Study, outputs: Path, final: Final) -> RunSpec:
    return plan(study.with_field("final", final), outputs).rows[0].spec


def shares(final: Final, steps: int, measured: tuple[int, ...]) -> dict[int, float]:
    """What the weights after each step count, written out."""
    if final.kind == "mean":
        read = measured[-final.measurements :]
        return {step: 1 / len(read) for step in read}
    powers = {step: final.decay ** (steps - step) for step in range(1, steps + 1)}
    return {step: power / sum(powers.values()) for step, power in powers.items()}


def doubles(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().double() for name, value in module.state_dict().items()}


def close(weights: dict[str, Tensor], after: dict[int, dict[str, Tensor]], share: dict) -> None:
    for name, value in weights.items():
        expected = sum(part * after[step][name] for step, part in share.items())
        torch.testing.assert_close(value.double(), expected, rtol=1e-6, atol=1e-7)


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[int, dict[str, Tensor]]]:
    """The weights after every step of the runs of a test, in float64."""
    after: dict[int, dict[str, Tensor]] = {}
    step = Trainer.one_step

    def noting(self: Trainer) -> None:
        step(self)
        after[self.step] = doubles(self.design)

    monkeypatch.setattr(Trainer, "one_step", noting)
    return after


@KINDS
def test_a_mean_of_weights_and_buffers(final: Final) -> None:
    design = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 3, bias=False))
    design[2].weight = design[0].weight  # shared, as words are with the head that reads them
    design[2].weight.requires_grad_(False)
    averaged = Averaged(final, design, (0, 2, 4, 6))  # type: ignore[arg-type]
    after = {}
    for step in range(1, 7):
        nn.init.normal_(design[0].weight)
        design[1](torch.randn(5, 4) * step)
        averaged.follow(design, step)  # type: ignore[arg-type]
        after[step] = doubles(design)
    weights = averaged.design.state_dict()
    assert weights.pop("1.num_batches_tracked") == 6
    close(weights, after, shares(final, 6, (2, 4, 6)))
    assert averaged.design[2].weight is averaged.design[0].weight  # type: ignore[index]


@KINDS
def test_it_is_what_the_study_says_and_changes_nothing_else(
    tiny: Study, outputs: Path, kept: dict[int, dict[str, Tensor]], final: Final
) -> None:
    objectives = ALBEF_OBJECTIVES.with_field("itc.queue", 8)
    taught = tiny.with_fields({"objectives": objectives, "optimizer.learning_rate": 0.01})
    last, spec = (spec_of(taught, outputs, kind) for kind in (Final(), final))
    assert execute(last, outputs) == execute(spec, outputs) == "done"
    folder, plain = (RunFolder(outputs, each.train_key()) for each in (spec, last))
    weights = torch.load(folder.weights, weights_only=True)
    close(weights, kept, shares(final, 6, (2, 4, 6)))
    assert any((kept[6][name] - value).abs().max() > 1e-4 for name, value in weights.items())
    lines, others = folder.metric_lines(), plain.metric_lines()
    named = {name for name in lines[-1].values if name.startswith("val_final/")}
    assert named == {f"val_final/{n[4:]}" for n in lines[-1].values if n.startswith("val/")}
    assert lines[-1].values["val_final/loss"] != lines[-1].values["val/loss"]
    for name in named:
        del lines[-1].values[name]  # curves are of the weights in training, the teacher of these
    assert [line.values for line in lines] == [line.values for line in others]
    spent, before = (LedgerRecord.read(each.ledger).spent for each in (folder, plain))
    assert (spent.flops, spent.samples) == (before.flops, before.samples)


@pytest.fixture(scope="module")
def ended_once(tmp_path_factory: pytest.TempPathFactory, shared_cache: Path) -> Path:
    outputs = tmp_path_factory.mktemp("ended_once")
    (outputs / "cache").symlink_to(shared_cache)
    assert [execute(spec_of(TINY, outputs, its), outputs) for its in (MEAN, EMA)] == ["done"] * 2
    return outputs


@pytest.fixture
def ended(ended_once: Path, tmp_path: Path) -> Path:
    """Outputs of a run of each final model: a copy, the cache apart."""
    return Path(shutil.copytree(ended_once, tmp_path / "ended", symlinks=True))


@KINDS
def test_it_is_scored_and_exported(tiny: Study, ended: Path, tmp_path: Path, final: Final) -> None:
    outputs, study = ended, tiny.with_field("final", final)
    planned = plan(study, outputs)
    write_study(planned, outputs)
    spec = planned.rows[0].spec
    folder = RunFolder(outputs, spec.train_key())
    values = folder.metric_lines()[-1].values
    scores = {score.name: score.value for score in _scores(folder, "validation").scores}
    assert scores["itm_loss"] == values["val_final/itm_loss"] != values["val/itm_loss"]
    assert scores["mlm_accuracy"] == 100 * values["val_final/mlm_accuracy"]
    retrieval = _scores(folder, "retrieval")
    folder.score_file("retrieval").unlink()
    assert execute(spec, outputs) == "done"  # from weights.pt
    assert _scores(folder, "retrieval") == retrieval
    export(outputs, folder.key, tmp_path / "given")
    card = (tmp_path / "given" / "README.md").read_text()
    assert f"final weights, exported here, are {final.in_words}" in card


def _scores(folder: RunFolder, task: str) -> ScoresRecord:
    record = ScoresRecord.read(folder.score_file(task))
    return record.model_copy(update={"seconds": {}})  # of this machine


@KINDS
def test_stopped_and_gone_on_is_the_same_to_the_last_bit(
    tiny: Study, ended: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, final: Final
) -> None:
    spec = spec_of(tiny, ended, final)
    whole = bits_of(RunFolder(ended, spec.train_key()))
    other = elsewhere(ended, tmp_path)
    folder = RunFolder(other, spec.train_key())
    step = Trainer.one_step

    def stopping(self: Trainer) -> None:
        step(self)
        if self.step in (1, 3, 5):
            folder.stop_file.touch()

    monkeypatch.setattr(Trainer, "one_step", stopping)
    states = [execute(spec, other) for _ in range(4)]
    assert states == ["interrupted"] * 3 + ["done"]
    assert bits_of(folder) == whole


def test_a_run_that_died_after_its_last_checkpoint_has_the_same_weights(
    tiny: Study, ended: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_of(tiny, ended, EMA)
    whole = bits_of(RunFolder(ended, spec.train_key()))
    other = elsewhere(ended, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("harness.runs.run.write_validation", lambda *_: 1 / 0)
        assert execute(spec, other) == "failed"
    assert execute(spec, other) == "done"
    assert bits_of(RunFolder(other, spec.train_key())) == whole


def test_the_twin_leaves_the_design_alone(tiny: Study, outputs: Path) -> None:
    from harness.runs.assemble import build_design

    design: FusionDesign = build_design(spec_of(tiny, outputs, EMA), 100)
    before = copy.deepcopy(design.state_dict())
    averaged = Averaged(EMA, design, (0, 6))
    averaged.follow(design, 1)
    assert all(torch.equal(value, before[name]) for name, value in design.state_dict().items())
    assert all(parameter.requires_grad for parameter in design.parameters())
    assert not any(parameter.requires_grad for parameter in averaged.parameters())


def test_a_reader_is_told_which_weights_are_final(tiny: Study, outputs: Path) -> None:
    assert final_weights(plan(tiny, outputs)) == []
    (line,) = final_weights(plan(tiny.with_field("final", MEAN), outputs))
    assert line.startswith("the final weights are the mean of those at the last 2 measurements;")
    cells = (
        Cell(variant=Variant("split_bert"), label="k1"),
        Cell(variant=Variant("split_bert"), settings={"final.kind": "ema"}, label="smooth"),
    )
    short = tiny.with_field("backbone.text_layers", 7).model_copy(update={"cells": cells})
    last, ema = final_weights(plan(short, outputs))
    assert last.startswith("the final weights of k1 are those after the last step;")
    assert ema.startswith("the final weights of smooth are the exponential moving average of")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"final.kind": "best"}, r"^final\.kind: "),
        ({"final.decay": 0.9}, r"^final: decay is read by kind 'ema' alone, and kind is 'last'"),
        ({"final.kind": "ema", "final.measurements": 4}, "measurements is read by kind 'mean'"),
        ({"final.kind": "ema", "final.decay": 1.0}, r"^final\.decay: "),
        ({"final.kind": "mean", "final.measurements": 1}, r"^final\.measurements: "),
        (
            {"final.kind": "mean", "final.measurements": 4},
            r"cell 'k1': final\.measurements is 4, but 6 steps have 3 measurements",
        ),
    ],
)
def test_what_cannot_be_the_final_model(
    tiny: Study, outputs: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(SettingError, match=message):
        Lab(outputs).plan(tiny.with_fields(changes))
