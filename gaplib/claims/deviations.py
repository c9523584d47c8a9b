"""Changes of frozen rules after their confirming run: logged here, shown on the claims page, and never silent.

One ``Deviation`` an entry, oldest first. ``old`` and ``new`` are the rule hashes in full: ``old`` is what the committed
results file holds, ``new`` what ``CLAIMS[id].rule_hash`` gives now.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Deviation:
    """One logged change. date: ISO, such as 2026-01-31. why: what was wrong with the old rule, in a sentence."""

    id: str
    date: str
    old: str
    new: str
    why: str


DEVIATIONS: tuple[Deviation, ...] = ()
