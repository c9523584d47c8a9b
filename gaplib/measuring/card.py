"""The card of two or more modalities: what was measured, how sure it is, where it stands, what to do next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Any

import pandas as pd

from gaplib.geometry import GapReport
from gaplib.geometry.metrics import METRICS
from gaplib.geometry.report_rendering import floor_text, number_text, page
from gaplib.measuring.advice import Advice, mean_recall_at_1
from gaplib.measuring.rendering import Grid, with_interval, wrapped
from gaplib.stats import Estimate

#: values whose place among other models is shown: those that their number of items moves little
PLACED = ("centroid_distance", "relative_modality_gap", "true_pair_cosine", "mean_cosine_image", "mean_cosine_text")
#: values that the matrix of more than two modalities has
HEADLINE = {
    "centroid_distance": METRICS["centroid_distance"].label,
    "relative_modality_gap": METRICS["relative_modality_gap"].label,
    "linear_separability": METRICS["linear_separability"].label,
    "recall_at_1": "retrieval@1, mean of both directions",
}
_ON_TRIAL = "The claims, on trial in the book (its page of claims has the verdicts)"
_DASH = "\N{EN DASH}"
_LEGEND = (
    "In brackets: 95 % interval over other items of the same kind, where there is one. Without a gap: mean "
    "[central 95 %] with the modalities exchanged within random pairs (groups, where given); for the coordinates, with "
    "the gap rotated at random. Place: among the trained models measured so far, on their own data."
)


@dataclass(frozen=True)
class Measured:
    """One measurement of two modalities: the report, the intervals of its values by key, and notes."""

    report: GapReport
    intervals: Mapping[str, Estimate]


@dataclass(frozen=True)
class Card:
    """What :func:`gaplib.measure` returns.

    ``print`` it, show it in a notebook, or take ``to_dict()``, ``to_html()``, ``to_frame()``.

    names: of the modalities. measured: by the names of two modalities, their report with intervals; ``report`` and
    ``intervals`` are those of the only two. places: by key, the place among the models measured so far. advice: what to
    do next, with claims. other, differences: of two modalities that were compared with (``compare=``), and by key the
    other value minus this one. notes: what a reader has to know besides.
    """

    names: tuple[str, ...]
    measured: Mapping[tuple[str, str], Measured]
    places: Mapping[str, str] = field(default_factory=dict)
    advice: tuple[Advice, ...] = ()
    other: Measured | None = None
    differences: Mapping[str, Estimate | float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def report(self) -> GapReport:
        """The report of the two modalities; ``ValueError`` where there are more (``measured`` has all)."""
        return self._only.report

    @property
    def intervals(self) -> Mapping[str, Estimate]:
        """By key, the values of ``report`` that have an interval."""
        return self._only.intervals

    @property
    def _only(self) -> Measured:
        if len(self.measured) != 1:
            raise ValueError(f"expected two modalities, got {', '.join(self.names)}: measured[name, name] has each two")
        return next(iter(self.measured.values()))

    def matrix(self, key: str) -> pd.DataFrame:
        """Any value of the reports between all modalities, or "recall_at_1": symmetric, empty on the diagonal."""
        frame = pd.DataFrame(index=list(self.names), columns=list(self.names), dtype="Float64")
        for (one, other), measured in self.measured.items():
            value = headline(measured.report, key)
            if value is not None:
                frame.loc[one, other] = frame.loc[other, one] = value
        return frame

    def to_frame(self) -> pd.DataFrame:
        """``GapReport.to_frame()`` with columns ``low`` and ``high`` of the intervals, and ``place``."""
        frame = self.report.to_frame()
        for end in ("low", "high"):
            column = [getattr(self.intervals.get(key), end, None) for key in frame.index]
            frame[end] = pd.array(column, dtype="Float64")
        frame["place"] = [self.places.get(key, "") for key in frame.index]
        return frame

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings, lists and ``None``. Of two modalities all of ``GapReport.to_dict()`` and more."""
        if len(self.measured) > 1:
            return {
                "names": list(self.names),
                "notes": list(self.notes),
                "matrix": {key: _plain(self.matrix(key)) for key in HEADLINE},
                "reports": [_measured_dict(measured) for measured in self.measured.values()],
            }
        out = _measured_dict(self._only)
        out["notes"] += self.notes
        out["places"] = dict(self.places)
        out["next"] = [
            {"when": one.when, "advice": one.text, "claims": list(one.claims), "evidence": list(one.evidence())}
            for one in self.advice
        ]
        if self.other is not None:
            out["compared_with"] = _measured_dict(self.other)
            out["differences"] = {
                key: {"value": float(one), "low": getattr(one, "low", None), "high": getattr(one, "high", None)}
                for key, one in self.differences.items()
            }
        return out

    def __str__(self) -> str:
        notes = [wrapped(f"Note: {note}") for note in self._notes()]
        body = [grid.text() for grid in self._grids()]
        out = "\n\n".join(["\n".join([self._title(), *notes]), *body, wrapped(self._legend(), "")])
        if self.advice:
            out += "\n\nWhat to do next\n" + "\n".join(
                wrapped(f"* {one.when} {one.text} Evidence: {', '.join(one.claims)}.") for one in self.advice
            )
            out += "\n\n" + _ON_TRIAL + "\n"
            out += "\n".join(wrapped(f"  {line}", "    ") for line in self._evidence())
        return out

    def to_html(self) -> str:
        """A standalone HTML page; no script, nothing to load, light and dark."""
        return page(self._title(), self._body(standalone=True))

    def _repr_html_(self) -> str:
        # No headings and no regions: where in a page it stands, and beside how many others, is not known here.
        return f'<div class="gaplib-card"><p><strong>{escape(self._title())}</strong></p>{self._body()}</div>'

    def _body(self, standalone: bool = False) -> str:
        out = [f"<p>Note: {escape(note)}</p>" for note in self._notes()]
        for grid in self._grids():
            # Focusable, so that a keyboard can scroll a table wider than the window.
            wrap = (
                f'<div class="wrap" tabindex="0" role="region" aria-label="{escape(grid.caption)}">{grid.html()}</div>'
            )
            out.append(wrap if standalone else grid.html())
        out.append(f"<p>{escape(self._legend())}</p>")
        if self.advice:
            items = "".join(
                f"<li><strong>{escape(one.when)}</strong> {escape(one.text)} Evidence: {', '.join(one.claims)}.</li>"
                for one in self.advice
            )
            claims = "".join(f"<li>{escape(line)}</li>" for line in self._evidence())
            out.append("<h2>What to do next</h2>" if standalone else "<p><strong>What to do next</strong></p>")
            out.append(f"<ul>{items}</ul><p>{_ON_TRIAL}:</p><ul>{claims}</ul>")
        return "\n".join(out) + "\n"

    def _evidence(self) -> list[str]:
        return sorted({line for one in self.advice for line in one.evidence()})

    def _notes(self) -> tuple[str, ...]:
        return (*self.notes, *(note for measured in self.measured.values() for note in measured.report.notes))

    def _title(self) -> str:
        if len(self.measured) == 1:
            return self.report.title
        sizes = {(m.report.n, m.report.d, m.report.paired) for m in self.measured.values()}
        rows, d, paired = max(sizes)
        return f"Modality gaps between {', '.join(self.names)}: {rows} {'items' if paired else 'rows'}, {d} dimensions"

    def _legend(self) -> str:
        return (
            _LEGEND
            if len(self.measured) == 1
            else "Each number is of two modalities; measured[name, name] has the rest."
        )

    def _grids(self) -> list[Grid]:
        if len(self.measured) > 1:
            return [
                Grid(label, ("modality", *self.names), _matrix_rows(self.matrix(key)))
                for key, label in HEADLINE.items()
                if self.matrix(key).notna().any(axis=None)
            ]
        heads: tuple[str, ...] = ("metric", "value", "without a gap", "how to read it")
        heads += ("place",) if self.places else ()
        rows = []
        for row in self.report.rows():
            cells = (
                row.label,
                with_interval(self.intervals.get(row.key), row.value),
                floor_text(row.floor),
                row.meaning,
            )
            rows.append((row.section, (*cells, self.places.get(row.key, "")) if self.places else cells))
        grids = [Grid("What was measured", heads, tuple(rows))]
        return grids if self.other is None else [*grids, self._comparison()]

    def _comparison(self) -> Grid:
        assert self.other is not None
        rows = []
        for row in self.report.rows():
            change = self.differences.get(row.key)
            estimate = change if isinstance(change, Estimate) else None
            shown = _DASH if change is None else with_interval(estimate, float(change))
            rows.append(
                (
                    row.section,
                    (row.label, number_text(row.value), number_text(self.other.report.values[row.key]), shown),
                )
            )
        return Grid(
            f"Compared with: {self.other.report.title}", ("metric", "this", "other", "other minus this"), tuple(rows)
        )


def headline(report: GapReport, key: str) -> float | None:
    """A value of the report, or the mean recall at 1 of both directions ("recall_at_1")."""
    return mean_recall_at_1(report) if key == "recall_at_1" else report.values[key]


def _measured_dict(measured: Measured) -> dict[str, Any]:
    out = measured.report.to_dict()
    out["intervals"] = {
        key: {"low": one.low, "high": one.high, "method": one.method} for key, one in measured.intervals.items()
    }
    return out


def _plain(frame: pd.DataFrame) -> dict[str, dict[str, float | None]]:
    return {
        one: {
            other: None if pd.isna(frame.loc[one, other]) else float(frame.loc[one, other]) for other in frame.columns
        }
        for one in frame.index
    }


def _matrix_rows(frame: pd.DataFrame) -> tuple[tuple[str, tuple[str, ...]], ...]:
    return tuple(
        ("", (one, *(_DASH if value is None else number_text(value) for value in row.values())))
        for one, row in _plain(frame).items()
    )
