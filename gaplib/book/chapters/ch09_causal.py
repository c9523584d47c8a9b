"""Chapter 09, the causal handles: the gap is moved after training and nothing else is touched.

On trained towers (a run): the shift along the gap by shares of it, the class bias that a shift adds, noise before and
after the orthogonal shift, centring fitted on half of the pairs. On published embeddings: centring and noise, fitted on
one half of the pairs and scored on the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from gaplib import geometry, posthoc
from gaplib.data import published
from gaplib.evaluation.hubness import class_hubs
from gaplib.evaluation.retrieval import mean_recall
from gaplib.evaluation.robustness import robustness
from gaplib.evaluation.zero_shot import class_embeddings
from gaplib.glyph_tasks import suite
from gaplib.leaderboard.rows import training_pairs
from gaplib.stats import Estimate, jackknife, permutation_floor
from gaplib.training import Run

#: share of the gap that is taken away: -1 doubles it, 1 makes the means meet
SHARES = (-1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0, 1.5)
NOISE = (0.0, 0.25, 0.5, 1.0)
KS = 5  # recall at 5 on glyphs: recall at 1 is too near its floor for a claim that nothing changes
HALVES = 4  # random halves that a held-out measure is averaged over
SHIFT_GROUPS = ("gap", "recall", "zero_shot", "fine_grained")


def shift_sweep(run: Run, split: str = "test", shares: Sequence[float] = SHARES) -> dict[float, dict[str, float]]:
    """Metrics of the suite (gap, recall, zero-shot, fine-grained) by the share of the gap that a shift takes away."""
    x, y = training_pairs(run)
    plain = suite.encode(run, split=split)
    out = {}
    for share in shares:
        shift = posthoc.fit_shift(x, y, share)
        e = suite.encoded(plain.tasks, plain.image, plain.text, plain.logit_scale, shift if share else None)
        out[share] = suite.score(e, only=SHIFT_GROUPS)
    return out


def chosen_and_doubled(
    dev: Mapping[float, Mapping[str, float]], test: Mapping[float, Mapping[str, float]], metric: str
) -> dict[str, float]:
    """What the share that is best on dev gains on test, what doubling the gap costs there, and that share.

    ``dev``, ``test``: sweeps of one run, of the same shares, 0 and -1 among them. Of equal shares on dev the one
    nearest to 0, no change, is taken.
    """
    if set(dev) != set(test) or not {0.0, -1.0} <= set(test):
        raise ValueError(f"dev, test: expected the same shares, 0 and -1 among them, got {list(dev)} and {list(test)}")
    share = max(sorted(dev, key=abs), key=lambda one: dev[one][metric])
    base = test[0.0][metric]
    return {"chosen_gain": test[share][metric] - base, "doubled_loss": base - test[-1.0][metric], "share": share}


def class_bias(run: Run, task: str = "faces", split: str = "test") -> dict[str, Any]:
    """The bias that moving the images onto the texts adds to each class, and how often each class is predicted.

    The image ``x`` becomes ``x - g`` with g the training characters' mean image less their mean name, so the score of
    class c gains ``b_c = -<g, t_c>`` (Sato et al.); the classes' own embeddings stay. Returns arrays over classes
    ``bias``, ``before``, ``after`` (predictions, as a multiple of the class's own number of images) and the Spearman
    correlations of the bias with ``after``, with their ``change``, and with ``before``.
    """
    x, y = training_pairs(run)
    g = (x.mean(0) - y.mean(0)).numpy()
    image, labels, prompts, _, classes = suite.classification(suite.encode(run, split=split), task)
    columns = class_embeddings(prompts)
    own = np.array([(labels == one).sum() for one in classes])
    before, after = (class_hubs(z, columns) / own for z in (image, image - g))
    bias = -(columns @ g)
    found = {"bias": bias, "before": before, "after": after}
    for name, counts in (("correlation", after), ("change", after - before), ("correlation_before", before)):
        found[name] = float(spearmanr(bias, counts)[0]) if np.ptp(counts) else 0.0
    return found


def noise_sweep(run: Run, sizes: Sequence[float] = NOISE, split: str = "test") -> dict[str, dict[str, float]]:
    """Recall at 5 under noise on the embeddings as they are and treated.

    ``"kept"``, ``"removed"`` (after the orthogonal shift), ``"centred"`` (after mean-centring), each
    ``{"recall@s": value, "mean": over the sizes above 0, "gap": centroid distance}``.
    """
    e = suite.encode(run, split=split)
    t = e.tasks
    fit_to = training_pairs(run)
    kept = e.image[t.pairs_image], e.text[t.pairs_text]
    treated = {"removed": posthoc.fit_orthogonal_shift(*fit_to), "centred": posthoc.fit_mean_centring(*fit_to)}
    pairs = {"kept": kept} | {name: [z.numpy() for z in one(*kept)] for name, one in treated.items()}
    out = {}
    for name, (x, y) in pairs.items():
        found = robustness(x, y, lambda a, b: mean_recall(a, b, KS, t.pairs_answer), sizes=sizes, draws=2)
        out[name] = {key.replace("score", "recall"): value for key, value in found.items()}
        out[name]["gap"] = float(geometry.centroid_distance(x, y))
    return out


# --- fitted on one half of the pairs, scored on the other ------------------------------------------------------------


def halves(n: int, repeats: int = HALVES, seed: int = 0) -> np.ndarray:
    """Booleans (n, repeats): in each column a random half is True."""
    rng = np.random.default_rng(seed)
    return np.stack([rng.permutation(n) < n // 2 for _ in range(repeats)], axis=1)


def centring(x: Any, y: Any, half: np.ndarray, k: int = 1, groups: np.ndarray | None = None) -> dict[str, float]:
    """Mean-centring fitted on the pairs that ``half`` marks, scored on the others, averaged over its columns.

    x, y: (n, d) unit rows, row i a pair; half: booleans (n, repeats). ``excess_distance``: centroid distance after
    centring less its permutation floor; ``recall_before``, ``recall_after`` at ``k``, ``recall_change``; ``distance``.
    """
    x, y = (torch.as_tensor(z, dtype=torch.float64) for z in (x, y))
    rows = []
    for column in half.T:
        fitted, held = torch.from_numpy(column), torch.from_numpy(~column)
        a, b = x[held].numpy(), y[held].numpy()
        ca, cb = (z.numpy() for z in posthoc.fit_mean_centring(x[fitted], y[fitted])(a, b))
        answers = None if groups is None else groups[~column]
        distance = float(geometry.centroid_distance(ca, cb))
        floor = permutation_floor(geometry.centroid_distance, ca, cb, repeats=20).mean
        rows.append([distance - floor, mean_recall(a, b, k, answers), mean_recall(ca, cb, k, answers), distance])
    excess, before, after, distance = np.mean(rows, axis=0)
    found = {"excess_distance": excess, "recall_before": before, "recall_after": after, "distance": distance}
    return {name: float(value) for name, value in found.items()} | {"recall_change": float(after - before)}


def trained_centring(run: Run) -> dict[str, float]:
    """:func:`centring` of a run's test pairs, with recall at ``KS``; duplicates count as answers to each other."""
    x, y = run.pairs()
    return centring(x, y, halves(len(x)), KS, np.asarray(run.embeddings["test_answer"]))


def published_centring(name: str, what: Sequence[str], k: int = 1) -> dict[str, Estimate]:
    """:func:`centring` of published embeddings, each of ``what`` with a jackknife interval over pairs."""
    one = published.load(name)
    arrays = (*(geometry.normalize(z.double()).numpy() for z in (one.x, one.y)), halves(len(one.x)))
    return _jackknifed(lambda x, y, half: centring(x, y, half, k), arrays, what)


def published_noise(name: str, k: int = 1, sizes: Sequence[float] = NOISE[1:], draws: int = 2) -> dict[str, Estimate]:
    """Noise on published embeddings before and after treatments, fitted on one half of the pairs, scored on the other.

    ``kept.``, ``removed.`` (orthogonal shift), ``centred.`` (mean-centring) with ``clean`` and ``noisy`` recall (mean
    over ``sizes``) and ``gap``; and of the latter two ``clean_change`` and ``noisy_gain``. Jackknife intervals over
    pairs: every pair keeps its noise and its halves when others are left out.
    """
    one = published.load(name)
    x, y = (geometry.normalize(z.double()).numpy() for z in (one.x, one.y))
    rng = np.random.default_rng([9, len(x)])
    noise = rng.standard_normal((len(x), draws, 2, x.shape[1])) / np.sqrt(x.shape[1])

    def recalls(a: np.ndarray, b: np.ndarray, noise: np.ndarray) -> list[float]:
        noisy = [
            mean_recall(a + size * noise[:, draw, 0], b + size * noise[:, draw, 1], k)
            for size in sizes
            for draw in range(draws)
        ]
        return [mean_recall(a, b, k), float(np.mean(noisy)), float(geometry.centroid_distance(a, b))]

    def measure(x: np.ndarray, y: np.ndarray, half: np.ndarray, noise: np.ndarray) -> dict[str, float]:
        rows = []
        for fitted in half.T:
            fit_to, kept = (x[fitted], y[fitted]), (x[~fitted], y[~fitted])
            treatments = posthoc.fit_orthogonal_shift(*fit_to), posthoc.fit_mean_centring(*fit_to)
            pairs = [kept, *([z.numpy() for z in treatment(*kept)] for treatment in treatments)]
            rows.append([recalls(a, b, noise[~fitted]) for a, b in pairs])
        found = dict(zip(("kept", "removed", "centred"), np.mean(rows, axis=0), strict=True))
        out = {
            f"{name}.{what}": row[i] for name, row in found.items() for i, what in enumerate(("clean", "noisy", "gap"))
        }
        for name in ("removed", "centred"):
            out[f"{name}.clean_change"] = out[f"{name}.clean"] - out["kept.clean"]
            out[f"{name}.noisy_gain"] = out[f"{name}.noisy"] - out["kept.noisy"]
        return out

    arrays = (x, y, halves(len(x), 2), noise)
    return _jackknifed(measure, arrays, tuple(measure(*arrays)))


def _jackknifed(measure: Callable[..., Mapping[str, float]], arrays: tuple, what: Sequence[str]) -> dict[str, Estimate]:
    """Several values of one function of rows, each with its jackknife interval; every subset is measured once."""
    seen: dict[int, Mapping[str, float]] = {}

    def value(name: str) -> Callable[..., float]:
        calls = iter(range(10**6))

        def statistic(*rows: Any) -> float:
            call = next(calls)  # the jackknife asks for the same subsets in the same order for every value
            if call not in seen:
                seen[call] = measure(*rows)
            return seen[call][name]

        return statistic

    return {name: jackknife(value(name), *arrays, blocks=20) for name in what}
