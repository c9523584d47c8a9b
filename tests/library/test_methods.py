"""The table of methods and the temperature policies."""

import copy
import math
import re
from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from gaplib import posthoc
from gaplib.methods import METHODS, POST_HOC, TERMS, method
from gaplib.pairs import PairedEmbeddings
from gaplib.temperature import POLICIES, Fixed, Learnable, policy


def random_pairs(n=12, d=5, seed=0, dtype=torch.float64, grad=False):
    generator = torch.Generator().manual_seed(seed)
    image, text = (
        functional.normalize(torch.randn(n, d, generator=generator, dtype=torch.float64), dim=1).to(dtype)
        for _ in range(2)
    )
    return PairedEmbeddings(image.requires_grad_(grad), text.requires_grad_(grad))


def full_pairs(n=12, d=5, seed=0, dtype=torch.float32, **changes):
    """Pairs with all that any method may ask for."""
    generator = torch.Generator().manual_seed(seed)
    names = [one for one in PairedEmbeddings.__dataclass_fields__ if one.startswith(("image", "text"))]
    given = {
        name: functional.normalize(torch.randn(n, d, generator=generator, dtype=torch.float64), dim=1).to(dtype)
        for name in names
    }
    similarity = torch.rand(n, n, generator=generator).fill_diagonal_(1.0)
    leaves = {name: value.requires_grad_() for name, value in given.items()}
    return PairedEmbeddings(**{**leaves, "caption_similarity": similarity.to(dtype), **changes})


def clip_by_hand(x, y, tau):
    logits = x @ y.T / tau
    target = torch.arange(len(x))
    return (functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)) / 2


def siglip_by_hand(x, y, scale, bias):
    n = len(x)
    total = 0.0
    for i in range(n):
        for j in range(n):
            sign = 1 if i == j else -1
            total += -math.log(1 / (1 + math.exp(-sign * (scale * float(x[i] @ y[j]) + bias))))
    return total / n


def uniformity_by_hand(x):
    return torch.pdist(x).square().mul(-2).exp().mean().log()


def cross_uniformity_by_hand(x, y):
    off = ~torch.eye(len(x), dtype=torch.bool)
    return torch.cdist(x, y)[off].square().mul(-2).exp().mean().log()


def test_clip_and_siglip_equal_their_formulas():
    pairs = random_pairs()
    x, y = pairs.image, pairs.text
    clip = METHODS["clip"].build().double()
    assert clip(pairs).item() == pytest.approx(float(clip_by_hand(x, y, 0.07)), rel=1e-6)
    assert METHODS["siglip"].build()(pairs).item() == pytest.approx(siglip_by_hand(x, y, 10.0, -10.0), rel=1e-6)


def test_cua_and_cuaxu_equal_their_formulas():
    """Fahim et al., Sec. 4, with weights one; written here with pdist and cdist."""
    pairs = random_pairs(n=20)
    x, y = pairs.image, pairs.text
    clip, align = clip_by_hand(x, y, 0.01), (x - y).square().sum(1).mean()
    cua = clip + (uniformity_by_hand(x) + uniformity_by_hand(y)) / 2 + align
    assert float(METHODS["cua"].build()(pairs)) == pytest.approx(float(cua), rel=1e-12)
    cuaxu = cua + cross_uniformity_by_hand(x, y)
    assert float(METHODS["cuaxu"].build()(pairs)) == pytest.approx(float(cuaxu), rel=1e-12)


def test_tau_and_weights_change_the_formula():
    pairs = random_pairs()
    x, y = pairs.image, pairs.text
    built = method("cua", tau=0.5, weights={"uniformity": 0, "alignment": 2.5}).build()
    expected = clip_by_hand(x, y, 0.5) + 2.5 * (x - y).square().sum(1).mean()
    assert float(built(pairs)) == pytest.approx(float(expected), rel=1e-12)
    assert set(built.parts(pairs)) == {"clip", "alignment"}
    assert method("clip").build(tau=0.5).double()(pairs).item() == pytest.approx(
        float(clip_by_hand(x, y, 0.5)), rel=1e-6
    )


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_method_builds_and_has_gradients(name):
    pairs = full_pairs()
    row = METHODS[name]
    built = row.build()
    assert built.logit_scale.item() == pytest.approx(1 / row.tau, rel=1e-6)
    loss = built(pairs, step=3, total_steps=10, generator=torch.Generator())
    assert loss.shape == ()
    assert loss.dtype == torch.float32
    loss.backward()
    used = [pairs.image, pairs.text]
    used += [pairs.image_view] if "views" in row.requires else []
    used += [pairs.image_private, pairs.text_private_view] if "private heads" in row.requires else []
    for tensor in (*used, *built.parameters()):
        assert tensor.grad is not None
        assert torch.isfinite(tensor.grad).all()
        assert tensor.grad.abs().sum() > 0
    assert row.source
    assert copy.deepcopy(built)(pairs, step=3, total_steps=10, generator=torch.Generator()).item() == loss.item()


NEEDS = {"views": ["image_view", "text_view"], "private heads": ["image_private", "text_private"],
         "caption similarity": ["caption_similarity"]}  # fmt: skip


@pytest.mark.parametrize("name", [name for name in METHODS if METHODS[name].requires & set(NEEDS)])
def test_a_method_says_what_its_pairs_lack(name):
    """Every part of ``requires`` is really used: without it the loss refuses, and names what is missing."""
    for need in METHODS[name].requires & set(NEEDS):
        lacking = {argument: None for argument in NEEDS[need]}
        with pytest.raises(ValueError, match="|".join(NEEDS[need])):
            METHODS[name].build()(full_pairs(**lacking))


@pytest.mark.parametrize("name", [name for name in METHODS if not METHODS[name].requires & set(NEEDS)])
def test_other_methods_need_two_embeddings_alone(name):
    assert torch.isfinite(METHODS[name].build()(random_pairs(dtype=torch.float32)))


def test_hard_swapping_that_never_swaps_is_clip():
    pairs, step = random_pairs(dtype=torch.float32), {"step": 5, "total_steps": 10}
    clip = method("clip").build()(pairs)
    assert method("hs", swapping={"p": 0}).build()(pairs, **step).item() == clip.item()
    for name in ("hs", "ss"):
        always = method(name, swapping={"p": 1}).build()
        assert always(pairs, **step).item() != clip.item()
        assert always(pairs, **step).item() == always(pairs, **step).item()  # without a generator, by the step alone
        assert always(pairs, step=6, total_steps=10).item() != always(pairs, **step).item()
        with pytest.raises(ValueError, match="p: expected"):
            method(name, swapping={"p": 1.5})
        with pytest.raises(ValueError, match="swapping: expected one of kind, p"):
            method(name, swapping={"share": 0.5})
    with pytest.raises(ValueError, match="swapping: expected None for 'clip'"):
        method("clip", swapping={"p": 0.5})


def test_combinations_have_the_terms_of_all_and_the_temperature_of_the_part_about_it():
    both = method("cua+ts-s3")
    assert both == replace(method("ts-s3+cua"), name="cua+ts-s3", source=both.source)
    assert (both.terms, both.temperature, both.tau) == ({"uniformity": 1, "alignment": 1}, "linear-x5", 0.01)
    assert method("hs+cua").tau == method("cua+hs").tau == 0.01
    assert method("hs+cua").swapping == METHODS["hs"].swapping
    assert method("cyclip+shared").towers == "shared"
    assert method("cua+flt", tau=0.3, weights={"alignment": 2}).tau == 0.3
    assert method("cua+mean-centring").requires == {"post-hoc fit"}
    assert method("cua+mean-centring").trained == "cua"
    assert method("shift").trained == "clip"
    pairs = random_pairs(n=20)
    x, y = pairs.image, pairs.text
    cua = (uniformity_by_hand(x) + uniformity_by_hand(y)) / 2 + (x - y).square().sum(1).mean()
    half_way = both.build()(pairs, step=5, total_steps=10)
    assert float(half_way) == pytest.approx(float(clip_by_hand(x, y, 0.03) + cua), rel=1e-12)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("ts-s0+flt", "temperature"),
        ("hs+ss", "swapping"),
        ("hs+hs", "swapping"),
        ("sep+siglip", "contrastive loss"),
        ("cua+cuaxu", "weigh 'uniformity'"),
        ("shift+mean-centring", "treatment"),
    ],
)
def test_combinations_that_contradict_each_other_are_refused(name, what):
    with pytest.raises(ValueError, match=rf"method: expected parts of '{re.escape(name)}' that agree.*{what}"):
        method(name)


def test_the_table_names_the_treatments_that_there_are():
    assert set(POST_HOC) == set(posthoc.TREATMENTS) == {name for name, row in METHODS.items() if row.post_hoc}


@pytest.mark.parametrize("name", sorted(METHODS))
def test_param_groups_cover_the_parameters_once(name):
    built = METHODS[name].build()
    groups = built.param_groups(lr=0.1)
    owned = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(owned) == sorted(id(parameter) for parameter in built.parameters())
    slow = 0.01 if name == "slrt" else 0.1
    assert all(group["weight_decay"] == 0 and group["lr"] == pytest.approx(slow) for group in groups)
    without = [{key: value for key, value in group.items() if key != "params"} for group in groups]
    assert METHODS[name].param_groups(lr=0.1) == without
    if groups:
        torch.optim.AdamW(groups).step()


def test_a_learnable_temperature_moves_a_fixed_one_does_not():
    pairs = random_pairs()
    for name, learn in (("clip", True), ("cua", False)):
        built = METHODS[name].build()
        before = built.logit_scale.item()
        if learn:
            optimizer = torch.optim.SGD(built.param_groups(lr=0.1))
            built(pairs).backward()
            optimizer.step()
        assert (built.logit_scale.item() != before) == learn
    assert METHODS["clip"].build(temperature="fixed").param_groups(1.0) == []
    assert len(METHODS["cua"].build(temperature="learnable").param_groups(1.0)) == 1


def test_unknown_methods_list_the_near_ones():
    with pytest.raises(ValueError, match=r"method: expected one of clip, .* got 'cuaxi'; did you mean cuaxu"):
        method("cuaxi")
    with pytest.raises(
        ValueError, match=r"temperature: expected one of fixed, learnable, .* got 'fixd'; did you mean fixed"
    ):
        method("clip", temperature="fixd")


@pytest.mark.parametrize("tau", [0, -0.1, math.nan, math.inf, "warm", True])
def test_bad_temperatures_are_refused(tau):
    for name in ("clip", "cua"):
        with pytest.raises(ValueError, match="tau: expected"):
            method(name, tau=tau)


@pytest.mark.parametrize("weight", [-1, math.nan, math.inf, "much", None])
def test_bad_weights_are_refused(weight):
    with pytest.raises(ValueError, match="weight of alignment: expected"):
        method("cua", weights={"alignment": weight})


def test_weights_of_other_terms_are_refused():
    with pytest.raises(ValueError, match=r"weights: expected terms of 'cua' \(uniformity, alignment\), got 'aligment'"):
        method("cua", weights={"aligment": 1})
    with pytest.raises(ValueError, match=r"weights: expected terms of 'clip' \(no terms to weigh\)"):
        method("clip", weights={"alignment": 1})
    with pytest.raises(ValueError, match="weights: expected a mapping"):
        method("cua", weights=[1, 2])


def test_a_configured_method_leaves_the_table_alone():
    before = {name: (row.tau, dict(row.terms)) for name, row in METHODS.items()}
    method("cua", tau=0.3, weights={"alignment": 9.0}).build()
    assert {name: (row.tau, dict(row.terms)) for name, row in METHODS.items()} == before
    assert set(TERMS) >= {term for row in METHODS.values() for term in row.terms}


def test_fixed_temperature_has_no_parameters():
    fixed = Fixed(0.05)
    assert list(fixed.parameters()) == []
    assert [float(fixed.scale(step, 10)) for step in (0, 5, 10)] == pytest.approx([20.0] * 3, rel=1e-15)


def test_learnable_temperature_is_held_under_its_ceiling_with_a_gradient_at_the_wall():
    one = Learnable(0.011, max_scale=100)
    optimizer = torch.optim.SGD(one.parameters(), lr=1.0)
    (-one.scale()).backward()  # asks for a larger scale
    optimizer.step()
    assert one.scale().item() > 100
    one.after_step()
    assert one.scale().item() == pytest.approx(100, rel=1e-6)
    optimizer.zero_grad()
    one.scale().backward()  # at the wall, and asked to come back
    assert float(one.log_scale.grad) > 0
    optimizer.step()
    one.after_step()
    assert one.scale().item() < 100


def test_learnable_temperature_may_exceed_one():
    one = Learnable(1.0)
    with torch.no_grad():
        one.log_scale.fill_(-2.0)
    one.after_step()
    assert one.scale().item() == pytest.approx(math.exp(-2), rel=1e-6)


def test_learnable_temperature_cannot_start_beyond_its_ceiling():
    assert Learnable(0.01).scale().item() == pytest.approx(100, rel=1e-6)
    with pytest.raises(ValueError, match=r"tau: expected at least 0\.01"):
        Learnable(0.005)
    with pytest.raises(ValueError, match="max_scale"):
        Learnable(0.07, max_scale=0)


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_steps_outside_the_run_are_refused(name):
    one = policy(name, 0.07)
    for step, total in ((-1, 10), (11, 10), (0, 0), (0.5, 10)):
        with pytest.raises(ValueError, match="step"):
            one.scale(step, total)


def test_alignment_rows_equal_their_formulas_at_any_strength():
    pairs = random_pairs(n=20)
    x, y = pairs.image, pairs.text
    clip, cosine = clip_by_hand(x, y, 0.07), (x * y).sum(1)
    terms = {"clip-align": ("alignment", (2 - 2 * cosine).mean()),
             "clip-inverse-align": ("inverse_square_alignment", (1 / cosine**2).mean())}  # fmt: skip
    for name, (term, value) in terms.items():
        for weight in (0, 0.5, 1):
            built = method(name, weights={term: weight}).build().double()
            assert built(pairs).item() == pytest.approx(float(clip + weight * value), rel=1e-6)
        assert method(name).build().double()(pairs).item() == pytest.approx(float(clip + value), rel=1e-6)
