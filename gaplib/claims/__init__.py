"""The claims that the book tests: rows as data, one machine that decides them."""

from gaplib.claims.rules import Baseline, Claim, Part

__all__ = ["Baseline", "Claim", "Part"]
