"""The losses that need views, private features or caption similarities: against loops over the formulas, and limits."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck
from torch.nn import functional

from gaplib import losses
from gaplib.pairs import PairedEmbeddings

DOUBLE = torch.float64
NAMES = ("image", "text", "image_view", "text_view")
PRIVATE = ("image_private", "text_private", "image_private_view", "text_private_view")


def unit(n, d, seed=0, dtype=DOUBLE):
    generator = torch.Generator().manual_seed(seed)
    return functional.normalize(torch.randn(n, d, generator=generator, dtype=DOUBLE)).to(dtype)


def everything(n, d, dtype=DOUBLE):
    """All eight matrices, and a similarity that is neither symmetric nor one on its diagonal."""
    matrices = {name: unit(n, d, seed, dtype) for seed, name in enumerate(NAMES + PRIVATE)}
    similarity = torch.rand(n, n, generator=torch.Generator().manual_seed(50), dtype=DOUBLE)
    return matrices, similarity


# --- loops over the formulas, pair by pair; e holds the matrices by name, s the similarity ---


def loop_cyclic(e, s):
    x, y = e["image"], e["text"]
    n, total = len(x), 0.0
    for j in range(n):
        for k in range(n):
            total = total + (x[j] @ x[k] - y[j] @ y[k]) ** 2 + (x[j] @ y[k] - x[k] @ y[j]) ** 2
    return total / n


def loop_geometric(e, s):
    n, total = len(e["image"]), 0.0
    for j in range(n):
        for k in range(n):
            for a in ("image", "text"):
                z, view = e[a], e[f"{a}_view"]
                total = total + (z[j] @ z[k] - view[j] @ view[k]) ** 2
        total = total + (e["image"][j] @ e["text"][j] - e["image_view"][j] @ e["text_view"][j]) ** 2
    return loop_cyclic(e, s) + total / n


def loop_bridge(e, s, t=0.25):
    n, total = len(e["image"]), 0.0
    for j in range(n):
        mean = t * e["image"][j] + (1 - t) * e["text"][j]
        total = total + ((e["image_view"][j] - mean / (mean**2).sum().sqrt()) ** 2).sum()
    return total / n


def loop_centroid(e, s, t=2.0):
    middle = [(x + y) / 2 for x, y in zip(e["image"], e["text"], strict=True)]
    middle = [m / (m**2).sum().sqrt() for m in middle]
    n = len(middle)
    values = [torch.exp(-t * ((middle[i] - middle[j]) ** 2).sum()) for i in range(n) for j in range(i + 1, n)]
    return torch.log(sum(values) / len(values))


def loop_in_modal(e, s, scale=9.0, denominator="view", names=("image", "text")):
    n, total = len(e["image"]), 0.0
    for name in names:
        z, view = e[name], e[f"{name}_view"]
        others = view if denominator == "view" else z
        for j in range(n):
            own = torch.exp(scale * (z[j] @ view[j]))
            total = total - torch.log(own / sum(torch.exp(scale * (z[j] @ others[k])) for k in range(n))) / n
    return total / 2


def loop_feature_separation(e, s, scale=9.0, t=2.0, denominator="view"):
    n = len(e["image"])
    pairs = [(e["image"], e["image_private"]), (e["text"], e["text_private"])]
    ortho = sum((shared[j] @ own[j]) ** 2 for shared, own in pairs for j in range(n)) / n
    contrast = 2 * loop_in_modal(e, s, scale, denominator, ("image_private", "text_private"))
    potential = [torch.exp(-t * ((own[j] - own[k]) ** 2).sum()) for _, own in pairs for j in range(n) for k in range(n)]
    return ortho + contrast + torch.log(sum(potential) / n)


def loop_intra_modality(e, s, scale=9.0):
    n, total = len(e["image"]), 0.0
    for z in (e["image"], e["text"]):
        for i in range(n):
            logits = [scale * (z[i] @ z[j]) * (1 - s[i, j]) for j in range(n)]
            logits[i] = logits[i] + scale * (e["image"][i] @ e["text"][i])
            total = total - torch.log(torch.exp(logits[i]) / sum(torch.exp(one) for one in logits)) / n
    return total / 2


ORIGINAL = {"denominator": "original"}
CASES = {
    "cyclic": (losses.cyclic_loss, loop_cyclic, {}),
    "geometric": (losses.geometric_consistency_loss, loop_geometric, {}),
    "bridge": (losses.brownian_bridge_loss, loop_bridge, {}),
    "bridge_t": (losses.brownian_bridge_loss, loop_bridge, {"t": 0.8}),
    "centroid": (losses.centroid_uniformity_loss, loop_centroid, {}),
    "centroid_t": (losses.centroid_uniformity_loss, loop_centroid, {"t": 0.7}),
    "in_modal": (losses.in_modal_loss, loop_in_modal, {"scale": 9.0}),
    "in_modal_printed": (losses.in_modal_loss, loop_in_modal, {"scale": 9.0} | ORIGINAL),
    "features": (losses.deep_feature_separation_loss, loop_feature_separation, {"scale": 9.0}),
    "features_t": (losses.deep_feature_separation_loss, loop_feature_separation, {"scale": 5.0, "t": 1.3} | ORIGINAL),
    "intra_modality": (losses.intra_modality_separation_loss, loop_intra_modality, {"scale": 9.0}),
}
cases = pytest.mark.parametrize(("loss", "loop", "options"), CASES.values(), ids=CASES)


def renamed(options):
    return {"logit_scale" if key == "scale" else key: value for key, value in options.items()}


@cases
@pytest.mark.parametrize(("n", "d"), [(2, 3), (6, 4), (5, 9)])
def test_value_and_gradients_are_those_of_the_loop(loss, loop, options, n, d):
    e, s = everything(n, d)
    e = {name: matrix.requires_grad_() for name, matrix in e.items()}
    value = loss(PairedEmbeddings(**e, caption_similarity=s), **renamed(options))
    expected = loop(e, s, **options)
    assert value.shape == ()
    torch.testing.assert_close(value, expected, rtol=1e-11, atol=1e-12)
    grads = [
        torch.autograd.grad(z, tuple(e.values()), materialize_grads=True, allow_unused=True) for z in (value, expected)
    ]
    torch.testing.assert_close(*grads, rtol=1e-9, atol=1e-11)


@cases
def test_gradcheck(loss, loop, options):
    e, s = everything(3, 4)
    scale = torch.tensor(options.get("scale", 1.0), dtype=DOUBLE, requires_grad=True)

    def f(scale, *matrices):
        given = dict(zip(e, matrices, strict=True))
        learned = {"logit_scale": scale} if "scale" in options else {}
        pairs = PairedEmbeddings(**given, caption_similarity=s, check=False)
        return loss(pairs, **renamed(options) | learned) + 0 * scale

    assert gradcheck(f, (scale, *(z.requires_grad_() for z in e.values())))


@cases
@settings(max_examples=10, deadline=None)
@given(n=st.integers(2, 9), d=st.integers(2, 6), seed=st.integers(0, 10**6))
def test_neither_rotation_nor_order_matters(loss, loop, options, n, d, seed):
    e, s = everything(n, d)
    generator = torch.Generator().manual_seed(seed)
    rotation = torch.linalg.qr(torch.randn(d, d, dtype=DOUBLE, generator=generator)).Q
    order = torch.randperm(n, generator=generator)
    value = float(loss(PairedEmbeddings(**e, caption_similarity=s), **renamed(options)))
    turned = PairedEmbeddings(**{k: z @ rotation for k, z in e.items()}, caption_similarity=s)
    mixed = PairedEmbeddings(**{k: z[order] for k, z in e.items()}, caption_similarity=s[order][:, order])
    swapped = {k: e[k.replace("text", "#").replace("image", "text").replace("#", "image")] for k in e}
    exchanged = PairedEmbeddings(**swapped, caption_similarity=s)
    for other in (turned, mixed) if loss is losses.brownian_bridge_loss else (turned, mixed, exchanged):
        assert float(loss(other, **renamed(options))) == pytest.approx(value, rel=1e-9, abs=1e-10)


# --- what is near alignment keeps its digits ---

NEAR = {
    "cyclic": (losses.cyclic_loss, loop_cyclic),
    "geometric": (losses.geometric_consistency_loss, loop_geometric),
    "bridge": (losses.brownian_bridge_loss, loop_bridge),
    "alignment": (losses.alignment_loss, lambda e, s: ((e["image"] - e["text"]) ** 2).sum() / len(e["image"])),
}


def nearly_aligned(n, d, distance, dtype):
    base = unit(n, d)
    return {
        name: functional.normalize(base + distance * unit(n, d, seed + 1)).to(dtype) for seed, name in enumerate(NAMES)
    }


@pytest.mark.parametrize(("n", "d"), [(40, 6), (12, 32)])
@pytest.mark.parametrize("distance", [1e-2, 1e-4, 1e-6])
@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
@pytest.mark.parametrize(("loss", "loop"), NEAR.values(), ids=NEAR)
def test_nearly_aligned_towers(loss, loop, dtype, distance, n, d):
    e = nearly_aligned(n, d, distance, dtype)
    # The reference takes the very same rounded embeddings, in float64: exact to some 1e-16 / distance.
    expected = float(loop({name: z.double() for name, z in e.items()}, None))
    assert float(loss(PairedEmbeddings(**e))) == pytest.approx(expected, rel=1e-6, abs=0)
    if dtype == torch.float32 and distance == 1e-6 and loss is losses.cyclic_loss:
        x, y = e["image"], e["text"]
        naive = ((x @ x.T - y @ y.T).square().sum() + (x @ y.T - y @ x.T).square().sum()) / n
        assert float(naive) != pytest.approx(expected, rel=1e-4, abs=0)


# --- limits ---


def test_perfect_alignment_is_the_zero_of_the_structure_losses():
    x, y = unit(9, 5), unit(9, 5, 1)
    same = PairedEmbeddings(x, x, image_view=x, text_view=x)
    assert float(losses.cyclic_loss(same)) == 0
    assert float(losses.geometric_consistency_loss(same)) == pytest.approx(0, abs=1e-14)
    assert float(losses.brownian_bridge_loss(same)) == pytest.approx(0, abs=1e-30)
    # A view at the normalised mean of other pairs is the bridge's zero too.
    middle = functional.normalize(0.25 * x + 0.75 * y)
    assert float(losses.brownian_bridge_loss(PairedEmbeddings(x, y, image_view=middle))) == pytest.approx(0, abs=1e-30)
    assert float(losses.brownian_bridge_loss(PairedEmbeddings(x, x, image_view=-x))) == pytest.approx(4)


def test_a_gap_orthogonal_to_everything_costs_the_cyclic_terms_nothing():
    """x and y differ by a constant vector and share the rest: every inner product inside a modality is the same."""
    shared = unit(8, 4)
    ones = torch.ones(8, 1, dtype=DOUBLE)
    x, y = (functional.normalize(torch.cat([shared, sign * ones], dim=1)) for sign in (1, -1))
    gap = (x.mean(0) - y.mean(0)).norm()
    assert float(gap) == pytest.approx(math.sqrt(2))
    assert float(losses.cyclic_loss(PairedEmbeddings(x, y))) == pytest.approx(0, abs=1e-14)


def test_consistency_does_not_see_a_rotation_of_all_views():
    x, y = unit(9, 4), unit(9, 4, 1)
    rotation = torch.linalg.qr(unit(4, 4, 7)).Q
    turned = PairedEmbeddings(x, y, image_view=x @ rotation, text_view=y @ rotation)
    assert float(losses.geometric_consistency_loss(turned)) == pytest.approx(
        float(losses.cyclic_loss(turned)), rel=1e-12
    )


def test_aligned_uniform_points_are_stationary_and_best():
    simplex = functional.normalize(torch.eye(5, dtype=DOUBLE) - 1 / 5)
    similarity = torch.eye(5, dtype=DOUBLE)
    objectives = {
        "clip": lambda pairs: losses.clip_loss(pairs, 5.0),
        "alignment": losses.alignment_loss,
        "uniformity": losses.uniformity_loss,
        "centroid": losses.centroid_uniformity_loss,
        "cyclic": losses.cyclic_loss,
        "atp-cu": lambda pairs: losses.alignment_loss(pairs) + losses.centroid_uniformity_loss(pairs),
        "intra-modality": lambda pairs: losses.intra_modality_separation_loss(pairs, 5.0),
    }
    for name, objective in objectives.items():
        x, y = (simplex.clone().requires_grad_() for _ in range(2))
        best = objective(PairedEmbeddings(x, y, caption_similarity=similarity))
        for z, grad in zip((x, y), torch.autograd.grad(best, (x, y)), strict=True):
            along = grad - (grad * z).sum(1, keepdim=True) * z
            assert float(along.detach().abs().max()) < 1e-12, name
        for seed in range(10):
            other = PairedEmbeddings(unit(5, 5, seed), unit(5, 5, seed + 40), caption_similarity=similarity)
            assert float(objective(other)) > best.item(), name


def test_limits_of_the_contrasts_inside_a_modality():
    x = unit(6, 5)
    same = torch.ones(6, 4, dtype=DOUBLE) / 2
    views = PairedEmbeddings(same, same, image_view=same, text_view=same, caption_similarity=torch.zeros(6, 6))
    assert float(losses.in_modal_loss(views, 50)) == pytest.approx(math.log(6))
    # All captions alike: nothing is to be separated, the logits off the diagonal are zero.
    alike = PairedEmbeddings(x, x, caption_similarity=torch.ones(6, 6))
    assert float(losses.intra_modality_separation_loss(alike, 3.0)) == pytest.approx(math.log1p(5 * math.exp(-3)))
    assert float(losses.in_modal_loss(PairedEmbeddings(x, x, image_view=x, text_view=x), 1e4)) == pytest.approx(0)
    with pytest.raises(ValueError, match=r"^denominator: expected one of view, original, got 'views'"):
        losses.in_modal_loss(views, 50, denominator="views")


def test_orthogonal_private_features_cost_no_more_than_their_spread():
    eye = torch.eye(4, dtype=DOUBLE)
    private = dict.fromkeys(PRIVATE, eye[2:])
    got = losses.deep_feature_separation_loss(PairedEmbeddings(eye[:2], eye[:2], **private), 1e4)
    # Each modality: two points at squared distance 2, each beside itself.
    assert float(got) == pytest.approx(math.log(2 + 2 * math.exp(-4)))
    overlapping = losses.deep_feature_separation_loss(PairedEmbeddings(eye[2:], eye[2:], **private), 1e4)
    assert float(overlapping - got) == pytest.approx(2)


def test_one_pair_alone():
    e, s = everything(1, 3)
    pairs = PairedEmbeddings(**e, caption_similarity=s)
    for chunk in (None, 1):
        assert float(losses.in_modal_loss(pairs, 10, chunk_size=chunk)) == 0
        assert float(losses.intra_modality_separation_loss(pairs, 10, chunk_size=chunk)) == 0
        x = e["image_private"].clone().requires_grad_()
        alone = PairedEmbeddings(**e | {"image_private": x})
        value = losses.deep_feature_separation_loss(alone, chunk_size=chunk)
        assert value.item() == pytest.approx(float(loop_feature_separation(e, s)))
        assert torch.isfinite(torch.autograd.grad(value, x)[0]).all()


# --- number types ---


def naive(name, e, s):
    """The textbook lines in the type of the arguments, for the losses with one."""
    x, y, n = e["image"], e["text"], len(e["image"])
    if name == "cyclic":
        return ((x @ x.T - y @ y.T).square().sum() + (x @ y.T - y @ x.T).square().sum()) / n
    if name == "bridge":
        mean = 0.25 * x + 0.75 * y
        return (e["image_view"] - mean / mean.norm(dim=1, keepdim=True)).square().sum(1).mean()
    if name == "centroid":
        middle = functional.normalize((x + y) / 2)
        return (-2 * (2 - 2 * middle @ middle.T)[~torch.eye(n, dtype=torch.bool)]).exp().mean().log()
    labels = torch.arange(n)
    if name == "in_modal":
        return (
            sum(functional.cross_entropy(9 * z @ e[f"{a}_view"].T, labels) for a, z in (("image", x), ("text", y))) / 2
        )
    if name == "intra_modality":
        partner = torch.diag((x * y).sum(1))
        return sum(functional.cross_entropy(9 * (z @ z.T * (1 - s) + partner), labels) for z in (x, y)) / 2
    views = (e["image_view"], e["text_view"])
    inner = sum((z @ z.T - v @ v.T).square().sum() for z, v in zip((x, y), views, strict=True)) / n
    partners = ((x * y).sum(1) - (views[0] * views[1]).sum(1)).square().mean()
    return naive("cyclic", e, s) + inner + partners


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["cyclic", "geometric", "bridge", "centroid", "in_modal", "intra_modality"])
def test_half_types_err_no_more_than_the_naive_form(name, dtype):
    loss, _, options = CASES[name]
    e, s = everything(48, 96)
    e["text"] = functional.normalize(e["image"] + 0.5 * e["text"])
    low = {key: z.to(dtype) for key, z in e.items()}
    truth = float(loss(PairedEmbeddings(**e, caption_similarity=s), **renamed(options)))
    low["image"].requires_grad_()
    value = loss(PairedEmbeddings(**low, caption_similarity=s), **renamed(options))
    assert value.dtype == dtype
    rounding = torch.finfo(dtype).eps * abs(truth)
    error = abs(float(naive(name, {k: z.detach() for k, z in low.items()}, s.to(dtype))) - truth)
    assert abs(value.item() - truth) <= error + rounding
    value.backward()
    assert torch.isfinite(low["image"].grad).all()


# --- bad input ---

NEEDS = {
    losses.geometric_consistency_loss: (NAMES[2:], {}),
    losses.brownian_bridge_loss: (NAMES[2:3], {}),
    losses.in_modal_loss: (NAMES[2:], {"logit_scale": 9.0}),
    losses.deep_feature_separation_loss: (PRIVATE, {}),
    losses.intra_modality_separation_loss: (("caption_similarity",), {"logit_scale": 9.0}),
}


@pytest.mark.parametrize("loss", NEEDS, ids=lambda loss: loss.__name__)
def test_what_is_missing_is_named_with_the_loss_that_needs_it(loss):
    names, options = NEEDS[loss]
    e, s = everything(4, 3)
    full = e | {"caption_similarity": s}
    for name in names:
        with pytest.raises(ValueError, match=rf"^{name}: expected a matrix, which {loss.__name__} needs, got None"):
            loss(PairedEmbeddings(**full | {name: None}), **options)
    only = {"image", "text", *names}
    assert torch.isfinite(loss(PairedEmbeddings(**{k: v for k, v in full.items() if k in only}), **options))


def test_bad_numbers_are_named():
    e, s = everything(4, 3)
    pairs = PairedEmbeddings(**e, caption_similarity=s)
    contrasts = (losses.in_modal_loss, losses.deep_feature_separation_loss, losses.intra_modality_separation_loss)
    for loss in contrasts:
        for bad in (0, -1.0, math.nan, math.inf, None):
            with pytest.raises(ValueError, match=r"^logit_scale: "):
                loss(pairs, bad)
    for bad in (0, -2, math.nan, torch.tensor(2.0)):
        with pytest.raises(ValueError, match=r"^t: "):
            losses.centroid_uniformity_loss(pairs, t=bad)
        with pytest.raises(ValueError, match=r"^t: "):
            losses.deep_feature_separation_loss(pairs, t=bad)
    for bad in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match=r"^t: "):
            losses.brownian_bridge_loss(pairs, t=bad)


def test_pairs_without_a_mean_are_refused_and_nan_passes():
    x = unit(4, 3)
    y = unit(4, 3, 1)
    y[2] = -x[2]
    pairs = PairedEmbeddings(x, y, image_view=x)
    with pytest.raises(ValueError, match=r"^pairs: expected pairs whose mean .* in pair 2"):
        losses.centroid_uniformity_loss(pairs)
    with pytest.raises(ValueError, match=r"^pairs: expected image and text whose mean .* in pair 2"):
        losses.brownian_bridge_loss(pairs, t=0.5)
    assert torch.isfinite(losses.brownian_bridge_loss(pairs))
    with pytest.raises(ValueError, match=r"^pairs: expected at least 2 pairs"):
        losses.centroid_uniformity_loss(PairedEmbeddings(x[:1], y[:1]))
    broken = PairedEmbeddings(x * math.nan, y, image_view=x, check=False)
    for loss in (losses.centroid_uniformity_loss, losses.brownian_bridge_loss, losses.cyclic_loss):
        assert loss(broken).isnan()


def test_private_features_of_another_dimension_are_refused():
    e, _ = everything(4, 3)
    e |= {name: unit(4, 5) for name in PRIVATE}
    with pytest.raises(ValueError, match=r"^image_private: expected the dimension of image \(3\) .* got 5"):
        losses.deep_feature_separation_loss(PairedEmbeddings(**e))


@pytest.mark.parametrize(
    ("bad", "say"),
    [
        (torch.ones(4, 3), "expected shape"),
        (torch.full((4, 4), 1.1), r"values in \[0, 1\], got 1.1 to 1.1"),
        (torch.full((4, 4), -0.1), r"values in \[0, 1\]"),
        (torch.full((4, 4), math.nan), "finite"),
        (torch.ones(4, 4, dtype=torch.int64), "float"),
    ],
)
def test_bad_similarities_are_named(bad, say):
    with pytest.raises(ValueError, match=rf"^caption_similarity: .*{say}"):
        PairedEmbeddings(unit(4, 3), unit(4, 3, 1), caption_similarity=bad)
