"""The claims that the book tests: rows as data, one machine that decides them.

``CLAIMS`` maps a claim's id to its row; ``table("01")`` shows a chapter's rows and ``found(recorder)`` what its run
found; ``decide(claim, results)`` gives the verdict. The format of the rows: ``gaplib.claims.rules``.
"""

from __future__ import annotations

from typing import Any

from gaplib._validate import check_choice
from gaplib.claims import ch01, ch02, ch03, ch04, ch05, ch06, ch07, ch08, ch09, ch10
from gaplib.claims.decide import VERDICTS, Decision, PartDecision, decide
from gaplib.claims.deviations import DEVIATIONS, Deviation
from gaplib.claims.rules import Baseline, Claim, Part
from gaplib.claims.table import Table, found_table, trial_table

__all__ = [
    "CLAIMS",
    "DEVIATIONS",
    "VERDICTS",
    "Baseline",
    "Claim",
    "Decision",
    "Deviation",
    "Part",
    "PartDecision",
    "Table",
    "chapter_claims",
    "decide",
    "found",
    "table",
]


def _collect(*modules: Any) -> dict[str, Claim]:
    claims: dict[str, Claim] = {}
    for module in modules:
        for claim in module.ROWS:
            if claim.id in claims:
                raise ValueError(f"{module.__name__}: expected each claim once, got {claim.id} again")
            if claim.chapter != module.__name__[-2:]:
                raise ValueError(
                    f"{module.__name__}: expected claims of its own chapter, got {claim.id} of {claim.chapter}"
                )
            claims[claim.id] = claim
    return claims


CLAIMS: dict[str, Claim] = _collect(ch01, ch02, ch03, ch04, ch05, ch06, ch07, ch08, ch09, ch10)


def chapter_claims(chapter: str) -> tuple[Claim, ...]:
    """The rows of a chapter ("01"), in their order; ValueError for a chapter without claims."""
    check_choice(chapter, "chapter", sorted({claim.chapter for claim in CLAIMS.values()}))
    return tuple(claim for claim in CLAIMS.values() if claim.chapter == chapter)


def table(chapter: str) -> Table:
    """The "Claims on trial" table of a chapter."""
    return trial_table(chapter_claims(chapter))


def found(recorder: Any) -> Table:
    """The "What we found" table of a run, from what its ``Recorder`` holds."""
    return found_table(chapter_claims(recorder.chapter), recorder)
