"""The cone effect: closed forms against simulation, simulation against explicit layers, towers against themselves."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate

from gaplib.book.chapters import ch02_layers, ch02_theory, ch02_towers
from gaplib.data import glyphs as glyph_data
from gaplib.geometry import mean_cosine
from gaplib.towers import open_clip_towers


def explicit_cosines(cosine, ratio, norm, width, repeats, activation=torch.relu, dim=5):
    """Cosines after ``repeats`` explicit random layers, in float64: the definition, one matrix at a time."""
    u, v = torch.zeros(2, dim, dtype=torch.float64)
    v[0], u[0], u[1] = norm, ratio * norm * cosine, ratio * norm * (1 - cosine**2) ** 0.5
    generator = torch.Generator().manual_seed(0)
    out = []
    for _ in range(repeats):
        w = torch.randn(width, dim, generator=generator, dtype=torch.float64) / width**0.5
        b = torch.randn(width, generator=generator, dtype=torch.float64) / width**0.5
        x, y = activation(w @ u + b), activation(w @ v + b)
        out.append(float(x @ y / (x.norm() * y.norm())))
    return np.array(out)


# --- closed forms ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("c", [-0.9, -0.3, 0.0, 0.5, 0.99])
def test_relu_kernel_is_the_gaussian_integral(c):
    # E [a]+ [c]+ / E [a]+² in polar coordinates: the radius integrates out
    angle = np.arccos(c)
    top, _ = integrate.quad(lambda t: np.cos(t) * np.cos(t - angle), angle - np.pi / 2, np.pi / 2)
    bottom, _ = integrate.quad(lambda t: np.cos(t) ** 2, -np.pi / 2, np.pi / 2)
    np.testing.assert_allclose(ch02_theory.relu_kernel(c), top / bottom, rtol=1e-10)


@given(st.floats(-1, 1))
def test_relu_without_bias_never_lowers_the_cosine(c):
    k = float(ch02_theory.relu_kernel(c))
    assert c - 1e-12 <= k <= 1 + 1e-12


@settings(deadline=None)
@given(st.floats(0.05, 20), st.floats(0.01, 100), st.floats(0, 1))
def test_the_condition_is_what_keeps_the_bias_from_lowering_the_cosine(ratio, norm, share):
    inside = float(share * ch02_theory.condition_edge(ratio))
    assert ch02_theory.with_bias(inside, ratio, norm) >= inside - 1e-9
    assert ch02_theory.cosine_after_layer(inside, ratio, norm) >= inside - 1e-9


@pytest.mark.parametrize("ratio", [0.3, 2.0, 5.0])
def test_beyond_the_condition_some_norm_makes_the_bias_lower_the_cosine(ratio):
    beyond = float(ch02_theory.condition_edge(ratio)) + 0.01
    assert (ch02_theory.with_bias(beyond, ratio, np.logspace(-3, 3, 200)) < beyond).any()


def test_with_bias_is_the_cosine_with_one_more_coordinate():
    u, v = np.array([3.0, 1.0, -2.0]), np.array([0.5, 2.0, 1.0])
    cosine, norms = u @ v / np.linalg.norm(u) / np.linalg.norm(v), (np.linalg.norm(u), np.linalg.norm(v))
    u1, v1 = np.append(u, 1), np.append(v, 1)
    expected = u1 @ v1 / np.linalg.norm(u1) / np.linalg.norm(v1)
    np.testing.assert_allclose(ch02_theory.with_bias(cosine, norms[0] / norms[1], norms[1]), expected)


@pytest.mark.parametrize(("cosine", "ratio", "norm"), [(0.0, 1.0, 1.0), (0.6, 3.0, 0.5), (-0.5, 0.4, 4.0)])
def test_limit_and_spread_match_explicit_layers(cosine, ratio, norm):
    width, repeats = 400, 600
    seen = explicit_cosines(cosine, ratio, norm, width, repeats)
    spread = float(ch02_theory.relu_spread(ch02_theory.with_bias(cosine, ratio, norm))) / width**0.5
    error = seen.mean() - ch02_theory.cosine_after_layer(cosine, ratio, norm)
    assert abs(error) < 4 * spread / repeats**0.5 + 2 / width  # chance, and the bias of order 1/width
    np.testing.assert_allclose(seen.std(), spread, rtol=0.12)


@pytest.mark.parametrize("bias", [True, False])
def test_depth_recursion_matches_wide_random_networks(bias):
    paths = [ch02_layers.cosines_by_depth(seed, depth=8, n=200, bias=bias) for seed in range(4)]
    for name in ch02_theory.ACTIVATIONS:
        seen = np.mean([path[name] for path in paths], axis=0)
        np.testing.assert_allclose(seen, ch02_theory.cosine_by_depth(name, 8, bias=bias), atol=0.03, err_msg=name)


def test_linear_stack_has_its_exact_cosine():
    # q grows by 1/width a layer, and so does the product: l / (width + l)
    steps = np.arange(26)
    np.testing.assert_allclose(ch02_theory.cosine_by_depth("linear", 25, 512), steps / (512 + steps), atol=1e-12)


def test_odd_activations_make_no_cone_without_a_bias():
    for name in ("linear", "tanh"):
        np.testing.assert_allclose(ch02_theory.cosine_by_depth(name, 25, bias=False), 0, atol=1e-12)


def test_leaky_relu_lies_between_linear_and_relu_and_matches_quadrature():
    c, generator = 0.3, np.random.default_rng(0)
    a, rest = generator.standard_normal((2, 2_000_000))
    b = c * a + np.sqrt(1 - c**2) * rest

    def leaky(x):
        return np.where(x > 0, x, ch02_theory.LEAK * x)

    square, product = ch02_theory._moments("leaky_relu", 1.0, c)
    np.testing.assert_allclose([square, product], [np.mean(leaky(a) ** 2), np.mean(leaky(a) * leaky(b))], atol=3e-3)


# --- Theorem 1 -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [4, 32])
def test_layer_raises_has_the_law_of_explicit_layers(width):
    n = 3000
    explicit = np.mean(explicit_cosines(0.7, 3.0, 1.0, width, n) > 0.7)  # all-zero outputs are NaN: not raised
    fast = ch02_layers.layer_raises(np.full(n, 0.7), 3.0, 1.0, width, seed=1).mean()
    assert abs(explicit - fast) < 4 * (0.5 / n) ** 0.5


def test_pairs_meet_the_condition_and_reach_its_edge():
    cosine, ratio, norm = ch02_layers.admissible_pairs(5000, 3)
    edge = ch02_theory.condition_edge(ratio)
    assert (cosine < edge).all()
    assert (cosine > -1).all()
    assert (edge - cosine).min() < 0.01
    assert norm.min() > 0.24
    assert norm.max() < 4.01
    assert ratio.min() < 0.3


def test_small_angles_have_the_scatter_gain_and_rate():
    theta, width = 1e-2, 100_000
    close = np.cos(theta)
    np.testing.assert_allclose(ch02_theory.relu_spread(close), 2**0.5 * theta**2, rtol=0.02)
    np.testing.assert_allclose(ch02_theory.relu_kernel(close) - close, theta**3 / (3 * np.pi), rtol=0.02)
    grid = 1 - np.linspace(0, 2, 200_001)[1:-1]  # evenly drawn cosines of long vectors of equal length
    close = grid[grid > 0.9]  # further apart nothing fails at this width
    failures = (1 - ch02_theory.predicted_frequency(close[:: len(close) // 2000], 1.0, 1e4, width)).mean() * 0.05
    np.testing.assert_allclose(failures, 9 * np.pi**2 / 4 / width, rtol=0.1)


def test_parallel_vectors_of_one_length_are_never_raised_and_opposite_ones_always():
    assert not ch02_layers.layer_raises(np.ones(50), 1.0, 1.0, 64, 0).any()
    assert ch02_layers.layer_raises(np.full(50, -1.0), 1.0, 1.0, 256, 0).all()


def test_prediction_follows_the_simulation():
    for c in (0.6, 0.75, 0.85):
        seen = ch02_layers.layer_raises(np.full(20_000, c), 3.0, 1.0, 128, 5).mean()
        assert abs(seen - ch02_theory.predicted_frequency(c, 3.0, 1.0, 128)) < 0.05


def test_decay_exponent_recovers_a_power_law_and_wants_failures():
    widths = np.array([8, 64, 512])
    assert ch02_layers.decay_exponent(widths, 0.5 * widths**-1.3) == pytest.approx(1.3)
    with pytest.raises(ValueError, match="failures"):
        ch02_layers.decay_exponent(widths, [0.1, 0.01, 0.0])


# --- Theorem 2 -------------------------------------------------------------------------------------------------------


def test_share_is_unbiased_where_the_truth_is_known():
    generator = torch.Generator().manual_seed(0)
    for between in (0.0, 0.3, 0.9):
        centre = torch.randn(12, 1, 400, generator=generator) * between**0.5
        noise = torch.randn(12, 6, 400, generator=generator) * (1 - between) ** 0.5
        assert ch02_layers.initialisation_share(centre + noise) == pytest.approx(between, abs=0.03)


def test_share_is_one_when_inputs_do_not_matter():
    assert ch02_layers.initialisation_share(torch.randn(5, 1, 7).expand(5, 4, 7)) == pytest.approx(1.0)


def test_share_equals_the_algebra_layer_by_layer():
    out = ch02_layers.mlp_initialisations("relu", 2, inits=8, width=256, depth=8, n=32)
    np.testing.assert_allclose(out["share"], out["exact"], atol=0.05)
    assert (out["share"] >= out["cosine"] - 0.05).all()
    assert np.abs(out["centre"]).max() < 0.15


def test_weighted_cosine_is_the_mean_cosine_where_norms_agree():
    x = torch.randn(30, 8, dtype=torch.float64)
    unit = torch.nn.functional.normalize(x, dim=1)
    assert ch02_layers.weighted_cosine(3 * unit) == pytest.approx(float(mean_cosine(x)))
    gram = (x @ x.T).numpy()
    off = gram[~np.eye(30, dtype=bool)].mean() / np.diag(gram).mean()
    assert ch02_layers.weighted_cosine(x) == pytest.approx(off)


# --- real architectures ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def glyphs():
    return glyph_data.load()


@pytest.fixture(scope="module")
def towers():
    return open_clip_towers(ch02_towers.OPEN_CLIP_NAME, seed=1)


def test_cutting_the_text_behind_its_end_changes_nothing(glyphs, towers):
    ids = ch02_towers.tokens(glyphs, towers, "data", 3, 0)
    states = ch02_towers.text_states(ids, towers)
    with torch.no_grad():
        torch.testing.assert_close(states["embedding"], towers.encode_text(ids), atol=1e-4, rtol=1e-4)
    assert list(states) == [f"block {i}" for i in range(11)] + ["embedding"]
    assert towers.model.positional_embedding.shape[0] == ids.shape[1]


def test_noise_tokens_keep_length_and_ends(glyphs, towers):
    ids, noise = (ch02_towers.tokens(glyphs, towers, kind, 4, 0) for kind in ch02_towers.KINDS)
    assert ((ids == 0) == (noise == 0)).all()
    assert (ids.argmax(1) == noise.argmax(1)).all()
    assert (ids[:, 0] == noise[:, 0]).all()
    assert (ids != noise).any(1).all()


def test_the_class_token_starts_the_same_for_every_image(glyphs, towers):
    states = ch02_towers.vit_states(ch02_towers.images(glyphs, "noise", 2, towers.image_size, 0), towers)
    torch.testing.assert_close(states["block 0"][0], states["block 0"][1])
    with torch.no_grad():
        last = towers.model.visual.ln_post(states["block 12"]) @ towers.model.visual.proj
    torch.testing.assert_close(states["embedding"], last)


def test_resnet_states_follow_the_batch_norm_mode_and_leave_the_global_generator_alone(glyphs):
    x = ch02_towers.images(glyphs, "noise", 6, 64, 0)
    before = torch.random.get_rng_state()
    by_mode = {mode: ch02_towers.resnet_states(x, 3, mode) for mode in ("eval", "train")}
    assert torch.equal(before, torch.random.get_rng_state())
    torch.testing.assert_close(by_mode["eval"]["input"], by_mode["train"]["input"])
    assert mean_cosine(by_mode["eval"]["pooled"]) > mean_cosine(by_mode["train"]["pooled"]) + 0.02
    assert (by_mode["eval"]["pooled"] >= 0).all()
    one = ch02_towers.resnet_states(x[:1].expand(2, -1, -1, -1), 3, "eval")
    torch.testing.assert_close(one["embedding"][0], by_mode["eval"]["embedding"][0], atol=1e-3, rtol=1e-3)


def test_images_are_standardised_and_noise_has_no_direction(glyphs):
    x = ch02_towers.images(glyphs, "data", 40, 24, 0)
    assert x.shape == (40, 3, 24, 24)
    assert abs(float(x.mean())) < 0.2
    assert 0.8 < float(x.std()) < 1.2
    assert abs(float(mean_cosine(ch02_towers.images(glyphs, "noise", 40, 24, 0).flatten(1)))) < 0.02


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (lambda: ch02_theory.relu_kernel(1.5), "cosine"),
        (lambda: ch02_theory.relu_kernel(np.nan), "cosine"),
        (lambda: ch02_theory.with_bias(0.5, -1.0, 1.0), "ratio"),
        (lambda: ch02_theory.with_bias(0.5, 1.0, 0.0), "norm"),
        (lambda: ch02_theory.predicted_frequency(0.5, 1.0, 1.0, 0), "width"),
        (lambda: ch02_theory.cosine_by_depth("relo", 3), "relu"),
        (lambda: ch02_layers.cosines_by_depth(0, n=1), "n"),
        (lambda: ch02_layers.gaussian_inputs(4, 0, 0), "dim"),
        (lambda: ch02_layers.admissible_pairs(0, 0), "n"),
        (lambda: ch02_layers.admissible_pairs(5, 0, largest=0.5), "largest"),
        (lambda: ch02_layers.admissible_pairs(5, 0, norms=(0.0, 1.0)), "norms"),
        (lambda: ch02_layers.layer_raises(0.5, 1.0, 1.0, 0, 0), "width"),
        (lambda: ch02_layers.initialisation_share(torch.zeros(3, 4)), "states"),
        (lambda: ch02_layers.initialisation_share(torch.ones(3, 4, 5)), "states"),
        (lambda: ch02_layers.initialisation_share(torch.full((3, 4, 5), torch.nan)), "states"),
        (lambda: ch02_layers.weighted_cosine(torch.zeros(3, 4)), "x"),
        (lambda: ch02_layers.mlp_initialisations("relu", 0, inits=1), "inits"),
        (lambda: ch02_layers.mlp_initialisations("gelu", 0), "activation"),
        (lambda: ch02_towers.survey(None, 0, inits=0), "inits"),
        (lambda: ch02_towers.images(None, "photos", 2, 8, 0), "kind"),
    ],
)
def test_bad_input_is_named(call, names):
    with pytest.raises(ValueError, match=names):
        call()
