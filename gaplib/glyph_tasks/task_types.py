"""What a task on the alphabet is: places in one list of images and one of texts, and labels. No data, no towers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True)
class Labelled:
    """Images (places) and the label of each."""

    image: np.ndarray
    label: np.ndarray


@dataclass(frozen=True)
class ZeroShot:
    """Images with labels, and for every class its label and the places of its prompts."""

    images: Labelled
    classes: np.ndarray
    prompts: list[np.ndarray]


@dataclass(frozen=True)
class Quadruples:
    """Arithmetic of one family in one face: ``image`` + the direction of ``kind`` should find ``answer`` in ``bank``.

    family: "case" and "diacritic", where the wanted character and its pixel-identical twins are right; or "script",
    where every letter of the wanted script and the same case is (few letters have the same name in two scripts, and
    their diacritics differ), letters with a twin in another script left out. ``own`` is the query's place in the bank.
    """

    family: str
    image: np.ndarray
    kind: np.ndarray
    answer: np.ndarray
    own: np.ndarray
    bank: np.ndarray
    bank_answer: np.ndarray


@dataclass(frozen=True)
class Directions:
    """Pairs of training texts from which the direction of each kind is averaged; ``*_image`` the same in one face."""

    source: np.ndarray
    target: np.ndarray
    kind: np.ndarray
    source_image: np.ndarray
    target_image: np.ndarray


@dataclass(frozen=True)
class Search:
    """Mixed search: documents (image and text places, answers), queries that are images or texts."""

    image: np.ndarray
    text: np.ndarray
    answer: np.ndarray
    image_query: np.ndarray
    image_query_answer: np.ndarray
    text_query: np.ndarray
    text_query_answer: np.ndarray


@dataclass(frozen=True)
class Tasks:
    """Everything that is encoded, and the tasks as places in it.

    images: uint8 (m, size, size). tokens: int64 (k, L); the first rows are the names of the alphabet in their order.
    pairs_*: one image a scored character, as in training's own measurements. second_image: the same character in
    another face (-1 where there is none). printed: the characters of the unseen faces in a face that training saw.
    few_shot: (examples to draw from, images to score). fine_grained: rows of
    (two images, two names, the same two in another face or -1). roles: see `roles`.
    """

    split: str
    images: np.ndarray
    tokens: torch.Tensor
    pairs_image: np.ndarray
    pairs_text: np.ndarray
    pairs_answer: np.ndarray
    second_image: np.ndarray
    zero_shot: dict[str, ZeroShot]
    probes: dict[str, dict[str, Labelled]]
    few_shot: dict[str, tuple[Labelled, Labelled]]
    printed: Labelled
    clusters: np.ndarray
    cluster_label: np.ndarray
    directions: Directions
    quadruples: dict[str, list[Quadruples]]
    search: Search
    fine_grained: np.ndarray
    roles: dict[str, np.ndarray]
