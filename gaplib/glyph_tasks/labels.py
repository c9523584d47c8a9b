"""What a Unicode name says about its character: script, case, diacritics; and which characters differ in one of them.

Everything here reads names alone, so it holds for characters that no tower has seen.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import combinations

#: Scripts with at least 30 characters on the dev side and on the test side.
SCRIPTS = ("ARABIC", "BRAILLE", "CANADIAN", "CYRILLIC", "GREEK", "LATIN")
CASES = ("CAPITAL", "SMALL")
CASED = ("CYRILLIC", "GREEK", "LATIN")

Change = tuple[int, int, str]  # (source, target, kind): places in a list of names and what leads from one to the other


def script(name: str) -> str | None:
    """The script that a name begins with, one of ``SCRIPTS``; ``None`` for all others (mathematical letters too)."""
    first = name.split(" ", 1)[0]
    return first if first in SCRIPTS else None


def case(name: str) -> str | None:
    """CAPITAL or SMALL for the letters of a script that has both; ``None`` for all others (titlecase too)."""
    words = name.split(" ")
    if len(words) < 4 or words[2] != "LETTER" or words[1] not in CASES:
        return None
    other = CASES[1 - CASES.index(words[1])]
    return None if other in words[3:] else words[1]


def modifications(name: str) -> tuple[str, frozenset[str]]:
    """The base and what it is modified with: ``U WITH HORN AND ACUTE`` -> (``U``, {HORN, ACUTE}); often nothing."""
    base, _, rest = name.partition(" WITH ")
    return base, frozenset(rest.split(" AND ")) if rest else frozenset()


def case_changes(names: Sequence[str]) -> list[Change]:
    """Letters and their partners in the other case, both ways; kinds "to capital" and "to small"."""
    place = {name: i for i, name in enumerate(names)}
    out = []
    for small, name in enumerate(names):
        capital = place.get(name.replace(" SMALL LETTER ", " CAPITAL LETTER "))
        if case(name) == "SMALL" and capital is not None and case(names[capital]) == "CAPITAL":
            out += [(small, capital, "to capital"), (capital, small, "to small")]
    return out


def diacritic_changes(names: Sequence[str]) -> list[Change]:
    """Names that differ in one modification more or less; kinds such as "+ACUTE" and "-ACUTE"."""
    out = []
    for members in _families(names):
        for (i, a), (j, b) in combinations(members, 2):
            if len(a) != len(b) and len(a ^ b) == 1:
                less, more = (i, j) if len(a) < len(b) else (j, i)
                (modification,) = a ^ b
                out += [(less, more, f"+{modification}"), (more, less, f"-{modification}")]
    return out


def letter(name: str) -> str | None:
    """Script and case ("GREEK SMALL") of letters of the scripts with two cases, modified or not; else ``None``."""
    first = name.split(" ", 1)[0]
    return f"{first} {case(name)}" if first in CASED and case(name) else None


def one_stroke_apart(names: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs of names that differ in exactly one modification: one more (E, E WITH ACUTE), or another in its place."""
    out = []
    for members in _families(names):
        for (i, a), (j, b) in combinations(members, 2):
            if len(a ^ b) == 1 or (len(a) == len(b) and len(a ^ b) == 2):
                out.append((min(i, j), max(i, j)))
    return out


def another_name(character: str, words: Iterable[str], longest: int) -> str | None:
    """A second text for a character: the names of the parts of its canonical decomposition, one after the other.

    ``LATIN SMALL LETTER E WITH ACUTE`` is ``LATIN SMALL LETTER E COMBINING ACUTE ACCENT``. ``None`` where there are not
    at least two parts, a part's word is not among ``words``, or the text is longer than ``longest`` words.
    """
    decomposition = unicodedata.decomposition(character)
    parts = [] if decomposition.startswith("<") else decomposition.split()
    text = " ".join(unicodedata.name(chr(int(part, 16)), "?") for part in parts)
    known = set(words)
    spelt = text.replace("-", " ").split()
    return text if len(parts) > 1 and len(spelt) <= longest and known.issuperset(spelt) else None


def _families(names: Sequence[str]) -> list[list[tuple[int, frozenset[str]]]]:
    """Names with the same base, as (place, modifications)."""
    found: dict[str, list[tuple[int, frozenset[str]]]] = defaultdict(list)
    for i, name in enumerate(names):
        base, changes = modifications(name)
        found[base].append((i, changes))
    return [members for members in found.values() if len(members) > 1]
