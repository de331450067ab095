"""Exported models say of new pictures what was scored of them, and say what cannot be read."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from architectures import exported
from architectures.contract import FusionDesign
from architectures.downstream.model import TaskModel
from architectures.frozen import SettingError
from architectures.weights import checkpoints
from architectures.weights.published import fuselab
from harness.export.export import export, trained_design
from harness.export.predict import Predictor
from harness.outputs.folder import RunFolder
from harness.outputs.records import ScoresRecord
from harness.runs.assemble import load_data
from harness.study import (
    NLVR2,
    VQA,
    Entailment,
    FineTune,
    Grounding,
    Retrieval,
    Scenes,
    Sentences,
    Study,
)
from harness.training.data.corpus import Corpus
from harness.training.data.items.item_sets import item_sets
from harness.training.data.items.items import SECOND, Items
from harness.training.data.transforms import normalised
from harness.training.objectives.said import caption
from harness.training.settings.loop import Budget, Measure
from harness.training.settings.spec import RunSpec
from tests.harness.conftest import TINY
from tests.harness.test_cli import said
from tests.harness.test_export import trained
from tests.training.data.conftest import png

FEW = {
    "finetune": FineTune(
        budget=Budget(steps=2), batch_size=8, measure=Measure(points=1, items=8, checkpoints=1)
    ),
    "floors": False,
    "train_items": 48,
    "items": 21,
}
SIZES = ((12, 8), (9, 20))


def write_items(folder: Path) -> None:
    """Questions about pictures that are no squares."""
    folder.mkdir()
    for seed in range(8):
        (folder / f"{seed}.png").write_bytes(png(seed, SIZES[seed % 2]))
    for split, seeds in {"train": range(8), "val": range(3), "test": range(8)}.items():
        answers = ["yes", "no", "blue"]
        lines = [
            {"image": f"{s}.png", "question": f" is it {s}?", "answers": answers[: 1 + s % 3]}
            for s in (*seeds, *seeds)
        ]
        (folder / f"{split}.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def write_sentences(folder: Path) -> None:
    """Two sentences a line."""
    folder.mkdir()
    for split in ("train", "dev", "test"):
        rows = [f"a red {i} square\tit is {'not ' * (i % 2)}blue\t{i % 3}" for i in range(20)]
        (folder / f"{split}.tsv").write_text("a\tb\tlabel\n" + "\n".join(rows) + "\n")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, shared_cache: Path) -> RunFolder:
    """A finished run that has learnt every task."""
    outputs = tmp_path_factory.mktemp("outputs")
    (outputs / "cache").symlink_to(shared_cache)
    sources = tmp_path_factory.mktemp("sources")
    write_items(sources / "questions")
    write_sentences(sources / "pairs")
    tasks = (
        Entailment(**FEW),
        VQA(**FEW),
        VQA(label="decoder", form="decoder", rank=3, **FEW),
        VQA(label="own", source=str(sources / "questions"), fit="pad", **FEW),
        NLVR2(**FEW),
        NLVR2(label="duplicated", form="duplicated", head="meter", **FEW),
        Sentences(**FEW),
        Sentences(label="pairs", source=str(sources / "pairs"), text=("a", "b"), **FEW),
        Retrieval(rerank=4),
        Grounding(items=8),
        Retrieval(label="tuned", rerank=4, finetune=FEW["finetune"]),
    )
    data = Scenes(train=96, val=24, test=24, objects=(2, 2))
    objectives = TINY.objectives.with_field("lm.weight", 1.0)
    changes = {"tasks": tasks, "data": data, "objectives": objectives, "freeze.image": True}
    study: Study = TINY.with_fields(changes)
    run = trained(outputs, study)
    assert not [r.failure for r in run.score_records() if r.failure]
    return run


@pytest.fixture(scope="module")
def spec(run: RunFolder) -> RunSpec:
    return RunSpec.model_validate_json(run.spec.read_text())


@pytest.fixture(scope="module")
def corpus(run: RunFolder, spec: RunSpec) -> Corpus:
    return load_data(spec, run.path.parent.parent)


@pytest.fixture(scope="module")
def folder(run: RunFolder, tmp_path_factory: pytest.TempPathFactory):
    """`folder(title)`: the run exported for a task, once."""
    every = tmp_path_factory.mktemp("folders")

    def exported_for(title: str = "") -> Path:
        where = every / (title or "plain")
        if not where.exists():
            export(run.path.parent.parent, run.key, where, title=title)
        return where

    return exported_for


def task_of(spec: RunSpec, title: str):
    return next(task for task in spec.asked.tasks if task.title == title)


def pictures_of(items: Items) -> list:
    """Pictures of each item as Pillow has them: one, or a tuple."""
    every = [
        tuple(Image.fromarray(items.images_PHWC[p]) for p in rows) for rows in items.picture_NI
    ]
    return [shown[0] if len(shown) == 1 else shown for shown in every]


def predictions(run: RunFolder, title: str) -> dict[str, np.ndarray]:
    with np.load(run.score_file(title).with_suffix(".npz")) as file:
        return dict(file)


LABELLED = ("entailment", "nlvr2", "duplicated", "sentences", "pairs")


@pytest.mark.parametrize("title", LABELLED)
def test_labels_are_those_that_were_scored(run, spec, corpus, folder, title):
    predictor = Predictor.open(folder(title), batch=5)
    items = item_sets(corpus, task_of(spec, title)).test
    texts: Sequence = items.texts
    if title == "pairs":
        texts = [tuple(text.split(SECOND)) for text in texts]
    shown = pictures_of(items) if items.picture_NI.shape[1] else None
    found = predictor.label(shown, texts)
    logits_NK = torch.from_numpy(predictions(run, title)["logits"]).double()
    assert predictor.task and len(found) == len(logits_NK) >= 20
    for choices, wanted_K in zip(found, logits_NK.softmax(1), strict=True):
        assert [c.probability for c in choices] == sorted(c.probability for c in choices)[::-1]
        given = {choice.text: choice.probability for choice in choices}
        own_K = [given[label] for label in predictor.task.labels]
        np.testing.assert_allclose(own_K, wanted_K, rtol=0, atol=1e-5)


@pytest.mark.parametrize("title", ["vqa", "decoder", "own"])
def test_answers_are_those_that_were_scored(run, spec, corpus, folder, title):
    predictor = Predictor.open(folder(title), batch=5)
    task = task_of(spec, title)
    items = item_sets(corpus, task).test
    shown = pictures_of(items)
    if task.source:  # from the files: upright, square by the task's own fit
        lines = (Path(task.source) / "test.jsonl").read_text().splitlines()
        shown = [Path(task.source) / json.loads(line)["image"] for line in lines]
        pixels = predictor.reader.pixels([("a picture", path) for path in shown])
        images = torch.tensor(items.images_PHWC[items.picture_NI[:, 0]]).permute(0, 3, 1, 2)
        assert predictor.reader.square.fit == "pad" and torch.equal(pixels, normalised(images))
    found = predictor.answer(shown, items.texts, k=2)
    assert predictor.task and all(len(choices) == 2 for choices in found)
    wanted = [predictor.task.labels[place] for place in predictions(run, title)["given"]]
    assert [choices[0].text for choices in found] == wanted
    assert all(0 <= b.probability <= a.probability <= 1 for a, b in found)
    assert predictor.answer([], []) == []


@torch.no_grad()
@pytest.mark.parametrize("title", ["entailment", "vqa", "decoder", "duplicated", "sentences"])
def test_a_task_comes_back_to_the_bit(run, spec, folder, title):
    model = exported.load(folder(title))
    assert isinstance(model, TaskModel) and isinstance(model.design, FusionDesign)
    its = run.finetuning(spec.finetune_key(task_of(spec, title)))
    state, ours = torch.load(its.weights, weights_only=True), model.state_dict()
    assert ours.keys() == state.keys() and not model.training
    assert all(torch.equal(ours[role], value) for role, value in state.items())
    assert (folder(title) / exported.IMAGE).is_dir() and (folder(title) / exported.TEXT).is_dir()


def test_captions_are_those_that_a_look_shows(run, spec, corpus, folder):
    """Several at a time as one by one, of the folder as of the run."""
    predictor = Predictor.open(folder(), batch=3)
    design = trained_design(run, spec, corpus).eval()
    images = corpus.test.images_NHWC[:7]
    alone = [caption(design, corpus.tokenizer, image) for image in images]
    assert predictor.caption([Image.fromarray(image) for image in images]) == alone
    assert predictor.caption([]) == [] and any(alone)
    with pytest.raises(SettingError, match="caption: this folder was exported for task 'vqa'"):
        Predictor.open(folder("vqa")).caption([])


def test_fine_tuned_retrieval_is_a_plain_design(run, spec, folder):
    design, plain = exported.load(folder("tuned")), exported.load(folder())
    assert isinstance(design, FusionDesign) and isinstance(plain, FusionDesign)
    its = run.finetuning(spec.finetune_key(task_of(spec, "tuned")))
    state = torch.load(its.weights, weights_only=True)
    assert all(torch.equal(value, design.state_dict()[role]) for role, value in state.items())
    assert not torch.equal(*(d.heads["itm"].weight for d in (design, plain)))


@pytest.mark.parametrize("title", ["", "tuned"])
def test_ranks_are_those_that_were_scored(run, corpus, folder, title):
    predictor = Predictor.open(folder(title), batch=5)
    split = corpus.test
    shown = [Image.fromarray(image) for image in split.images_NHWC]
    captions = [corpus.tokenizer.decode(ids) for ids in split.ids(*split.texts("first"))]
    hits = predictions(run, title or "retrieval")
    for way, of_captions in (("i2t", False), ("t2i", True)):
        order_QC = predictor.rank(shown, captions, rerank=4, of_captions=of_captions)
        assert (np.sort(order_QC, axis=1) == np.arange(len(split))).all()
        same = np.array(captions)[order_QC] == np.array(captions)[:, None]
        np.testing.assert_array_equal(same[:, :1].any(1), hits[f"{way}_1"])
    table_IT = predictor.similarities(shown, captions)
    assert table_IT.shape == (24, 24) and np.abs(table_IT).max() <= 1 + 1e-6
    plain = predictor.rank(shown, captions, rerank=0)
    assert (plain == np.argsort(-table_IT, axis=1, kind="stable")).all()
    match_N = predictor.match(shown, captions)
    wanted_N = Predictor.open(folder(title)).match(shown[:3], captions[:3])
    np.testing.assert_allclose(match_N[:3], wanted_N, atol=1e-6)
    assert match_N.shape == (24,) and ((match_N > 0) & (match_N < 1)).all()
    assert predictor.match([], []).shape == (0,)


@torch.no_grad()
def test_features_are_the_towers(corpus, folder):
    predictor = Predictor.open(folder("duplicated"), batch=5)
    shown = [Image.fromarray(image) for image in corpus.test.images_NHWC[:7]]
    design = exported.design_of(predictor.model)
    pixels = torch.tensor(corpus.test.images_NHWC[:7]).permute(0, 3, 1, 2) / 127.5 - 1
    tokens_BPD = design.encode_image(pixels).distinct_UPD
    for reads, wanted_BD in {
        "class_token": tokens_BPD[:, 0],
        "mean": tokens_BPD[:, 1:].mean(1),
    }.items():
        np.testing.assert_allclose(predictor.features(shown, reads=reads), wanted_BD, atol=1e-5)
    assert predictor.features(shown, reads="pooled").shape == (7, 16)


def test_the_point_is_the_one_that_was_scored(run, spec, corpus, folder):
    predictor = Predictor.open(folder())
    items = item_sets(corpus, task_of(spec, "grounding")).test
    scored = predictions(run, "grounding")
    for row, (shown, text) in enumerate(zip(pictures_of(items), items.texts, strict=True)):
        found = predictor.locate(shown, text)
        wanted = (32 * scored["point_x"][row], 32 * scored["point_y"][row])
        np.testing.assert_allclose(found.point, wanted, atol=1e-5)
    kept = list(scored["shown_item"]).index(row)
    ours_hw, wanted_hw = (x / x.max() for x in (found.map_hw, scored["shown_map"][kept]))
    np.testing.assert_allclose(ours_hw, wanted_hw, rtol=0, atol=1e-5)  # a batch scales its maps
    with pytest.raises(SettingError, match="layer is 9"):
        predictor.locate(shown, "red", layer=9)
    with pytest.raises(SettingError, match="locate: this folder was exported for task 'vqa'"):
        Predictor.open(folder("vqa")).locate(shown, "red")


def test_the_same_picture_in_every_form(folder, tmp_path):
    """A photo that lies on its side: as path, text, bytes and picture of Pillow."""
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    photo.save(tmp_path / "photo.jpg", exif=exif, quality=95)
    path = tmp_path / "photo.jpg"
    forms = [path, str(path), path.read_bytes(), Image.open(path)]
    photo = Image.open(path)
    photo.load()
    forms += [photo, photo.transpose(Image.Transpose.ROTATE_270)]
    forms[-1].info = {}
    features = Predictor.open(folder("own")).features(forms)
    assert (np.abs(features - features[0]) < 1e-5).all()


def test_the_card_says_what_was_learnt(run, spec, folder):
    card = (folder("decoder") / "README.md").read_text()
    record = ScoresRecord.read(run.score_file("decoder"))
    for words in (
        "# split_bert text_layers=1, fine-tuned for decoder\n",
        "- fine-tuned for decoder (a vqa task)",
        "answers that it ranks: ",
        "- fine-tuning: 2 steps, 16 samples",
        'predictor.answer(["a.jpg"], ["what is red?"], k=3)',
        "design = model.design",
        "at most 64 tokens",  # questions are no captions: they end where places do
        f"| decoder/majority | {record.scores[1].value:.2f} |",
    ):
        assert words in card, words
    assert "| entailment/" not in card and "| retrieval/" not in card
    assert "nothing was added to the design" in (folder("tuned") / "README.md").read_text()
    plain = (folder() / "README.md").read_text()
    assert (
        "| entailment/accuracy" in plain
        and "- image tower frozen in every step, before any fine-tuning\n" in plain
    )
    words = transformers.AutoTokenizer.from_pretrained(folder("decoder"))
    assert words.model_max_length == 64 and "at most 64 tokens" not in plain
    assert 'predictor.caption(["a.jpg"])' in plain and "predictor.caption" not in card


def test_a_task_that_is_not_learnt_is_said(run, spec, tmp_path):
    outputs = run.path.parent.parent

    def refuses(title: str, words: str) -> None:
        with pytest.raises(SettingError, match=words):
            export(outputs, run.key, tmp_path / "out", title=title)
        assert not list(tmp_path.iterdir())

    every = (
        "it has learnt entailment, vqa, decoder, own, nlvr2, duplicated, sentences, pairs, tuned"
    )
    refuses("retrieval", rf"{every} \(that task is scored without fine-tuning: leave --task out")
    refuses("snli", rf"has not learnt the task 'snli'; {every} \(it is not asked for it")
    its = run.finetuning(spec.finetune_key(task_of(spec, "vqa")))
    kept, aside = its.weights, its.weights.with_suffix(".aside")
    kept.rename(aside)
    refuses("vqa", "its fine-tuning is not finished: `fuselab run`")
    kept.write_bytes(aside.read_bytes()[:1000])
    refuses("vqa", rf"weights\.pt cannot be used .*delete .*{its.path.name} and run its study")
    aside.rename(kept)
    source = Path(task_of(spec, "own").source)
    (source / "extra.png").write_bytes(b"")  # is named by no line
    lines = (source / "test.jsonl").read_text()
    (source / "test.jsonl").write_text(lines.replace("is it", "was it"))
    refuses("own", f"the folder {source} has changed since the run was planned")
    (source / "test.jsonl").write_text(lines)
    asked = ("export", run.key, str(tmp_path / "out"), "--outputs", str(outputs))
    assert "has not learnt the task 'snli'" in said(*asked, "--task", "snli", code=2)
    assert "README.md" in said(*asked, "--task", "vqa")


def test_an_altered_task_is_noticed(folder, tmp_path):
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in folder("entailment").iterdir():
        if file.is_file():
            (copy / file.name).write_bytes(file.read_bytes())
    assert Predictor.open(copy).task
    text = (copy / exported.CONFIG).read_text()
    (copy / exported.CONFIG).write_text(text.replace('"neutral"', '"maybe"'))
    with pytest.raises(SettingError, match="altered after the export"):
        Predictor.open(copy)
    record = json.loads(text)["fuselab"]
    record["task"]["labels"].append("maybe")
    record["digest"] = fuselab.digest({k: v for k, v in record.items() if k != "digest"})
    (copy / exported.CONFIG).write_text(json.dumps({"fuselab": record}))
    with pytest.raises(SettingError, match=r"head\.outer\.bias \(3,\), here \(4,\)"):
        exported.load(copy)


def test_a_next_run_starts_from_the_design_in_a_task(folder):
    published = checkpoints.read(folder("entailment"))
    assert published.whole and published.whole[0] == "split_bert"
    design = exported.design_of(exported.load(folder("entailment")))
    assert published.tensors.keys() == dict(design.named_parameters()).keys()


def test_what_a_folder_cannot_say_names_the_command_that_can(run, folder):
    plain, vqa = Predictor.open(folder()), Predictor.open(folder("vqa"))
    picture = png(0, (8, 8))
    command = f"`fuselab export {run.key} NEW_FOLDER"
    for method, words in {
        lambda: plain.answer([picture], ["why?"]): (
            f"answer: this folder was exported for no task, .*{command} --task vqa` or {command}"
        ),
        lambda: plain.label([picture], ["so"]): "--task entailment` or .*--task nlvr2`",
        lambda: vqa.label([picture], ["so"]): "label: this folder was exported for task 'vqa'; ",
        lambda: vqa.match([picture], ["so"]): f"match: .*{command}` writes",
        lambda: vqa.rank([picture], ["so"]): "rank: this folder was exported for task 'vqa'",
    }.items():
        with pytest.raises(SettingError, match=words):
            method()


def test_bad_input_is_said_with_its_place(folder, tmp_path):
    vqa, nlvr2, pairs = (Predictor.open(folder(t)) for t in ("vqa", "nlvr2", "pairs"))
    plain = Predictor.open(folder())
    picture = png(0, (8, 8))
    (tmp_path / "torn.png").write_bytes(picture[:60])
    torn, none = tmp_path / "torn.png", tmp_path / "none.png"
    two = (picture, picture)
    for method, words in {
        lambda: vqa.answer([picture], ["a?", "b?"]): "1 pictures and 2 questions",
        lambda: vqa.answer([picture] * 2, ["a?", " \n"]): r"questions\[1\] must not be blank",
        lambda: vqa.answer([picture], ["\ud800"]): r"questions\[0\] must be text that can be",
        lambda: vqa.answer([picture], [None]): r"questions\[0\] is no text but a NoneType",
        lambda: vqa.answer([picture], "why?"): "questions is one str; give a list",
        lambda: vqa.answer(picture, ["why?"]): "pictures is one bytes; give a list",
        lambda: vqa.answer([picture], ["why?"], k=0): "k is 0; at least one",
        lambda: vqa.answer([picture, torn], ["a?"] * 2): r"pictures\[1\] \(.*torn.png\): not a",
        lambda: vqa.answer([none], ["a?"]): r"pictures\[0\] \(.*none.png\): .*No such file",
        lambda: vqa.answer([tmp_path], ["a?"]): r"pictures\[0\] \(.*\): .*not a regular file",
        lambda: vqa.answer([b"x"], ["a?"]): r"pictures\[0\]: not a picture .*none of the formats",
        lambda: vqa.answer([3], ["a?"]): r"pictures\[0\] is no picture but a int: give a path",
        lambda: vqa.answer([two], ["a?"]): r"pictures\[0\] is no picture but a tuple",
        lambda: nlvr2.label([picture], ["so"]): r"pictures\[0\] is one bytes; give a list",
        lambda: nlvr2.label([two, (picture,)], ["so"] * 2): r"pictures\[1\] has 1 pictures; an it",
        lambda: nlvr2.label([(picture, torn)], ["so"]): r"pictures\[0\]\[1\] \(.*torn",
        lambda: pairs.label(None, ["so"]): r"sentences\[0\] is one str; give a list",
        lambda: pairs.label(None, [("so", "so", "so")]): r"sentences\[0\] has 3 texts; an item",
        lambda: pairs.label([picture], [("so", "so")]): "the model reads sentences alone; give",
        lambda: plain.rank([], ["so"]): "at least one picture and one caption",
        lambda: plain.similarities([picture], [""]): r"captions\[0\] must not be blank",
        lambda: plain.features([torn]): r"pictures\[0\] \(.*torn",
        lambda: Predictor.open(folder(), batch=0): "batch is 0",
        lambda: Predictor.open(folder(), device="gpu"): "device 'gpu' cannot be used",
        lambda: Predictor.open(tmp_path): "holds no config.json; give a folder that",
    }.items():
        with pytest.raises(SettingError, match=words):
            method()


def test_a_design_that_cannot_fuse_is_asked_by_itc(outputs: Path, tmp_path: Path):
    run = trained(outputs, TINY, cell=2)
    export(outputs, run.key, tmp_path / "out")
    predictor = Predictor.open(tmp_path / "out")
    shown, captions = [png(seed, (8, 8)) for seed in range(3)], ["a red square", "blue", "green"]
    table_IT = predictor.similarities(shown, captions)
    np.testing.assert_allclose(predictor.match(shown, captions), table_IT.diagonal(), atol=1e-6)
    assert (predictor.rank(shown, captions) == np.argsort(-table_IT, kind="stable")).all()
    with pytest.raises(SettingError, match="its run had learnt none of vqa when it was exported"):
        predictor.answer(shown, captions)
