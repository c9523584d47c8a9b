"""The card of two or more modalities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gaplib.geometry import GapReport, gap_report, normalize


@dataclass(frozen=True)
class Card:
    """What :func:`measure` returns: print it, or take ``to_dict()``, ``to_html()``; ``report`` for two modalities."""

    reports: tuple[GapReport, ...]

    @property
    def report(self) -> GapReport:
        """The report of the two modalities."""
        (report,) = self.reports
        return report

    def __str__(self) -> str:
        return "\n\n".join(map(str, self.reports))

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers, strings, lists and ``None``."""
        return self.report.to_dict()

    def to_html(self) -> str:
        """A standalone page."""
        return self.report.to_html()

    def _repr_html_(self) -> str:
        return self.report._repr_html_()


def measure(
    *modalities: Any,
    names: tuple[str, ...] | None = None,
    paired: bool = True,
    pairs: Any = None,
    groups: Any = None,
    compare: Any = None,
    key: str | None = None,
    seed: int = 0,
) -> Card:
    """The gap between modalities, each an array, a tensor or a path; or one mapping of name to those."""
    if len(modalities) == 1 and isinstance(modalities[0], Mapping):
        names, modalities = tuple(modalities[0]), tuple(modalities[0].values())
    x, y = map(normalize, modalities)
    return Card((gap_report(x, y, seed, paired, names=names or ("image", "text"), groups=groups),))
