"""An exported design loads to the same bits; its towers are ordinary folders of timm and
transformers that compute what ours do; what is broken is said.
"""

import json
from pathlib import Path

import pytest
import timm
import torch
import transformers
from torch import Tensor

from architectures import build, exported
from architectures.backbone import TEXT_KINDS, Backbone
from architectures.downstream.model import TaskModel
from architectures.downstream.record import TaskRecord
from architectures.frozen import SettingError
from architectures.weights import checkpoints, from_transformers
from architectures.weights.published import fuselab
from architectures.weights.slots import role_digests
from harness.training.data.wordpiece import train_wordpiece
from tests.architectures.conftest import SMALL, seeded
from tests.architectures.designs.test_designs import CASES
from tests.architectures.reference import randomised

SPECIAL = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
NAMES = [case.values[0] for case in CASES]
MOST = [  # one case of each design; the others take longer and say little more
    pytest.param(
        *case.values,
        id=case.id,
        marks=[pytest.mark.slow] if case.values[0] in NAMES[:i] else [],
    )
    for i, case in enumerate(CASES)
]


@pytest.fixture(scope="module")
def tokenizer():
    """A tokenizer of transformers; its words do not matter here."""
    return from_transformers.tokenizer(train_wordpiece(["a red square"], 50).backend, SPECIAL, 7)


@pytest.fixture
def export(make, tokenizer, tmp_path):
    """A design all of whose weights are random, written; the design and what it lacks."""

    def build(name, fields, **sizes):
        design = randomised(make(name, fields, dtype=torch.float32, **sizes))
        return design, write(tmp_path, design, tokenizer)

    return build


def write(folder: Path, model, tokenizer, task: TaskRecord | None = None) -> dict[str, str]:
    half = (0.5,) * exported.design_of(model).backbone.image_channels
    pixels = {"mean": half, "std": half}
    return exported.write(folder, model, tokenizer=tokenizer, pixels=pixels, about={}, task=task)


def outputs(design, batch) -> dict[str, tuple[Tensor, ...]]:
    """What every head says of a batch."""
    images, ids, real = batch
    image, text = design.encode_image(images.float()), design.encode_text(ids, real)
    found = {}
    if "itc" in design.heads:
        found["itc"] = design.heads["itc"](image.pooled_BD, text.pooled_BD)
    if "itm" in design.heads:
        found["itm"] = (design.heads["itm"](design.fuse(image, text).pooled_BD),)
    if "mlm" in design.heads:
        found["mlm"] = (design.heads["mlm"](design.fuse(image, text).text_BRD),)
    return found


@torch.no_grad()
@pytest.mark.parametrize(("name", "fields"), MOST)
def test_every_design_comes_back_to_the_bit(export, batch, tmp_path, name, fields):
    design, absent = export(name, fields)
    loaded = exported.load(tmp_path)
    assert role_digests(loaded) == role_digests(design) and not loaded.training
    said, wanted = outputs(loaded, batch), outputs(design, batch)
    assert said.keys() == wanted.keys() == set(design.heads)
    for head, values in wanted.items():
        assert all(map(torch.equal, said[head], values)), head
    has = zip((exported.IMAGE, exported.TEXT), design.towers_alone(), strict=True)
    for tower, layers in has:
        assert (tmp_path / tower).exists() == (tower not in absent)
        assert layers or "no layer of" in absent[tower]
    towers_agree(design, batch, tmp_path, absent)


RECORDS = {
    "one picture": {"form": "classifier"},
    "text alone": {"form": "classifier", "images": 0, "head": "meter"},
    "a pair": {"form": "pair", "images": 2},
    "duplicated": {"form": "duplicated", "images": 2},
    "decoder": {"form": "decoder", "rank": 2},
}


@torch.no_grad()
@pytest.mark.parametrize(("name", "fields"), MOST)
def test_every_model_of_a_task_comes_back_to_the_bit(
    make, tokenizer, tmp_path, monkeypatch, name, fields
):
    for tower in ("_image_tower", "_text_encoder"):  # they take longest, and are tested above
        monkeypatch.setattr(exported, tower, lambda *_: "not written in this test")
    served = []
    for kind, sizes in RECORDS.items():
        task = TaskRecord(name="any", title="any", labels=("no", "yes", "so"), **sizes)
        design = make(name, fields, dtype=torch.float32)
        try:
            model = randomised(task.model(design)).eval()
        except SettingError as error:
            assert design.name in str(error) and kind != "a pair"
            continue
        folder = tmp_path / kind
        folder.mkdir()
        write(folder, model, tokenizer, task)
        loaded = exported.load(folder)
        assert isinstance(loaded, TaskModel) and not loaded.training
        assert loaded.design.name == name and exported.design_of(loaded) is loaded.design
        wanted, found = model.state_dict(), loaded.state_dict()
        assert wanted.keys() == found.keys()
        assert all(torch.equal(found[role], value) for role, value in wanted.items())
        served.append(kind)
    assert {"one picture", "a pair"} <= set(served)


FUSED_ANEW = ("shared_stack", "gated_insertion", "token_insertion")


def towers_agree(design, batch, folder: Path, absent) -> None:
    """What timm and transformers make of the folders computes what the design does."""
    images, (_, ids, real) = batch[0].float(), batch
    images = images[:, : design.backbone.image_channels]
    image, text = design.encode_image(images), design.encode_text(ids, real)
    fused_inside = design.name == "in_backbone"  # its states end where fusion begins
    if exported.IMAGE not in absent:
        said = image_tower(folder).forward_features(images)
        close(*((said[:, 0], image.pooled_BD) if fused_inside else (said, image.tokens_BPD)))
    if exported.TEXT not in absent:
        said = text_encoder(folder, ids, real)
        # The states of a stack that is read twice are those from which fusion starts.
        first_alone = fused_inside or design.name in FUSED_ANEW
        if first_alone and not fused_inside:  # ITC may read a layer below the last
            design.config = design.config.with_fields({"itc_layer": None})
            text = design.encode_text(ids, real)
        close(
            *((said[:, 0], text.pooled_BD) if first_alone else (said[real], text.tokens_BLD[real]))
        )


def close(found, wanted):
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def image_tower(folder: Path):
    """The tower as timm makes it from the folder."""
    whole = timm.create_model(f"local-dir:{folder / exported.IMAGE}", pretrained=True)
    assert whole.pretrained_cfg["std"] == [0.5] * whole.patch_embed.proj.in_channels
    assert "license" not in whole.pretrained_cfg
    return whole.eval()


def text_encoder(folder: Path, ids: Tensor, real: Tensor) -> Tensor:
    """Last hidden states, by the class that transformers picks."""
    model, info = transformers.AutoModel.from_pretrained(
        folder / exported.TEXT, output_loading_info=True, attn_implementation="eager"
    )
    assert not any(info.values()), info
    first = TEXT_KINDS["roberta"].first_position  # it would count by ids that are not 1
    places = {"position_ids": torch.arange(first, first + ids.shape[1])[None]}
    places = places if model.config.model_type == "roberta" else {}
    return model.eval()(ids, attention_mask=real.long(), **places).last_hidden_state


KINDS = [
    ("dual_encoder", {}, {"text": "roberta", "max_positions": 14}),
    ("dual_encoder", {"text_layers": 2}, {"text": "distilbert"}),
    ("dual_encoder", {"text_layers": 3}, {"text": "clip", "image_channels": 1, "image_mlp": 40}),
    ("split_bert", {"text_layers": 2, "image_layers": 1}, {}),
    ("distilbert_fusion", {"text_encoder": "distilbert", "fusion_layers": 1}, {}),
]


@torch.no_grad()
@pytest.mark.parametrize(("name", "fields", "sizes"), KINDS)
def test_towers_of_every_kind(export, batch, tmp_path, name, fields, sizes):
    design, absent = export(name, fields, **sizes)
    assert not absent
    towers_agree(design, batch, tmp_path, absent)
    said = json.loads((tmp_path / exported.TEXT / "config.json").read_text())
    assert said.get("num_hidden_layers", said.get("n_layers")) == design.text_depth
    said = json.loads((tmp_path / exported.IMAGE / "config.json").read_text())
    path = tmp_path / exported.IMAGE / "model.safetensors"
    parts = timm.create_model(said["architecture"], checkpoint_path=path, **said["model_args"])
    assert role_digests(parts) == role_digests(design.image.vit)


def test_a_tower_that_timm_cannot_say_is_left_out(export, tmp_path):
    _, absent = export("split_bert", {}, image_norm_eps=1e-3)
    assert "image_norm_eps = 0.001" in absent[exported.IMAGE]
    assert not (tmp_path / exported.IMAGE).exists()
    assert exported.load(tmp_path).image.vit.norm.eps == 1e-3


@pytest.mark.parametrize("file", ["", "model.safetensors"])
def test_the_towers_are_weights_to_start_from(export, tmp_path, file):
    source, _ = export("split_bert", {"text_layers": 2})
    changes = {
        "text_layers": 2,
        "vision_weights": str(tmp_path / exported.IMAGE / file),
        "text_weights": str(tmp_path / exported.TEXT),
    }
    backbone = Backbone(**(dict(SMALL) | changes))
    design = build.design("dual_encoder", {}, backbone, source.vocabulary, draw=seeded(1))
    found, wanted = role_digests(design), role_digests(source)
    same = {role for role in found if found[role] == wanted[role]}
    assert {role for role in found if not role.startswith("heads.")} <= same


def test_a_folder_is_read_as_a_published_one(export, tmp_path):
    """`checkpoints.read` knows it, as it knows ALBEF's files: by role, with sizes and design."""
    source, _ = export("split_bert", {"text_layers": 3})
    found = checkpoints.read(tmp_path)
    assert found.kind == "fuselab" and found.whole[0] == "split_bert"
    assert found.whole[1]["text_layers"] == 3 and found.sizes["image_heads"] == 2
    whole = build.construct("split_bert", {"text_layers": 3}, SMALL, source.vocabulary)
    checkpoints.load_whole(whole, found.tensors)
    assert role_digests(whole) == role_digests(source)
    (tmp_path / exported.WEIGHTS).write_bytes(b"")
    with pytest.raises(SettingError, match="is not the file that was exported"):
        checkpoints.read(tmp_path)


def test_a_folder_names_no_weights_of_others(make, tokenizer, export, tmp_path):
    export("dual_encoder", {})
    started = make("dual_encoder", {}, text_weights=str(tmp_path / exported.TEXT))
    (tmp_path / "two").mkdir()
    write(tmp_path / "two", started.float(), tokenizer)
    assert exported.load(tmp_path / "two").backbone.text_weights == "random"
    assert str(tmp_path) not in (tmp_path / "two" / exported.CONFIG).read_text()


def alter(folder: Path, **changes) -> None:
    """Changes what the configuration says, its digest kept true where `format` is not touched."""
    path = folder / exported.CONFIG
    said = json.loads(path.read_text())["fuselab"] | changes
    said.pop("digest")
    path.write_text(json.dumps({"fuselab": {**said, "digest": fuselab.digest(said)}}))


def test_what_is_broken_is_said(export, tmp_path):
    export("split_bert", {"text_layers": 7})

    def refuses(message: str, folder: Path = tmp_path) -> None:
        with pytest.raises(SettingError, match=message):
            exported.load(folder)

    refuses("nowhere does not exist", tmp_path / "nowhere")
    refuses(r"not from `fuselab export`; .*transformers \(bert\)", tmp_path / exported.TEXT)
    refuses("seems to be a folder of timm", tmp_path / exported.IMAGE)
    config, weights = tmp_path / exported.CONFIG, tmp_path / exported.WEIGHTS
    text, bits = config.read_text(), weights.read_bytes()
    config.write_text(text.replace('"text_heads": 2', '"text_heads": 4'))
    refuses("altered after the export")
    config.write_text(text[:200])
    refuses("is no JSON")
    config.write_text(text)
    alter(tmp_path, version="0")
    refuses("of version 0, here it is version 1")
    alter(tmp_path, version="1", format=2)
    refuses("has format 2")
    alter(tmp_path, format=fuselab.FORMAT, design="mine")
    (tmp_path / exported.DESIGN_FILE).touch()
    refuses("unknown design 'mine'.*registry.load_file")
    config.write_text(text)
    weights.write_bytes(bits[:-100])
    refuses("is not the file that was exported: it is cut off")
    weights.write_bytes(bits[:-1] + bytes([bits[-1] ^ 1]))
    refuses("is not the file that was exported")
    weights.write_bytes(bits)
    alter(tmp_path, config=json.loads(text)["fuselab"]["config"] | {"text_layers": 6})
    refuses(r"layers\.6\.cross_attention\.key\.bias none, here \(16,\).*and \d+ more")
    weights.unlink()
    refuses("model.safetensors is missing")
    config.unlink()
    refuses("holds no config.json")
