"""Search where each document is either a text or an image (after Li et al. 2025, GR-CLIP): does the gap split the list?

Every item exists as an image and as a text embedding. A share of the items enters the collection as texts, the others
as images; a query looks for its item by cosine. With a gap, documents of the query's own modality crowd the top.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gaplib._validate import check_integer, check_labels, check_number, check_pair
from gaplib.evaluation._inputs import features, tie_tolerance, unit_rows

SHARES = (0.0, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0)


def ndcg(scores: Any, relevant: Any, k: int = 10) -> np.ndarray:
    """NDCG@k of each query with yes/no relevance, ties averaged over their orders (as scikit-learn's ``ndcg_score``).

    Args:
        scores: (q, n) floats, higher comes first.
        relevant: (q, n) booleans, at least one in each row.
        k: >= 1, the places that count.

    Returns:
        float64 (q,) in [0, 1].

    Raises:
        ValueError: shapes that do not fit, scores that are not finite, a query without a relevant document.
    """
    scores, relevant = features(scores, "scores"), np.asarray(relevant)
    if relevant.dtype != bool or relevant.shape != scores.shape:
        raise ValueError(f"relevant: expected booleans {scores.shape}, got {relevant.dtype} {relevant.shape}")
    k = check_integer(k, "k", low=1)
    if not relevant.any(axis=1).all():
        lost = int(np.flatnonzero(~relevant.any(axis=1))[0])
        raise ValueError(f"relevant: expected a relevant document for every query, none in row {lost}")
    which, document = relevant.nonzero()
    return _ndcg(scores, which, document, k, 0.0)


def mixed_search(
    query: Any,
    image: Any,
    text: Any,
    query_answer: Any,
    answer: Any,
    *,
    shares: Sequence[float] = SHARES,
    k: int = 10,
    draws: int = 5,
    seed: int = 0,
) -> dict[float, float]:
    """NDCG@k by the share of documents that are texts.

    Args:
        query: (q, d) embeddings, of either modality. A query must not be the document itself: take another view.
        image, text: (n, d), the two embeddings of every item; row i of both is one item.
        query_answer, answer: (q,) and (n,) integers or strings; documents with the query's answer are relevant.
        shares: in [0, 1]; ``round(share * n)`` items, drawn anew in each draw, enter as texts. Between the draws of one
            share, and from share to share, the same orders of the items are used.
        k, draws, seed: places that count; draws to average over (0 and 1 need only one); the draws' own generator.

    Returns:
        ``{share: mean over queries and draws}`` in the order of ``shares``; floats in [0, 1].

    Raises:
        ValueError: matrices or lengths that do not fit, zero rows, a query without a relevant document, a share outside
            [0, 1].
    """
    tolerance = tie_tolerance(query, image, text)
    query, image, text = (unit_rows(z, name) for z, name in ((query, "query"), (image, "image"), (text, "text")))
    check_pair(image, text, ("image", "text"))
    check_pair(query, image, ("query", "image"), paired=False)
    query_answer = check_labels(query_answer, len(query), "query_answer")
    answer = check_labels(answer, len(image), "answer")
    if (query_answer.dtype.kind in "US") != (answer.dtype.kind in "US"):
        raise ValueError("answer: expected the kind of query_answer (integers or strings), got the other")
    relevant = query_answer[:, None] == answer[None, :]
    k, draws = check_integer(k, "k", low=1), check_integer(draws, "draws", low=1)
    if not len(shares):
        raise ValueError("shares: expected at least one share, got none")
    shares = [float(check_number(share, "shares", low=0, high=1)) for share in shares]
    if not relevant.any(axis=1).all():
        lost = int(np.flatnonzero(~relevant.any(axis=1))[0])
        raise ValueError(f"query_answer: expected an item with that answer, there is none for row {lost}")
    which, document = relevant.nonzero()
    to_image, to_text = query @ image.T, query @ text.T
    rng = np.random.default_rng(check_integer(seed, "seed", low=0))
    orders = [rng.permutation(len(image)) for _ in range(draws)]
    out = {}
    for share in shares:
        texts = round(share * len(image))
        needed = orders if 0 < texts < len(image) else orders[:1]
        values = []
        for order in needed:
            is_text = np.zeros(len(image), dtype=bool)
            is_text[order[:texts]] = True
            values.append(_ndcg(np.where(is_text, to_text, to_image), which, document, k, tolerance).mean())
        out[share] = float(np.mean(values))
    return out


def dip(by_share: dict[float, float]) -> float:
    """Depth of the dip in a mixed search: mean of the two ends (shares 0 and 1) less the minimum between, 0 or more.

    ``ValueError`` unless there are shares 0, 1 and at least one between.
    """
    between = [value for share, value in by_share.items() if 0 < share < 1]
    if 0.0 not in by_share or 1.0 not in by_share or not between:
        raise ValueError(f"by_share: expected shares 0, 1 and at least one between, got {sorted(by_share)}")
    return max(0.0, (by_share[0.0] + by_share[1.0]) / 2 - min(between))


def sag(by_share: dict[float, float]) -> float:
    """How far a mixed search falls below the straight line between its ends (shares 0 and 1) at most; 0 or more.

    Unlike :func:`dip` it is 0 where one end is simply harder than the other and each document is found as well among
    its own kind as in the mix. ``ValueError`` as there.
    """
    dip(by_share)
    start, end = by_share[0.0], by_share[1.0]
    return max(0.0, *(start + share * (end - start) - value for share, value in by_share.items()))


def _ndcg(scores: np.ndarray, query: np.ndarray, document: np.ndarray, k: int, tolerance: float) -> np.ndarray:
    """NDCG@k, where (query, document) lists the relevant places in order of the queries.

    The gain is linear in relevance, so the mean over all orders of level documents is, for each relevant one, the mean
    discount of the places that its level ones share. Only relevant documents need a place.
    """
    q, n = scores.shape
    discount = np.zeros(n)
    places = np.arange(min(k, n))
    discount[places] = 1 / np.log2(places + 2)
    cumulative = np.concatenate([[0.0], discount.cumsum()])
    own, rows = scores[query, document][:, None], scores[query]
    above = (rows > own + tolerance).sum(axis=1)
    reach = (rows >= own - tolerance).sum(axis=1)
    gains = (cumulative[reach] - cumulative[above]) / (reach - above)
    return np.bincount(query, weights=gains, minlength=q) / cumulative[np.bincount(query, minlength=q)]
