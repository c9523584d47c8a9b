"""Self-checks for the exercises: compare a reader's answer with the solution's and say what to look at."""

from __future__ import annotations

from typing import Any

import numpy as np

from gaplib._validate import check_number


def _number_array(value: Any) -> np.ndarray:
    """``value`` (a number, a tensor, an array, a sequence of them) as a float64 array, wherever it lives."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().double().numpy()
    return np.asarray(value, dtype=np.float64)


def check(name: str, got: Any, expected: Any, tol: float = 1e-6, hint: str = "") -> bool:
    """Print "right" or "not yet" with a hint for exercise ``name``; return whether ``got`` is ``expected``.

    Numbers and arrays agree when every entry is within ``tol`` (absolute); booleans and text must be equal. An answer
    that cannot be compared (``None``, another shape, NaN) is "not yet", never an error: the reader is still at work.
    ``ValueError`` if ``tol`` is negative.
    """
    check_number(tol, "tol", low=0.0)
    reason = _difference(got, expected, tol)
    if not reason:
        print(f"{name}: right.")
        return True
    print(f"{name}: not yet. {reason}" + (f" Hint: {hint}" if hint else ""))
    return False


def _difference(got: Any, expected: Any, tol: float) -> str:
    """What separates the two answers, in words; empty when they agree."""
    if got is None or got is Ellipsis:
        return "There is no answer here yet."
    if isinstance(expected, str | bool):
        # bool is a subclass of int: 1 is not the answer True
        return "" if type(got) is type(expected) and got == expected else "That is another answer."
    try:
        a, b = _number_array(got), _number_array(expected)
    except (TypeError, ValueError):
        return f"Expected numbers, got {type(got).__name__}."
    if a.shape != b.shape:
        return f"Expected shape {b.shape}, got {a.shape}."
    if not np.isfinite(a).all():
        return "There is a NaN or an infinity in it."
    worst = float(np.max(np.abs(a - b), initial=0.0))
    return "" if worst <= tol else f"It is off by {worst:.3g}, more than {tol:.3g}."
