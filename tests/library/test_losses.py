"""The losses against loops over the formula, other libraries, closed forms and properties."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.loss import ClipLoss, SigLipLoss
from pytorch_metric_learning.losses import NTXentLoss
from torch.autograd import gradcheck

from gaplib import losses
from gaplib.pairs import PairedEmbeddings

DOUBLE = torch.float64


def unit(n, d, seed=0, dtype=DOUBLE):
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(n, d, generator=generator, dtype=DOUBLE)).to(dtype)


# --- loops over the formulas, pair by pair ---


def loop_clip(x, y, scale):
    n, total = len(x), 0.0
    for i in range(n):
        image_to_text = sum(torch.exp(scale * (x[i] @ y[j])) for j in range(n))
        text_to_image = sum(torch.exp(scale * (x[j] @ y[i])) for j in range(n))
        own = torch.exp(scale * (x[i] @ y[i]))
        total = total - (torch.log(own / image_to_text) + torch.log(own / text_to_image)) / (2 * n)
    return total


def loop_siglip(x, y, scale, bias):
    n, total = len(x), 0.0
    for i in range(n):
        for j in range(n):
            z = 1 if i == j else -1
            total = total + torch.log(1 + torch.exp(-z * (scale * (x[i] @ y[j]) + bias)))
    return total / n


def loop_alignment(x, y):
    return sum(((a - b) ** 2).sum() for a, b in zip(x, y, strict=True)) / len(x)


def loop_uniformity(x, y, t):
    def one(z):
        values = [torch.exp(-t * ((z[i] - z[j]) ** 2).sum()) for i in range(len(z)) for j in range(i + 1, len(z))]
        return torch.log(sum(values) / len(values))

    return (one(x) + one(y)) / 2


def loop_cross_uniformity(x, y, t):
    n = len(x)
    values = [torch.exp(-t * ((x[i] - y[j]) ** 2).sum()) for i in range(n) for j in range(n) if i != j]
    return torch.log(sum(values) / len(values))


CASES = {
    "clip": (losses.clip_loss, loop_clip, (14.0,)),
    "siglip": (losses.siglip_loss, loop_siglip, (9.0, -3.0)),
    "alignment": (losses.alignment_loss, loop_alignment, ()),
    "uniformity": (losses.uniformity_loss, loop_uniformity, (2.0,)),
    "uniformity_t": (losses.uniformity_loss, loop_uniformity, (0.7,)),
    "cross_uniformity": (losses.cross_uniformity_loss, loop_cross_uniformity, (2.0,)),
}
cases = pytest.mark.parametrize(("loss", "loop", "rest"), CASES.values(), ids=CASES)


@cases
@pytest.mark.parametrize(("n", "d"), [(2, 1), (2, 3), (7, 4), (12, 30)])
def test_value_and_gradient_are_those_of_the_loop(loss, loop, rest, n, d):
    x, y = unit(n, d).requires_grad_(), unit(n, d, 1).requires_grad_()
    value = loss(PairedEmbeddings(x, y), *rest)
    expected = loop(x, y, *rest)
    assert value.shape == ()
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12)
    # The gradient in the surrounding space, not only along the sphere.
    got, want = torch.autograd.grad(value, (x, y)), torch.autograd.grad(expected, (x, y))
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)


@cases
def test_gradcheck_of_every_argument(loss, loop, rest):
    x, y = unit(4, 3).requires_grad_(), unit(4, 3, 1).requires_grad_()
    scalars = [torch.tensor(r, dtype=DOUBLE, requires_grad=True) for r in rest] if loss in SCALED else []
    fixed = [] if scalars else rest

    def f(x, y, *scalars):
        return loss(PairedEmbeddings(x, y, check=False), *scalars, *fixed)

    assert gradcheck(f, (x, y, *scalars))


SCALED = (losses.clip_loss, losses.siglip_loss)


@pytest.mark.parametrize("n", [1, 2, 33])
def test_clip_and_siglip_are_open_clips(n):
    x, y = unit(n, 16, 0, torch.float32).requires_grad_(), unit(n, 16, 1, torch.float32).requires_grad_()
    scale, bias = torch.tensor(20.0, requires_grad=True), torch.tensor(-5.0, requires_grad=True)
    pairs = PairedEmbeddings(x, y)
    for ours, theirs, inputs in (
        (losses.clip_loss(pairs, scale), ClipLoss()(x, y, scale), (x, y, scale)),
        (losses.siglip_loss(pairs, scale, bias), SigLipLoss()(x, y, scale, bias), (x, y, scale, bias)),
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
        got = torch.autograd.grad(ours, inputs, retain_graph=True)
        torch.testing.assert_close(got, torch.autograd.grad(theirs, inputs), rtol=1e-4, atol=1e-6)


def test_clip_is_the_mean_of_two_one_way_losses_of_metric_learning():
    x, y = unit(9, 6), unit(9, 6, 1)
    one_way, labels = NTXentLoss(temperature=0.1), torch.arange(9)
    # Reference labels of its own: given the same object, that library takes both sides for one batch.
    halves = [one_way(a, labels, ref_emb=b, ref_labels=labels.clone()) for a, b in ((x, y), (y, x))]
    torch.testing.assert_close(losses.clip_loss(PairedEmbeddings(x, y), 10.0), sum(halves) / 2, rtol=1e-6, atol=1e-8)


def test_uniformity_is_that_of_pdist():
    x, y = unit(50, 8), unit(50, 8, 1)
    expected = sum(torch.pdist(z).square().mul(-2).exp().mean().log() for z in (x, y)) / 2
    torch.testing.assert_close(losses.uniformity_loss(PairedEmbeddings(x, y)), expected)


# --- closed forms and limits ---


def test_a_batch_without_information_costs_log_n():
    same = torch.ones(8, 4, dtype=DOUBLE) / 2
    assert float(losses.clip_loss(PairedEmbeddings(same, same), 100)) == pytest.approx(math.log(8))
    # One positive at sigmoid(z), seven negatives at sigmoid(-z), a row.
    z = 10.0 - 3
    expected = math.log1p(math.exp(-z)) + 7 * math.log1p(math.exp(z))
    assert float(losses.siglip_loss(PairedEmbeddings(same, same), 10, -3)) == pytest.approx(expected)


def test_duplicated_captions_bound_the_contrastive_loss_below():
    x = torch.eye(4, dtype=DOUBLE).repeat_interleave(2, dim=0)
    assert float(losses.clip_loss(PairedEmbeddings(x, x), 1e4)) == pytest.approx(math.log(2))


def test_extremes_of_alignment_and_uniformity():
    x = torch.eye(2, dtype=DOUBLE)[:1].repeat(5, 1)
    assert float(losses.alignment_loss(PairedEmbeddings(x, x))) == 0
    assert float(losses.alignment_loss(PairedEmbeddings(x, -x))) == pytest.approx(4)
    assert float(losses.uniformity_loss(PairedEmbeddings(x, x))) == pytest.approx(0)
    assert float(losses.cross_uniformity_loss(PairedEmbeddings(x, -x))) == pytest.approx(-8)


def test_the_simplex_minimises_uniformity():
    simplex = torch.nn.functional.normalize(torch.eye(4, dtype=DOUBLE) - 1 / 4)
    best = float(losses.uniformity_loss(PairedEmbeddings(simplex, simplex)))
    assert best == pytest.approx(-2 * (2 + 2 / 3))
    for seed in range(20):
        assert float(losses.uniformity_loss(PairedEmbeddings(unit(4, 4, seed), unit(4, 4, seed + 99)))) > best


def test_nearly_aligned_pairs_keep_their_digits():
    x = unit(50, 32)
    y = torch.nn.functional.normalize(x + 1e-5 * unit(50, 32, 1))
    exact = float(losses.alignment_loss(PairedEmbeddings(x, y)))
    single = PairedEmbeddings(x.float(), y.float())
    # Rounding the inputs alone moves differences of 1e-5 by 1e-7 each; a Gram matrix would lose everything.
    assert float(losses.alignment_loss(single)) == pytest.approx(exact, rel=0.01)
    assert float((2 - 2 * single.image_text.diagonal()).mean()) != pytest.approx(exact, rel=0.1)


@cases
def test_coinciding_rows_have_finite_gradients(loss, loop, rest):
    x = torch.eye(3, dtype=DOUBLE)[[0, 0, 1]].requires_grad_()
    y = torch.eye(3, dtype=DOUBLE)[[0, 0, 1]].requires_grad_()
    loss(PairedEmbeddings(x, y), *rest).backward()
    assert torch.isfinite(x.grad).all()
    assert torch.isfinite(y.grad).all()


def test_extreme_sharpness_neither_under_nor_overflows():
    pairs = PairedEmbeddings(unit(6, 4, 0, torch.float32), unit(6, 4, 1, torch.float32))
    for loss in (losses.uniformity_loss, losses.cross_uniformity_loss):
        assert -4e4 <= float(loss(pairs, t=1e4)) < -100
        assert -1e-3 < float(loss(pairs, t=1e-5)) <= 0
    assert math.isfinite(float(losses.clip_loss(pairs, 1e4)))
    assert math.isfinite(float(losses.siglip_loss(pairs, 1e4, -1e3)))


# --- number types ---


def naive(name, x, y):
    """The textbook line in the type of its arguments."""
    gram, n = x @ y.T, len(x)
    if name == "clip":
        labels = torch.arange(n)
        return sum(torch.nn.functional.cross_entropy(14 * g, labels) for g in (gram, gram.T)) / 2
    if name == "siglip":
        return -torch.nn.functional.logsigmoid((2 * torch.eye(n, dtype=x.dtype) - 1) * (9 * gram - 3)).sum() / n
    if name == "alignment":
        return (x - y).square().sum(1).mean()
    away = ~torch.eye(n, dtype=torch.bool)
    t = 0.7 if name == "uniformity_t" else 2
    if name == "cross_uniformity":
        return ((2 - 2 * gram)[away] * -t).exp().mean().log()
    return sum(((2 - 2 * z @ z.T)[away] * -t).exp().mean().log() for z in (x, y)) / 2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", CASES)
def test_half_types_err_no_more_than_the_naive_form(name, dtype):
    loss, _, rest = CASES[name]
    x, y = unit(64, 128), unit(64, 128, 1)
    y = torch.nn.functional.normalize(x + 0.5 * y)
    truth = float(loss(PairedEmbeddings(x, y), *rest))
    low_x, low_y = x.to(dtype).requires_grad_(), y.to(dtype)
    value = loss(PairedEmbeddings(low_x, low_y), *rest)
    assert value.dtype == dtype
    rounding = torch.finfo(dtype).eps * abs(truth)
    assert abs(value.item() - truth) <= abs(float(naive(name, low_x.detach(), low_y)) - truth) + rounding
    value.backward()
    assert low_x.grad.dtype == dtype
    assert torch.isfinite(low_x.grad).all()


@cases
def test_type_and_inputs_are_kept(loss, loop, rest):
    x, y = unit(5, 4, 0, torch.float32), unit(5, 4, 1, torch.float32)
    before, state = (x.clone(), y.clone()), torch.get_rng_state()
    assert loss(PairedEmbeddings(x, y), *rest).dtype == torch.float32
    assert torch.equal(x, before[0])
    assert torch.equal(y, before[1])
    assert torch.equal(torch.get_rng_state(), state)


# --- properties ---

sizes = st.tuples(st.integers(2, 9), st.integers(1, 7), st.integers(0, 10**6))


@cases
@settings(max_examples=15, deadline=None)
@given(size=sizes)
def test_symmetries(loss, loop, rest, size):
    n, d, seed = size
    x, y = unit(n, d, seed), unit(n, d, seed + 1)
    value = float(loss(PairedEmbeddings(x, y), *rest))
    rotation = torch.linalg.qr(torch.randn(d, d, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))).Q
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    for other in ((x @ rotation, y @ rotation), (x[order], y[order]), (y, x)):
        assert float(loss(PairedEmbeddings(*other), *rest)) == pytest.approx(value, abs=1e-10, rel=1e-10)


# --- bad input ---


@pytest.mark.parametrize("bad", [0, -1.0, float("nan"), float("inf"), "10", None, torch.ones(2), True])
def test_bad_scales_are_named(bad):
    pairs = PairedEmbeddings(unit(3, 2), unit(3, 2, 1))
    with pytest.raises(ValueError, match=r"^logit_scale: "):
        losses.clip_loss(pairs, bad)
    with pytest.raises(ValueError, match=r"^logit_scale: "):
        losses.siglip_loss(pairs, bad, 0.0)


def test_bad_bias_and_sharpness_are_named():
    pairs = PairedEmbeddings(unit(3, 2), unit(3, 2, 1))
    with pytest.raises(ValueError, match=r"^bias: "):
        losses.siglip_loss(pairs, 10, float("nan"))
    for t in (0, -2, float("inf"), torch.tensor(2.0)):
        for loss in (losses.uniformity_loss, losses.cross_uniformity_loss):
            with pytest.raises(ValueError, match=r"^t: "):
                loss(pairs, t)


def test_one_pair_alone():
    pairs = PairedEmbeddings(unit(1, 4), unit(1, 4, 1))
    assert float(losses.clip_loss(pairs, 100)) == 0
    assert float(losses.siglip_loss(pairs, 1.0, 0.0)) == pytest.approx(math.log1p(math.exp(-float(pairs.image_text))))
    for loss in (losses.uniformity_loss, losses.cross_uniformity_loss):
        with pytest.raises(ValueError, match=r"^pairs: expected at least 2 pairs"):
            loss(pairs)


# --- 1/cos² as printed ---


def test_inverse_square_alignment_value_gradient_and_blindness():
    x, y = unit(7, 5).requires_grad_(), unit(7, 5, seed=1)
    loss = losses.inverse_square_alignment_loss(PairedEmbeddings(x, y, check=False))
    by_hand = sum(1 / float(a.detach() @ b) ** 2 for a, b in zip(x, y, strict=True)) / 7
    assert loss.item() == pytest.approx(by_hand, rel=1e-12)
    loss.backward()
    cosine = (x.detach() * y).sum(1, keepdim=True)
    torch.testing.assert_close(x.grad, -2 / 7 * y / cosine**3)
    flipped = losses.inverse_square_alignment_loss(PairedEmbeddings(x, -y, check=False))
    assert flipped.item() == loss.item()
    same = losses.inverse_square_alignment_loss(PairedEmbeddings(y, y))
    assert float(same) == pytest.approx(1, abs=1e-12)


def test_inverse_square_alignment_refuses_orthogonal_pairs_and_passes_nan_on():
    eye = torch.eye(4, dtype=torch.float32)
    with pytest.raises(ValueError, match=r"pairs: expected true pairs that are not orthogonal, got a cosine of 0"):
        losses.inverse_square_alignment_loss(PairedEmbeddings(eye, eye.roll(1, 0)))
    broken = PairedEmbeddings(eye * torch.nan, eye, check=False)
    assert losses.inverse_square_alignment_loss(broken).isnan()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_inverse_square_alignment_of_half_types_is_that_of_their_values(dtype):
    x, y = unit(16, 4, dtype=dtype), unit(16, 4, seed=1, dtype=dtype)
    loss = losses.inverse_square_alignment_loss(PairedEmbeddings(x, y))
    exact = (x.double() * y.double()).sum(1).pow(-2).mean()
    assert loss.dtype == dtype
    assert float(loss) == pytest.approx(float(exact), rel=1e-2)
