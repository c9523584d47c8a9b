"""The report card as text and as HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby
from textwrap import wrap

from gaplib.stats import Floor

_DASH = "\N{EN DASH}"
_HEADS = ("metric", "value", "without a gap", "how to read it")
_NOTE = (
    "Without a gap: mean [central 95 %] with the modalities exchanged within random pairs (groups, where given); "
    "for the coordinates, with the gap rotated at random."
)
_WIDTH = 112  # of the notes, in characters
# Contrast above 7:1 in both schemes; the figures line up.
_STYLE = """
:root { color-scheme: light dark; --text: #1b1b1b; --back: #ffffff; --soft: #f0f2f5; --line: #8a8f98; }
@media (prefers-color-scheme: dark) {
  :root { --text: #ececec; --back: #16181c; --soft: #23262c; --line: #7d838d; }
}
body { margin: 2rem auto; max-width: 60rem; padding: 0 1rem; font: 1rem/1.5 system-ui, sans-serif;
       color: var(--text); background: var(--back); }
.wrap { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
caption { text-align: left; padding-bottom: .5rem; }
th, td { padding: .3rem .6rem; text-align: left; border-bottom: 1px solid var(--line); }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
tbody th[scope=row] { font-weight: normal; }
th[scope=rowgroup] { background: var(--soft); }
"""


@dataclass(frozen=True)
class Row:
    """One metric of the card; ``value`` and ``floor`` are ``None`` where they do not apply."""

    section: str
    key: str
    label: str
    value: float | None
    floor: Floor | None
    meaning: str


def number_text(value: float | None) -> str:
    """As the cards have it: three decimals, one from 100 on, a dash for ``None``."""
    if value is None:
        return _DASH
    # A value that rounds to nothing is written without a sign.
    text = f"{value:.1f}" if abs(value) >= 100 else f"{value:.3f}"
    return text.lstrip("-") if float(text) == 0 else text


def floor_text(floor: Floor | None) -> str:
    """Mean and central 95 %; empty for ``None``."""
    return "" if floor is None else f"{number_text(floor.mean)} [{number_text(floor.low)}, {number_text(floor.high)}]"


def as_text(title: str, rows: list[Row], notes: Sequence[str] = ()) -> str:
    """The card for a terminal, in aligned columns."""
    cells = [(f"  {row.label}", number_text(row.value), floor_text(row.floor), row.meaning) for row in rows]
    widths = [max(len(line[i]) for line in [("", *_HEADS[1:]), *cells]) for i in range(3)]

    def line(label: str, value: str, floor: str, meaning: str) -> str:
        return f"{label:<{widths[0]}}  {value:>{widths[1]}}  {floor:<{widths[2]}}  {meaning}".rstrip()

    warned = [text for note in notes for text in wrap(f"Note: {note}", _WIDTH, subsequent_indent="  ")]
    out = [title, *warned, "", line("", *_HEADS[1:])]
    for section, group in groupby(zip(rows, cells, strict=True), key=lambda item: item[0].section):
        out += [section, *(line(*cell) for _, cell in group)]
    return "\n".join([*out, "", _NOTE])


def _table(rows: list[Row], caption: str) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in _HEADS)
    body = []
    for section, group in groupby(rows, key=lambda row: row.section):
        body.append(f'<tbody><tr><th scope="rowgroup" colspan="{len(_HEADS)}">{escape(section)}</th></tr>')
        for row in group:
            value = "not applicable" if row.value is None else number_text(row.value)
            floor = floor_text(row.floor) or "none"
            # A dash says nothing to a screen reader, so it carries the words.
            value, floor = (
                f'<span role="img" aria-label="{cell}">{_DASH}</span>' if cell in ("not applicable", "none") else cell
                for cell in (value, floor)
            )
            body.append(
                f'<tr><th scope="row">{escape(row.label)}</th><td class="number">{value}</td>'
                f'<td class="number">{floor}</td><td>{escape(row.meaning)}</td></tr>'
            )
        body.append("</tbody>")
    return f"<table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>{''.join(body)}</table>"


def as_html(title: str, rows: list[Row], notes: Sequence[str] = (), *, standalone: bool = True) -> str:
    """The card as an HTML table: a page of its own, or the table alone (for a notebook)."""
    if not standalone:
        return _table(rows, " ".join([f"{title}.", *(f"Note: {note}" for note in notes), _NOTE]))
    table, warned = _table(rows, _NOTE), "".join(f"<p>Note: {escape(note)}</p>\n" for note in notes)
    # Focusable, so that a keyboard can scroll a table wider than the window.
    return page(title, f'{warned}<div class="wrap" tabindex="0" role="region" aria-label="Report card">{table}</div>\n')


def page(title: str, body: str) -> str:
    """A standalone HTML page around ``body``; no script, nothing to load, light and dark."""
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{escape(title)}</title>\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{escape(title)}</h1>\n{body}"
        f"</main>\n</body>\n</html>\n"
    )
