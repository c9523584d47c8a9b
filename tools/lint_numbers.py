"""Find measured-looking numbers that somebody typed: decimals and percentages in markdown which nothing holds.

    python -m tools.lint_numbers [FILE ...]

A number is held by a glue role, code, a formula, or a citation in the same sentence or table row; anything else has to
be in ``tools/numbers_allowed.txt`` (a line: file name, the number, why). An entry that nothing needs is reported too.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ALLOWED = Path(__file__).with_name("numbers_allowed.txt")
NUMBER = re.compile(
    r"(?<![\w./-])[-+\N{MINUS SIGN}]?(?:\d+(?:[.,]\d+)?\s?(?:%|per ?cent\b|percentage)|\d*\.\d+)(?![\d.]*\.\d)(?!\w)"
)
CITATION = re.compile(r"\{cite[a-z:]*\}`")
# Words before a number that make it a name: Theorem 3.3, Python 3.11, CC BY 4.0; and what continues such a list.
NAMING = "theorem lemma proposition section table figure fig. eq. equation chapter appendix python torch version sphinx"
NAMED = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, NAMING.split()))}|jupyter book|CC BY)s?\s*$", re.IGNORECASE)
CONTINUED = re.compile(r"\s*(?:,|to|and|or|,\s*and|\N{EN DASH})\s*")
# Directives whose body is not prose. The body of any other one (note, exercise, figure, ...) is read like the rest.
NOT_PROSE = {
    "math",
    "code",
    "code-block",
    "code-cell",
    "bibliography",
    "include",
    "literalinclude",
    "raw",
    "mermaid",
    "toctree",
}
# A block that a tool writes from results, and that a test holds against them (tools/readme.py).
WRITTEN = re.compile(r"<!-- (\w+):begin -->.*?<!-- \1:end -->", re.DOTALL)
FENCE = re.compile(r"^\s*(`{3,}|~{3,}|:{3,})\s*(\{([\w:-]+)\})?(.*)$")


@dataclass(frozen=True)
class Finding:
    """A number that nothing holds: where it stands and the sentence or table row around it."""

    place: str
    line: int
    number: str
    sentence: str


def findings(text: str, place: str = "") -> list[Finding]:
    """Numbers of the markdown ``text`` that no glue role, code, formula or citation holds."""
    found = []
    for line, sentence in _sentences(_without_code(text)):
        if CITATION.search(sentence):
            continue
        bare, named_until = _without_held(sentence), -1
        for match in NUMBER.finditer(bare):
            continues = named_until >= 0 and CONTINUED.fullmatch(bare[named_until : match.start()])
            if continues or NAMED.search(bare[: match.start()]):
                named_until = match.end()
            else:
                found.append(Finding(place, line, match[0].strip(), " ".join(sentence.split())))
    return found


def _without_code(text: str) -> str:
    """Blank out code blocks, comments, tools' blocks, front matter and directive options; line numbers stay."""
    text = WRITTEN.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)
    text = re.sub(r"<!--.*?-->", lambda match: re.sub(r"[^\n]", " ", match[0]), text, flags=re.DOTALL)
    text = re.sub(r"\A---\n.*?\n---\n", lambda match: re.sub(r"[^\n]", " ", match[0]), text, flags=re.DOTALL)
    text = re.sub(r"\$\$.*?\$\$", lambda match: re.sub(r"[^\n]", " ", match[0]), text, flags=re.DOTALL)
    lines, open_fences = [], []
    for line in text.split("\n"):
        match = FENCE.match(line)
        hidden = any(not prose for _, prose in open_fences)
        if match and open_fences and match[1].startswith(open_fences[-1][0]) and not match[2] and not match[4].strip():
            open_fences.pop()
            lines.append("")
        elif match and not hidden:
            open_fences.append((match[1], bool(match[3]) and match[3] not in NOT_PROSE))
            lines.append(match[4] if open_fences[-1][1] else "")
        else:
            lines.append("" if hidden or (open_fences and re.match(r"\s*:[\w-]+:", line)) else line)
    return "\n".join(lines)


def _sentences(text: str) -> Iterator[tuple[int, str]]:
    """Sentences and table rows, each with the line it starts in. A blank line, a heading or a list item starts anew."""
    block: list[str] = []
    start = 1
    for number, line in enumerate([*text.split("\n"), ""], start=1):
        row = line.lstrip().startswith("|")
        fresh = not line.strip() or row or re.match(r"\s*([-*+]|\d+[.)]|#+|>)\s", line)
        if fresh and block:
            yield from _split(start, "\n".join(block))
            block = []
        if row:
            yield number, line
        elif line.strip():
            start = start if block else number
            block.append(line)


def _split(start: int, block: str) -> Iterator[tuple[int, str]]:
    position = 0
    for end in [*(match.end() for match in re.finditer(r"[.!?][)*_\"']*\s+(?=[A-Z*_`{(\[])", block)), len(block)]:
        yield start + block.count("\n", 0, position), block[position:end]
        position = end


def _without_held(sentence: str) -> str:
    """The sentence without glue and other roles, code, formulas, addresses, and attributes."""
    sentence = re.sub(r"\{[\w:-]+\}(`+).+?\1", " held ", sentence, flags=re.DOTALL)
    sentence = re.sub(r"(`+).+?\1", " held ", sentence, flags=re.DOTALL)
    sentence = re.sub(r"(?<!\\)\$.+?(?<!\\)\$", " held ", sentence, flags=re.DOTALL)
    sentence = re.sub(r"\]\([^)]*\)|<[^>]*>|https?://\S+", " held ", sentence)
    return re.sub(r"\{[#.][^}]*\}", " held ", sentence)


def lint(paths: list[Path], allowed: Path = ALLOWED) -> list[str]:
    """Complaints about the files: typed numbers, and entries of the allow-list that hold nothing."""
    entries = dict.fromkeys(read_allowed(allowed), False)
    complaints = []
    for path in paths:
        for finding in _file_findings(path):
            key = (path.name, finding.number)
            if key in entries:
                entries[key] = True
            else:
                where = f"{finding.place}:{finding.line}"
                complaints.append(
                    f"{where}: {finding.number} is typed, not taken from a result: {finding.sentence[:110]}"
                )
    names = {path.name for path in paths}
    for (name, number), used in entries.items():
        if name in names and not used:
            complaints.append(f"{allowed.name}: {name} does not need {number!r} any more")
    return complaints


def read_allowed(path: Path) -> list[tuple[str, str]]:
    """Pairs (file name, number) of the allow-list. Raises ``ValueError`` for a line without its reason."""
    pairs = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines() if path.exists() else [], start=1):
        if not line.strip() or line.startswith("#"):
            continue
        parts = [part.strip() for part in line.split("|", 2)]
        if len(parts) != 3 or not all(parts):
            raise ValueError(f"{path.name}:{number}: expected `file | number | why`, got {line!r}")
        pairs.append((parts[0], parts[1]))
    return pairs


def _file_findings(path: Path) -> list[Finding]:
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return findings(text, str(path))
    cells = enumerate(json.loads(text)["cells"])
    markdown = [(number, "".join(cell["source"])) for number, cell in cells if cell["cell_type"] == "markdown"]
    return [finding for number, source in markdown for finding in findings(source, f"{path}, cell {number}")]


def main(argv: list[str] | None = None) -> int:
    """Lint the files named, by default every notebook and every page; 1 where something is found."""
    parser = argparse.ArgumentParser(description="find numbers typed into prose")
    parser.add_argument("files", nargs="*", type=Path)
    named = parser.parse_args(argv).files
    complaints = lint(named or [*sorted(Path("notebooks").glob("*.ipynb")), *sorted(Path("book").glob("*.md"))])
    print("\n".join(complaints), end="\n" if complaints else "")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
