"""Draw characters: the font files that matplotlib brings with it, and scikit-learn's handwritten digits."""

from __future__ import annotations

import hashlib
import string
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

from gaplib._extras import need

need("train", "PIL", "matplotlib")

import matplotlib
import numpy as np
import PIL
from matplotlib import ft2font
from PIL import Image, ImageDraw, ImageFont, features

from gaplib._validate import check_choice, check_integer

FACES = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSerif", "DejaVuSansMono")
UNSEEN_FACES = ("STIXGeneral", "cmr10")

# cmr10 keeps TeX's own encoding: outside letters and digits its code points name other characters ("<" draws an
# inverted exclamation mark), so only these are taken from it.
_CMR10 = frozenset(map(ord, string.ascii_letters + string.digits))

# Both the em size and the height of the baseline are this share of the image: DejaVu's ascenders (.93 em) and
# descenders (.24 em) then fit, and a comma still differs from an apostrophe by its height alone.
_EM = 0.75


def font_file(face: str) -> Path:
    """The file of one of ``FACES`` or ``UNSEEN_FACES``; ``ValueError`` for another name."""
    check_choice(face, "face", FACES + UNSEEN_FACES)
    return Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{face}.ttf"


def codepoints_of(face: str) -> list[int]:
    """Sorted code points that the face maps to a glyph (blank ones included)."""
    points = ft2font.FT2Font(str(font_file(face))).get_charmap()
    return sorted(c for c in points if face != "cmr10" or c in _CMR10)


def fingerprint(faces: Iterable[str] = FACES) -> str:
    """What the drawings depend on besides this code: library versions and the digest of every font file."""
    parts = [f"matplotlib {matplotlib.__version__}", f"pillow {PIL.__version__}"]
    parts += [f"freetype {features.version('freetype2')}"]
    parts += [f"{face} {hashlib.sha256(font_file(face).read_bytes()).hexdigest()}" for face in faces]
    return "\n".join(parts)


def draw(face: str, codepoints: Iterable[int], size: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """Draw characters of one face.

    Every glyph stands on one baseline and its cell (the advance width) is centred, so that position carries meaning as
    in print: a left half block is not a right one, Braille dot 1 is not dot 4. Combining marks have no cell: their ink
    is centred. Ink that would leave the image is moved in; a glyph larger than the image is drawn smaller.

    Returns ``images`` uint8 (m, size, size), 255 = ink, and ``codepoints`` (m,): blank glyphs are left out.
    Raises ``ValueError`` for an unknown face or a size outside [12, 128].
    """
    check_integer(size, "size", low=12, high=128)
    path = str(font_file(face))

    @cache
    def font(em: int) -> ImageFont.FreeTypeFont:
        return ImageFont.truetype(path, em, layout_engine=ImageFont.Layout.BASIC)

    em = round(_EM * size)
    images, kept = [], []
    for codepoint in codepoints:
        image = _draw_one(font, chr(codepoint), em, size)
        if image.any():
            images.append(image)
            kept.append(codepoint)
    return np.array(images, dtype=np.uint8).reshape(-1, size, size), np.array(kept, dtype=np.int64)


def _draw_one(font: Callable[[int], ImageFont.FreeTypeFont], character: str, em: int, size: int) -> np.ndarray:
    for points in range(em, 0, -1):
        left, top, right, bottom = font(points).getbbox(character, anchor="ls")  # ink and cell, from the baseline
        if right - left <= size and bottom - top <= size:
            break
    canvas = Image.new("L", (size, size))
    advance = round(font(points).getlength(character))
    x = (size - advance) // 2 if advance > 0 else (size - (right - left)) // 2 - left
    x, y = min(max(x, -left), size - right), min(max(em, -top), size - bottom)  # moved only if the ink would leave
    ImageDraw.Draw(canvas).text((x, y), character, fill=255, font=font(points), anchor="ls")
    return np.asarray(canvas)


def handwritten_digits(size: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's 1,797 handwritten digits (8x8) in the form of the glyphs.

    The strokes are scaled to the height of a printed digit, stand on the same baseline and are centred by their ink.
    Returns ``images`` uint8 (1797, size, size) and ``digits`` int64 (1797,) in 0..9.
    """
    from sklearn.datasets import load_digits

    check_integer(size, "size", low=12, high=128)
    raw = load_digits()
    em = round(_EM * size)
    height = round(0.73 * em)  # DejaVu's digits are .73 em high
    images = np.zeros((len(raw.images), size, size), dtype=np.uint8)
    for image, out in zip(raw.images, images, strict=True):
        rows, columns = np.nonzero(image.any(axis=1))[0], np.nonzero(image.any(axis=0))[0]
        ink = np.round(image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] * (255 / 16)).astype(np.uint8)
        width = max(1, round(ink.shape[1] * height / ink.shape[0]))
        scaled = Image.fromarray(ink).resize((min(width, size), height), Image.Resampling.BICUBIC)
        left = (size - scaled.width) // 2
        out[em - height : em, left : left + scaled.width] = np.asarray(scaled)
    return images, raw.target.astype(np.int64)
