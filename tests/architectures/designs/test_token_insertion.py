"""Token insertion against whole models of transformers, and who reads whom under each mask."""

import copy

import pytest
import torch
import transformers

from architectures import build, registry
from architectures.frozen import SettingError
from architectures.weights.checkpoints import load_whole
from architectures.weights.published.git import git_tensors
from benchmarks import design_cases as cases
from tests.architectures.conftest import VOCABULARY
from tests.architectures.published_models import CLIP_VISION, TEXT, for_clip, model, saved
from tests.architectures.reference import randomised

NAME = "token_insertion"
GIT = {"text_layers": 4, "image_mlp": 40, "image_norm_eps": 1e-5,
       "vision": "vit_base_patch16_clip_quickgelu_224"}  # fmt: skip


NO_BIAS, NO_TYPES = {"connector.inner.bias"}, {"embeddings.token_type.weight"}


def llava(sizes: cases.Sizes):
    """On a causal BERT, by the last layer of our tower; it drops the class token itself."""
    backbone = llava_backbone(sizes)
    words = sizes.words(max_position_embeddings=backbone.max_positions, is_decoder=True)
    config = transformers.LlavaConfig(
        text_config=transformers.BertConfig(**words),
        vision_config=transformers.CLIPVisionConfig(**sizes.pictures()),
        image_token_index=cases.IMAGE_WORD,
        vision_feature_layer=-1,
    )
    whole = transformers.LlavaModel(config)
    design = build.construct(NAME, LLAVA, backbone, sizes.vocabulary, ())
    whole.vision_tower = cases.Tower(design.image, class_token=True)
    return whole


def llava_backbone(sizes):
    return sizes.backbone(max_positions=sizes.tokens + (sizes.image_size // sizes.patch_size) ** 2)


def run_llava(whole, batch):
    patches = (batch.images.shape[-1] // 8) ** 2
    fed = cases.after_image(batch, patches)
    states = whole(pixel_values=batch.images, **fed).last_hidden_state
    return states[:, patches:][batch.real], states[:, :patches]


def of_llava(sizes, theirs):
    weights = cases.inserting_tensors(theirs.state_dict())
    return cases.whole(NAME, LLAVA, llava_backbone(sizes), sizes, weights)


LLAVA = {"connector": "mlp", "class_token": "drop", "positions": "shared", "mask": "causal"}
SEQUENCES = {
    "ModernVBertModel": (cases.modernvbert, cases.run_modernvbert, cases.shuffled),
    "LlavaModel": (llava, run_llava, of_llava),
}


def agree(ours, theirs, weights, both, without=frozenset()):
    """Outputs to 1e-5, and the gradient of every weight, by role, to 1e-4; theirs are `without`
    some that ours have.
    """
    for mine, his in both:
        torch.testing.assert_close(mine, his, rtol=1e-5, atol=1e-5)
    theirs.zero_grad()
    for which in (0, 1):
        sum(pair[which].pow(2).mean() for pair in both).backward()
    wanted = weights({n: p.grad for n, p in theirs.named_parameters() if p.grad is not None})
    wanted = {role: gradient for role, gradient in wanted.items() if role not in without}
    found = {r: p.grad for r, p in ours.named_parameters() if p.grad is not None and r in wanted}
    assert len(wanted) > 40
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def small_batch(batch, side: int, longest: int):
    """Pictures of another size, and texts of at most so many tokens."""
    _, ids, real = batch
    images = torch.randn(8, 3, side, side, generator=torch.Generator().manual_seed(0))
    return images, ids[:, :longest], real[:, :longest]


@pytest.mark.parametrize("name", SEQUENCES)
@pytest.mark.parametrize(("side", "tokens"), [(16, 7), (32, 12)])
@pytest.mark.parametrize("packed", [False, True])
def test_whole_models_around_our_image_tower(name, side, tokens, packed):
    """ModernVBERT's and LLaVA's, whose image tokens stand in the sequence."""
    theirs_of, run, ours_of = SEQUENCES[name]
    sizes = cases.Sizes(
        width=64, layers=2, image_size=side, batch=4, tokens=tokens, vocabulary=VOCABULARY
    )
    theirs = randomised(theirs_of(sizes), std=0.1)
    ours, batch = ours_of(sizes, theirs).eval(), cases.Batch.of(sizes)
    text = ours.encode_text(batch.ids, batch.real, packed=packed)
    fused = ours.fuse(ours.encode_image(batch.images), text)
    said, places = run(theirs, batch)
    both = [(fused.text_BRD[batch.real], said), (fused.image_BPD, places)]
    without = NO_BIAS if name == "ModernVBertModel" else frozenset()
    agree(ours, theirs, cases.inserting_tensors, both, without)


SIZES = [(16, 7, {}), (32, 5, {"image_size": 32, "max_positions": 24})]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("side", "longest", "sizes"), SIZES)
def test_git_from_pixels_and_ids(small, batch, monkeypatch, side, longest, sizes, packed):
    """The whole model under its prefix mask; without an image it is the text that ITC reads."""
    monkeypatch.setitem(TEXT, "max_position_embeddings", sizes.get("max_positions", 12))
    monkeypatch.setitem(CLIP_VISION, "image_size", side)
    theirs = model("GitModel")
    with torch.no_grad():  # so that the lowest layers' gradients are not too small to compare
        for role, parameter in theirs.named_parameters():
            parameter += float("norm" in role.lower() and role.endswith("weight"))
    ours = build.construct(
        NAME, {"mask": "prefix"}, small.with_fields({**GIT, **sizes}), VOCABULARY, ()
    ).eval()
    load_whole(ours, git_tensors(copy.deepcopy(theirs.state_dict())))
    images, ids, real = small_batch(batch, side, longest)
    fed = {"input_ids": ids, "attention_mask": real.long()}
    said = theirs(**fed, pixel_values=images).last_hidden_state
    alone = theirs(**fed).last_hidden_state
    text = ours.encode_text(ids, real, packed=packed)
    fused = ours.fuse(ours.encode_image(images), text)
    count, last = ours.connector.count, real.sum(1) - 1
    both = [
        (fused.text_BRD[real], said[:, count:][real]),
        (fused.image_BPD, said[:, :count]),
        (fused.pooled_BD, said[range(8), count + last]),
        (text.pooled_BD, alone[range(8), last]),
    ]
    agree(ours, theirs, git_tensors, both, NO_TYPES)


@torch.no_grad()
def test_a_folder_of_git(batch, tmp_path):
    """As the design that it is."""
    theirs = saved("GitForCausalLM", tmp_path)
    images, ids, real = batch[0].float(), *batch[1:]
    said = theirs.git(input_ids=ids, attention_mask=real.long(), pixel_values=for_clip(images))
    loaded = build.load(str(tmp_path))
    fused = loaded.fuse(loaded.encode_image(images), loaded.encode_text(ids, real))
    assert (loaded.name, loaded.config.mask) == (NAME, "prefix")
    torch.testing.assert_close(
        fused.text_BRD[real], said.last_hidden_state[:, 5:][real], rtol=1e-4, atol=1e-5
    )


@torch.no_grad()
@pytest.mark.parametrize("positions", ["own", "shared"])
@pytest.mark.parametrize("mask", ["bidirectional", "prefix", "causal"])
def test_who_reads_whom(make, batch, mask, positions):
    """A changed word or patch shows in every token that reads it, and in no other."""
    design = make(NAME, {"mask": mask, "positions": positions})
    images, ids, real = batch
    real = torch.ones_like(real)
    changed_ids, changed_image = ids.clone(), images.clone()
    changed_ids[:, 4] = ids[:, 4] % 40 + 5

    def fused(images, ids):
        states = design.fuse(design.encode_image(images), design.encode_text(ids, real))
        return states.text_BRD, states.image_BPD

    def differs(first, second):
        return [
            ((a - b).abs().amax((0, 2)) > 1e-9).tolist() for a, b in zip(first, second, strict=True)
        ]

    before = fused(images, ids)
    text, image = differs(before, fused(images, changed_ids))
    everything = mask == "bidirectional"
    assert image == [everything] * 5
    assert text == [everything] * 4 + [True] * 3
    # A patch alone, after the tower: its last, so that under `causal` no image token reads it.
    changed_image[:] = 0
    states = design.encode_image(images)
    other = design.encode_image(images)
    other.distinct_UPD[:, -1] += 1
    words = design.encode_text(ids, real)
    first, second = (design.fuse(each, words) for each in (states, other))
    text, image = differs((first.text_BRD, first.image_BPD), (second.text_BRD, second.image_BPD))
    assert text == [True] * 7
    assert image == [mask != "causal"] * 4 + [True]


@torch.no_grad()
@pytest.mark.parametrize("fields", [{}, {"positions": "shared", "connector": "mlp"}])
def test_text_by_itself_is_the_text_encoder(make, batch, fields):
    """Its first position is 0 in that pass, whatever stands before it with an image."""
    design, dual = make(NAME, fields), make("dual_encoder", {})
    _, ids, real = batch
    ours, wanted = (each.encode_text(ids, real).pooled_BD for each in (design, dual))
    torch.testing.assert_close(ours, wanted)


@torch.no_grad()
def test_attention_to_a_shuffled_token_falls_evenly_to_its_patches(make, batch):
    fields = {"connector": "pixel_shuffle", "shuffle": 2}
    design = make(NAME, fields, image_size=32)
    images = torch.randn(8, 3, 32, 32, dtype=torch.float64)
    image, text = design.encode_image(images), design.encode_text(*batch[1:])
    kept = design.fuse(image, text, keep_attention=["layers.0"]).attention["layers.0"]
    assert kept.shape == (8, 2, 7, 17) and not kept[..., 0].any()
    squares = kept[..., 1:].unflatten(-1, (2, 2, 2, 2)).transpose(-3, -2).flatten(-2)
    torch.testing.assert_close(squares, squares[..., :1].expand_as(squares))
    corners = squares[..., 0].flatten(-2)
    assert (corners.diff(dim=-1).abs() > 1e-9).any()


@pytest.mark.parametrize("mask", ["prefix", "causal"])
def test_an_image_goes_through_the_stack_once_where_it_reads_no_word(make, batch, mask):
    """However many texts it is fused with, and to the same values and gradients."""
    design = make(NAME, {"mask": mask})
    images, ids, real = (x[:2] for x in batch)
    rows, grads, sizes = torch.tensor([0, 1, 1, 0, 1]), [], []
    linear = design.layers[0].self_attention.key
    hook = linear.register_forward_hook(lambda _, given, __: sizes.append(given[0].shape[:-1]))
    for repeated in (False, True):
        shown = images[rows] if repeated else images
        image, text = design.encode_image(shown), design.encode_text(ids, real).take(rows)
        fused = design.fuse(image if repeated else image.take(rows), text)
        design.zero_grad()
        (fused.pooled_BD.pow(2).sum() + fused.image_BPD.pow(2).sum()).backward()
        grads.append({role: p.grad for role, p in design.named_parameters() if p.grad is not None})
        assert sizes.pop(0).numel() == (25 if repeated else 10)
        sizes.clear()
    hook.remove()
    torch.testing.assert_close(*grads)


@torch.no_grad()
def test_image_tokens_leave_fewer_positions_to_words(make, batch, small):
    fields = {"positions": "shared"}
    facts = registry.find(NAME).facts(registry.config(NAME, fields), small)
    design = make(NAME, fields)
    assert facts.places_taken == design.connector.count == 5
    assert design.longest_text == 12 - 5
    ids = batch[1][:, :1].repeat(1, 8)
    design.encode_text(ids[:, :7], ids[:, :7] > 0)
    with pytest.raises(SettingError, match="8 tokens is longer than max_positions = 12 - 5"):
        design.encode_text(ids, ids > 0)


def test_objectives_of_a_causal_mask(small):
    cls = registry.find(NAME)
    for mask in ("prefix", "causal"):
        facts = cls.facts(registry.config(NAME, {"mask": mask}), small)
        assert "none that stands after it" in facts.why_not("mlm")
        assert not facts.why_not("itm") and not facts.why_not("itc")
        assert facts.itc_reads == "the last token after text layer 7"
    assert not cls.facts(registry.config(NAME, {}), small).why_not("mlm")


@pytest.mark.parametrize(
    ("fields", "sizes", "said"),
    [
        ({"image_from": "each"}, {}, "image_from each is a block for each layer"),
        ({"shuffle": 2}, {}, "shuffle is of connector 'pixel_shuffle'"),
        ({"connector": "pixel_shuffle"}, {}, "shuffle is 4, but a picture has 2 .*take 2$"),
        (
            {"connector": "pixel_shuffle"},
            {"image_size": 48},
            "shuffle is 4, but a picture has 6 patches on a side: take 3 or 6",
        ),
        (
            {"connector": "pixel_shuffle"},
            {"image_size": 8},
            "has 1 patches on a side: take another connector",
        ),
        (
            {"connector": "pixel_shuffle", "shuffle": 2, "class_token": "keep"},
            {},
            "class token has no place",
        ),
        (
            {"positions": "shared"},
            {"image_size": 32},
            "the 17 image tokens leave words none of the max_positions = 12",
        ),
    ],
)
def test_what_cannot_be_built_is_refused(small, fields, sizes, said):
    backbone = small.with_fields(sizes) if sizes else small
    with pytest.raises(SettingError, match=said):
        registry.find(NAME).facts(registry.config(NAME, fields), backbone)
