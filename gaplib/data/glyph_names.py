"""Unicode names as token lists: words, cut further where a whole word would say nothing about an unseen character."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np

PAD, UNKNOWN = 0, 1
SPECIAL = ("<pad>", "<unknown>")

# One syllable of the Canadian Aboriginal syllabics: consonants, an optional medial W, a vowel; or a final consonant.
_SYLLABLE = re.compile(r"(?P<onset>[BCDFGHJKLMNPQRSTVXYZ]*)(?P<medial>W?)(?P<vowel>[AEIOU]*)")
# Their other last words, which are descriptions and not syllables.
_NOT_SYLLABLES = frozenset({"DOT", "STROKE", "RING", "PLUS", "GRAVE", "ACUTE", "HALF", "HYPHEN", "STOP", "SIGN"})


def words(name: str) -> list[str]:
    """Tokens of a character name, in order.

    * words are cut at spaces and hyphens: ``LATIN SMALL LETTER E WITH ACUTE`` -> six tokens;
    * numbers become digits, so that ``BRAILLE PATTERN DOTS-1234`` is made of dots that other patterns have as well;
    * the two numbers of a domino tile keep their side (``#1-03``, ``#2-05``), or 3|5 and 5|3 would read alike;
    * a Canadian syllable becomes its parts: ``CANADIAN SYLLABICS PWOO`` -> ``P-``, ``-W-``, ``-OO``;
    * ``...WARDS`` becomes the direction and the ending.

    Raises ``ValueError`` if ``name`` is not a string or holds no word.
    """
    if not isinstance(name, str):
        raise ValueError(f"name: expected a string, got {type(name).__name__}")
    parts = [part for part in re.split(r"[\s\-]+", name.upper()) if part]
    if not parts:
        raise ValueError(f"name: expected at least one word, got {name!r}")
    if parts[0] == "DOMINO":
        numbers = [part for part in parts if part.isdigit()]
        return [p for p in parts if not p.isdigit()] + [f"#{i}-{number}" for i, number in enumerate(numbers, start=1)]
    syllabic = parts[:2] == ["CANADIAN", "SYLLABICS"]
    out: list[str] = []
    for i, part in enumerate(parts):
        if part.isdigit():
            out += part
        elif syllabic and i == len(parts) - 1 and i > 1 and part not in _NOT_SYLLABLES:
            out += _syllable(part)
        elif part.endswith("WARDS") and len(part) > 5:
            out += [part[:-5], "-WARDS"]
        else:
            out.append(part)
    return out


def _syllable(word: str) -> list[str]:
    found = _SYLLABLE.fullmatch(word)
    if not found:
        return [word]
    onset, medial, vowel = found["onset"], found["medial"], found["vowel"]
    return [f"{onset}-"] * bool(onset) + ["-W-"] * bool(medial) + [f"-{vowel}"] * bool(vowel)


def build_vocabulary(tokenised: Iterable[Sequence[str]]) -> list[str]:
    """Padding, the unknown token, then every token in alphabetical order."""
    return [*SPECIAL, *sorted({token for tokens in tokenised for token in tokens})]


def encode(tokenised: Sequence[Sequence[str]], vocabulary: Sequence[str]) -> np.ndarray:
    """Token ids int64 (n, L), padded with 0 on the right; a token outside the vocabulary is 1."""
    ids = {token: i for i, token in enumerate(vocabulary)}
    out = np.full((len(tokenised), max(map(len, tokenised), default=1)), PAD, dtype=np.int64)
    for row, tokens in zip(out, tokenised, strict=True):
        row[: len(tokens)] = [ids.get(token, UNKNOWN) for token in tokens]
    return out
