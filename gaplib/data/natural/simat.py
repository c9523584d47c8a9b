"""SIMAT (Couairon et al. 2022): an image and a change of one word, which image of the bank shows the result?

The tables and OSCAR's scores come with the authors' repository, the pictures are Visual Genome's, put in place by its
``prepare_dataset.py``. Scoring: ``gaplib.evaluation.arithmetic.simat_score``.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from gaplib._validate import check_choice
from gaplib.data.annotations import first_there, require_files
from gaplib.data.natural.captioned import Captioned

_PAGE = "it comes with github.com/facebookresearch/SIMAT"
_REGION = "region_id"


class Simat(Captioned):
    """The bank of images, each with its caption ("A cat sitting on a grass"), and q changes of one word.

    own (q,): the row of the bank that is changed. source, target: the words. norm2 (q,): for the weights. similarity
    (q, n): OSCAR's score of each image of the bank for the wanted caption.
    """

    own: np.ndarray
    source: list[str]
    target: list[str]
    norm2: np.ndarray
    similarity: np.ndarray


def simat(folder: str | Path, split: str | None = None) -> Simat:
    """The benchmark from ``simat_db`` (or the folder that holds it).

    split: "val", also by default, is the authors' dev split, which Fahim et al. report on; "test" is theirs.

    Raises:
        DataUnavailable: a table, OSCAR's matrix, or pictures that are missing (how many, and the first).
        ValueError: another split, tables without the authors' columns or that do not fit each other.
    """
    part = check_choice(split or "val", "split", ("val", "test"))
    root = Path(folder).expanduser()
    root = root / "simat_db" if (root / "simat_db").is_dir() else root
    paths = [first_there([root / name], "simat", _PAGE) for name in ("triplets.csv", "transfos.csv")]
    triplets = _table(paths[0], (_REGION, "subj", "rel", "obj"))
    changes = _table(paths[1], (_REGION, "value", "target", "target_ids", "norm2", "is_test"))
    changes = changes[changes["is_test"].astype(str) == str(part == "test")]
    captions = ["A " + " ".join(row) for row in triplets[["subj", "rel", "obj"]].itertuples(index=False)]
    regions = triplets[_REGION].to_numpy()
    pictures = [root / "images" / caption / f"{region}.jpg" for caption, region in zip(captions, regions, strict=True)]
    require_files(pictures, str(paths[0]))
    rows = dict(zip(regions.tolist(), range(len(regions)), strict=True))
    strangers = [one for one in changes[_REGION].tolist() if one not in rows]
    if strangers:
        raise ValueError(f"{paths[1]}: expected region ids of {paths[0].name}, got {strangers[0]}")
    found = Simat(pictures, [[caption] for caption in captions], f"simat:{folder}", part)
    found.own = np.array([rows[one] for one in changes[_REGION].tolist()], dtype=np.int64)
    found.source, found.target = changes["value"].tolist(), changes["target"].tolist()
    found.norm2 = changes["norm2"].to_numpy(dtype=np.float64)
    found.similarity = _oscar(root / "oscar_similarity_matrix.pt", len(pictures), changes["target_ids"].to_numpy())
    return found


def _table(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, encoding="utf-8")
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise ValueError(f"{path}: expected a table with the columns {', '.join(columns)} ({error})") from None
    for name in columns:
        check_choice(name, f"{path}: column", table.columns)
    if table[list(columns)].isna().any(axis=None) or table.empty:
        raise ValueError(f"{path}: expected a value in every cell of {', '.join(columns)}, and a row")
    return table


def _oscar(path: Path, images: int, target: np.ndarray) -> np.ndarray:
    """Scores (q, images): the columns of the authors' matrix (images, captions) that the changes ask for."""
    first_there([path], "simat", _PAGE)
    try:
        matrix = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path}: expected a matrix saved by torch ({str(error).splitlines()[0]})") from None
    matrix = torch.as_tensor(matrix)
    if matrix.ndim != 2 or len(matrix) != images or target.min() < 0 or target.max() >= matrix.shape[1]:
        raise ValueError(f"{path}: expected ({images}, captions) with all target_ids, got shape {tuple(matrix.shape)}")
    return matrix[:, torch.from_numpy(target.astype(np.int64))].T.double().numpy()
