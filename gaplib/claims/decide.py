"""From results to verdicts: one machine for every claim, so that a rule is data and cannot bend to a result.

A part is *reproduced* when its one-sided p-value against the threshold, Holm-adjusted over its family, is below 0.05
and the printed interval lies wholly beyond the threshold; *not reproduced* when the same holds for the opposite side;
else *undecided*. ``within`` takes two one-sided tests. Asking for both, test and interval, keeps every verdict visible
in the interval that a reader sees. A claim is reproduced when all its parts are, not reproduced when none is and all
fail, partly reproduced when some are, else undecided.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from scipy.stats import norm

from gaplib.claims.rules import Claim, Part
from gaplib.stats import EXACT, Estimate, holm, p_above, p_below, p_within

ALPHA = 0.05
POWER = 0.80

REPRODUCED, PARTLY, NOT_REPRODUCED = "reproduced", "partly", "not reproduced"
UNDECIDED, OUT_OF_REACH, NOT_YET = "undecided", "out of reach here", "not yet"
VERDICTS = (REPRODUCED, PARTLY, NOT_REPRODUCED, UNDECIDED, OUT_OF_REACH, NOT_YET)


@dataclass(frozen=True)
class PartDecision:
    """One part's verdict. p: adjusted p-value for the part, against: for its opposite (1 where there is no result)."""

    part: Part
    verdict: str
    estimate: Estimate | None
    p: float
    against: float
    reason: str = ""


@dataclass(frozen=True)
class Decision:
    """A claim's verdict, the sentence that explains it, and the decisions of its parts."""

    claim: Claim
    verdict: str
    explanation: str
    parts: tuple[PartDecision, ...]

    @property
    def estimate(self) -> Estimate | None:
        """The headline part's estimate."""
        return next(d.estimate for d in self.parts if d.part is self.claim.headline)


def p_values(part: Part, estimate: Estimate) -> tuple[float, float]:
    """One-sided p-values (for the part, for its opposite), not yet adjusted."""
    low, high = part.ends
    if part.comparison == "above":
        return p_above(estimate, low), p_below(estimate, low)
    if part.comparison == "below":
        return p_below(estimate, high), p_above(estimate, high)
    return p_within(estimate, low, high), min(p_below(estimate, low), p_above(estimate, high))


def _sides(part: Part, estimate: Estimate) -> tuple[bool, bool]:
    """Whether the interval lies wholly on the part's side, and wholly on the other."""
    low, high = part.ends
    if part.comparison == "above":
        return estimate.low > low, estimate.high < low
    if part.comparison == "below":
        return estimate.high < high, estimate.low > high
    return low < estimate.low and estimate.high < high, estimate.high < low or estimate.low > high


def samples_needed(part: Part, estimate: Estimate, tests: int = 1) -> int | None:
    """How many seeds, pairs or trials would decide the part with 80 % power, if the effect is as estimated.

    Normal approximation: n sd²/d² times (z(alpha) + z(power))², with d the distance to the (nearer) threshold and alpha
    the stricter of the interval's 0.025 and Holm's 0.05/tests. None where it cannot be said: no spread, or no distance.
    """
    distance = min(abs(estimate.value - end) for end in part.ends)
    if estimate.se == 0 or distance < 1e-4 * estimate.se:
        return None
    z = norm.isf(min(ALPHA / 2, ALPHA / tests)) + norm.isf(1 - POWER)
    ratio = z * estimate.se / distance
    return max(math.ceil(ratio * ratio * estimate.n), estimate.n + 1)


def _unit(estimate: Estimate) -> str:
    return "seeds" if "seeds" in estimate.method else "trials" if estimate.method == "proportion" else "pairs"


def _what_it_takes(part: Part, estimate: Estimate, tests: int) -> str:
    needed = samples_needed(part, estimate, tests)
    if estimate.method == EXACT:
        return "the exact value lies on the threshold"
    if needed is None:
        return f"more {_unit(estimate)} are needed; how many cannot be said from a value so close to the threshold"
    return f"about {needed:,} {_unit(estimate)} instead of {estimate.n:,} would decide it if the effect is as estimated"


def _blocked(part: Part, results: Mapping[str, Estimate], seeds: int) -> str:
    """Why a part's own test may not speak, or nothing."""
    estimate = results.get(part.quantity)
    if estimate is None:
        return f"there is no result {part.quantity}"
    if part.exact and estimate.method != EXACT:
        return f"{part.quantity} was recorded with an interval, its rule says exact"
    if not part.exact and estimate.method == EXACT:
        return f"{part.quantity} was recorded without an interval"
    if "seeds" in estimate.method and estimate.n < seeds:
        return f"{part.quantity} rests on {estimate.n} seeds, the rule asks for {seeds}"
    baseline = part.baseline
    if baseline is None:
        return ""
    base = results.get(baseline.quantity)
    if base is None:
        return f"there is no baseline result {baseline.quantity}"
    if not baseline.holds(base.value):
        return (
            f"the baseline {baseline.quantity} = {base.value:.3g} lies {baseline.share(base.value):.0%} of the way "
            f"from chance ({baseline.chance:g}) to ceiling ({baseline.ceiling:g}), outside 30 to 85 %: "
            f"it takes {'a harder' if baseline.share(base.value) > baseline.CEILING else 'an easier'} task"
        )
    return ""


def _decide_family(parts: list[Part], results: Mapping[str, Estimate], seeds: int) -> list[PartDecision]:
    """The parts of one family. A part that may not speak keeps its place in Holm's correction, with p = 1."""
    blocked = [_blocked(part, results, seeds) for part in parts]
    raw = [
        (1.0, 1.0) if why else p_values(part, results[part.quantity]) for part, why in zip(parts, blocked, strict=True)
    ]
    decisions = []
    adjusted = holm([r[0] for r in raw]), holm([r[1] for r in raw])
    for part, why, p, against in zip(parts, blocked, *adjusted, strict=True):
        verdict, reason = UNDECIDED, why
        if not why:
            estimate = results[part.quantity]
            beyond, excluded = _sides(part, estimate)
            if p < ALPHA and beyond:
                verdict = REPRODUCED
            elif against < ALPHA and excluded:
                verdict = NOT_REPRODUCED
            else:
                reason = _what_it_takes(part, estimate, len(parts))
        decisions.append(PartDecision(part, verdict, results.get(part.quantity), p, against, reason))
    return decisions


def _verdict(claim: Claim, verdicts: list[str]) -> str:
    if all(v == REPRODUCED for v in verdicts):
        return REPRODUCED
    if all(v == NOT_REPRODUCED for v in verdicts):
        return NOT_REPRODUCED
    return PARTLY if REPRODUCED in verdicts else UNDECIDED


def _sentence(decision: PartDecision) -> str:
    part, estimate = decision.part, decision.estimate
    if estimate is None:
        return f"{part.says}: {decision.reason}."
    relation = {REPRODUCED: "is", NOT_REPRODUCED: "is not", UNDECIDED: "may or may not be"}[decision.verdict]
    # A part that may not speak is not compared with its threshold: its own sentence says why.
    blocked = decision.verdict == UNDECIDED and decision.p == decision.against == 1.0
    text = f"{part.says}: {estimate}" if blocked else f"{part.says}: {estimate} {relation} {part.wanted()}"
    if decision.verdict != UNDECIDED and estimate.method != EXACT:
        p = decision.p if decision.verdict == REPRODUCED else decision.against
        text += f" (p {'< 0.001' if p < 0.001 else f'= {p:.3f}'})"
    return f"{text}; {decision.reason}." if decision.reason else f"{text}."


def _explain(claim: Claim, verdict: str, parts: list[PartDecision]) -> str:
    """The parts that decided: the failing or open ones, else the headline."""
    if len(parts) == 1:
        return _sentence(parts[0])
    held = sum(d.verdict == REPRODUCED for d in parts)
    shown = [d for d in parts if d.verdict == NOT_REPRODUCED] + [d for d in parts if d.verdict == UNDECIDED]
    if verdict in (REPRODUCED, NOT_REPRODUCED):
        shown = [d for d in parts if d.part is claim.headline]
    everything = "Both parts hold" if len(parts) == 2 else f"All {len(parts)} parts hold"
    lead = {0: "No part holds", len(parts): everything}.get(held, f"{held} of {len(parts)} parts hold")
    more = f" And {len(shown) - 3} more." if len(shown) > 3 else ""
    return f"{lead}. {' '.join(_sentence(d) for d in shown[:3])}{more}"


def decide(claim: Claim, results: Mapping[str, Estimate], seeds: int | None = None) -> Decision:
    """The verdict on ``claim`` from ``results`` (result name -> Estimate).

    seeds: least number of seeds that a result over seeds must rest on; by default what the claim's rule asks for.
    Without any result of its parts a claim is "not yet" (or "out of reach here", where the row says so).
    """
    if not any(part.quantity in results for part in claim.parts):
        verdict = OUT_OF_REACH if claim.out_of_reach else NOT_YET
        text = claim.out_of_reach or f"Chapter {claim.chapter} has no confirming results yet."
        return Decision(
            claim, verdict, text, tuple(PartDecision(p, verdict, None, 1.0, 1.0, "no result") for p in claim.parts)
        )
    least = claim.seeds if seeds is None else seeds
    decided: dict[str, PartDecision] = {}
    for family in dict.fromkeys(part.family for part in claim.parts):
        members = [part for part in claim.parts if part.family == family]
        decided |= {d.part.quantity: d for d in _decide_family(members, results, least)}
    parts = [decided[part.quantity] for part in claim.parts]
    verdict = _verdict(claim, [d.verdict for d in parts])
    return Decision(claim, verdict, _explain(claim, verdict, parts), tuple(parts))
