"""Write the table of the models measured so far, ``gaplib/measuring/measured.csv``.

    python -m tools.measured [--out FILE]

The rows: the embeddings that Liang et al. (2022) published, four models and their random twins
(:mod:`gaplib.data.published`; GAPLIB_DATA or the network), and two towers of this book on glyphs, before and after the
training of plain CLIP (from the cache of runs, else trained now). Every number is measured here; nobody types one.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gaplib.data import published
from gaplib.geometry import gap_report
from gaplib.measuring.models import MEASURED, row_of, write_rows
from gaplib.training import RunConfig, train
from gaplib.training.untrained import untrained_pairs

GLYPHS = RunConfig("clip")


def published_row(name: str) -> dict[str, Any]:
    """The row of one of the published models."""
    data = published.load(name)
    report = gap_report(data.x.double(), data.y.double(), names=data.modality_names)
    return row_of(data.title, data.source, report, data.trained)


def glyph_row(trained: bool) -> dict[str, Any]:
    """The row of the book's own towers, on the test characters."""
    x, y = train(GLYPHS, progress=False).pairs("test") if trained else untrained_pairs(GLYPHS)
    title = "Glyph towers, plain CLIP" if trained else "Glyph towers at random initialisation"
    return row_of(title, f"gaplib, RunConfig('clip', seed={GLYPHS.seed})", gap_report(x, y), trained)


def rows() -> Iterator[dict[str, Any]]:
    """All rows, trained models first."""
    for trained in (True, False):
        yield from (published_row(name) for name, model in published.MODELS.items() if model.trained == trained)
        yield glyph_row(trained)


def main(argv: list[str] | None = None) -> None:
    """Measure all and write the table, whole or not at all."""
    parser = argparse.ArgumentParser(prog="python -m tools.measured", description="write the table of measured models")
    parser.add_argument("--out", type=Path, default=MEASURED)
    options = parser.parse_args(argv)
    write_rows(options.out, list(rows()))
    print(f"Written: {options.out}")


if __name__ == "__main__":
    main()
