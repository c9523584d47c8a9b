"""A table of picture files and captions, as open_clip's own training reads it (its ``CsvDataset``)."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from gaplib._validate import check_choice
from gaplib.data import DataUnavailable
from gaplib.data.annotations import require_files
from gaplib.data.natural.captioned import Captioned

IMAGE, CAPTION = "filepath", "title"  # open_clip's names


def csv_pairs(file: str | Path, image: str = IMAGE, caption: str = CAPTION) -> Captioned:
    """Pictures and captions of a file with the columns ``image`` and ``caption``.

    Rows of one picture become one entry with several captions. The separator is a tab, open_clip's own, where the
    heading has one, else a comma. Paths that are not absolute start at the file's folder; if the first picture is not
    there but in the working folder, where open_clip looks, they start there.

    Raises:
        DataUnavailable: no such file, or pictures that are missing (how many, and the first).
        ValueError: no such column (those there are listed), an empty cell, no row, or not a table in UTF-8.
    """
    file = Path(file).expanduser()
    if not file.is_file():
        raise DataUnavailable(f"data: there is no file {file}")
    try:
        with open(file, encoding="utf-8-sig") as opened:
            separator = "\t" if "\t" in opened.readline() else ","
        table = pd.read_csv(file, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise ValueError(f"{file}: expected a table in UTF-8 with the columns {image}, {caption} ({error})") from None
    for name in (image, caption):
        check_choice(name, f"{file}: column", table.columns)
        empty = table[name].str.strip() == ""
        if empty.any():
            number = int(empty.to_numpy().argmax()) + 1
            raise ValueError(f"{file}: expected a {name} in every row, got none in {int(empty.sum())}, first {number}")
    if table.empty:
        raise ValueError(f"{file}: expected at least one row below the heading, got none")
    captions: dict[str, list[str]] = {}
    for name, text in zip(table[image], table[caption], strict=True):
        captions.setdefault(name, []).append(text)
    first = next(iter(captions))
    base = Path() if Path(first).exists() and not (file.parent / first).exists() else file.parent
    paths = [base / name for name in captions]
    require_files(paths, str(file))
    return Captioned(paths, list(captions.values()), f"csv:{file}")
