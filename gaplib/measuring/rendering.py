"""Tables of the card, as text and as HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby
from textwrap import wrap

from gaplib.geometry.report_rendering import number_text
from gaplib.stats import Estimate

_WIDTH = 112  # of prose, in characters


@dataclass(frozen=True)
class Grid:
    """A table: a caption, heads, and rows of a section ("" for none) with as many cells as heads."""

    caption: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]

    def text(self) -> str:
        """Aligned columns; sections are lines of their own."""
        indent = "  " if any(section for section, _ in self.rows) else ""
        lines = [self.heads, *((indent + cells[0], *cells[1:]) for _, cells in self.rows)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.heads))]

        def joined(line: Sequence[str]) -> str:
            return "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()

        out = [self.caption, joined(self.heads)]
        for section, group in groupby(zip(self.rows, lines[1:], strict=True), key=lambda item: item[0][0]):
            out += [section] if section else []
            out += [joined(line) for _, line in group]
        return "\n".join(out)

    def html(self) -> str:
        """A table with a caption, and a scope for every head."""
        head = "".join(f'<th scope="col">{escape(name)}</th>' for name in self.heads)
        body = []
        for section, group in groupby(self.rows, key=lambda row: row[0]):
            body.append("<tbody>")
            if section:
                body.append(f'<tr><th scope="rowgroup" colspan="{len(self.heads)}">{escape(section)}</th></tr>')
            for _, cells in group:
                rest = "".join(f"<td>{escape(cell)}</td>" for cell in cells[1:])
                body.append(f'<tr><th scope="row">{escape(cells[0])}</th>{rest}</tr>')
            body.append("</tbody>")
        return f"<table><caption>{escape(self.caption)}</caption><thead><tr>{head}</tr></thead>{''.join(body)}</table>"


def wrapped(text: str, indent: str = "  ") -> str:
    """Prose for a terminal."""
    return "\n".join(wrap(text, _WIDTH, subsequent_indent=indent))


def with_interval(estimate: Estimate | None, value: float | None) -> str:
    """``0.800 [0.793, 0.807]``, without the interval where there is none."""
    if estimate is None:
        return number_text(value)
    return f"{number_text(value)} [{number_text(estimate.low)}, {number_text(estimate.high)}]"
