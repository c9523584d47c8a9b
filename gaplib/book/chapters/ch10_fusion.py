"""Fusion models compared: three regularisers, three tasks, baselines with one input; and a look at the attention."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from scipy import stats
from statsmodels.stats.power import TTestPower
from torch import Tensor

from gaplib import geometry
from gaplib._validate import check_integer, check_number
from gaplib.data import glyphs
from gaplib.evaluation.retrieval import mean_recall
from gaplib.fusion.model import FusionModel
from gaplib.fusion.pretraining import BLOCKS, VARIANTS, captions
from gaplib.fusion.runs import Finetuned, FusionConfig, Pretrained, finetune, pretrain
from gaplib.fusion.tasks import TASKS, task
from gaplib.fusion.vocabulary import MASK, SPECIAL, vocabulary

NAMES = {"baseline": "no regulariser", "sep": "Sep", "br": "Br", "gc": "GC"}
TASK_NAMES = {"vqa": "question answering", "nlvr": "two images", "entailment": "entailment"}
CLAIMS = {"vqa": "J9", "nlvr": "J10", "entailment": "J11"}
SCRIPTS = ("LATIN", "GREEK", "CYRILLIC", "ARMENIAN", "GEORGIAN")
MARKS = ("ACUTE", "GRAVE", "DIAERESIS", "MACRON", "BREVE")


# --- runs ------------------------------------------------------------------------------------------------------------


def pretrained(seeds: Iterable[int], device: str = "cpu") -> dict[str, list[Pretrained]]:
    """Variant -> the pre-trained model of each seed."""
    return {v: [pretrain(FusionConfig(variant=v, seed=seed), device) for seed in seeds] for v in VARIANTS}


def finetuned(seeds: Iterable[int], device: str = "cpu") -> dict[str, dict[str, list[Finetuned]]]:
    """Task -> variant -> the fine-tuned model of each seed, and its answers to the test questions."""
    seeds = list(seeds)
    return {
        name: {
            v: [finetune(FusionConfig(variant=v, seed=seed), name, device=device) for seed in seeds] for v in VARIANTS
        }
        for name in TASKS
    }


def unimodal(seeds: Iterable[int], device: str = "cpu") -> dict[str, dict[str, list[Finetuned]]]:
    """Task -> "text" or "image" -> the same model without a regulariser, given one input alone."""
    seeds = list(seeds)
    return {
        name: {
            one: [finetune(FusionConfig(seed=seed), name, one, device=device) for seed in seeds]
            for one in ("text", "image")
        }
        for name in TASKS
    }


def accuracies(runs: Sequence[Finetuned], rows: str = "all") -> np.ndarray:
    """Accuracy of each run, (len(runs),): of "all" test questions, of "novel" combinations, or of "known" ones."""
    chosen = {"all": lambda r: r.right, "novel": lambda r: r.right[r.novel], "known": lambda r: r.right[~r.novel]}[rows]
    return np.array([float(chosen(run).double().mean()) for run in runs])


def by_kind(runs: Sequence[Finetuned], kinds: int) -> np.ndarray:
    """Accuracy of each sub-question, mean over the runs, (kinds,)."""
    return np.array([np.mean([float(r.right[r.kind == k].double().mean()) for r in runs]) for k in range(kinds)])


def examples(name: str, n: int = 4) -> tuple[list[np.ndarray], list[str]]:
    """``n`` questions of a task's development split, one of each kind first (in entailment, one of each answer).

    Returns the pictures, two letters side by side where a question has two, and the words, with the answer on a line of
    its own.
    """
    questions = task(name, "dev", 40, seed=3)
    sort = questions.answer if name == "entailment" else questions.kind
    first = {kind: row for row, kind in reversed(list(enumerate(sort.tolist())))}
    rows = [*first.values(), *(row for row in range(40) if row not in first.values())][: check_integer(n, "n", low=1)]
    pictures = [torch.cat(list(questions.images[row, :, 0]), dim=1).numpy() for row in rows]
    return pictures, [f"{questions.text[row]}\n→ {questions.answers[questions.answer[row]]}" for row in rows]


@cache
def even_guess(name: str, seed: int = 0) -> float:
    """Accuracy of an even guess among the answers that the kind of the question has in a task's test questions."""
    questions = task(name, "test", FusionConfig().test_questions, seed)
    counts = {k: len(questions.answer[questions.kind == k].unique()) for k in questions.kind.unique().tolist()}
    return float(np.mean([1 / counts[k] for k in questions.kind.tolist()]))


@torch.no_grad()
def features(model: FusionModel, split: str = "test") -> tuple[Tensor, Tensor, np.ndarray]:
    """Contrastive features of the names of a split in ``BLOCKS``: image, text (n, d), answers (n,)."""
    data = glyphs.load()
    index = np.array([i for i in data.index(split) if data.names[i].startswith(BLOCKS)])
    pairs = data.draw(index, 0, 0)
    encoded = model.encoders(pairs.images, captions()[pairs.index])
    return encoded.image, encoded.text, data.positive_id[index]


def gap(model: FusionModel, split: str = "test") -> dict[str, float]:
    """What the regularisers act on: the gap of the contrastive features, the cosine of true pairs, recall at 10."""
    image, text, answer = features(model, split)
    return {
        "gap": float(geometry.centroid_distance(image, text)),
        "cosine": float(geometry.true_pair_cosine(image, text)),
        "recall": mean_recall(image, text, 10, answer),
    }


# --- power -----------------------------------------------------------------------------------------------------------


def detectable(sd: float, n: int, wanted: float = 0.8, alpha: float = 0.05) -> float:
    """Smallest true mean difference that a one-sided paired t test over ``n`` seeds finds with probability ``wanted``.

    sd: standard deviation of the differences. Raises ``ValueError`` for n < 2, sd <= 0 or a probability outside (0, 1).
    """
    check_integer(n, "n", low=2)
    return sd * float(_solve(sd, wanted, alpha, nobs=n))


def seeds_needed(effect: float, sd: float, wanted: float = 0.8, alpha: float = 0.05) -> int:
    """Fewest seeds with which the test of `detectable` finds a true difference ``effect`` > 0."""
    check_number(effect, "effect", low=0, low_open=True)
    return max(2, math.ceil(float(_solve(sd, wanted, alpha, effect_size=effect / sd))))


def _solve(sd: float, wanted: float, alpha: float, **known: float) -> float:
    for name, value in (("wanted", wanted), ("alpha", alpha)):
        check_number(value, name, low=0, high=1, low_open=True, high_open=True)
    check_number(sd, "sd", low=0, low_open=True)
    return TTestPower().solve_power(alpha=alpha, power=wanted, alternative="larger", **known)


# --- a look inside ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MaskedWords:
    """Texts with one word hidden each, beside their images.

    images (n, 1, 24, 24), tokens int64 (n, L) with one [MASK] a row, place and word int64 (n,): where, and which word.
    """

    images: Tensor
    tokens: Tensor
    place: Tensor
    word: Tensor


def hide(split: str = "test", words: Sequence[str] | None = None, seed: int = 0, most: int = 600) -> MaskedWords:
    """Names of a split with one word hidden: a random one, or the one of ``words`` that the name holds.

    Raises ``ValueError`` if no name of the split holds one of ``words``.
    """
    data, rng = glyphs.load(), np.random.default_rng(seed)
    index = np.array([i for i in data.index(split) if data.names[i].startswith(BLOCKS)])
    pairs = data.draw(rng.permutation(index), seed, 0)
    tokens = captions()[pairs.index].clone()
    if words is None:
        allowed = tokens >= len(SPECIAL)
    else:
        allowed = torch.isin(tokens, torch.tensor([vocabulary().index(word) for word in words]))
    rows = torch.nonzero(allowed.any(dim=1)).squeeze(1)[:most]
    if not len(rows):
        raise ValueError(f"words: expected words of names in {split!r}, got {words!r:.80}")
    score = torch.from_numpy(rng.random(tokens.shape)).masked_fill(~allowed, -1.0)[rows]
    place = score.argmax(dim=1)
    tokens = tokens[rows]
    word = tokens[torch.arange(len(rows)), place]
    tokens[torch.arange(len(rows)), place] = MASK
    return MaskedWords(pairs.images[rows], tokens, place, word)


@torch.no_grad()
def confidence(model: FusionModel, hidden: MaskedWords) -> Tensor:
    """Probability (n,) that the model gives to each hidden word, beside its own image."""
    return _word_logits(model, hidden, hidden.images).softmax(dim=1)[torch.arange(len(hidden.word)), hidden.word]


def surest(model: FusionModel, hidden: MaskedWords, words: Mapping[str, str]) -> list[int]:
    """For each script of ``words`` (script -> hidden word) the row of whose hidden word the model is surest.

    Raises ``ValueError`` if no name of the script has that word hidden.
    """
    sure, rows = confidence(model, hidden), []
    for script, word in words.items():
        with_both = (hidden.tokens == vocabulary().index(script)).any(dim=1) & (hidden.word == vocabulary().index(word))
        if not with_both.any():
            raise ValueError(f"words: expected words hidden in names of their script, got {word!r} for {script!r}")
        rows.append(int(sure.masked_fill(~with_both, -1.0).argmax()))
    return rows


@torch.no_grad()
def word_accuracy(model: FusionModel, hidden: MaskedWords, images: Tensor | None = None) -> float:
    """Share of hidden words that the model fills in right, beside their own images or others in their place."""
    return float(
        (_word_logits(model, hidden, hidden.images if images is None else images).argmax(1) == hidden.word)
        .double()
        .mean()
    )


def _word_logits(model: FusionModel, hidden: MaskedWords, images: Tensor) -> Tensor:
    fused = model.fuse(images, hidden.tokens)
    return model.masking_logits(fused[torch.arange(len(fused)), hidden.place])


@torch.no_grad()
def attention(model: FusionModel, images: Tensor, tokens: Tensor) -> Tensor:
    """Cross-attention of every word to every patch, (n, layers, L, rows, columns), mean over heads.

    It sums to one less what goes to the image's [CLS]. torch's layers keep their weights back, so hooks ask for them.
    """
    maps, handles = [], []

    def ask(module, args, kwargs):
        return args, kwargs | {"need_weights": True, "average_attn_weights": True}

    for layer in model.fusion.layers:
        handles.append(layer.multihead_attn.register_forward_pre_hook(ask, with_kwargs=True))
        handles.append(layer.multihead_attn.register_forward_hook(lambda module, args, out: maps.append(out[1])))
    try:
        model.fuse(images, tokens)
    finally:
        for handle in handles:
            handle.remove()
    side = model.size.image_size // model.size.patch
    return torch.stack(maps, dim=1)[..., 1:].unflatten(-1, (side, side))


@torch.no_grad()
def occlusion(model: FusionModel, hidden: MaskedWords) -> Tensor:
    """How much the log probability of the hidden word falls when a patch is wiped, (n, rows, columns)."""
    patch, side = model.size.patch, model.size.image_size // model.size.patch
    rows = torch.arange(len(hidden.word))

    def log_probability(images: Tensor) -> Tensor:
        return _word_logits(model, hidden, images).log_softmax(dim=1)[rows, hidden.word]

    whole, out = log_probability(hidden.images), torch.zeros(len(rows), side, side)
    for i in range(side):
        for j in range(side):
            wiped = hidden.images.clone()
            wiped[:, :, i * patch : (i + 1) * patch, j * patch : (j + 1) * patch] = 0
            out[:, i, j] = whole - log_probability(wiped)
    return out


def attention_to_hidden(model: FusionModel, hidden: MaskedWords) -> Tensor:
    """`attention` of the hidden words in the last layer, (n, rows, columns)."""
    maps = attention(model, hidden.images, hidden.tokens)
    return maps[torch.arange(len(maps)), -1, hidden.place]


def upper_share(maps: Tensor) -> float:
    """Share of the sum of the maps (n, rows, columns) that lies in their upper half; negative entries count as zero."""
    kept = maps.clamp(min=0).double().sum(dim=0)
    return float(kept[: len(kept) // 2].sum() / kept.sum())


def agreement(first: Tensor, second: Tensor) -> float:
    """Mean over items of Spearman's correlation between two maps (n, rows, columns); constant maps are left out."""
    pairs = zip(first.flatten(1).numpy(), second.flatten(1).numpy(), strict=True)
    values = [stats.spearmanr(a, b).statistic for a, b in pairs if np.ptp(a) > 0 and np.ptp(b) > 0]
    return float(np.mean(values))
