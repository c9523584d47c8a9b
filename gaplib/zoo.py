"""A zoo table: one row a model, the same measurements of each on the same data, in a CSV file that grows.

python -m gaplib zoo --models open_clip:ViT-B-32:laion2b_s34b_b79k,hf:google/siglip-base-patch16-224 \\
    --data coco:FOLDER --out zoo.csv

frame = read("zoo.csv")
print(table(frame))
place(frame, {"centroid_distance": 0.81})
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd
import torch

import gaplib
from gaplib._atomic import write_text_atomically
from gaplib._validate import check_choice, check_integer
from gaplib.embedding import EmbeddedPairs, embed
from gaplib.evaluation import retrieval
from gaplib.geometry import gap_report
from gaplib.measuring.models import RECALL, VALUES
from gaplib.towers import check_device, from_hub, from_open_clip
from gaplib.towers.external import check_open_clip, elsewhere, split_tag
from gaplib.towers.loading import no_retries, nothing_unpickled, quiet, reason

#: Columns of words. ``model`` is what ``--models`` had; ``data`` the kind of data and its split, without
#: the reader's folder.
WORDS = ("model", "source", "data", "gaplib", "torch", "library", "date")
#: All columns, in order. The metrics are those of the report card, under the same names. ``trained``: whether weights
#: were loaded. ``n`` counts images, ``n_text`` captions.
COLUMNS = (
    *("model", "source", "trained", "data"),
    *("n", "n_text", "d"),
    *VALUES,
    *("gaplib", "torch", "library", "date"),
)
#: What :func:`table` shows: column -> heading.
SHOWN = {
    "centroid_distance": "centroid distance",
    "relative_modality_gap": "relative gap",
    "linear_separability": "separability",
    "true_pair_cosine": "true-pair cosine",
    "image_to_text_at_1": "image to text @1",
    "text_to_image_at_1": "text to image @1",
}
_FORMAT = "%.6g"  # of numbers in the file
_DASH = "\N{EN DASH}"


class ZooFailed(RuntimeError):
    """Some models could not be measured. ``errors``: model -> why. ``frame``: the table with all others."""

    def __init__(self, errors: Mapping[str, str], frame: pd.DataFrame):
        why = "; ".join(f"{model}: {error}" for model, error in errors.items())
        super().__init__(f"{len(errors)} of the models could not be measured: {why}")
        self.errors, self.frame = dict(errors), frame


@dataclass(frozen=True)
class Spec:
    """A model as ``--models`` names it: ``library`` is a key of ``LIBRARIES``."""

    text: str
    library: str
    name: str
    pretrained: str | None = None

    @property
    def trained(self) -> bool:
        """Whether weights are loaded: open_clip's listed names have none without a tag or a file."""
        return self.library != "open_clip" or self.pretrained is not None or elsewhere(self.name)


def parse(text: str) -> Spec:
    """``open_clip:NAME[:PRETRAINED]`` (NAME also hf-hub:ORG/NAME, local-dir:FOLDER; PRETRAINED also a file),
    ``hf:NAME`` or ``st:NAME`` (transformers, sentence-transformers; on the hub or a folder). ``ValueError`` otherwise.

    >>> parse("open_clip:ViT-B-32:openai").pretrained
    'openai'
    """
    library, _, name = str(text).strip().partition(":")
    if library not in LIBRARIES or not name:
        raise ValueError(f"models: expected open_clip:NAME[:PRETRAINED], hf:NAME or st:NAME, got {text!r}")
    if library == "open_clip":
        return Spec(text.strip(), library, *split_tag(name))
    return Spec(text.strip(), library, name)


def zoo(
    models: Iterable[str],
    data: Any,
    out: str | Path,
    *,
    data_name: str | None = None,
    device: str = "cpu",
    batch_size: int = 64,
    note: Callable[[str], None] | None = None,
) -> pd.DataFrame:
    """Measure each model on ``data`` and add its row to the CSV file ``out``; a model that has its row is passed over.

    Args:
        models: as :func:`parse` reads them.
        data: what ``--data`` takes, such as ``"coco:FOLDER"``; or a data set with a length whose places hold
            (image, captions), with ``data_name`` for the table.
        out: the file; it may be there, and is replaced as a whole after each model. One process at a time.
        device: where the models run. batch_size: see :func:`gaplib.embed`. note: is told what happens.

    Returns:
        The whole table, as :func:`read` gives it.

    Raises:
        ValueError: names that cannot be models, a device that is not there, a file that is no zoo table: before any
            work is done.
        ZooFailed: after all the others were measured, if a model could not be.
    """
    specs = [parse(model) for model in dict.fromkeys(models)]
    if not specs:
        raise ValueError("models: expected at least one, got none")
    for spec in specs:
        if spec.library == "open_clip":
            check_open_clip(spec.name, spec.pretrained)
    check_device(device)
    check_integer(batch_size, "batch_size", low=1)
    out = Path(out)
    if out.is_dir() or not out.absolute().parent.is_dir():
        raise ValueError(f"out: expected a CSV file in a folder that is there, got {out}")
    frame = read(out) if out.exists() else pd.DataFrame(columns=list(COLUMNS))
    if isinstance(data, str):
        asked, data = data, _open(data)
        if not hasattr(data, "__len__"):
            raise ValueError(f"data: expected pictures that can be counted, got {asked!r}, which is read as a stream")
        # COCO's val2017 and Karpathy's test part have 5,000 images each.
        data_name = data_name or " ".join(filter(None, (asked.partition(":")[0], getattr(data, "split", ""))))
    if not data_name or not hasattr(data, "__len__"):
        raise ValueError("data: expected the name of a data set, or a data set with a length and its data_name")
    tell = note or (lambda message: None)
    errors: dict[str, str] = {}
    for spec in specs:
        there = (frame["model"] == spec.text) & (frame["data"] == data_name) & (frame["n"] == len(data))
        if there.any():
            tell(f"{spec.text}: has its row")
            continue
        tell(f"{spec.text}: {len(data)} images")
        try:
            row = _row(spec, data, data_name, device, batch_size)
        except Exception as error:  # a model can fail in every way there is, and the others are to go on
            errors[spec.text] = reason(error)
            tell(f"{spec.text}: {errors[spec.text]}")
            continue
        frame = _add(out, row)
    if errors:
        raise ZooFailed(errors, frame)
    return frame


def measurements(pairs: EmbeddedPairs, seed: int = 0) -> dict[str, float | None]:
    """The numbers of a row. Captions of one image are right answers to each other; ``None``: does not apply."""
    image, text, belongs = pairs.image, pairs.text, pairs.pairs
    several = len(text) > len(image)
    report = gap_report(image[belongs], text, seed=seed, groups=belongs.numpy() if several else None)
    found = retrieval(image, text, ks=(1,), image_groups=torch.arange(len(image)), text_groups=belongs)
    numbers: dict[str, float | None] = {"n": len(image), "n_text": len(text), "d": image.shape[1]}
    numbers |= {key: value for key, value in report.values.items() if key in COLUMNS}
    return numbers | {name: float(found[name.replace("_at_", "@")]) for name in RECALL}


def read(path: str | Path) -> pd.DataFrame:
    """The table in a file that :func:`zoo` wrote: numbers as floats, empty cells as NaN; ``ValueError`` for others."""
    try:
        frame = pd.read_csv(path, dtype=dict.fromkeys(WORDS, "str"), encoding="utf-8")
    except (OSError, ValueError) as error:  # pandas' own errors are ValueErrors
        raise ValueError(f"out: {path} is not a table that can be read ({' '.join(str(error).split())})") from error
    lacking = [name for name in ("model", "data", "n", *SHOWN) if name not in frame]
    if lacking:
        raise ValueError(f"out: expected a table that zoo wrote, and {path} has no column {lacking[0]!r}")
    for name in frame.columns.difference(WORDS):
        try:
            frame[name] = pd.to_numeric(frame[name])
        except (ValueError, TypeError) as error:
            raise ValueError(f"out: expected numbers in the column {name!r} of {path} ({error})") from error
    return frame


def place(frame: pd.DataFrame, values: Mapping[str, float | None]) -> dict[str, tuple[int, int]]:
    """Where new values stand in a table: column -> (k, n), the value is the k-th smallest of n, itself among them.

    Columns that the table does not have, and values that are ``None``, are left out.

    >>> place(pd.DataFrame({"centroid_distance": [0.2, 0.9]}), {"centroid_distance": 0.5})
    {'centroid_distance': (2, 3)}
    """
    found = {}
    for name, value in values.items():
        if value is not None and name in frame and name not in WORDS:
            column = frame[name].dropna()
            found[name] = (1 + int((column < value).sum()), 1 + len(column))
    return found


@dataclass(frozen=True)
class ZooTable:
    """Rows of a zoo table to look at: ``str()`` for a terminal, :meth:`to_html` for a page."""

    frame: pd.DataFrame
    order: str = "centroid_distance"

    def _cells(self) -> list[list[str]]:
        rows = self.frame.sort_values(["data", self.order], kind="stable")
        cells = [[str(row["model"]), f"{row['data']}, {row['n']:.0f}"] for _, row in rows.iterrows()]
        for line, (_, row) in zip(cells, rows.iterrows(), strict=True):
            line += [_DASH if pd.isna(row[name]) else f"{row[name]:.3f}" for name in SHOWN]
        return cells

    def __str__(self) -> str:
        lines = [["model", "data, images", *SHOWN.values()], *self._cells()]
        widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
        # Words to the left, numbers to the right.
        return "\n".join(
            "  ".join(f"{cell:{'<' if i < 2 else '>'}{widths[i]}}" for i, cell in enumerate(line)).rstrip()
            for line in lines
        )

    def to_html(self) -> str:
        """One ``<table>`` with a caption, of the class that the book's theme styles."""
        head = "".join(f'<th scope="col">{escape(name)}</th>' for name in ("model", "data, images", *SHOWN.values()))
        body = "".join(
            f'<tr><th scope="row">{escape(line[0])}</th>'
            + "".join(f"<td>{escape(cell)}</td>" for cell in line[1:])
            + "</tr>"
            for line in self._cells()
        )
        caption = f"{len(self.frame)} models, in order of {SHOWN[self.order]}"
        head, body = f"<thead><tr>{head}</tr></thead>", f"<tbody>{body}</tbody>"
        return f'<table class="table"><caption>{caption}</caption>{head}{body}</table>'

    _repr_html_ = to_html


def table(frame: pd.DataFrame, order: str = "centroid_distance") -> ZooTable:
    """The rows of ``frame`` by data and by the column ``order``, the smallest first; ``ValueError`` for another column.

    >>> rows = {"model": ["b", "a"], "data": ["coco"] * 2, "n": [5.0] * 2}
    >>> print(table(pd.DataFrame(rows | dict.fromkeys(SHOWN, [0.5, 0.25]))).frame["model"].tolist())
    ['b', 'a']
    """
    return ZooTable(frame, check_choice(order, "order", SHOWN))


# --- helpers ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Library:
    """How models of a library are loaded, and the package whose version a row names."""

    load: Callable[[Spec, str], Any]
    package: str


def _sentence_transformers(spec: Spec, device: str) -> Any:
    from gaplib._extras import need

    need("hub", "sentence_transformers")
    library = importlib.import_module("sentence_transformers")
    with quiet(), nothing_unpickled(), no_retries(not Path(spec.name).is_dir()):
        return library.SentenceTransformer(spec.name, device=device)


LIBRARIES = {
    "open_clip": Library(lambda spec, at: from_open_clip(spec.name, spec.pretrained, device=at), "open_clip_torch"),
    "hf": Library(lambda spec, at: from_hub(spec.name, device=at), "transformers"),
    "st": Library(_sentence_transformers, "sentence-transformers"),
}


def _open(data: str) -> Any:
    from gaplib.data.natural import open_data

    return open_data(data)


def _row(spec: Spec, data: Any, data_name: str, device: str, batch_size: int) -> dict[str, Any]:
    library = LIBRARIES[spec.library]
    numbers = measurements(embed(library.load(spec, device), data, batch_size=batch_size))
    installed = library.package
    with suppress(PackageNotFoundError):
        installed += f" {version(library.package)}"
    words = {
        "model": spec.text,
        "source": spec.library,
        "trained": spec.trained,
        "data": data_name,
        "gaplib": gaplib.__version__,
        "torch": torch.__version__,
        "library": installed,
        "date": datetime.now(UTC).date().isoformat(),
    }
    return words | numbers


def _add(out: Path, row: Mapping[str, Any]) -> pd.DataFrame:
    """The table with one more row, written as a whole. Columns that an older table has and this one not are kept."""
    new = pd.DataFrame([row])
    before: Sequence[pd.DataFrame] = [read(out)] if out.exists() else []
    frame = pd.concat([*before, new], ignore_index=True)
    names = [*COLUMNS, *(name for name in frame if name not in COLUMNS)]
    write_text_atomically(
        out, frame.reindex(columns=names).to_csv(index=False, float_format=_FORMAT, lineterminator="\n")
    )
    return read(out)
