"""One vocabulary for names, questions and answers, so that a word learnt in a name can be read in a question.

Texts are cut into words as names are (`gaplib.data.glyph_names.words`): upper case, numbers into digits.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch

from gaplib.data import glyph_names
from gaplib.fusion.letters import alphabet
from gaplib.fusion.registry import TASKS, answers, sentences

PAD, UNK, CLS, MASK, BOS, EOS = range(6)
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[MASK]", "[BOS]", "[EOS]")


@cache
def vocabulary() -> tuple[str, ...]:
    """Special tokens (0 pads, 1 is unknown), the words of the training names, then those of questions and answers."""
    names = alphabet().vocabulary[len(glyph_names.SPECIAL) :]
    texts = [text for name in TASKS for text in (*sentences(name), *answers(name))]
    asked = {word for text in texts for word in glyph_names.words(text)}
    return (*SPECIAL, *names, *sorted(asked - set(names)))


@cache
def _ids() -> dict[str, int]:
    return {word: i for i, word in enumerate(vocabulary())}


def encode(texts: Sequence[str], *, start: int | None = CLS, end: int | None = None) -> torch.Tensor:
    """Token ids int64 (len(texts), L): ``start``, the words, ``end`` (either may be None), padded with 0.

    Words outside the vocabulary become 1. Raises ``ValueError`` if ``texts`` is not a list of strings, or if one of
    them holds no word (the message names its place).
    """
    if isinstance(texts, str) or not len(texts):
        raise ValueError(f"texts: expected a list of at least one string, got {texts!r:.80}")
    ids, rows = _ids(), []
    for place, text in enumerate(texts):
        if not isinstance(text, str) or not text.strip(" -\t\r\n"):
            raise ValueError(f"texts[{place}]: expected a string with at least one word, got {text!r:.80}")
        words = [ids.get(word, UNK) for word in glyph_names.words(text)]
        rows.append([start] * (start is not None) + words + [end] * (end is not None))
    out = torch.full((len(rows), max(map(len, rows))), PAD, dtype=torch.int64)
    for place, row in enumerate(rows):
        out[place, : len(row)] = torch.tensor(row)
    return out


def decode(tokens: torch.Tensor) -> list[str]:
    """Texts of token ids (n, L): special tokens left out, what follows [EOS] too, in lower case."""
    words, out = vocabulary(), []
    for row in tokens.tolist():
        kept = row[: row.index(EOS)] if EOS in row else row
        out.append(" ".join(words[i].lower() for i in kept if i >= len(SPECIAL)))
    return out
