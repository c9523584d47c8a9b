"""The row format of a claim, and the rule text and hash that are made from it.

A claim is data: what is measured, in which direction, and the smallest effect that would matter. A generic machine
(``gaplib.claims.decide``) reads it. One module of rows a chapter (``ch01.py`` ... ``ch10.py``), each a tuple ``ROWS``::

    from gaplib.claims.rules import Baseline, Claim, Part

    ROWS = (
        Claim(
            id="L1",
            chapter="01",
            paper="liang2022mind",                        # cite key in book/references.bib
            source="Liang et al. 2022, Fig. 1: 0.82 for CLIP on 5,000 COCO pairs",
            setting="P",                                  # G W P R H N: letters of SETTINGS, joined by spaces
            statement="Trained two-encoder models keep a gap between their modalities.",
            test="Centroid distance less its permutation floor, on the released embeddings of four models.",
            refuted_if="A trained model's distance lies within 0.2 of what exchanging its modalities gives.",
            parts=(
                Part("L1.clip.excess_distance", "above", 0.2, "CLIP: centroid distance above its floor",
                     why="a quarter of the published 0.82", headline=True),
                Part("L1.clip.separability", "above", 0.95, "CLIP: a linear probe tells the modalities apart"),
            ),
            seeds=0,                                      # nothing is trained here; 10 (the default) where something is
            status="frozen",                              # "draft": may still change before the confirming run
        ),
    )

``Part(quantity, comparison, threshold, says, ...)``

* ``quantity``: the dotted name under which the notebook records the result: ``run.record("L1.clip.separability",
  est)``.
* ``comparison`` and ``threshold``: ``"above" 0.2``, ``"below" 0.1`` or ``"within" (-0.02, 0.02)``. The threshold
  already holds the smallest effect that would matter, so record a *difference* where the claim is about one
  (``paired_difference``).
* ``says``: the part in a few words, without a full stop. ``why``: where the threshold comes from.
* ``exact=True``: a quantity without sampling error, such as a theorem's deterministic side; record
  ``stats.exact(value)``.
* ``family``: parts of one claim with the same label are corrected together (Holm); by default all parts of a claim are.
* ``baseline=Baseline("C1.clip.recall", chance, ceiling)``: the part counts only if that result lies between 30 and 85 %
  of the way from ``chance`` to ``ceiling``. Every ``"within"`` part about a task score needs one: "no change" at a
  floor or a ceiling says nothing. A part with a baseline that is off that range is undecided, whatever its own test
  says.
* ``headline=True`` on one part: its estimate fills the effect column of the claims table (else the first part's).
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass

from gaplib._validate import check_choice, check_integer, check_number

# Raise this when the meaning of a rule changes (decide.py), so that every rule's hash changes with it.
MACHINERY = 1

COMPARISONS = ("above", "below", "within")
SETTINGS = {
    "G": "glyphs: characters and their Unicode names",
    "W": "a synthetic world",
    "P": "published embeddings of real models",
    "R": "real architectures at random initialisation",
    "H": "handwritten digits",
    "N": "natural images (GPU only)",
}
_DOTTED = re.compile(r"[A-Za-z0-9_+-]+(\.[A-Za-z0-9_+-]+)+")


def check_result_name(name: str, argument: str = "name") -> str:
    """Return ``name`` if it is a dotted result name such as ``L1.clip.separability``, else raise ``ValueError``."""
    if not isinstance(name, str) or not _DOTTED.fullmatch(name):
        raise ValueError(
            f"{argument}: expected a dotted name such as 'L1.clip.separability' "
            f"(letters, digits, _ + - between the dots), got {name!r:.80}"
        )
    return name


@dataclass(frozen=True)
class Baseline:
    """The result that must be off its floor and its ceiling: between 30 and 85 % of the way from chance to ceiling."""

    quantity: str
    chance: float
    ceiling: float = 1.0

    FLOOR, CEILING = 0.30, 0.85  # shares of the range; no annotation, so not fields

    def __post_init__(self) -> None:
        check_result_name(self.quantity, "Baseline.quantity")
        check_number(self.chance, "Baseline.chance")
        check_number(self.ceiling, "Baseline.ceiling", low=self.chance, low_open=True)

    def share(self, value: float) -> float:
        """How far ``value`` lies on the way from chance (0) to ceiling (1)."""
        return (value - self.chance) / (self.ceiling - self.chance)

    def holds(self, value: float) -> bool:
        return self.FLOOR <= self.share(value) <= self.CEILING


@dataclass(frozen=True)
class Part:
    """One testable comparison of a claim; see the module's docstring."""

    quantity: str
    comparison: str
    threshold: float | tuple[float, float]
    says: str
    why: str = ""
    unit: str = ""
    exact: bool = False
    family: str = ""
    baseline: Baseline | None = None
    headline: bool = False

    def __post_init__(self) -> None:
        check_result_name(self.quantity, "Part.quantity")
        check_choice(self.comparison, f"comparison of {self.quantity}", COMPARISONS)
        if self.comparison == "within":
            if not isinstance(self.threshold, tuple) or len(self.threshold) != 2:
                raise ValueError(f"threshold of {self.quantity}: expected a (low, high) tuple, got {self.threshold!r}")
            low, high = self.threshold
            check_number(low, f"threshold of {self.quantity}")
            check_number(high, f"threshold of {self.quantity}", low=low, low_open=True)
        else:
            check_number(self.threshold, f"threshold of {self.quantity}")
        if not self.says:
            raise ValueError(f"says of {self.quantity}: expected a few words, got nothing")

    @property
    def ends(self) -> tuple[float, float]:
        """The threshold as an interval; both ends are the one number unless the comparison is "within"."""
        return self.threshold if isinstance(self.threshold, tuple) else (self.threshold, self.threshold)

    def wanted(self) -> str:
        """The comparison in words: ``above 0.2``, ``within [-0.02, 0.02]``."""
        low, high = self.ends
        return f"within [{low:g}, {high:g}]" if self.comparison == "within" else f"{self.comparison} {low:g}"

    def rule(self) -> str:
        """The part's rule as one sentence."""
        text = f"{self.says}: {self.quantity} {self.wanted()}"
        text += " (exact)" if self.exact else ""
        text += f", {self.why}" if self.why else ""
        if self.baseline:
            b = self.baseline
            text += f"; counts only while {b.quantity} is 30 to 85 % of the way from {b.chance:g} to {b.ceiling:g}"
        return text


@dataclass(frozen=True)
class Claim:
    """One statement of the literature and how it is put to the test; see the module's docstring."""

    id: str
    chapter: str
    paper: str
    source: str
    setting: str
    statement: str
    test: str
    refuted_if: str
    parts: tuple[Part, ...]
    seeds: int = 10
    status: str = "draft"
    note: str = ""
    out_of_reach: str = ""

    def __post_init__(self) -> None:
        for field in ("id", "paper", "source", "statement", "test", "refuted_if"):
            if not isinstance(getattr(self, field), str) or not getattr(self, field):
                raise ValueError(f"{field} of claim {self.id}: expected text, got {getattr(self, field)!r}")
        if not re.fullmatch(r"\d\d", self.chapter):
            raise ValueError(f"chapter of {self.id}: expected two digits such as '01', got {self.chapter!r}")
        for letter in self.setting.split() or [""]:
            check_choice(letter, f"setting of {self.id}", SETTINGS)
        check_choice(self.status, f"status of {self.id}", ("draft", "frozen"))
        check_integer(self.seeds, f"seeds of {self.id}", low=0)
        if not isinstance(self.parts, tuple) or not self.parts:
            raise ValueError(f"parts of {self.id}: expected a tuple of at least one Part, got {self.parts!r:.80}")
        names = [part.quantity for part in self.parts]
        if len(set(names)) < len(names):
            raise ValueError(f"parts of {self.id}: expected each quantity once, got {names}")
        if sum(part.headline for part in self.parts) > 1:
            raise ValueError(f"parts of {self.id}: expected at most one headline part")

    @property
    def headline(self) -> Part:
        """The part whose estimate stands in the claims table."""
        return next((part for part in self.parts if part.headline), self.parts[0])

    @property
    def rule(self) -> str:
        """The whole rule as text, made from the parts."""
        parts = "; ".join(f"({i}) {part.rule()}" for i, part in enumerate(self.parts, 1))
        families = {part.family for part in self.parts}
        holm = (
            ""
            if len(self.parts) == 1
            else f" Holm over {'all parts' if len(families) == 1 else 'each family of parts'}."
        )
        seeds = f" At least {self.seeds} seeds from 100 on wherever something is trained." if self.seeds else ""
        return f"{parts}.{holm}{seeds}"

    @property
    def rule_hash(self) -> str:
        """SHA-256 of the canonical JSON of the statement, the parts, the seeds and the machinery's version."""
        content = {
            "id": self.id,
            "statement": self.statement,
            "parts": [asdict(part) for part in self.parts],
            "seeds": self.seeds,
            "machinery": MACHINERY,
        }
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()
