"""A finished run becomes a folder that holds all it needs, whole or not at all."""

import shutil
from pathlib import Path

import pytest
import torch
import transformers
from torch import Tensor

from architectures import exported, registry
from architectures.contract import FusionDesign
from architectures.frozen import SettingError
from harness.export import export as exporting
from harness.export.export import export
from harness.export.model_card import _data
from harness.outputs.cleaning import clean
from harness.outputs.files import read_json, write_json
from harness.outputs.find import find_run
from harness.outputs.folder import RunFolder
from harness.outputs.records import Certificate, ScoresRecord
from harness.planning.plan import plan, write_study
from harness.runs.assemble import build_design, load_data
from harness.runs.run import execute
from harness.study import Cell, Study, Variant
from harness.training.data.tokenized import pretrained
from harness.training.settings.data import Pictures
from harness.training.settings.spec import RunSpec
from tests.harness.conftest import TINY
from tests.harness.test_cli import said

TEXTS = ["a red square", "a blue circle and zzz " * 9]
OWN = '''
from architectures.designs.dual_encoder import DualEncoder

class Mine(DualEncoder):
    """Own design of a user."""

    name = "mine"
    version = "1"
    Config = DualEncoder.Config
'''


def trained(outputs: Path, study: Study, cell: int = 0) -> RunFolder:
    """Trains one run of a study, of a cell at seed 0."""
    planned = plan(study, outputs)
    write_study(planned, outputs)
    spec = planned.rows[cell * len(study.seeds)].spec
    assert execute(spec, outputs) == "done"
    return RunFolder(outputs, spec.train_key())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, shared_cache: Path) -> RunFolder:
    """A finished run of split_bert in an outputs folder of its own."""
    outputs = tmp_path_factory.mktemp("outputs")
    (outputs / "cache").symlink_to(shared_cache)
    return trained(outputs, TINY)


@pytest.fixture(scope="module")
def folder(run: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run, exported as a user does it, into a folder whose parent is not there yet."""
    made = tmp_path_factory.mktemp("new") / "deep" / "folder"
    outputs = run.path.parent.parent
    asked = ("export", "tiny/k1/0", str(made), "--outputs", str(outputs))
    assert "licence 'my own: mine' is no SPDX" in said(*asked, "--license", "my own: mine", code=2)
    shown = said(*asked, "--license", "Apache-2.0")
    assert "README.md" in shown and "no " not in shown
    assert not list(made.parent.glob(".*"))
    return made


@torch.no_grad()
def test_a_trained_run_comes_back_to_the_bit(run: RunFolder, folder: Path) -> None:
    loaded, state = exported.load(folder), torch.load(run.path / "weights.pt", weights_only=True)
    ours = loaded.state_dict()
    assert ours.keys() == state.keys()
    assert all(torch.equal(ours[role], value) for role, value in state.items())

    spec = RunSpec.model_validate(read_json(run.spec))
    words = load_data(spec, run.path.parent.parent).tokenizer
    design = build_design(spec, words.vocabulary)
    design.load_state_dict(state)
    ids, real = words.encode(TEXTS)
    pixels = torch.randn(2, 3, 32, 32)
    wanted, found = (heads_say(each.eval(), pixels, ids, real) for each in (design, loaded))
    assert all(map(torch.equal, found, wanted)) and len(found) == 4


def heads_say(
    design: FusionDesign, pixels: Tensor, ids: Tensor, real: Tensor
) -> tuple[Tensor, ...]:
    image, text = design.encode_image(pixels), design.encode_text(ids, real)
    fused, heads = design.fuse(image, text), design.heads
    itc = heads["itc"](image.pooled_BD, text.pooled_BD)
    return *itc, heads["itm"](fused.pooled_BD), heads["mlm"](fused.text_BRD)


@pytest.mark.parametrize("part", [".", exported.TEXT])
def test_the_tokenizer_is_that_of_the_run(run: RunFolder, folder: Path, part: str) -> None:
    spec = RunSpec.model_validate(read_json(run.spec))
    own = load_data(spec, run.path.parent.parent).tokenizer
    ids, real = own.encode(TEXTS)
    words = transformers.AutoTokenizer.from_pretrained(folder / part)
    found = words(TEXTS, padding=True, truncation=True, return_tensors="pt")
    assert torch.equal(found.input_ids, ids) and torch.equal(found.attention_mask.bool(), real)
    named = pretrained(str(folder / part)).with_length(own.length)  # as `data.text.tokenizer`
    assert torch.equal(named.encode(TEXTS)[0], ids) and named.special_ids == own.special_ids


def test_the_card_says_what_the_run_folder_knows(run: RunFolder, folder: Path) -> None:
    card = (folder / "README.md").read_text()
    retrieval = ScoresRecord.read(run.score_file("retrieval"))
    (level,) = (level for level in retrieval.levels if level.name == "r_at_1")
    certificate = Certificate.read(run.certificate)
    for words in (
        "# split_bert text_layers=1",
        "Answers of study tiny, cell k1, seed 0",
        "layers: 1 of text alone, 2 of fusion, 1 of the image alone",
        "started from random weights",
        "licence: nobody's pictures",
        "96 train, 24 val, 24 test",
        "| budget: steps | 6 |",
        f"({level.successes} of {level.items}) | {100 * level.chance:.1f} % |",
        run.metric_lines()[-1].chain,
        *certificate.code,
        'exported.load("FOLDER")',
        "`text_encoder/`: `transformers.AutoModel",
        "\n## Licence\n\nApache-2.0, as stated at the export.\n",
    ):
        assert words in card
    front = "library_name: fuselab\ntags:\n- vision-language\n- split_bert\nlicense: Apache-2.0\n"
    assert card.startswith(f"---\n{front}---\n\n# ")
    said = read_json(folder / exported.CONFIG)["fuselab"]
    assert said["run"] == run.key and said["digests"]["data"] == certificate.data
    assert said["answers"] == [{"study": "tiny", "cell": "k1", "seed": 0}]
    assert len({path.stat().st_mode for path in folder.rglob("*") if path.is_file()}) == 1


def test_the_card_says_that_no_licence_was_stated(run: RunFolder, tmp_path: Path) -> None:
    export(run.path.parent.parent, run.key, tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "license:" not in card and "\n## Licence\n\nNo licence was stated at the export:" in card


def test_the_card_names_a_source_and_not_where_it_lay(run: RunFolder) -> None:
    spec = RunSpec.model_validate(read_json(run.spec))
    corpus = load_data(spec, run.path.parent.parent)
    said = "\n".join(_data(Pictures(train="/place/pairs.parquet", fit="crop"), corpus))
    assert "- pictures: pairs.parquet (train), cut to the square in the centre" in said
    both = Pictures(train="/place/pairs.parquet", test="/other/held.parquet")
    assert "- pictures: pairs.parquet (train), held.parquet (test), str" in next(
        iter(_data(both, corpus))
    )
    assert "licence: fuselab was told none" in said and "/place" not in said
    assert "- pictures: hub:them/pairs:train" in next(
        iter(_data(Pictures(train="hub:them/pairs:train"), corpus))
    )


def test_a_run_is_found_by_what_tells_it_apart(tiny: Study, outputs: Path) -> None:
    planned = plan(tiny, outputs)
    write_study(planned, outputs)
    for key in ("aaaa1111", "aaab2222"):
        write_json(RunFolder(outputs, key).spec, {})
    assert find_run(outputs, "aaab").key == "aaab2222"
    assert find_run(outputs, "tiny/k2/1").key == planned.rows[3].spec.train_key()
    for asked, words in {
        "aaa": "fits 2 runs: aaaa1111, aaab2222; give more",
        "zz": "fits no run; give the name of a folder there, or STUDY/CELL/SEED",
        "tiny/k2": "write it as STUDY/CELL/SEED",
        "tyni/k2/1": "did you mean 'tiny'",
        "tiny/k3/1": "Known: dual_encoder, k1, k2",
        "tiny/k2/7": "seed of cell 'k2' '7'; Known: 0, 1",
    }.items():
        with pytest.raises(SettingError, match=words):
            find_run(outputs, asked)


def test_what_cannot_be_exported_is_said_and_leaves_nothing(
    run: RunFolder, outputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(run.path, outputs / "runs" / run.key)
    folder, run = tmp_path / "out", RunFolder(outputs, run.key)
    status, certificate = run.status(), Certificate.read(run.certificate)

    def refuses(words: str) -> None:
        before = sorted(tmp_path.iterdir())
        with pytest.raises((SettingError, OSError), match=words):
            export(outputs, run.key, folder)
        assert sorted(tmp_path.iterdir()) == before

    for state, message in (("interrupted", "stopped"), ("failed", "no luck")):
        changed = {"state": state, "message": message}
        status.model_copy(update=changed).write(run.status_file)
        refuses(rf"is {state} \({message}\); only finished runs are exported")
    status.write(run.status_file)
    certificate.model_copy(update={"data": "other"}).write(run.certificate)
    refuses("its data have changed since it was trained")
    certificate.write(run.certificate)
    with monkeypatch.context() as patched:
        patched.setattr(registry, "version", lambda name: "7")
        refuses("trained by split_bert of version 1, here it is version 7")
    with monkeypatch.context() as patched:
        patched.setattr(exporting, "card", lambda facts: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            export(outputs, run.key, folder)
        assert not folder.exists() and not list(tmp_path.glob(".out*"))
    folder.mkdir()
    (folder / "mine.txt").touch()
    refuses("out is not empty; name a new folder")
    assert "not empty" in said("export", run.key, str(folder), "--outputs", str(outputs), code=2)
    shutil.rmtree(folder)
    folder.touch()
    refuses("out is a file")
    folder.unlink()
    weights = run.path / "weights.pt"
    weights.write_bytes(weights.read_bytes()[:1000])
    refuses(r"weights\.pt cannot be used")
    clean(outputs, weights=True)
    refuses("has no weights.pt any more")


@pytest.mark.slow
def test_a_users_own_design_goes_along(
    tiny: Study, outputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_own", {})
    file = tmp_path / "own.py"
    file.write_text(OWN)
    registry.load_file(file)
    cells = (Cell(variant=Variant("mine"), label="mine"),)
    study = tiny.model_copy(update={"cells": cells, "control": "mine", "file": str(file)})
    plain = trained(outputs, tiny.model_copy(update={"file": str(file)}), cell=2)
    export(outputs, plain.key, tmp_path / "plain")
    assert not (tmp_path / "plain" / "design.py").exists()  # this one is not defined there
    run = trained(outputs, study)
    export(outputs, run.key, tmp_path / "out")
    assert "registry.load_file" in (tmp_path / "out" / "README.md").read_text()
    monkeypatch.setattr(registry, "_own", {})
    with pytest.raises(SettingError, match=r"unknown design 'mine'.*out/design\.py: read it"):
        exported.load(tmp_path / "out")
    registry.load_file(tmp_path / "out" / "design.py")
    assert exported.load(tmp_path / "out").name == "mine"
