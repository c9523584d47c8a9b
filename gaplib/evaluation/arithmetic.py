"""Arithmetic across modalities with exact answers: an image plus a direction between two texts, which image is nearest?

    directions = mean_directions(text, source, target, kind)      # from training pairs of texts
    step = choose_step(dev_images, dev_directions, dev_bank, dev_answers, dev_bank_answers, own=dev_own)
    arithmetic(images, directions, bank, answers, bank_answers, own=own, step=step)

Several items of the bank may be right (equal answers), and the query itself is not looked at. A step of 0 asks what the
image alone finds (no text), an infinite one what the direction alone finds (text only).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gaplib._validate import check_labels, check_number, check_pair
from gaplib.evaluation._inputs import features, tie_tolerance, unit_rows

STEPS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)


def mean_directions(text: Any, source: Any, target: Any, kind: Any) -> dict[Any, np.ndarray]:
    """Direction of every kind of change: the mean of ``text[target] - text[source]`` over its pairs.

    Args:
        text: (n, d) text embeddings of the training items, NumPy or torch.
        source, target: int (p,), rows of ``text``.
        kind: p integers or strings, what changes from source to target.

    Returns:
        ``{kind: (d,) float64 array}``, not normalised: its length says how far the texts move.

    Raises:
        ValueError: lengths that differ, no pair at all, rows outside of ``text``.
    """
    text = features(text, "text")
    source, target = (_rows(one, name, len(text)) for one, name in ((source, "source"), (target, "target")))
    if len(source) != len(target) or not len(source):
        raise ValueError(f"target: expected as many rows as source and at least one, got {len(target)}, {len(source)}")
    kind = check_labels(kind, len(source), "kind")
    moves = text[target] - text[source]
    return {one: moves[kind == one].mean(axis=0) for one in np.unique(kind).tolist()}


def arithmetic(
    image: Any, direction: Any, bank: Any, answer: Any, bank_answer: Any, *, own: Any = None, step: float = 1.0
) -> float:
    """Share of queries whose nearest item of the bank is a right one.

    The query is ``normalise(image + step * direction)``, nearness the cosine (as in SIMAT, Couairon et al. 2022, but
    with exact answers).

    Args:
        image: (q, d) image embeddings that are changed.
        direction: (q, d), what each is changed by, or (d,) for all; as long as it comes, not normalised here.
        bank: (n, d) embeddings that are searched, any scale but no zero rows.
        answer, bank_answer: (q,) and (n,) integers or strings; an item is right when the two are equal.
        own: int (q,), the query's own row in the bank, which is skipped; -1 where it is not in there; ``None``: none.
        step: >= 0; ``math.inf`` leaves the image out (where the direction is zero too, every item is as near).

    Returns:
        float in [0, 1]. Ties are broken at random, in expectation.

    Raises:
        ValueError: matrices or lengths that do not fit, an answer that the bank does not hold, a query that vanishes.
    """
    return float(arithmetic_hits(image, direction, bank, answer, bank_answer, own=own, step=step).mean())


def arithmetic_hits(
    image: Any, direction: Any, bank: Any, answer: Any, bank_answer: Any, *, own: Any = None, step: float = 1.0
) -> np.ndarray:
    """Hit of each query, float64 (q,) in [0, 1]; arguments as for :func:`arithmetic`."""
    level = _levels(_query(image, direction, step), bank, own, tie_tolerance(image, bank))
    answer, bank_answer = (
        check_labels(answer, len(level), "answer"),
        check_labels(bank_answer, len(bank), "bank_answer"),
    )
    if (answer.dtype.kind in "US") != (bank_answer.dtype.kind in "US"):
        raise ValueError("bank_answer: expected the kind of answer (integers or strings), got the other")
    right = answer[:, None] == bank_answer[None, :]
    if own is not None:
        inside = np.flatnonzero(np.asarray(own) >= 0)
        right[inside, np.asarray(own)[inside]] = False
    if not right.any(axis=1).all():
        lost = int(np.flatnonzero(~right.any(axis=1))[0])
        raise ValueError(f"answer: expected a right item in the bank besides the query itself, not so in row {lost}")
    return (level & right).sum(axis=1) / level.sum(axis=1)


def choose_step(
    image: Any,
    direction: Any,
    bank: Any,
    answer: Any,
    bank_answer: Any,
    *,
    own: Any = None,
    steps: Sequence[float] = STEPS,
) -> float:
    """The step of ``steps`` with the largest share of hits, the shorter of equal ones. Arguments as `arithmetic`.

    To be called on development items, never on those that are scored.
    """
    if not len(steps):
        raise ValueError("steps: expected at least one step, got none")
    found = [arithmetic(image, direction, bank, answer, bank_answer, own=own, step=step) for step in sorted(steps)]
    return float(sorted(steps)[int(np.argmax(found))])


def simat_score(
    image: Any,
    source_text: Any,
    target_text: Any,
    bank: Any,
    similarity: Any,
    norm2: Any,
    *,
    own: Any = None,
    step: float = 1.0,
    threshold: float = 0.5,
) -> float:
    """SIMAT's own score in percent (Couairon et al. 2022; the scoring of facebookresearch/SIMAT's eval.py).

    The query is ``image + step (target_text - source_text)``, everything of norm one before; the nearest item of the
    bank other than the query's own row is a success when ``similarity`` to the wanted caption is above ``threshold``;
    successes are averaged with weights 1 / sqrt(norm2).

    Args:
        image, source_text, target_text: (q, d), one row a transformation; normalised here.
        bank: (n, d) image embeddings.
        similarity: (q, n), how well each image of the bank fits each transformation's wanted caption (OSCAR's there).
        norm2: (q,) > 0, the column of that name in the benchmark's own table of transformations.
        own, step: as for :func:`arithmetic`.

    Raises:
        ValueError: matrices or lengths that do not fit, weights that are not positive and finite.
    """
    image, source, target, bank = (
        unit_rows(z, name)
        for z, name in (
            (image, "image"),
            (source_text, "source_text"),
            (target_text, "target_text"),
            (bank, "bank"),
        )
    )
    check_pair(image, source, ("image", "source_text"))
    check_pair(image, target, ("image", "target_text"))
    similarity = np.asarray(similarity, dtype=np.float64)
    if similarity.shape != (len(image), len(bank)) or not np.isfinite(similarity).all():
        raise ValueError(f"similarity: expected finite numbers {(len(image), len(bank))}, got shape {similarity.shape}")
    norm2 = np.asarray(norm2, dtype=np.float64)
    if norm2.shape != (len(image),) or not np.isfinite(norm2).all() or not (norm2 > 0).all():
        raise ValueError(f"norm2: expected {len(image)} positive numbers, got shape {norm2.shape}")
    right = similarity > float(check_number(threshold, "threshold"))
    level = _levels(_query(image, target - source, step), bank, own, tie_tolerance(image, bank))
    return 100 * float(np.average((level & right).sum(axis=1) / level.sum(axis=1), weights=1 / np.sqrt(norm2)))


def _rows(rows: Any, name: str, n: int) -> np.ndarray:
    rows = np.asarray(rows)
    if rows.ndim != 1 or rows.dtype.kind not in "iu" or (len(rows) and (rows.min() < 0 or rows.max() >= n)):
        raise ValueError(f"{name}: expected row numbers below {n}, got shape {rows.shape} and type {rows.dtype}")
    return rows.astype(np.int64)


def _query(image: Any, direction: Any, step: float) -> np.ndarray:
    """``normalise(image + step * direction)``, (q, d)."""
    image = features(image, "image")
    if np.ndim(direction) == 1:
        direction = direction[None]  # one for all
    direction = features(direction, "direction")
    check_pair(image, direction, ("image", "direction"), paired=len(direction) > 1)
    direction = np.broadcast_to(direction, image.shape)
    if step == math.inf:
        lost = ~direction.any(axis=1, keepdims=True)
        # A direction of length zero points nowhere: with a query of zeros every item is level, which is chance.
        return np.where(lost, 0.0, unit_rows(np.where(lost, 1.0, direction), "direction"))
    step = float(check_number(step, "step", low=0))
    return unit_rows(image + step * direction, "image + step * direction")


def _levels(query: np.ndarray, bank: Any, own: Any, tolerance: float) -> np.ndarray:
    """Which items are level with the best one for each query, bool (q, n); the query's own row never is."""
    bank = unit_rows(bank, "bank")
    check_pair(query, bank, ("image", "bank"), paired=False)
    scores = query @ bank.T
    if own is not None:
        own = np.asarray(own)
        if own.shape != (len(query),) or own.dtype.kind not in "iu" or own.min() < -1 or own.max() >= len(bank):
            raise ValueError(f"own: expected {len(query)} row numbers of the bank, or -1, got shape {own.shape}")
        inside = np.flatnonzero(own >= 0)
        scores[inside, own[inside]] = -np.inf
    return scores >= scores.max(axis=1, keepdims=True) - tolerance
