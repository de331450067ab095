"""Answer decoders of every design that has one: causal, and ranked as by a loop."""

import copy
import math

import pytest
import torch

from architectures import registry
from architectures.contract import DecodesAnswers
from architectures.downstream import answers
from architectures.downstream.answers import AnswerModel, why_not
from architectures.frozen import SettingError
from tests.architectures.conftest import VOCABULARY, seeded
from tests.architectures.designs.test_designs import every_design

CLS, SEP = 1, 2
CANDIDATES = [(7,), (8,), (7, 9), (11, 5, 6), (12,), (7, 10), (13, 4)]
"""Three begin with one token."""
DECODERS = [
    ("split_bert", {"text_layers": 6}),
    ("split_bert", {"text_layers": 5, "cross_every": 2, "type_embeddings": True}),
    ("distilbert_fusion", {"text_encoder": "distilbert", "fusion_layers": 2}),
    ("co_attention", {"order": "lxmert", "fusion_layers": 2}),
    ("bridge", {"fusion_layers": 2}),
]
every_decoder = pytest.mark.parametrize(("name", "fields"), DECODERS)


def padded(rows):
    """Token ids of answers between [CLS] and [SEP], and which of them are real."""
    length = max(map(len, rows)) + 2
    ids = torch.zeros(len(rows), length, dtype=torch.int64)
    for row, answer in zip(ids, rows, strict=True):
        row[: len(answer) + 2] = torch.tensor([CLS, *answer, SEP])
    return ids, ids > 0


@pytest.fixture
def model(make):
    return AnswerModel(make("split_bert", {"text_layers": 6})).double().eval()


@pytest.fixture
def ranked_by(batch):
    def ranked(model, k, **switches):
        return model.rank(model.question_states(*batch), *padded(CANDIDATES), k, **switches)

    return ranked


@torch.no_grad()
def likelihoods(model, batch):
    """(B, C) naive: every prefix decoded by itself; and those of first tokens alone."""
    questions = model.question_states(*batch)
    whole, first = torch.zeros(2, 8, len(CANDIDATES), dtype=torch.float64)
    for b in range(8):
        question = questions.take(torch.tensor([b]))
        for c, answer in enumerate(CANDIDATES):
            ids = [CLS, *answer, SEP]
            for end in range(1, len(ids)):
                prefix = torch.tensor([ids[:end]])
                logits_V = model.decoder(prefix, prefix > 0, question)[0, -1]
                step = float(logits_V.log_softmax(-1)[ids[end]])
                whole[b, c] += step
                first[b, c] += step if end == 1 else 0.0
    return whole, first


@every_design
def test_reasons_and_abilities_agree(small, name, fields):
    """What cannot says why, before it is built."""
    design, config = registry.find(name), registry.config(name, fields)
    facts = design.facts(config, small)
    able = facts.can_fuse and isinstance(design, DecodesAnswers)
    able = able and fields.get("attention") != "joint" and fields.get("self_attention", True)
    assert bool(why_not(facts)) != able


def test_a_design_that_cannot_is_refused_with_its_reason(make):
    for name, fields, reason in (
        ("dual_encoder", {}, "meet only in the contrastive loss"),
        ("bridge", {"fusion_layers": 0}, "leaves no fusion layer"),
        ("multiway", {"layers": 1}, "no cross-attention"),
    ):
        with pytest.raises(SettingError, match=f"{name}: .*{reason}"):
            AnswerModel(make(name, fields))


@every_decoder
def test_the_decoder_is_causal_and_learns(make, batch, name, fields):
    model = AnswerModel(make(name, fields)).double().eval()
    ids, real = padded([CANDIDATES[3]] * 8)
    question_A = torch.arange(8)
    logits = model(*batch, ids, real, question_A)
    assert logits.shape == (8, 5, VOCABULARY)
    for place in range(1, 5):
        other = ids.clone()
        other[:, place] = 20
        changed = model(*batch, other, real, question_A)
        torch.testing.assert_close(changed[:, :place], logits[:, :place], rtol=0, atol=1e-12)
        assert not torch.allclose(changed[:, place], logits[:, place])
    packed = model(*batch, ids, real, question_A, packed=True)
    torch.testing.assert_close(packed, logits)
    logits.square().sum().backward()
    still = {r for r, p in model.decoder.named_parameters() if p.grad is None or not p.grad.any()}
    assert all("key.bias" in role for role in still)  # equal for all that is read
    crossing = model.design.image.vit.patch_embed.proj.weight
    assert crossing.grad is not None and crossing.grad.any()


def test_padding_of_question_and_answer_changes_nothing(model, batch):
    images, ids, real = batch
    rows, real_rows = padded([CANDIDATES[0], CANDIDATES[3]] * 4)
    at = torch.arange(8)
    logits = model(images, ids, real, rows, real_rows, at)
    other = model(images, ids.where(real, 9), real, rows.where(real_rows, 9), real_rows, at)
    torch.testing.assert_close(other[real_rows], logits[real_rows])


@pytest.mark.parametrize(("name", "fields"), DECODERS[:3])
def test_it_starts_from_the_fusion_layers_and_shares_nothing(make, name, fields):
    design = make(name, fields)
    model = AnswerModel(design)
    copies = list(model.decoder.layers)
    for (_, layer), its in zip(design.fusion_stack(), copies, strict=True):
        assert its.self_attention.causal and not layer.self_attention.causal
        theirs = dict(layer.named_parameters())
        for role, value in its.named_parameters():
            kept = value.shape == theirs[role].shape
            wide = role in ("cross_attention.key.weight", "cross_attention.value.weight")
            assert kept != wide  # images are wider than words here
            assert not kept or "key" in role or "value" in role or torch.equal(value, theirs[role])
    assert model.decoder.head.decoder.weight is model.decoder.embeddings.word.weight
    ours = {p.data_ptr() for p in model.decoder.parameters()}
    assert not ours & {p.data_ptr() for p in design.parameters()}
    crosses = sum(layer.crosses for layer in copies)
    assert len(model.new_parts()) == 2 * crosses


def test_of_equal_widths_every_weight_is_taken_over(make):
    model = AnswerModel(make("split_bert", {"text_layers": 6}, image_width=16, dtype=torch.float32))
    before = copy.deepcopy(model.state_dict())
    assert model.new_parts() == ()
    model.start(seeded(3))
    assert all(torch.equal(x, before[role]) for role, x in model.state_dict().items())
    last = dict(model.design.layers[7].named_parameters())
    assert all(torch.equal(x, last[r]) for r, x in model.decoder.layers[1].named_parameters())


def test_without_an_mlm_head_the_decoders_head_is_drawn(make, batch):
    design = make("split_bert", {"text_layers": 6, "new_part_rate": 2.0}, dtype=torch.float32)
    del design.heads["mlm"]
    models = [AnswerModel(copy.deepcopy(design)) for _ in range(2)]
    for model in models:
        model.start(seeded(0))
    one, other = (model.state_dict() for model in models)
    assert all(torch.equal(one[role], other[role]) for role in one)
    rates = models[0].rates(10.0)
    assert rates["decoder.head.dense."] == 10 == rates["decoder.layers.0.cross_attention.key."]
    assert rates["design.heads.itm."] == 2
    word = models[0].decoder.embeddings.word.weight
    assert models[0].decoder.head.decoder.weight is word
    assert torch.equal(word, design.word_embedding().weight)
    logits = models[0](batch[0].float(), *batch[1:], *padded(CANDIDATES), torch.arange(7))
    assert logits.isfinite().all()


@pytest.mark.parametrize("heads", [("itc", "lm"), ("mlm", "lm")])
def test_the_head_of_lm_is_taken_where_there_is_one(make, heads):
    """It says next tokens already."""
    design = make("split_bert", {"text_layers": 6}, objectives=heads, image_width=16)
    model = AnswerModel(design)
    assert model.new_parts() == ()
    ours, its = model.decoder.head.state_dict(), design.heads["lm"].state_dict()
    assert all(torch.equal(ours[role], x) for role, x in its.items())


def test_ranking_all_is_a_loop_over_all(model, batch, ranked_by, monkeypatch):
    whole, first = likelihoods(model, batch)
    monkeypatch.setattr(answers, "LOGITS_AT_ONCE", 3 * 5 * VOCABULARY)  # three at a time
    for twice in (False, True):
        ranked = ranked_by(model, len(CANDIDATES), first_token_twice=twice)
        score = whole + first if twice else whole
        listed = ranked.listed_BK
        torch.testing.assert_close(ranked.likelihood_BK, whole.gather(1, listed))
        torch.testing.assert_close(ranked.first_BK, first.gather(1, listed))
        torch.testing.assert_close(ranked.score_BK, score.gather(1, listed))
        best, log_BK = ranked.best()
        assert torch.equal(best, score.argsort(1, descending=True))
        torch.testing.assert_close(log_BK, score.log_softmax(1).gather(1, best))
        worth = torch.arange(7.0).expand(8, 7)
        assert torch.equal(ranked.worth(worth), score.argmax(1).float())


def test_the_likeliest_first_tokens_are_listed_with_all_that_tie(model, batch, ranked_by):
    _, first = likelihoods(model, batch)
    tied = 0
    for k in range(1, 7):
        listed = ranked_by(model, k).listed_BK
        for b in range(8):
            cut = first[b].sort(descending=True).values[k - 1] - 1e-9
            wanted = set((first[b] >= cut).nonzero().flatten().tolist())
            assert set(listed[b].tolist()) - {-1} == wanted and len(wanted) >= k
            tied += len(wanted) > k
    assert tied  # three candidates begin with one token


def test_a_constant_scorer_gets_chance(model, ranked_by):
    """Every token is equally likely: of the answers of one token, none is better for its place in
    the list, whatever k.
    """
    for parameter in model.decoder.head.parameters():
        parameter.data.zero_()
    worth = torch.eye(7)[[0, 1, 2, 3, 4, 5, 6, 0]]
    for k in (1, 4, 7):
        ranked = ranked_by(model, k)
        short = [c for c, answer in enumerate(CANDIDATES) if len(answer) == 1]
        chance = worth[:, short].mean(1)  # a longer answer is less likely
        torch.testing.assert_close(ranked.worth(worth), chance)
        assert ranked.likelihood_BK.amax() == pytest.approx(-2 * math.log(VOCABULARY))


@pytest.mark.parametrize("twice", [False, True])
def test_a_model_that_has_diverged_gets_chance(model, ranked_by, twice):
    model.decoder.head.dense.weight.data.fill_(torch.nan)
    ranked = ranked_by(model, 2, first_token_twice=twice)
    assert ranked.listed_BK.shape == (8, 7)
    worth = torch.rand(8, 7)
    torch.testing.assert_close(ranked.worth(worth), worth.mean(1))


def test_a_model_comes_back_from_its_state(make, batch):
    inputs = (*batch, *padded([CANDIDATES[3]] * 8), torch.arange(8))
    one, other = (AnswerModel(make("bridge", {"fusion_layers": 2}, seed=s)) for s in (0, 1))
    assert not torch.allclose(one(*inputs), other(*inputs))
    other.load_state_dict(one.state_dict())
    assert torch.equal(one(*inputs), other(*inputs))
