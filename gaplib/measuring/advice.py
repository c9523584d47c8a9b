"""What to do next, as a table of rules: what was measured, what to try, and which claims of the book bear on it.

A rule promises no number and no success: the claims say on what they were tried and what came out (``gaplib.claims``,
the book's page of claims). Add a row to add an advice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gaplib.claims import CLAIMS
from gaplib.geometry import GapReport


@dataclass(frozen=True)
class Advice:
    """One thing to do: ``when`` says what was found, ``text`` what to try, ``claims`` what the evidence is."""

    when: str
    text: str
    claims: tuple[str, ...]

    def evidence(self) -> tuple[str, ...]:
        """The claims in words."""
        return tuple(f"{name}: {CLAIMS[name].statement}" for name in self.claims)


@dataclass(frozen=True)
class Rule:
    """An advice, and for which reports it is one."""

    applies: Callable[[GapReport], bool]
    advice: Advice


def _stands_out(report: GapReport, name: str) -> bool:
    """Whether a gap metric is above all that exchanging the modalities gives."""
    value, floor = report.values.get(name), report.floors.get(name)
    return value is not None and floor is not None and value > floor.high


def _gap(report: GapReport) -> bool:
    return _stands_out(report, "centroid_distance")


def mean_recall_at_1(report: GapReport) -> float | None:
    """Mean of both directions; ``None`` where the report has not both."""
    both = (report.values["image_to_text_at_1"], report.values["text_to_image_at_1"])
    return None if both[0] is None or both[1] is None else (both[0] + both[1]) / 2


def _near_chance(report: GapReport) -> bool:
    recall, chance = mean_recall_at_1(report), report.retrieval_chance
    return recall is not None and chance is not None and recall < min(0.5, 5 * chance)


def _retrieves(report: GapReport) -> bool:
    return report.paired and not _near_chance(report)


def _collapsed(report: GapReport) -> bool:
    """Whether less than a quarter of the directions that there could be are used."""
    most = min(report.n - 1, report.d)
    return min(report.values["effective_rank_image"] or most, report.values["effective_rank_text"] or most) < most / 4


RULES = (
    Rule(
        lambda report: not _gap(report) and not _stands_out(report, "linear_separability"),
        Advice(
            "No gap beyond what exchanging the modalities gives.",
            "There is nothing to close. If a task is weak, look at the data, the loss and the spread of each modality.",
            ("L1", "Y12"),
        ),
    ),
    Rule(
        _near_chance,
        Advice(
            "True pairs are found hardly more often than by chance.",
            "Check that row i of both files is the same item and that the weights were loaded: an untrained model has "
            "a gap, too. Until pairs are found, metrics of pairs say little.",
            ("L2", "Y5"),
        ),
    ),
    Rule(
        lambda report: not _gap(report) and _stands_out(report, "linear_separability"),
        Advice(
            "The centroids agree, and yet a plane tells the modalities apart.",
            "A shift has nothing to move here. Compare the covariances (gaplib.geometry.metrics: distribution_gap) "
            "and the subspaces (gaplib.geometry.principal_angles).",
            ("T1", "D1"),
        ),
    ),
    Rule(
        _gap,
        Advice(
            "The centroids are apart.",
            "Try the cheapest treatment first, on your own task: fit each modality's mean on other pairs, subtract it, "
            "normalise (gaplib.posthoc), and measure task and gap again (--compare).",
            ("C1", "L10"),
        ),
    ),
    Rule(
        _gap,
        Advice(
            "Does one index hold documents of both modalities?",
            "Then the gap decides the ranking: score a mixed set before and after centring "
            "(gaplib.evaluation.mixed_search), and count hubs.",
            ("C2", "H1"),
        ),
    ),
    Rule(
        lambda report: _gap(report) and _retrieves(report),
        Advice(
            "Is retrieval between the modalities all that you need?",
            "Then do not train for a smaller gap as such: take what helps recall, and read the gap beside it.",
            ("F6", "J3", "M1"),
        ),
    ),
    Rule(
        lambda report: _gap(report) and report.paired,
        Advice(
            "Must the gap be closed in training?",
            "Fine-tune with a higher temperature, fixed or on a schedule, or with alignment and uniformity terms "
            "(python -m gaplib methods), and hold recall on held-out pairs against the plain loss.",
            ("F5", "L9", "Y6", "Y9"),
        ),
    ),
    Rule(
        lambda report: _stands_out(report, "top5_coordinate_share"),
        Advice(
            "A few coordinates hold most of what rotation would spread.",
            "Look at them (gaplib.geometry.gap_vector): a treatment of these alone may be enough.",
            ("S2",),
        ),
    ),
    Rule(
        _collapsed,
        Advice(
            "Less than a quarter of the directions is used.",
            "Look at the spectrum before the gap: cosines crowd in few directions, and a projection onto the shared "
            "ones may take the gap away.",
            ("F4", "D1"),
        ),
    ),
)


def advice_for(report: GapReport) -> tuple[Advice, ...]:
    """The advice that fits the report, in the order of ``RULES``."""
    return tuple(rule.advice for rule in RULES if rule.applies(report))
