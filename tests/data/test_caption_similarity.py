"""Likeness of captions: against scikit-learn's cosine of word counts, and what it may be given."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.metrics.pairwise import cosine_similarity

from gaplib.data import glyphs
from gaplib.data.caption_similarity import caption_similarity


def test_names_against_scikit_learn():
    data = glyphs.load()
    pairs = data.sample("train", 300, seed=2)
    texts = [" ".join(data.vocabulary[i] for i in row if i) for row in pairs.tokens.tolist()]
    counts = CountVectorizer(token_pattern=r"\S+", lowercase=False).fit_transform(texts)
    found = caption_similarity(pairs.tokens)
    np.testing.assert_allclose(found, cosine_similarity(counts), atol=2e-7)
    assert found.dtype == torch.float32
    assert torch.equal(found, found.T)
    assert (found.diagonal() == 1).all()


def test_by_hand():
    tokens = torch.tensor([[3, 4, 0, 0], [4, 3, 0, 0], [3, 3, 4, 0], [5, 0, 0, 0], [0, 5, 0, 3]])
    found = caption_similarity(tokens).double()
    half = 1 / np.sqrt(2)
    expected = [
        [1, 1, 3 / np.sqrt(10), 0, 0.5],
        [1, 1, 3 / np.sqrt(10), 0, 0.5],
        [3 / np.sqrt(10), 3 / np.sqrt(10), 1, 0, 2 / np.sqrt(10)],
        [0, 0, 0, 1, half],
        [0.5, 0.5, 2 / np.sqrt(10), half, 1],
    ]
    np.testing.assert_allclose(found, expected, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(arrays(np.int64, st.tuples(st.integers(1, 12), st.integers(1, 6)), elements=st.integers(0, 9)), st.randoms())
def test_padding_and_order_do_not_count(tokens, random):
    tokens[:, 0] = np.maximum(tokens[:, 0], 1)
    found = caption_similarity(torch.from_numpy(tokens))
    assert found.min() >= 0
    assert found.max() <= 1
    order = random.sample(range(tokens.shape[1]), tokens.shape[1])
    padded = np.concatenate([tokens[:, order], np.zeros_like(tokens)], axis=1)
    torch.testing.assert_close(caption_similarity(torch.from_numpy(padded)), found)


@pytest.mark.parametrize(
    "tokens",
    [
        torch.tensor([[1, 2], [0, 0]]),
        torch.tensor([[1, -2]]),
        torch.zeros(0, 3, dtype=torch.int64),
        torch.zeros(3, 0, dtype=torch.int64),
        torch.ones(3, dtype=torch.int64),
        torch.ones(3, 2),
        np.ones((2, 2), dtype=np.int64),
        [[1]],
        None,
    ],
)
def test_bad_tokens(tokens):
    with pytest.raises(ValueError, match=r"^tokens: expected integers"):
        caption_similarity(tokens)
