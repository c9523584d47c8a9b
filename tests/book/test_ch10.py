"""Chapter 10's experiments: attention maps, wiped patches, hidden words, the power of a paired test."""

import numpy as np
import pytest
import torch
from scipy import stats

from gaplib.book.chapters import ch10_fusion
from gaplib.fusion import tasks
from gaplib.fusion.model import Architecture, fusion_model
from gaplib.fusion.vocabulary import MASK, vocabulary


@pytest.fixture(scope="module")
def model():
    return fusion_model(Architecture(len(vocabulary()), width=16, hidden=16, dim=8), seed=3).eval()


@pytest.fixture(scope="module")
def hidden():
    return ch10_fusion.hide("dev", ch10_fusion.MARKS, most=12)


def test_hidden_words_are_the_ones_asked_for(hidden):
    ids = [vocabulary().index(word) for word in ch10_fusion.MARKS]
    assert np.isin(hidden.word, ids).all()
    assert (hidden.tokens == MASK).sum(dim=1).tolist() == [1] * len(hidden.word)
    assert (hidden.tokens[range(len(hidden.word)), hidden.place] == MASK).all()
    with pytest.raises(ValueError, match="words"):
        ch10_fusion.hide("dev", ("[BOS]",))


def test_attention_is_that_of_the_layer_and_changes_nothing(model, hidden):
    with torch.no_grad():
        before = model.fuse(hidden.images, hidden.tokens)
        maps = ch10_fusion.attention(model, hidden.images, hidden.tokens)
        after = model.fuse(hidden.images, hidden.tokens)
        # the first layer by hand: softmax of query times key, from the projections themselves
        layer, attention = model.fusion.layers[0], model.fusion.layers[0].multihead_attn
        words, patches = model.encoders.text_encoder(hidden.tokens), model.encoders.image_encoder(hidden.images)
        x = layer.norm1(words)
        padding = hidden.tokens == 0
        x = words + layer.self_attn(x, x, x, key_padding_mask=padding, need_weights=False)[0]
        width, heads = model.size.width, model.size.heads
        w, b = attention.in_proj_weight, attention.in_proj_bias
        query = (layer.norm2(x) @ w[:width].T + b[:width]).unflatten(2, (heads, -1)).transpose(1, 2)
        key = (patches @ w[width : 2 * width].T + b[width : 2 * width]).unflatten(2, (heads, -1)).transpose(1, 2)
        expected = (query @ key.mT / (width / heads) ** 0.5).softmax(dim=-1).mean(dim=1)
    torch.testing.assert_close(before, after)
    torch.testing.assert_close(maps[:, 0].flatten(2), expected[..., 1:], atol=1e-5, rtol=1e-4)
    assert all(not layer.multihead_attn._forward_hooks for layer in model.fusion.layers)


def test_a_patch_without_ink_is_not_needed(model, hidden):
    need = ch10_fusion.occlusion(model, hidden)
    ink = hidden.images[:, 0].unfold(1, 6, 6).unfold(2, 6, 6).sum(dim=(3, 4))
    assert need.shape == ink.shape
    assert need[ink == 0].abs().max() < 1e-5
    assert need[ink > 0].abs().max() > 1e-5


def test_the_surest_of_a_script_has_the_word_and_the_highest_probability(model, hidden):
    cases = ch10_fusion.hide("dev", ("CAPITAL", "SMALL"), most=80)
    wanted = {"LATIN": "SMALL", "CYRILLIC": "CAPITAL"}
    sure = ch10_fusion.confidence(model, cases)
    for (script, word), row in zip(wanted.items(), ch10_fusion.surest(model, cases, wanted), strict=True):
        fits = [
            i
            for i in range(len(cases.word))
            if vocabulary().index(script) in cases.tokens[i] and cases.word[i] == vocabulary().index(word)
        ]
        assert row in fits
        assert sure[row] == sure[fits].max()
    with pytest.raises(ValueError, match="words"):
        ch10_fusion.surest(model, hidden, {"LATIN": "CAPITAL"})  # no such word is hidden there


@pytest.mark.parametrize("name", tasks.TASKS)
def test_examples_show_every_sort_before_any_twice(name):
    pictures, words = ch10_fusion.examples(name, n=6)
    assert len(pictures) == len(words) == 6
    assert {one.shape for one in pictures} == {(24, 48) if name == "nlvr" else (24, 24)}
    questions = tasks.task(name, "dev", 40, seed=3)
    sort = questions.answer if name == "entailment" else questions.kind
    told = [f"{text}\n→ {questions.answers[a]}" for text, a in zip(questions.text, questions.answer, strict=True)]
    shown = [sort[told.index(one)].item() for one in words]
    assert len(set(shown)) == min(6, len(sort.unique()))


def test_shares_and_agreement_of_maps():
    maps = torch.zeros(2, 4, 4)
    maps[0, 0, 1], maps[1, 3, 2], maps[1, 2, 2] = 3.0, 1.0, -5.0
    assert ch10_fusion.upper_share(maps) == 0.75
    values = torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(0))
    assert ch10_fusion.agreement(values, values.exp()) == pytest.approx(1)
    assert ch10_fusion.agreement(values, -values) == pytest.approx(-1)


def test_power_against_simulation():
    sd, n = 0.03, 8
    effect = ch10_fusion.detectable(sd, n)
    assert ch10_fusion.seeds_needed(effect * 1.0001, sd) == n
    differences = np.random.default_rng(0).normal(effect, sd, (20_000, n))
    found = stats.ttest_1samp(differences, 0, axis=1, alternative="greater").pvalue < 0.05
    assert found.mean() == pytest.approx(0.8, abs=0.015)
    for name, call in {"sd": (0.0, 8), "n": (0.03, 1)}.items():
        with pytest.raises(ValueError, match=name):
            ch10_fusion.detectable(*call)
    with pytest.raises(ValueError, match="effect"):
        ch10_fusion.seeds_needed(0.0, 0.03)


def test_even_guess_counts_the_answers_of_a_question():
    assert ch10_fusion.even_guess("nlvr") == pytest.approx(0.5)
    assert ch10_fusion.even_guess("entailment") == pytest.approx(1 / 3)
    assert 0.2 < ch10_fusion.even_guess("vqa") < 0.35
