"""Post-hoc treatments against closed forms and their own definitions."""

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from gaplib import posthoc


def _gapped(n=400, d=16, offset=0.7, seed=0, noise=0.3):
    """Pairs that share a content in the first coordinates and differ by an offset in the last."""
    rng = np.random.default_rng(seed)
    content = rng.normal(size=(n, d)) * ([1.0] * (d - 1) + [0.0])
    content /= np.linalg.norm(content, axis=1, keepdims=True)
    x, y = content.copy(), content + noise * rng.normal(size=(n, d)) * ([1.0] * (d - 1) + [0.0])
    x[:, -1], y[:, -1] = offset, -offset
    return tuple(normalize(torch.tensor(z), dim=1) for z in (x, y))


def _gap(x, y):
    return float((x.mean(0) - y.mean(0)).norm())


FITS = [posthoc.fit_mean_centring, posthoc.fit_shift, posthoc.fit_orthogonal_shift, posthoc.fit_trace_matched]


@pytest.mark.parametrize("fit", FITS, ids=lambda fit: fit.__name__)
def test_every_treatment_closes_a_constant_orthogonal_gap_on_unseen_pairs(fit):
    unseen = _gapped(seed=1)
    treated = fit(*_gapped(seed=0))(*unseen)
    assert _gap(*unseen) > 0.9
    assert _gap(*treated) < 0.15
    for z in treated:
        torch.testing.assert_close(z.norm(dim=1), torch.ones(len(z), dtype=z.dtype))


def test_centring_is_the_textbook_formula():
    x, y = _gapped()
    got = posthoc.fit_mean_centring(x, y)(x, y)
    torch.testing.assert_close(got[0], normalize(x - x.mean(0), dim=1))
    torch.testing.assert_close(got[1], normalize(y - y.mean(0), dim=1))


def test_shift_zero_is_the_identity_and_negative_widens():
    x, y = _gapped()
    torch.testing.assert_close(posthoc.fit_shift(x, y, 0.0)(x, y)[0], x)
    assert _gap(*posthoc.fit_shift(x, y, -0.5)(x, y)) > _gap(x, y)


def test_trace_matching_puts_the_text_mean_on_the_image_mean():
    x, y = _gapped(noise=1.0)
    moved = posthoc.fit_trace_matched(x, y).text(y)
    assert float((moved.mean(0) - x.mean(0)).norm()) < 0.05
    torch.testing.assert_close(posthoc.fit_trace_matched(x, y).image(x), x)


def test_shared_space_finds_a_known_intersection():
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    # Images span directions 0, 1, 2 and texts 0, 1, 3 of a rotated basis: two are shared.
    x = normalize(torch.tensor(rng.normal(size=(200, 3)) @ basis[:3]), dim=1)
    y = normalize(torch.tensor(rng.normal(size=(200, 3)) @ basis[[0, 1, 3]]), dim=1)
    assert posthoc.fit_shared_space(x, y, variance=0.9999).image(x).shape[1] == 2
    with pytest.raises(ValueError, match=r"^tolerance:"):
        posthoc.fit_shared_space(*(normalize(torch.eye(4)[rows], dim=1) for rows in ([0, 1], [2, 3])))


def test_bad_input_is_named():
    x, y = _gapped(20)
    fitted = posthoc.fit_mean_centring(x, y)
    one = x[:1].repeat(5, 1)
    for name, call in {
        "x": lambda: fitted.image(normalize(x[:, :3], dim=1)),
        "y": lambda: posthoc.fit_trace_matched(x, one),
        "share": lambda: posthoc.fit_shift(x, y, float("nan")),
        "variance": lambda: posthoc.fit_shared_space(x, y, variance=0),
    }.items():
        with pytest.raises(ValueError, match=f"^{name}:"):
            call()
    with pytest.raises(ValueError, match=r"^x: .*norm"):
        posthoc.fit_mean_centring(2 * x, y)
    with pytest.raises(ValueError, match=r"^x: .*sends to zero"):
        posthoc.fit_mean_centring(one, y[:5]).image(one)
