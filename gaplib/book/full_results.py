"""The table of full runs that chapters 06 to 09 show beside the glyphs', where there are any.

With PROFILE=full the runs are made first, as far as the data is there (``gaplib.training.natural_presets``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gaplib.claims.table import Table
from gaplib.stats import over_seeds
from gaplib.training.natural_presets import PRESETS, full_rows, run_full

#: what a row of the table shows: heading -> names of metrics, of which the mean is taken
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "gap": ("centroid_distance",),
    "recall at 1": ("image_to_text@1", "text_to_image@1"),
}
#: shown where every row has it
FURTHER = {"CIFAR-10": "cifar10.accuracy@1", "CIFAR-100": "cifar100.accuracy@1", "SIMAT, percent": "simat.score"}


class Sentence(str):
    """A text that a notebook shows as a paragraph."""

    def _repr_markdown_(self) -> str:
        return str(self)


def table(chapter: str, profile: str = "quick", seeds: Sequence[int] = (100,), device: str = "cpu") -> Table | Sentence:
    """A row a preset and method with the gap and recall before and after training, or a sentence where there is none.

    chapter: two digits. profile: with "full", what is missing is run first; what could not be run is said in words.
    seeds, device: of those runs. Rows of another seed count, too.

    Raises ``ValueError`` for a damaged row.
    """
    missing = run_full(chapter, seeds, device) if profile == "full" else []
    said = " ".join(f"Not run: {' '.join(one.split())}." for one in missing)
    rows = full_rows(chapter)
    if not rows:
        papers = " and ".join(preset.source for preset in PRESETS.values() if chapter in preset.chapters)
        how = "`make book PROFILE=full` makes them on a GPU, where GAPLIB_NATURAL names the folder of the data."
        return Sentence(f"There are no results of a full run on natural images here ({papers}). {said or how}")
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["preset"], row["method"]), []).append(row)
    further = {head: (name,) for head, name in FURTHER.items() if all(name in row["after"] for row in rows)}
    shown = {**COLUMNS, **further}
    head = ["experiment", "method", "seeds", *(f"{one} {when}" for one in shown for when in ("before", "after"))]
    body = [
        (
            PRESETS[preset].source + ("" if not any(row["changed"] for row in group) else " (changed)"),
            label,
            str(len(group)),
            *(_cell(group, names, when) for names in shown.values() for when in ("before", "after")),
        )
        for (preset, label), group in groups.items()
    ]
    caption = f"Natural images, full runs. {said}".strip()
    return Table(tuple(head), tuple(body), caption)


def _cell(group: Sequence[Mapping[str, Any]], names: Sequence[str], when: str) -> str:
    """Mean over seeds, with its interval from two on."""
    values = [sum(row[when][name] for name in names) / len(names) for row in group]
    return str(over_seeds(values)) if len(values) > 1 else f"{values[0]:.3f}"
