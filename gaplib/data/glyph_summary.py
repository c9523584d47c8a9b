"""What the glyph data is, counted from the data itself: for the page that shows it and for the tests that guard it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from gaplib._validate import check_number

if TYPE_CHECKING:
    from gaplib.data.glyphs import Glyphs


def summary(glyphs: Glyphs, near: float = 0.95) -> dict[str, float | int]:
    """Counts and shares that describe the alphabet and its split.

    ``near``: cosine of two images (as vectors of ink) from which they count as nearly the same, in (0, 1].
    Keys ending in ``_share`` are in [0, 1]; the others are counts. "Image of another name" holds for every pair
    across the split, because a name is on one side only.
    """
    check_number(near, "near", low=0, high=1, low_open=True)
    closest = nearest_training_cosine(glyphs)
    train_pixels = {image.tobytes() for image in glyphs.images[_of(glyphs, "train")]}
    identical = np.array([image.tobytes() in train_pixels for image in glyphs.images[_of(glyphs, "test")]])
    bags = [tuple(sorted(row[row > 0].tolist())) for row in glyphs.tokens]
    bag_size = pd.Series(bags).map(pd.Series(bags).value_counts()).to_numpy()
    test_rows = glyphs.split == "test"
    return {
        "names": len(glyphs.names),
        "images": len(glyphs.images),
        "faces": len(glyphs.faces),
        "names_left_out": len(glyphs.left_out),
        **{f"names_{split}": int((glyphs.split == split).sum()) for split in ("train", "dev", "test")},
        **{f"images_{split}": int(_of(glyphs, split).sum()) for split in ("train", "dev", "test")},
        "groups": int(glyphs.split_group.max() + 1),
        "largest_group": int(np.bincount(glyphs.split_group).max()),
        "answers": int(glyphs.positive_id.max() + 1),
        "answers_test": len(np.unique(glyphs.positive_id[test_rows])),
        "names_with_a_twin": int((np.bincount(glyphs.positive_id)[glyphs.positive_id] > 1).sum()),
        "largest_twin_class": int(np.bincount(glyphs.positive_id).max()),
        "names_with_five_distinct_faces": len(glyphs.five_faces()),
        "vocabulary": len(glyphs.vocabulary),
        "longest_name_in_tokens": glyphs.tokens.shape[1],
        "names_that_share_their_bag_of_tokens": int((bag_size > 1).sum()),
        "test_images_identical_to_training_share": float(identical.mean()),
        "test_images_nearly_identical_to_training_share": float((closest >= near).mean()),
        "test_names_with_unseen_token_share": float((glyphs.tokens[test_rows] == 1).any(axis=1).mean()),
    }


def by_split(glyphs: Glyphs) -> pd.DataFrame:
    """One row a split: its names, images, answers, groups and images a name."""
    rows = {}
    for split in ("train", "dev", "test"):
        names, images = glyphs.split == split, int(_of(glyphs, split).sum())
        rows[split] = {
            "names": int(names.sum()),
            "images": images,
            "answers": len(np.unique(glyphs.positive_id[names])),
            "groups": len(np.unique(glyphs.split_group[names])),
            "images a name": images / int(names.sum()),
        }
    return pd.DataFrame(rows).T.astype({c: int for c in ("names", "images", "answers", "groups")})


def nearest_training_cosine(glyphs: Glyphs, chunk: int = 1024) -> np.ndarray:
    """Cosine of each test image with the training image most like it, float32 in [0, 1]."""
    train, test = (glyphs.images[_of(glyphs, split)].reshape(-1, glyphs.size**2) for split in ("train", "test"))
    train, test = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (train.astype("f4"), test.astype("f4")))
    return np.concatenate([(test[i : i + chunk] @ train.T).max(axis=1) for i in range(0, len(test), chunk)])


def _of(glyphs: Glyphs, split: str) -> np.ndarray:
    return glyphs.split[glyphs.name_of_image] == split
