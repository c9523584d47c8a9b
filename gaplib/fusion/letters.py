"""What a Unicode name says about its character, and what a picture says: the exact answers of the three tasks."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from dataclasses import dataclass
from functools import cache

import numpy as np

from gaplib.data import glyphs

SCRIPTS = ("latin", "greek", "cyrillic", "armenian", "georgian")  # those with capitals
MARKED_SCRIPTS = 3  # of these, the first three have letters with the same marks
CASES = ("capital", "small")
MARKS = ("none", "acute", "grave", "diaeresis", "macron", "breve")
FACES = ("sans", "bold", "oblique", "serif", "mono")  # as in Glyphs.faces
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight")

_LETTER = re.compile(r"(?P<script>LATIN|GREEK|CYRILLIC|ARMENIAN|GEORGIAN) (?P<case>CAPITAL|SMALL) LETTER (?P<rest>.+)")
_COMBINING = {"\u0301": "acute", "\u0300": "grave", "\u0308": "diaeresis", "\u0304": "macron", "\u0306": "breve"}


@dataclass(frozen=True)
class Letter:
    """A cased letter. mark: one of `MARKS`, or "other" (several marks, or one outside of them). base: its letter."""

    script: str
    case: str
    mark: str
    base: str


def letter(character: str) -> Letter | None:
    """Attributes of a letter of one of `SCRIPTS` that its name calls capital or small; None for other characters.

    The mark comes from the canonical decomposition, so Greek tonos and oxia are both an acute, as they are drawn. A
    letter with a modifier that Unicode does not decompose (``WITH STROKE``) has mark "other".
    """
    found = _LETTER.fullmatch(unicodedata.name(character, ""))
    if not found:
        return None
    base, *marks = unicodedata.normalize("NFD", character)
    if marks:
        mark = _COMBINING.get(marks[0], "other") if len(marks) == 1 else "other"
    else:
        mark = "other" if " WITH " in found["rest"] else "none"
    return Letter(found["script"].lower(), found["case"].lower(), mark, base)


def braille(character: str) -> tuple[int, int] | None:
    """Raised dots in the left and in the right column of a braille pattern (dots 1237 and 4568), from its name."""
    name = unicodedata.name(character, "")
    if not name.startswith("BRAILLE PATTERN DOTS-"):
        return None
    dots = name.rpartition("-")[2]
    left = sum(dot in "1237" for dot in dots)
    return left, len(dots) - left


def domino(character: str) -> tuple[int, int] | None:
    """Pips on the first half (left or top) and on the second half of a domino tile, from its name."""
    found = re.fullmatch(r"DOMINO TILE (?:HORIZONTAL|VERTICAL)-(\d\d)-(\d\d)", unicodedata.name(character, ""))
    return (int(found[1]), int(found[2])) if found else None


@dataclass(frozen=True, eq=False)
class Pictures:
    """Pictures of letters, one a row. image: int64 (m,), place in Glyphs.images. name: (m,), place in Glyphs.names.
    script, case, mark, face: int64 (m,), places in `SCRIPTS`, `CASES`, `MARKS`, `FACES` (-1 for another mark).
    readings, faces: for each, the letters (places in Glyphs.names) that have this very picture, and in which faces.
    """

    image: np.ndarray
    name: np.ndarray
    script: np.ndarray
    case: np.ndarray
    mark: np.ndarray
    face: np.ndarray
    readings: tuple[frozenset[int], ...]
    faces: tuple[frozenset[int], ...]

    def take(self, rows: np.ndarray) -> Pictures:
        """Some of them."""
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        arrays = {f: getattr(self, f)[rows] for f in ("image", "name", "script", "case", "mark", "face")}
        return Pictures(**arrays, **{f: tuple(getattr(self, f)[i] for i in rows) for f in ("readings", "faces")})

    def __len__(self) -> int:
        return len(self.image)


@cache
def alphabet() -> glyphs.Glyphs:
    """The glyphs that all tasks are made from, read once a process."""
    return glyphs.load()


@cache
def letters() -> dict[int, Letter]:
    """Letters of the alphabet by their place in Glyphs.names."""
    found = {i: letter(chr(c)) for i, c in enumerate(alphabet().codepoints.tolist())}
    return {i: attributes for i, attributes in found.items() if attributes}


@cache
def pictures(split: str) -> Pictures:
    """All pictures of the letters of one split."""
    g, known = alphabet(), letters()
    names, faces = defaultdict(set), defaultdict(set)
    inside = [j for j, name in enumerate(g.name_of_image.tolist()) if name in known]
    for j in inside:
        names[g.images[j].tobytes()].add(int(g.name_of_image[j]))
        faces[g.images[j].tobytes()].add(int(g.face_of_image[j]))
    wanted = set(g.index(split).tolist())
    image = np.array([j for j in inside if int(g.name_of_image[j]) in wanted], dtype=np.int64)
    name = g.name_of_image[image]
    who = [known[int(i)] for i in name]
    return Pictures(
        image=image,
        name=name,
        script=np.array([SCRIPTS.index(a.script) for a in who]),
        case=np.array([CASES.index(a.case) for a in who]),
        mark=np.array([MARKS.index(a.mark) if a.mark in MARKS else -1 for a in who]),
        face=g.face_of_image[image],
        readings=tuple(frozenset(names[g.images[j].tobytes()]) for j in image),
        faces=tuple(frozenset(faces[g.images[j].tobytes()]) for j in image),
    )


def clear(rows: Pictures) -> np.ndarray:
    """Whether every reading of a picture has the same script, case, mark and face: bool (m,)."""
    known = letters()
    agreed = [len({(known[i].script, known[i].case, known[i].mark) for i in found}) == 1 for found in rows.readings]
    return np.array(agreed) & np.array([len(found) == 1 for found in rows.faces])
