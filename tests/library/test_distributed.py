"""What gathering promises in one process, and how each loss reduces; several processes: training/test_processes."""

from itertools import combinations

import pytest
import torch
from loss_cases import NAMES, SCALARS, make_inputs
from torch.nn.functional import normalize

from gaplib import losses
from gaplib.distributed import REDUCTIONS, WAYS, exchange_numbers, gather, gather_rows, processes, rank
from gaplib.pairs import PairedEmbeddings


def test_every_loss_says_how_it_reduces():
    assert set(REDUCTIONS) == set(losses.__all__)
    assert set(REDUCTIONS.values()) == set(WAYS)


PARTS = [list(range(0, 5)), list(range(5, 8)), list(range(8, 14))]


def value(name, rows):
    """The loss of some of 14 pairs, and their number."""
    inputs = [z.detach()[rows] for z in make_inputs(14, 6)]
    similarity = torch.arange(14 * 14, dtype=torch.float64).reshape(14, 14).sin().square()[rows][:, rows]
    pairs = PairedEmbeddings(**dict(zip(NAMES, inputs, strict=True)), caption_similarity=similarity, check=False)
    taken = losses.__dict__[name].__code__.co_varnames
    return float(losses.__dict__[name](pairs, **{key: z for key, z in SCALARS.items() if key in taken})), len(rows)


@pytest.mark.parametrize("name", losses.__all__)
def test_losses_reduce_as_they_say(name):
    """n L of all is the sum over parts for a mean of rows, and has no three-way terms for a sum over pairs of rows."""
    total = {}
    for k in (1, 2, 3):
        for chosen in combinations(range(3), k):
            loss, n = value(name, [row for i in chosen for row in PARTS[i]])
            total[chosen] = n * loss
    whole = total[0, 1, 2]
    alone = sum(total[i,] for i in range(3))
    pairwise = sum(total[pair] for pair in combinations(range(3), 2)) - alone
    by_rows = whole == pytest.approx(alone, rel=1e-9)
    by_pairs = whole == pytest.approx(pairwise, rel=1e-9)
    way = REDUCTIONS[name]
    assert by_rows == (way == "mean of rows")
    assert by_pairs == (way in ("mean of rows", "sum over pairs of rows"))


def test_one_process_is_left_as_it_is():
    x = normalize(torch.randn(3, 4, generator=torch.Generator().manual_seed(0)), dim=1).requires_grad_()
    pairs = PairedEmbeddings(x, x)
    assert gather(pairs) is pairs
    assert gather(pairs, factor=5.0).image is x
    assert torch.equal(gather(pairs, caption_similarity=torch.eye(3)).caption_similarity, torch.eye(3))
    with pytest.raises(ValueError, match=r"caption_similarity: expected shape \(3, 3\)"):
        gather(pairs, caption_similarity=torch.eye(2))
    assert not gather_rows(x).requires_grad
    assert (processes(), rank(), exchange_numbers([7])) == (1, 0, [[7]])
