"""What the notebooks show of the claims: a chapter's table before the story, and what the run found after it."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from gaplib.claims.decide import NOT_YET, decide
from gaplib.claims.rules import Claim


@dataclass(frozen=True)
class Table:
    """Rows of text that a notebook shows as HTML, a terminal as Markdown."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""

    def _repr_markdown_(self) -> str:
        def line(cells: Iterable[str]) -> str:
            return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

        body = [line(self.columns), "|" + "---|" * len(self.columns), *map(line, self.rows)]
        return "\n".join(([self.caption, ""] if self.caption else []) + body)

    def _repr_html_(self) -> str:
        caption = f"<caption>{html.escape(self.caption)}</caption>" if self.caption else ""
        head = "".join(f'<th scope="col">{html.escape(c)}</th>' for c in self.columns)
        body = "".join(
            f'<tr><th scope="row">{html.escape(row[0])}</th>'
            + "".join(f"<td>{html.escape(c)}</td>" for c in row[1:])
            + "</tr>"
            for row in self.rows
        )
        return f'<table class="claims table">{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'

    def __str__(self) -> str:
        return self._repr_markdown_()


def trial_table(claims: Sequence[Claim]) -> Table:
    """What stands on trial: id, statement, source, test, and what would refute it."""
    return Table(
        ("claim", "statement", "source", "how it is tested", "what would refute it"),
        tuple((c.id, c.statement, c.source, c.test, c.refuted_if) for c in claims),
        "Every clause of the last column is tested apart: where only some hold, the verdict is 'partly'.",
    )


def found_table(claims: Sequence[Claim], recorder: Any) -> Table:
    """What a run found: a row a part, with its estimate, floor, the rule, what this run says, and the claim's verdict.

    The verdict column holds the verdict of the confirming run (committed, or this run itself where its profile is
    ``confirm``); a quick run is shown beside it and never decides.
    """
    results, floors, confirmed = recorder.estimates, recorder.floors, recorder.confirmed()
    rows = []
    for claim in claims:
        here = decide(claim, results, seeds=None if recorder.profile == "confirm" else 2)
        verdict = decide(claim, confirmed).verdict if confirmed else NOT_YET
        for i, part in enumerate(here.parts):
            floor = floors.get(part.part.quantity)
            rows.append(
                (
                    claim.id,
                    part.part.says,
                    str(part.estimate) if part.estimate else "no result",
                    "" if floor is None else f"{floor.mean:.2f}",
                    part.part.wanted(),
                    part.verdict,
                    verdict if i == 0 else "",
                )
            )
    seeds = len(recorder.seeds)
    return Table(
        ("claim", "what was measured", "estimate [interval]", "floor", "rule asks", "this run", "verdict on the claim"),
        tuple(rows),
        f"Profile {recorder.profile}, {seeds} seed{'s' if seeds > 1 else ''}. Verdicts rest on the confirming run.",
    )
