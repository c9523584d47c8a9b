"""Several right answers in one batch: the spread target of the contrastive loss, and the runs that ask for it."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from gaplib.data import glyphs
from gaplib.losses import alignment_loss, clip_loss, siglip_loss, uniformity_loss
from gaplib.pairs import PairedEmbeddings
from gaplib.towers import tiny_towers
from gaplib.training import RunConfig, train
from gaplib.training import trainer as training

GROUPS = [3, 7, 3, 1, 7, 7, 0]


def unit(n, d, seed):
    generator = torch.Generator().manual_seed(seed)
    return functional.normalize(torch.randn(n, d, generator=generator, dtype=torch.float64), dim=1)


def loop(x, y, scale, groups):
    """Mean over both directions and all items of the mean surprise over the item's right answers."""
    total = 0.0
    for queries, candidates in ((x, y), (y, x)):
        for i in range(len(x)):
            everyone = sum(torch.exp(scale * (queries[i] @ c)) for c in candidates)
            right = [j for j in range(len(x)) if groups[j] == groups[i]]
            for j in right:
                chosen = torch.exp(scale * (queries[i] @ candidates[j]))
                total = total - torch.log(chosen / everyone) / (2 * len(x) * len(right))
    return total


def test_value_and_gradients_are_those_of_the_loop():
    x, y = unit(7, 4, 0).requires_grad_(), unit(7, 4, 1).requires_grad_()
    scale = torch.tensor(9.0, dtype=torch.float64, requires_grad=True)
    value = clip_loss(PairedEmbeddings(x, y, groups=GROUPS), scale)
    expected = loop(x, y, scale, GROUPS)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12)
    inputs = (x, y, scale)
    torch.testing.assert_close(
        torch.autograd.grad(value, inputs), torch.autograd.grad(expected, inputs), rtol=1e-10, atol=1e-12
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_without_duplicates_nothing_changes(dtype):
    x, y = unit(7, 4, 0).to(dtype).requires_grad_(), unit(7, 4, 1).to(dtype).requires_grad_()
    plain = clip_loss(PairedEmbeddings(x, y), 14.0)
    alone = clip_loss(PairedEmbeddings(x, y, groups=torch.arange(10, 17)), 14.0)
    assert alone.dtype == dtype
    torch.testing.assert_close(alone, plain)
    torch.testing.assert_close(torch.autograd.grad(alone, (x, y)), torch.autograd.grad(plain, (x, y)))


def test_twins_that_coincide_are_free_of_charge_only_with_groups():
    """Three pairs of identical twins: the best that a model can do has no pull left, and costs log 2."""
    corners = torch.eye(3, dtype=torch.float64).repeat_interleave(2, dim=0).requires_grad_()
    groups = np.repeat([0, 1, 2], 2)
    loss = clip_loss(PairedEmbeddings(corners, corners, groups=groups), 100.0)
    assert loss.item() == pytest.approx(np.log(2), abs=1e-12)
    assert torch.autograd.grad(loss, corners)[0].abs().max() < 1e-12
    # Without groups the loss is the same, and its gradient pulls the twins apart as soon as they differ.
    moved = functional.normalize(corners.detach() + 0.01 * unit(6, 3, 2), dim=1)
    plain, spread = (clip_loss(PairedEmbeddings(moved, moved, groups=g), 100.0) for g in (None, groups))
    assert float(plain) < np.log(2) < float(spread)


def test_terms_that_know_no_negatives_are_left_alone_and_the_sigmoid_loss_refuses():
    x, y = unit(7, 4, 0), unit(7, 4, 1)
    pairs, plain = PairedEmbeddings(x, y, groups=GROUPS), PairedEmbeddings(x, y)
    for term in (alignment_loss, uniformity_loss):
        assert torch.equal(term(pairs), term(plain))
    assert "groups" in repr(pairs)
    with pytest.raises(ValueError, match="pairs: expected no groups"):
        siglip_loss(pairs, 10.0, -10.0)


@pytest.mark.parametrize("groups", [[1, 2], np.zeros((7, 1), dtype=int), np.zeros(7), [True] * 7, ["a"] * 7, 3])
def test_bad_groups(groups):
    with pytest.raises(ValueError, match="groups: expected 7 whole numbers"):
        PairedEmbeddings(unit(7, 4, 0), unit(7, 4, 1), groups=groups)


# --- runs ---


def tiny(**changes):
    defaults = {"steps": 2, "batch_size": 32, "dim": 8, "eval_pairs": 24, "history_points": 2}
    return RunConfig(**{**defaults, "look_alikes": "together", **changes})


def test_a_run_passes_the_answers_of_its_batch():
    """The loss that the history reports is that of the loop, on the batch and the towers of that step."""
    config = tiny(multi_positive=True, learn_tau=False, tau=0.05, seed=4)
    run = train(config, progress=False)
    data = glyphs.load(config.image_size)
    batch = config.pairing().batches(data, config.batch_size, config.seed)(0)
    assert len(np.unique(batch.positive_id)) < len(batch.positive_id)
    towers = tiny_towers(len(data.vocabulary), dim=config.dim, image_size=config.image_size, seed=config.seed).eval()
    with torch.no_grad():
        x, y = (functional.normalize(z.double(), dim=1) for z in (towers.encode_image(batch.images),
                                                                   towers.encode_text(batch.tokens)))  # fmt: skip
    assert run.history[0]["loss"] == pytest.approx(float(loop(x, y, 20.0, batch.positive_id)), rel=1e-5)
    plain = train(tiny(learn_tau=False, tau=0.05, seed=4), progress=False)
    assert plain.history[0]["loss"] == pytest.approx(float(loop(x, y, 20.0, range(32))), rel=1e-5)
    assert abs(plain.history[0]["loss"] - run.history[0]["loss"]) > 0.01


def test_configurations_that_would_mislead_are_refused():
    assert RunConfig.from_dict(tiny(multi_positive=True).to_dict()).multi_positive
    for changes in ({"method": "siglip"}, {"mismatch": 0.1, "look_alikes": "as drawn"}, {"multi_positive": "yes"}):
        with pytest.raises(ValueError, match="multi_positive: expected"):
            RunConfig(**{"multi_positive": True, **changes})
    assert training.RunConfig(mismatch=0.1).multi_positive is False
