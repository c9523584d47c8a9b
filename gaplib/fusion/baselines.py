"""What one modality alone achieves on the fusion tasks: the floors that a fusion model is held against."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from gaplib.fusion.tasks import TaskBatch, task


def majority_share(given: Sequence[Hashable], answer: Sequence[Hashable]) -> float:
    """Share right for whoever knows, for each value of ``given``, the most frequent answer in this very set.

    No function of ``given`` is right more often. Where a value is seen once, it is right by itself: read the figure
    beside the number of distinct values. Raises ``ValueError`` for empty or unequal lists.
    """
    if not len(given) or len(given) != len(answer):
        raise ValueError(f"given, answer: expected lists of one length, at least 1, got {len(given)} and {len(answer)}")
    counts = defaultdict(Counter)
    for value, right in zip(given, answer, strict=True):
        counts[value][right] += 1
    return sum(max(found.values()) for found in counts.values()) / len(given)


def majority(batch: TaskBatch) -> dict[str, float]:
    """`majority_share` given the text and given the pictures, of all questions and of each kind.

    Keys "text", "image", "text.<kind>". The share given the pictures is of all questions on a picture, of all kinds:
    a model that is not told the question cannot do better.
    """
    answer, kind = batch.answer.tolist(), batch.kind.tolist()
    images = [pixels.tobytes() for pixels in batch.images.numpy()]
    out = {"text": majority_share(batch.text, answer), "image": majority_share(images, answer)}
    for place, name in enumerate(batch.kinds):
        rows = [i for i, k in enumerate(kind) if k == place]
        if rows:
            out[f"text.{name}"] = majority_share([batch.text[i] for i in rows], [answer[i] for i in rows])
    return out


def learners() -> dict[str, tuple]:
    """Name -> (learner, function of a `TaskBatch` that gives its input): logistic regression on one modality.

    "text": bag of words, in word pairs too. "image": standardised pixels (of both pictures, side by side).
    """
    words = make_pipeline(CountVectorizer(binary=True, ngram_range=(1, 2)), LogisticRegression(max_iter=300))
    pixels = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=100, tol=1e-3))
    return {
        "text": (words, lambda batch: list(batch.text)),
        "image": (pixels, lambda batch: batch.images.flatten(1).numpy()),
    }


def unimodal(name: str, n_train: int = 2000, n_test: int = 1200, split: str = "test", seed: int = 0) -> pd.DataFrame:
    """Accuracy on a held-out split of learners that see one modality of a task, and of knowing each text's majority.

    One row each: baseline ("majority", "text", "image"), accuracy, chance (a uniform guess among the answers that occur
    for the kind of question), n. "majority": the most frequent answer to this text in training.
    """
    train, test = task(name, "train", n_train, seed), task(name, split, n_test, seed)
    right = test.answer.numpy()
    counts = defaultdict(Counter)
    for text, answer in zip(train.text, train.answer.tolist(), strict=True):
        counts[text][answer] += 1
    overall = Counter(train.answer.tolist()).most_common(1)[0][0]
    guess = [counts[text].most_common(1)[0][0] if text in counts else overall for text in test.text]
    accuracy = {"majority": float(np.mean(guess == right))}
    for learner, (model, inputs) in learners().items():
        model.fit(inputs(train), train.answer.numpy())
        accuracy[learner] = float(np.mean(model.predict(inputs(test)) == right))
    rows = [{"baseline": key, "accuracy": value} for key, value in accuracy.items()]
    return pd.DataFrame(rows).assign(chance=chance(test), n=len(test))


def chance(batch: TaskBatch) -> float:
    """Expected share right of a uniform guess among the answers that occur to each kind of question."""
    occur = defaultdict(set)
    for kind, answer in zip(batch.kind.tolist(), batch.answer.tolist(), strict=True):
        occur[kind].add(answer)
    return float(np.mean([1 / len(occur[kind]) for kind in batch.kind.tolist()]))
