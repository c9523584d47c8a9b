"""Retrieval in both directions, by counting in chunks how many wrong answers score above the best right one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch

from gaplib._validate import check_integer, check_labels, check_matrix, check_nonzero_rows, check_pair

# Scores held at a time when the caller does not say: 16 MiB in float32.
_SCORES_AT_A_TIME = 2**22
# Two kernels may round the same inner product of unit rows differently; scores this many ulps of one apart are a tie.
_TIE_ULPS = 16


def retrieval(
    x: Any,
    y: Any,
    ks: Sequence[int] = (1, 5, 10),
    image_groups: Any = None,
    text_groups: Any = None,
    chunk_size: int | None = None,
) -> dict[str, torch.Tensor]:
    """Hit rate at k in both directions: how often one of the k most similar items of the other modality is a right one.

    Args:
        x: (n, d) image embeddings, NumPy or torch, any float type; ranked by cosine, so any scale but no zero rows.
        y: (m, d) text embeddings. Without groups, row i of ``y`` belongs to row i of ``x`` and m must be n.
        ks: cut-offs, each >= 1. Where k reaches the size of the gallery, every query is a hit.
        image_groups, text_groups: length-n and length-m sequences of integers or strings. An answer is right when the
            groups are equal: k captions an image are k texts with that image's group. ``None`` stands for row numbers.
            Every group must occur on both sides, else a query would have no right answer.
        chunk_size: images scored at a time; changes memory, not the result. ``None`` holds about 4 million scores.

    Returns:
        ``{"image_to_text@k": ..., "text_to_image@k": ...}`` for every k, 0-d float64 tensors in [0, 1].

        A query is a hit when its best right answer is among the first k. Ties are broken at random and the *expected*
        hit is returned: with g wrong answers above the best right one and t wrong, p right ones level with it, the
        probability that none of the p is among the first m = k - g of the level ones is C(t, m) / C(t + p, m). So
        constant embeddings give exactly k/n, and the order of the rows does not matter. Scores within round-off
        (16 units in the last place of 1) count as level.

    Raises:
        ValueError: bad matrices, zero rows, counts or groups that do not fit, ``ks`` empty or below 1, ``chunk_size``
            below 1.
    """
    x, y = (check_nonzero_rows(check_matrix(z, name).detach(), name) for z, name in ((x, "x"), (y, "y")))
    check_pair(x, y, paired=image_groups is None and text_groups is None)
    cutoffs = _check_cutoffs(ks)
    chunk = None if chunk_size is None else check_integer(chunk_size, "chunk_size", low=1)
    groups_x, groups_y = _match_groups(image_groups, text_groups, len(x), len(y))
    return retrieval_of(x, y, groups_x, groups_y, cutoffs, chunk)


def retrieval_of(
    x: torch.Tensor,
    y: torch.Tensor,
    groups_x: np.ndarray,
    groups_y: np.ndarray,
    ks: Sequence[int],
    chunk_size: int | None = None,
) -> dict[str, torch.Tensor]:
    """:func:`retrieval` of rows that are read, with groups as integers that agree across the modalities.

    A group may be missing on one side; queries of such a group have no right answer, and their direction no meaning.
    """
    # In order of their groups, the right answers of a chunk of images lie in one block of columns.
    order_x, order_y = np.argsort(groups_x, kind="stable"), np.argsort(groups_y, kind="stable")
    dtype = torch.float64 if torch.float64 in (x.dtype, y.dtype) else torch.float32
    x, y = _take_unit(x, order_x, dtype), _take_unit(y, order_y, dtype)
    counts = _count(x, y, groups_x[order_x], groups_y[order_y], chunk_size or max(1, _SCORES_AT_A_TIME // len(y)))
    out = {}
    for direction, (above, level, right) in zip(("image_to_text", "text_to_image"), counts, strict=True):
        for k in ks:
            out[f"{direction}@{k}"] = _expected_hits(above, level, right, k).mean()
    return out


@torch.no_grad()
def sampled_hits(
    queries: torch.Tensor,
    candidates: Callable[[int], Iterable[torch.Tensor]],
    groups_queries: np.ndarray,
    groups_candidates: np.ndarray,
) -> float:
    """Hit rate at 1 of some queries among candidates that come in blocks: what :func:`retrieval` finds for them.

    queries: (n, d) unit rows. candidates: gives blocks of at most so many unit rows; it is called twice.
    groups_queries, groups_candidates: integers, of the candidates in the order of the blocks; every query has a right
    answer.
    """
    n = len(queries)
    tolerance = _TIE_ULPS * torch.finfo(queries.dtype).eps
    best = queries.new_full((n,), -torch.inf)
    above, level, right = (torch.zeros(n, dtype=torch.int64) for _ in range(3))
    asked = np.isin(groups_candidates, groups_queries)
    size = max(1, _SCORES_AT_A_TIME // n)
    for counting in (False, True):
        start = 0
        for block in candidates(size):
            groups, some = groups_candidates[start : start + len(block)], asked[start : start + len(block)]
            start += len(block)
            # Right answers are among few of the candidates: those of groups that a query has.
            at = np.flatnonzero(some)
            own = torch.from_numpy(groups_queries[:, None] == groups[None, at])
            if not counting:
                if len(at):
                    answers = (queries @ block[at].to(queries.dtype).T).masked_fill_(~own, -torch.inf)
                    best = torch.maximum(best, answers.amax(dim=1))
                continue
            scores = queries @ block.to(queries.dtype).T
            right += _number(own & (scores[:, at] >= (best - tolerance)[:, None]), 1)
            scores[:, at] = scores[:, at].masked_fill(own, -torch.inf)
            above += _number(scores > (best + tolerance)[:, None], 1)
            level += _number(scores >= (best - tolerance)[:, None], 1)
    return float(_expected_hits(above, level - above, right.clamp(min=1), 1).mean())


def mean_recall(x: Any, y: Any, k: int = 1, groups: Any = None) -> float:
    """Hit rate at ``k``, mean of both directions, in [0, 1], of paired embeddings.

    x, y, k: as for :func:`retrieval`, with as many rows in ``y`` as in ``x``. groups: length-n sequence of integers or
    strings; row j answers row i where their groups are equal. ``None``: only where j = i. ``ValueError`` as there.

    >>> import numpy as np
    >>> mean_recall(np.eye(3), np.eye(3)), mean_recall(np.eye(3), np.roll(np.eye(3), 1, axis=0))
    (1.0, 0.0)
    """
    return float(sum(retrieval(x, y, ks=(k,), image_groups=groups, text_groups=groups).values()) / 2)


def _check_cutoffs(ks: Any) -> list[int]:
    if isinstance(ks, str) or not isinstance(ks, Sequence) or not ks:
        raise ValueError(f"ks: expected a non-empty sequence of whole numbers, got {ks!r}")
    return [check_integer(k, "ks", low=1) for k in ks]


def _match_groups(image_groups: Any, text_groups: Any, n: int, m: int) -> tuple[np.ndarray, np.ndarray]:
    """Both groupings as integers that agree across the modalities."""
    columns = [
        np.arange(rows) if groups is None else check_labels(groups, rows, name)
        for groups, rows, name in ((image_groups, n, "image_groups"), (text_groups, m, "text_groups"))
    ]
    if (columns[0].dtype.kind in "US") != (columns[1].dtype.kind in "US"):
        raise ValueError("text_groups: expected the kind of image_groups (integers or strings), got the other")
    codes = np.unique(np.concatenate(columns), return_inverse=True)[1]
    here, there = codes[:n], codes[n:]
    for name, a, b in (("image_groups", here, there), ("text_groups", there, here)):
        alone = np.flatnonzero(~np.isin(a, b))
        if len(alone):
            raise ValueError(f"{name}: expected every group in the other modality too, not so in row {alone[0]}")
    return here, there


def _take_unit(x: torch.Tensor, rows: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
    x = x[torch.from_numpy(rows).to(x.device)].to(dtype)
    # In place: the rows are a copy already, and a large gallery should not be held three times. First by
    # the largest entry, so that no square over- or underflows.
    for order in (torch.inf, 2):
        x /= torch.linalg.vector_norm(x, ord=order, dim=1, keepdim=True)
    return x


@torch.no_grad()
def _count(
    x: torch.Tensor, y: torch.Tensor, groups_x: np.ndarray, groups_y: np.ndarray, chunk: int
) -> list[tuple[torch.Tensor, ...]]:
    """For every image and every text: wrong answers above, and wrong and right ones level with, its best right one.

    Rows come in order of their groups. A first pass scores only the blocks that hold right answers and finds the best
    of them; the second scores everything, once for both directions. Right answers are struck out of the matrix before
    wrong ones are counted, so that no right answer competes with a differently rounded copy of itself.
    """
    n, m, device = len(x), len(y), x.device
    tolerance = _TIE_ULPS * torch.finfo(x.dtype).eps
    blocks = []
    for start in range(0, n, chunk):
        rows = slice(start, min(start + chunk, n))
        low = int(np.searchsorted(groups_y, groups_x[rows.start], side="left"))
        high = int(np.searchsorted(groups_y, groups_x[rows.stop - 1], side="right"))
        right = torch.from_numpy(groups_x[rows, None] == groups_y[None, low:high]).to(device)
        blocks.append((rows, slice(low, high), right))

    best_x, best_y = x.new_empty(n), x.new_full((m,), -torch.inf)
    for rows, columns, right in blocks:
        scores = (x[rows] @ y[columns].T).masked_fill_(~right, -torch.inf)
        best_x[rows] = scores.amax(dim=1)
        best_y[columns] = torch.maximum(best_y[columns], scores.amax(dim=0))

    def zeros(rows: int) -> list[torch.Tensor]:
        return [torch.zeros(rows, dtype=torch.int64, device=device) for _ in range(3)]

    (above_x, reach_x, right_x), (above_y, reach_y, right_y) = zeros(n), zeros(m)
    above, level_x = (best_x + tolerance)[:, None], (best_x - tolerance)[:, None]
    buffer = x.new_empty((min(n, chunk), m))
    for rows, columns, right in blocks:
        scores = torch.mm(x[rows], y.T, out=buffer[: rows.stop - rows.start])
        block = scores[:, columns]
        right_x[rows] = _number(right & (block >= level_x[rows]), 1)
        right_y[columns] += _number(right & (block >= best_y[columns] - tolerance), 0)
        block.masked_fill_(right, -torch.inf)
        above_x[rows] = _number(scores > above[rows], 1)
        reach_x[rows] = _number(scores >= level_x[rows], 1)
        above_y += _number(scores > best_y + tolerance, 0)
        reach_y += _number(scores >= best_y - tolerance, 0)
    return [(above_x, reach_x - above_x, right_x.clamp(min=1)), (above_y, reach_y - above_y, right_y.clamp(min=1))]


def _number(true: torch.Tensor, dim: int) -> torch.Tensor:
    # Into 32-bit integers: torch sums booleans into 64-bit ones an order of magnitude slower.
    return true.sum(dim=dim, dtype=torch.int32)


def _expected_hits(above: torch.Tensor, level: torch.Tensor, right: torch.Tensor, k: int) -> torch.Tensor:
    """Probability of a hit at k under random tie-breaking, one a query, as float64 on the CPU."""
    above, level, right = above.cpu(), level.cpu(), right.cpu()
    places = k - above  # left for the level ones
    hit = (places > level).to(torch.float64)
    open_ = (places > 0) & (places <= level)
    t, p, m = (v[open_].to(torch.float64) for v in (level, right, places))
    # C(t, m) / C(t + p, m) as a product over the p right ones.
    missed = torch.ones_like(t)
    for j in range(1, int(p.max()) + 1 if len(p) else 1):
        missed = torch.where(p >= j, missed * (t + j - m) / (t + j), missed)
    hit[open_] = 1 - missed
    return hit
