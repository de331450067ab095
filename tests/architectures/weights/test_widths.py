"""Under `mup` every weight starts and learns by how much wider it is than at nano, everywhere."""

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from architectures import build, exported, registry
from architectures.backbone import SCALES, Backbone, at_nano_width, scale
from architectures.contract import FusionDesign
from architectures.downstream.record import TaskRecord
from architectures.frozen import SettingError
from architectures.layers.attention import attend, heads_of
from architectures.layers.blocks import Attention
from architectures.layers.heads import MLMHead
from architectures.layers.read import Read
from architectures.layout import Layout
from architectures.views.graph import graph
from architectures.weights.widths import Growth, growth_of, prepare, scales_scores, times_of
from harness.training.one_modality.models import FillsPatches, MaskedWords, NamesClasses
from tests.architectures.conftest import VOCABULARY, seeded

NANO = scale("nano").model_copy(update={"text_layers": 8, "image_layers": 2})
FOUR_TIMES = NANO.with_fields(
    {
        "image_width": 256, "image_heads": 4, "text_width": 256, "text_heads": 4, "text_mlp": 1024,
        "itc_width": 128, "parameterisation": "mup",
    }
)  # fmt: skip
"""Heads are twice as wide as nano's, and there are twice as many."""


def drawn(name: str, backbone: Backbone, **fields: object) -> FusionDesign:
    return build.design(name, fields, backbone, VOCABULARY, draw=seeded(0)).eval()


def on_meta(name: str, backbone: Backbone, **fields: object) -> FusionDesign:
    with torch.device("meta"):
        return build.construct(name, fields, backbone, VOCABULARY)


@torch.no_grad()
@pytest.mark.parametrize("name", registry.names())
def test_at_nanos_widths_it_is_the_standard_one_to_the_bit(name: str) -> None:
    ours = drawn(name, NANO.with_field("parameterisation", "mup"))
    theirs = dict(drawn(name, NANO).named_parameters())
    assert all(torch.equal(p, theirs[role]) for role, p in ours.named_parameters())
    assert not times_of(ours) and not scales_scores(ours)
    assert all(head.multiple == 1 for head in ours.modules() if isinstance(head, MLMHead))


@pytest.mark.parametrize("name", registry.names())
def test_the_rule_holds_for_every_matrix_of_every_design(name: str) -> None:
    """Without a list: each linear map but the tied one reads four times as many, and nothing else
    does; what leads to logits is an output."""
    design = on_meta(name, FOUR_TIMES)
    maps = {role for role, m in design.named_modules() if isinstance(m, nn.Linear)}
    times, roles = times_of(design), dict(design.named_parameters())
    assert times == {f"{role}.weight": 4.0 for role in maps}
    assert set(times) - set(roles) <= {"heads.mlm.decoder.weight"}  # the table of words
    outputs = {role for role, m in design.named_modules() if growth_of(m).is_output}
    assert outputs == {"heads.itm", "heads.mlm.decoder"} & maps
    ways = {m.score_factor for m in design.modules() if isinstance(m, Attention)}
    assert ways <= {2**-0.5} and scales_scores(design)


@pytest.mark.parametrize("name", registry.names())
def test_standard_is_what_it_was_at_every_width(name: str) -> None:
    design = on_meta(name, FOUR_TIMES.with_field("parameterisation", "standard"))
    assert not times_of(design) and not scales_scores(design)


def test_weights_start_as_wide_as_they_should() -> None:
    """The deviation of each kind of weight, at nano and where it is four times as wide."""
    narrow, wide = (drawn("split_bert", b, type_embeddings=True) for b in (NANO, FOUR_TIMES))
    kept = ("embeddings.word.weight", "image.vit.pos_embed", "image.vit.patch_embed.proj.weight",
            "types.image.weight")  # fmt: skip
    hidden = ("layers.0.mlp.outer.weight", "layers.7.cross_attention.key.weight",
              "image.vit.blocks.0.attn.qkv.weight", "heads.itc.text.weight",
              "heads.mlm.dense.weight")  # fmt: skip
    for roles, factor in ((kept, 1), (hidden, 1 / 2), (("heads.itm.weight",), 1 / 4)):
        for role in roles:
            own, other = (d.get_parameter(role).std().item() for d in (narrow, wide))
            assert own / other == pytest.approx(1 / factor, rel=0.15), role


def test_what_is_a_matter_of_shape_alone() -> None:
    assert (Growth(times=4).of_std, Growth(times=4).of_bound) == (1 / 2, 1)
    output = Growth(times=4, is_output=True)
    assert (output.of_std, output.of_bound) == (1 / 4, 1 / 2)
    assert (Growth().of_std, Growth().of_bound) == (1, 1)
    custom = NANO.with_fields({"text_mlp": 512, "parameterisation": "mup"})
    times = times_of(on_meta("dual_encoder", custom))
    assert set(times.values()) == {2.0} and all("mlp.outer" in role for role in times)
    twice = at_nano_width(FOUR_TIMES, 2)
    assert (twice.image_width, twice.image_heads, twice.image_mlp) == (128, 4, None)
    assert at_nano_width(FOUR_TIMES.with_field("image_mlp", 99)).image_mlp == 256


@torch.no_grad()
@pytest.mark.parametrize("heads", [2, 8])
def test_scores_are_divided_by_the_width_of_a_head(heads: int) -> None:
    """Equal to 1/sqrt(d) at nano's 32 columns, and 1/d from there on."""
    sizes = {"text_heads": heads, "image_heads": heads}
    design, columns = drawn("split_bert", FOUR_TIMES.with_fields(sizes)), 256 // heads
    draw, layout = torch.Generator().manual_seed(0), Layout.full(1, 5, torch.device("cpu"))
    x_TD = torch.randn(5, 256, generator=draw)
    part = design.get_submodule("layers.0.self_attention")
    assert isinstance(part, Attention)
    maps = (part.query, part.key, part.value)
    q, k, v = (heads_of(linear(x_TD[None]), heads) for linear in maps)
    weights = (q @ k.mT * (32**0.5 / columns)).softmax(-1)
    wanted = part.output((weights @ v).transpose(1, 2).flatten(2)[0])
    torch.testing.assert_close(part(x_TD, layout, Read(states=x_TD, layout=layout)), wanted)
    block = design.get_submodule("image.vit.blocks.0.attn")
    q, k, v = (heads_of(x, heads) for x in block.qkv(x_TD[None]).chunk(3, -1))
    mixed = attend(q * (32 / columns) ** 0.5, k, v, None, 0.0, None)
    wanted = block.proj(mixed.transpose(1, 2).flatten(2))
    torch.testing.assert_close(block(x_TD[None]), wanted)
    assert scales_scores(design) == (columns != 32)


@torch.no_grad()
def test_logits_of_words_are_divided_by_the_width() -> None:
    head = drawn("split_bert", FOUR_TIMES).heads["mlm"]
    states_ND = torch.randn(3, 256, generator=torch.Generator().manual_seed(0))
    plain = copy.deepcopy(head)
    plain.multiple = 1.0
    torch.testing.assert_close(head(states_ND), plain(states_ND) / 4)  # its bias starts at 0
    head.decoder.bias += 1
    torch.testing.assert_close(head(states_ND), plain(states_ND) / 4 + 1)


@pytest.mark.parametrize(("form", "head"), [("classifier", "albef"), ("pair", "meter")])
def test_what_a_task_adds_goes_by_width_too(form: str, head: str) -> None:
    def model(backbone: Backbone) -> nn.Module:
        images = {"pair": 2}.get(form, 1)
        sizes = {"form": form, "head": head, "images": images}
        task = TaskRecord(name="any", title="any", labels=("no", "so", "yes"), **sizes)
        made = task.model(drawn("split_bert", backbone))
        made.start(seeded(1))
        return made

    narrow, wide = model(NANO), model(FOUR_TIMES)
    times = times_of(wide)
    assert times["head.inner.weight"] == times["head.outer.weight"] == 4
    assert times["design.layers.0.mlp.inner.weight"] == 4 and not times_of(narrow)
    for role, factor in (("head.inner.weight", 2), ("head.outer.weight", 4)):
        own, other = (m.get_parameter(role).std().item() for m in (narrow, wide))
        assert own / other == pytest.approx(factor, rel=0.15), role


def test_a_decoder_of_answers_and_copies_keep_it() -> None:
    wider = FOUR_TIMES.with_fields({"text_mlp": 2048})
    task = TaskRecord(name="any", title="any", labels=("no", "yes"), form="decoder", rank=1)
    model = copy.deepcopy(task.model(drawn("split_bert", wider)))
    times = times_of(model)
    assert times["decoder.layers.0.mlp.outer.weight"] == 8
    assert times["decoder.layers.1.cross_attention.key.weight"] == 4
    factors = {m.score_factor for m in model.modules() if isinstance(m, Attention)}
    multiples = {m.multiple for m in model.modules() if isinstance(m, MLMHead)}
    assert factors == {2**-0.5} and multiples == {1 / 4}


def test_the_models_of_a_warm_start_have_it() -> None:
    with torch.device("meta"):
        words, classes, patches = (
            MaskedWords(FOUR_TIMES, 50), NamesClasses(FOUR_TIMES, 7), FillsPatches(FOUR_TIMES),
        )  # fmt: skip
    assert times_of(words)["layers.0.mlp.outer.weight"] == 4 and words.heads["mlm"].multiple == 0.25
    assert growth_of(classes.head) == growth_of(patches.head) == Growth(4.0, is_output=True)


def test_a_picture_of_a_design_is_the_same() -> None:
    plain = FOUR_TIMES.with_field("parameterisation", "standard")
    assert graph("split_bert", {}, FOUR_TIMES, 50) == graph("split_bert", {}, plain, 50)


def test_the_deviation_that_nobody_sets_is_nanos() -> None:
    nano = SCALES["nano"].init_std
    assert Backbone(parameterisation="mup").init_std == nano
    assert scale("tiny").with_field("parameterisation", "mup").init_std == nano
    assert scale("tiny").model_copy(update={"parameterisation": "mup"}).init_std == nano
    for name in ("tiny", "nano"):
        turned = scale(name).with_field("parameterisation", "mup")
        assert turned.with_field("parameterisation", "standard") == scale(name)
    written = Backbone(parameterisation="mup", init_std=0.02)
    assert written.with_field("parameterisation", "mup").init_std == 0.02
    both = {"parameterisation": "mup", "init_std": 0.02}
    assert scale("tiny").with_fields(both).init_std == Backbone(**both).init_std == 0.02
    assert scale("nano").with_fields({"init_std": 0.05}).with_fields(
        {"parameterisation": "mup"}
    ).init_std == 0.05  # fmt: skip
    again = Backbone.model_validate_json(Backbone(**both).model_dump_json())
    assert again.init_std == 0.02
    assert "parameterisation" not in Backbone().changed_fields()


def test_widths_that_nano_cannot_be_compared_with_are_refused() -> None:
    unequal = FOUR_TIMES.with_field("text_width", 128)
    assert times_of(on_meta("split_bert", unequal))
    with pytest.raises(SettingError, match=r"no text_projection: make .* equal, or take standard"):
        on_meta("single_stream", unequal)


def test_image_blocks_that_norm_queries_are_refused() -> None:
    attention = nn.Module()
    attention.qkv, attention.q_norm, attention.head_dim = nn.Linear(4, 12), nn.LayerNorm(2), 2
    with pytest.raises(SettingError, match="do not norm their queries"):
        prepare(attention, FOUR_TIMES, lambda _: attention)


@torch.no_grad()
def test_an_exported_design_comes_back_and_towers_that_others_misread_do_not(
    tmp_path: Path,
) -> None:
    design = drawn("split_bert", FOUR_TIMES)
    folder = tmp_path / "export"
    folder.mkdir()
    absent = exported.write(
        folder, design, tokenizer=_Tokenizer(), pixels={"mean": (0.5,) * 3, "std": (0.5,) * 3},
        about={},
    )  # fmt: skip
    assert set(absent) == {"image_tower", "text_encoder"}
    assert all("parameterisation mup" in why for why in absent.values())
    ids_BL = torch.randint(4, VOCABULARY, (2, 6), generator=torch.Generator().manual_seed(0))
    real_BL, image = torch.ones_like(ids_BL).bool(), torch.zeros(2, 3, 32, 32)
    wanted, *again = (
        d.heads["mlm"](d.fuse(d.encode_image(image), d.encode_text(ids_BL, real_BL)).text_BRD)
        for d in (design, exported.load(folder), build.load(str(folder)))
    )
    assert all(torch.equal(wanted, logits) for logits in again)
    plain = FOUR_TIMES.with_field("parameterisation", "standard")
    with pytest.raises(SettingError, match=r"Set backbone.parameterisation to 'mup'"):
        drawn("split_bert", plain, whole_weights=str(folder))


class _Tokenizer:
    def save_pretrained(self, folder: object) -> None:
        """Writes nothing: no test here reads it."""
