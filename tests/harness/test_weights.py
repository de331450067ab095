"""What a run starts from is known by its content: keys, changes after planning, whole models."""

from pathlib import Path

import pytest
import timm
import torch

from architectures.build import construct
from architectures.frozen import SettingError
from harness.export.export import export
from harness.planning import start_notes
from harness.planning.plan import plan
from harness.planning.prepare import prepared
from harness.runs.assemble import build_design, load_data
from harness.runs.run import execute
from harness.study import Cell, Study, Variant
from harness.training.settings.spec import RunSpec
from tests.architectures.reference import randomised
from tests.architectures.weights.test_checkpoints import published


def spec_of(study: Study, outputs: Path, **fields: object) -> RunSpec:
    cell = Cell(variant=Variant("split_bert", text_layers=1, **fields), label="x")
    only = study.model_copy(update={"cells": (cell,), "control": "x", "seeds": (0,)})
    planned = plan(only, outputs)
    if fields:
        prepared(planned, outputs)
    return planned.specs[0]


@pytest.mark.parametrize("field", ["vision_weights", "text_weights", "whole_weights"])
def test_a_run_is_known_by_the_content_of_weights(
    tiny: Study, outputs: Path, tmp_path: Path, field: str
) -> None:
    def key(source: Path) -> str:
        fields = {field: str(source)} if field == "whole_weights" else {}
        cell = Cell(variant=Variant("split_bert", fields=fields), label="x")
        study = tiny.model_copy(update={"cells": (cell,), "control": "x"})
        study = study if fields else study.with_field(f"backbone.{field}", str(source))
        return plan(study.with_field("backbone.text_layers", 6), outputs).specs[0].train_key()

    for name, what in (("a", b"0"), ("b", b"0"), ("c", b"1")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
        (tmp_path / name / "model.safetensors").write_bytes(what)
        (tmp_path / f"{name}.pth").write_bytes(what)
    for ending in ("", ".pth"):
        a, b, c = (key(tmp_path / f"{name}{ending}") for name in "abc")
        assert a == b != c
    assert key(Path("one/name")) != key(Path("another/name"))  # on a hub: known by its name


def test_a_tokenizers_path_is_no_part_of_the_key(
    tiny: Study, outputs: Path, tmp_path: Path
) -> None:
    keys = set()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tokenizer.json").write_text("{}")
        study = tiny.with_field("data.text.tokenizer", str(tmp_path / name))
        keys.add(plan(study, outputs).specs[0].train_key())
    assert len(keys) == 1


def test_a_run_starts_from_a_whole_model(tiny: Study, outputs: Path, tmp_path: Path) -> None:
    drawn = spec_of(tiny, outputs)
    words = load_data(drawn, outputs).tokenizer.vocabulary
    source = randomised(construct(drawn.train.design, drawn.config, drawn.backbone, words))
    state = published(source)
    torch.save({"model": state}, tmp_path / "whole.pth")
    spec = spec_of(tiny, outputs, whole_weights=str(tmp_path / "whole.pth"))
    assert spec.train_key() != drawn.train_key()
    wanted = dict(source.named_parameters())
    built = dict(build_design(spec, words).named_parameters())
    assert built.keys() == wanted.keys()
    for role in built:
        if ".patch_embed.proj." not in role:  # where CLIP's pixels are folded in
            assert torch.equal(built[role], wanted[role]), role
    del state["itm_head.bias"]
    torch.save({"model": state}, tmp_path / "whole.pth")
    with pytest.raises(SettingError, match="have changed since the run was planned"):
        build_design(spec, words)
    with pytest.raises(SettingError, match=r"whole_weights .*missing: heads\.itm\.bias"):
        spec_of(tiny, outputs, whole_weights=str(tmp_path / "whole.pth"))


def test_towers_that_do_not_fit_are_found_before_anything_is_spent(
    tiny: Study, outputs: Path, tmp_path: Path
) -> None:
    torch.save({"patch_embed.proj.weight": torch.ones(4, 3, 8, 8)}, tmp_path / "vit.pth")
    wrong = tiny.with_field("backbone.vision_weights", str(tmp_path / "vit.pth"))
    with pytest.raises(SettingError, match=r"vit\.pth.*no weight image\.vit\.pos_embed.*torn"):
        prepared(plan(wrong, outputs), outputs)


def test_what_a_source_does_not_tell_is_said_in_the_plan_and_on_the_card(
    tiny: Study, outputs: Path, tmp_path: Path
) -> None:
    """A bare file tells neither heads nor pixels; timm says that DeiT was fed those of ImageNet."""
    sizes = {"img_size": 32, "patch_size": 8, "num_classes": 0}
    backbone = tiny.backbone
    sizes |= {"embed_dim": backbone.image_width, "depth": backbone.image_layers}
    torch.save(
        timm.create_model("deit_tiny_patch16_224", num_heads=2, **sizes).state_dict(),
        tmp_path / "deit.pth",
    )
    study = tiny.with_field("backbone.vision_weights", str(tmp_path / "deit.pth"))
    study = study.with_field("backbone.vision", "deit_tiny_patch16_224")
    cell = Cell(variant=Variant("split_bert", text_layers=1), label="x")
    planned = plan(
        study.model_copy(update={"cells": (cell,), "control": "x", "seeds": (0,)}), outputs
    )
    heads, pixels = start_notes.notes(planned, prepared(planned, outputs), outputs)
    assert "deit.pth does not tell how many heads its image layers have" in heads
    assert "mean 0.485, 0.456, 0.406, deviation 0.229, 0.224, 0.225 are assumed" in pixels
    spec = planned.specs[0]
    assert execute(spec, outputs) == "done"
    export(outputs, spec.train_key(), tmp_path / "out")
    line = "- pixels that backbone.vision_weights was trained on: "
    assert f"{line}mean 0.485, 0.456, 0.406" in (tmp_path / "out" / "README.md").read_text()
    (tmp_path / "deit.pth").unlink()
    export(outputs, spec.train_key(), tmp_path / "later")
    assert f"{line}not known, since" in (tmp_path / "later" / "README.md").read_text()


def test_a_robertas_first_two_positions_are_no_tokens(tiny: Study, outputs: Path) -> None:
    study = tiny.with_field("backbone.text", "roberta").with_field("backbone.max_positions", 64)
    plan(study.with_field("data.text.max_tokens", 62), outputs)
    with pytest.raises(SettingError, match=r"max_tokens 64 is more than .* 64, of which roberta"):
        plan(study.with_field("data.text.max_tokens", 64), outputs)
