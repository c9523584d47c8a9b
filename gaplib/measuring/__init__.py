"""The gap of your own embeddings in one call: :func:`measure`, and the :class:`Card` that it returns."""

from __future__ import annotations

from gaplib.measuring.card import Card, measure

__all__ = ["Card", "measure"]
