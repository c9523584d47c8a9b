"""VQA v2, NLVR2 and SNLI-VE as their publishers' files hold them, for the GPU profile; nothing is downloaded here.

Every loader checks all entries and that every picture is there before it returns. What is wrong is a ``ValueError`` or
``FileNotFoundError`` that names the file and the line (of a JSON array: the entry).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from gaplib._validate import check_integer
from gaplib.data.annotations import field, read_lines, read_object, text_field

ENTAILMENT = {"entailment": "entailed", "neutral": "neutral", "contradiction": "contradicted"}
# The published generator writes the first; the files that its page links to hold one of the others.
FLICKR_FIELDS = ("Flickr30K_ID", "Flickr30kID", "Flikr30kID")


@dataclass(frozen=True)
class Example:
    """One question. images: one path, or left and right. scores: answer -> score in (0, 1]; empty on a test split that
    keeps its answers back. place: file and line (or entry) that it comes from."""

    identifier: str
    images: tuple[Path, ...]
    text: str
    scores: dict[str, float]
    place: str

    @property
    def answer(self) -> str:
        """The answer of the highest score (the first among equals). Raises ``ValueError`` where there is none."""
        if not self.scores:
            raise ValueError(f"{self.place}: expected an answer, but this split holds none")
        return max(self.scores, key=self.scores.get)


class Examples(Sequence):
    """Questions in the order of their file."""

    def __init__(self, examples: Sequence[Example]):
        self._examples = list(examples)

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, place):
        found = self._examples[place]
        return Examples(found) if isinstance(place, slice) else found

    def images(self, rows: Sequence[int], size: int = 224) -> torch.Tensor:
        """Pictures float32 (n, k, 3, size, size) in [0, 1], red, green, blue, stretched to a square.

        Raises ``ValueError`` that names the file where one cannot be read.
        """
        size = check_integer(size, "size", low=1)
        return torch.stack([torch.stack([_picture(path, size) for path in self[int(i)].images]) for i in rows])

    def answers(self, n: int | None = None) -> tuple[str, ...]:
        """The ``n`` best answers that occur most often (default: all), most frequent first, then by alphabet."""
        counts = Counter(example.answer for example in self)
        return tuple(sorted(counts, key=lambda answer: (-counts[answer], answer))[:n])

    def targets(self, answers: Sequence[str], *, unknown: str = "error") -> torch.Tensor:
        """Scores float32 (n, len(answers)) of these answers.

        A question none of whose answers is listed raises ``ValueError``, or, with unknown="zero", has a row of zeros.
        """
        place = {answer: i for i, answer in enumerate(answers)}
        out = torch.zeros(len(self), len(answers))
        for row, example in enumerate(self):
            known = {place[answer]: score for answer, score in example.scores.items() if answer in place}
            if not known and unknown == "error":
                raise ValueError(
                    f"{example.place}: expected a listed answer, got {', '.join(example.scores) or 'none'}"
                )
            for column, score in known.items():
                out[row, column] = score
        return out


def soft_score(count: int) -> float:
    """VQA accuracy of an answer that ``count`` of the ten annotators gave: min(count / 3, 1).

    The official script averages this over the ten sets of nine annotators, which gives less for one, two and three.
    """
    return min(check_integer(count, "count", low=0) / 3, 1.0)


def vqa_v2(questions: str | Path, images: str | Path, annotations: str | Path | None = None) -> Examples:
    """VQA v2: v2_OpenEnded_mscoco_*_questions.json, v2_mscoco_*_annotations.json, and the folder of COCO's pictures.

    A picture is COCO_<subtype>_<image id, 12 digits>.jpg, with the questions file's ``data_subtype`` (its
    "test-dev2015" asks about pictures of "test2015"). Without ``annotations`` no question has an answer.
    """
    document, where = read_object(Path(questions)), Path(questions)
    subtype = str(field(document, "data_subtype", str, str(where))).replace("test-dev", "test")
    answered = _annotations(Path(annotations)) if annotations is not None else {}
    present, out = _listing(Path(images)), []
    for i, entry in enumerate(field(document, "questions", list, str(where))):
        place = f"{where}, questions[{i}]"
        key = field(entry, "question_id", int, place)
        image = field(entry, "image_id", int, place)
        text = text_field(entry, "question", place)
        scores = {}
        if annotations is not None:
            if key not in answered:
                raise ValueError(f"{place}: expected an annotation of question_id {key} in {annotations}, got none")
            of_image, scores = answered[key]
            if of_image != image:
                raise ValueError(f"{place}: expected image_id {of_image} as in {annotations}, got {image}")
        path = _image(present, f"COCO_{subtype}_{image:012d}.jpg", images, place)
        out.append(Example(str(key), (path,), text, scores, place))
    return _some(out, where)


def _annotations(path: Path) -> dict[int, tuple[int, dict[str, float]]]:
    """question_id -> (image_id, scores of the answers)."""
    out = {}
    for i, entry in enumerate(field(read_object(path), "annotations", list, str(path))):
        place = f"{path}, annotations[{i}]"
        given = field(entry, "answers", list, place)
        counts = Counter(text_field(answer, "answer", f"{place}, answers[{j}]") for j, answer in enumerate(given))
        if not counts:
            raise ValueError(f"{place}: expected at least one of the annotators' answers, got an empty list")
        scores = {answer: soft_score(count) for answer, count in counts.items()}
        out[field(entry, "question_id", int, place)] = field(entry, "image_id", int, place), scores
    return out


def nlvr2(path: str | Path, images: str | Path) -> Examples:
    """NLVR2: a JSON object a line, and the folder of its pictures.

    Identifier split-set-pair-sentence has the pictures split-set-pair-img0.png (left) and -img1.png; those of the
    training split lie in folders that the field ``directory`` names, or all in one. Answers: "true", "false".
    """
    out, present = [], {}
    for place, entry in read_lines(Path(path)):
        identifier = text_field(entry, "identifier", place)
        label = str(entry.get("label", "")).lower()
        if label not in ("true", "false"):
            raise ValueError(f"{place}: label: expected True or False, got {entry.get('label')!r}")
        stem, dash, _ = identifier.rpartition("-")
        if not dash:
            raise ValueError(f"{place}: identifier: expected split-set-pair-sentence, got {identifier!r}")
        inner = Path(images) / str(entry.get("directory", ""))
        folder = inner if inner.is_dir() else Path(images)
        if folder not in present:
            present[folder] = _listing(folder)
        both = tuple(_image(present[folder], f"{stem}-img{i}.png", folder, place) for i in (0, 1))
        out.append(Example(identifier, both, text_field(entry, "sentence", place), {label: 1.0}, place))
    return _some(out, Path(path))


def snli_ve(path: str | Path, images: str | Path) -> Examples:
    """SNLI-VE: a JSON object a line with ``sentence2`` (the statement), ``gold_label`` and the Flickr30k picture's id.

    Answers: "entailed", "neutral", "contradicted", as in the glyph task.
    """
    out, present = [], _listing(Path(images))
    for place, entry in read_lines(Path(path)):
        column = next((name for name in FLICKR_FIELDS if name in entry), FLICKR_FIELDS[0])
        name = text_field(entry, column, place)
        label = entry.get("gold_label")
        if label not in ENTAILMENT:
            raise ValueError(f"{place}: gold_label: expected one of {', '.join(ENTAILMENT)}, got {label!r}")
        picture = _image(present, name if name.endswith(".jpg") else f"{name}.jpg", images, place)
        text = text_field(entry, "sentence2", place)
        out.append(Example(str(entry.get("pairID", name)), (picture,), text, {ENTAILMENT[label]: 1.0}, place))
    return _some(out, Path(path))


# --- reading ---------------------------------------------------------------------------------------------------------


def _listing(folder: Path) -> dict[str, Path]:
    """The files of a folder by name: one look, where a question of each of half a million files would take minutes."""
    if not folder.is_dir():
        raise FileNotFoundError(f"images: expected a folder, got {folder}")
    return {path.name: path for path in folder.iterdir()}


def _image(present: dict[str, Path], name: str, folder: str | Path, place: str) -> Path:
    if name not in present:
        raise FileNotFoundError(f"{place}: expected the picture {name} in {folder}, got none")
    return present[name]


def _some(examples: list[Example], path: Path) -> Examples:
    if not examples:
        raise ValueError(f"{path}: expected at least one entry, got none")
    return Examples(examples)


def _picture(path: Path, size: int) -> torch.Tensor:
    try:
        with Image.open(path) as image:  # by content: some of NLVR2's .png files are of another format
            pixels = np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BICUBIC))
    except (OSError, UnidentifiedImageError) as error:
        raise ValueError(f"{path}: expected a picture, got a file that cannot be read ({error})") from None
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).to(torch.float32) / 255
