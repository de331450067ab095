"""Classifiers on every design of the registry, and one text with several pictures."""

import copy

import pytest
import torch

from architectures import registry
from architectures.contract import ReasonsOverImages
from architectures.downstream.classifier import NO_TYPE, TYPE, Classifier, why_not
from architectures.downstream.joint import NO_TEXT, facts_of, joint_vector, joint_width
from architectures.frozen import SettingError
from architectures.layers.read import Read
from architectures.stacks.one_way import OneWay
from tests.architectures.conftest import seeded
from tests.architectures.designs.test_designs import awake, every_design, one_of_each

LABELS = 5
ONE_WAY = [
    ("split_bert", {"text_layers": 5}),
    ("split_bert", {"text_layers": 3, "cross_every": 2, "type_embeddings": True, "pooler": True}),
    ("full_text_deep_fusion", {"fusion_layers": 2}),
    ("distilbert_fusion", {"text_encoder": "distilbert", "fusion_layers": 2}),
]
every_one_way = pytest.mark.parametrize(("name", "fields"), ONE_WAY)


def several(batch, images):
    """(B, I, C, H, W) different pictures, ids and which of them are real."""
    image_BCHW, ids_BL, real_BL = batch
    image_BICHW = torch.stack([image_BCHW.roll(i, 0) * (1 + i) for i in range(images)], 1)
    return image_BICHW, ids_BL, real_BL


def classifier(design, **fields):
    return Classifier(design, LABELS, **fields).double().eval()


def reached(module, vector) -> set[str]:
    """Roles of the parameters that a vector depends on."""
    module.zero_grad()
    vector.square().sum().backward()
    return {r for r, p in module.named_parameters() if p.grad is not None and p.grad.any()}


@one_of_each
def test_every_design_gives_logits_and_learns(make, batch, name, fields):
    """The joint vector is what ITM reads, or both towers side by side; a pair is a naive
    concatenation. All that joins picture and text gets a gradient, and the head; text alone
    reaches no picture.
    """
    design = awake(make(name, fields))
    text = design.encode_text(*batch[1:])
    image = design.encode_image(batch[0])
    if facts_of(design).can_fuse:
        naive = design.fuse(image, text).pooled_BD
    else:
        image_BD = image.pooled_BD
        image_BD = image_BD if image_BD.ndim == 2 else image_BD.mean(1)
        naive = torch.cat([image_BD, text.pooled_BD], 1)
    torch.testing.assert_close(joint_vector(design, image, text), naive)
    for images in (0, 1, 2):
        if reason := why_not(facts_of(design), images=images):
            assert not images and reason == NO_TEXT
            with pytest.raises(SettingError, match=f"{name}: its words"):
                classifier(design, images=images)
            continue
        model = classifier(design, images=images, head="meter" if images == 2 else "albef")
        image_BICHW, ids, real = several(batch, images or 1)
        text = design.encode_text(ids, real)
        pictures = [design.encode_image(x) for x in image_BICHW.unbind(1)]
        vectors = [joint_vector(design, each, text) for each in pictures]
        vector = torch.cat(vectors, 1) if images else text.pooled_BD
        assert vector.shape == (8, joint_width(design, images))
        logits = model(image_BICHW if images else None, ids, real, packed=images == 2)
        torch.testing.assert_close(logits, model.head(vector))
        own = reached(design, vector)
        assert ("image.vit.patch_embed.proj.weight" in own) == bool(images)
        assert any("embeddings.word.weight" in role for role in own)
        head = {f"head.{r}" for r, _ in model.head.named_parameters()}
        again = model(image_BICHW if images else None, ids, real)
        assert reached(model, again) == head | {f"design.{r}" for r in own}


@every_design
def test_reasons_and_abilities_agree(small, name, fields):
    design, config = registry.find(name), registry.config(name, fields)
    facts = design.facts(config, small)
    able = facts.can_fuse and isinstance(design, ReasonsOverImages)
    able = able and fields.get("attention") != "joint"
    assert bool(why_not(facts, images=2, form="duplicated")) != able
    assert why_not(facts, images=2) == "" == why_not(facts, images=1, form="duplicated")


@one_of_each
def test_a_second_picture_has_its_own_type_row(make, batch, small, name, fields):
    """It starts as the design's, and the vector of its picture alone hangs on it."""
    design = awake(make(name, fields))
    facts = facts_of(design)
    typed = TYPE in dict(design.named_parameters())
    assert facts.image_type == typed or not facts.can_fuse
    if reason := why_not(facts, images=2, picture_types="each"):
        assert not typed and reason in (facts.no_fuse, NO_TYPE)
        with pytest.raises(SettingError, match=f"{name}: "):
            classifier(design, images=2, picture_types="each")
        return
    inputs = several(batch, 2)
    models = [classifier(copy.deepcopy(design), images=2, picture_types=p) for p in ("one", "each")]
    models[1].head.load_state_dict(models[0].head.state_dict())
    one, each = models
    torch.testing.assert_close(each(*inputs), one(*inputs))
    more = torch.randn_like(each.picture_types.weight.data)  # a constant would be normed away
    each.picture_types.weight.data.add_(more)
    text = each.design.encode_text(*inputs[1:])
    first, second = map(each.design.encode_image, inputs[0].unbind(1))
    vectors = [joint_vector(each.design, first, text)]
    each.design.get_parameter(TYPE).data.add_(more)
    vectors.append(joint_vector(each.design, second, text))
    each.design.get_parameter(TYPE).data.sub_(more)
    logits = each(*inputs)
    torch.testing.assert_close(logits, each.head(torch.cat(vectors, 1)))
    assert not torch.allclose(logits, one(*inputs))
    roles = reached(each, logits)
    assert {"picture_types.weight", f"design.{TYPE}"} <= roles


def test_a_second_row_learns_at_the_rate_of_the_first(make):
    fields = {"type_embeddings": True, "new_part_rate": 5.0}
    model = classifier(make("split_bert", fields), images=3, picture_types="each")
    assert model.picture_types.weight.shape[0] == 2
    assert model.rates(50.0)["picture_types."] == 5


def test_a_design_that_cannot_is_refused_with_its_reason(make):
    for name, fields, reason in (
        ("dual_encoder", {}, "meet only in the contrastive loss"),
        ("bridge", {}, "a stream of its own"),
        ("split_bert", {"text_layers": 8}, "leaves no fusion layer"),
        ("multiway", {"layers": 1}, "one softmax"),
    ):
        with pytest.raises(SettingError, match=f"{name}: .*{reason}"):
            classifier(make(name, fields), images=2, form="duplicated")


@every_one_way
@pytest.mark.parametrize("count", [2, 3])
def test_layers_for_several_images_follow_one_another(make, batch, name, fields, count):
    """As a naive loop over the design's own layers; a copy changes no more than its own pass."""
    design = make(name, fields)
    before = copy.deepcopy(design.state_dict())
    image_BICHW, ids, real = several(batch, count)
    duplicated = design.for_images(count)
    text, images = design.encode_text(ids, real), []
    x_TD = text.tokens_TD
    if design.types is not None:
        x_TD = x_TD + design.types.text_D
    for picture_BCHW in image_BICHW.unbind(1):
        tokens = design.encode_image(picture_BCHW).tokens_BPD
        images.append(tokens if design.types is None else tokens + design.types.image_D)
    for _, layer in design.fusion_stack():
        for tokens in images if layer.crosses else [None]:
            read = None if tokens is None else Read(states=tokens)
            x_TD = layer(x_TD, text.layout, read)
    naive = text.layout.first(x_TD)
    naive = naive if design.pooler is None else design.pooler(naive)
    image = duplicated.encode_image(image_BICHW.flatten(0, 1))
    vector = joint_vector(duplicated, image, duplicated.encode_text(ids, real, packed=True))
    torch.testing.assert_close(vector, naive)
    other = joint_vector(duplicated, image.take(torch.arange(8 * count).flip(0)), text)
    assert not torch.allclose(other, vector)
    for parameter in duplicated.parameters():
        parameter.data.add_(1.0)
    assert all(torch.equal(value, before[role]) for role, value in design.state_dict().items())
    with pytest.raises(ValueError, match=f"fuses {count} images already"):
        duplicated.for_images(2)


@every_one_way
def test_copies_share_keys_and_values_alone(make, name, fields):
    design = make(name, fields)
    duplicated = design.for_images(2)
    groups = dict.fromkeys(name.rpartition(".")[0] for name in duplicated.crossings())
    assert tuple(groups) == design.crossings()
    new = set()
    for group in groups:
        first, second = (dict(duplicated.get_submodule(f"{group}.{i}").named_parameters())
                         for i in (0, 1))  # fmt: skip
        shared = {role for role in first if first[role] is second[role]}
        assert shared == {f"cross_attention.{part}.{kind}"
                          for part in ("key", "value") for kind in ("weight", "bias")}  # fmt: skip
        assert all(torch.equal(first[role], second[role]) for role in first)
        new |= {f"{group}.1.{role}" for role in first if role not in shared}
    names = {role for role, _ in duplicated.named_parameters()}
    assert len(names) == len(dict(design.named_parameters())) + len(new) and new <= names
    rates = duplicated.rates()
    crossing = [r for r in new if ".cross_" in r]
    assert crossing and all(r.startswith(tuple(rates)) for r in crossing)


@every_one_way
def test_a_model_of_several_images_comes_back_from_its_state(make, batch, name, fields):
    inputs = several(batch, 2)
    model = classifier(make(name, fields), images=2, form="duplicated")
    again = classifier(make(name, fields, seed=1), images=2, form="duplicated")
    assert not torch.allclose(again(*inputs), model(*inputs))
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(*inputs), model(*inputs))
    stack = again.design.fusion_stack()[-1][1]
    assert isinstance(again.design, OneWay) and stack.crosses


def test_another_number_of_pictures_is_an_error(make, batch):
    model = classifier(make("split_bert", {}), images=2)
    image_BCHW, ids, real = batch
    with pytest.raises(ValueError, match="shows 1 images; this head reads 2"):
        model(image_BCHW[:, None], ids, real)
    with pytest.raises(ValueError, match="shows no images"):
        model(None, ids, real)


@pytest.mark.parametrize("head", ["albef", "meter"])
def test_only_the_head_is_drawn_by_seed_and_role(make, head):
    models = []
    for seed, noise in ((0, 0), (0, 1), (1, 1)):
        torch.manual_seed(noise)
        model = Classifier(make("split_bert", {}, dtype=torch.float32), LABELS, head=head)
        design = copy.deepcopy(model.design.state_dict())
        model.start(seeded(seed))
        assert all(torch.equal(x, design[r]) for r, x in model.design.state_dict().items())
        models.append(model.head.state_dict())
    one, again, other = models
    assert all(torch.equal(one[role], again[role]) for role in one)
    assert not torch.equal(one["inner.weight"], other["inner.weight"])
    bound = 16**-0.5
    if head == "albef":
        assert all(0.8 * bound < x.abs().max() <= bound for x in one.values() if x.numel() > 5)
    else:
        assert one["inner.weight"].shape == (32, 16) and one["norm.weight"].eq(1).all()
        assert one["inner.weight"].std() == pytest.approx(0.2, rel=0.1)


def test_rates_are_the_heads_and_the_designs_own(make):
    model = Classifier(make("split_bert", {"new_part_rate": 5.0}), LABELS)
    rates = model.rates(50.0)
    assert rates["head."] == 50 and rates["design.heads.itm."] == 5
    crossing = "design.layers.6.cross_attention."
    assert rates[crossing] == 5 and not any("design.layers.0." in prefix for prefix in rates)
