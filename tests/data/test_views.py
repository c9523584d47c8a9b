"""Second views: pure, cheap, never the identical image, no ink lost; names that can still be told from their words."""

import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from gaplib.data import glyphs, views
from gaplib.data.views import DROP, SYNONYM, SYNONYMS, VIEW_WORDS, second_views, view_vocabulary
from gaplib.training.pairing import Pairing


@pytest.fixture(scope="module")
def data():
    return glyphs.load()


@pytest.fixture(scope="module")
def everything(data):
    """A pair for each image of the alphabet."""
    return data.pairs(data.name_of_image.copy(), np.arange(len(data.images)))


@pytest.fixture(scope="module")
def viewed(data, everything):
    return second_views(data, everything, 5, 9)


def test_views_depend_on_pairs_seed_and_step_alone(data):
    pairs = data.batches("train", 64, 0)(0)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    kept = replace(pairs, **{name: value.clone() for name, value in vars(pairs).items()})
    one, again = second_views(data, pairs, 3, 4), second_views(data, pairs, 3, 4)
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    for seed, step in ((3, 5), (4, 4)):
        other = second_views(data, pairs, seed, step)
        assert not torch.equal(one[0], other[0])
        assert not torch.equal(one[1], other[1])
    assert all(torch.equal(getattr(pairs, name), value) for name, value in vars(kept).items())
    assert torch.equal(before[0], torch.get_rng_state())
    np.testing.assert_array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002


def test_form(data, everything, viewed):
    images, tokens = viewed
    assert images.shape == everything.images.shape
    assert images.dtype == torch.float32
    assert images.min() >= 0
    assert images.max() <= 1
    assert tokens.dtype == torch.int64
    assert tokens.shape == everything.tokens.shape
    assert int(tokens.max()) < len(data.vocabulary) + VIEW_WORDS == Pairing().vocabulary_size(data, views=True)


# --- images ----------------------------------------------------------------------------------------------------------


def test_no_image_is_identical_and_another_face_is_shown_where_there_is_one(data, everything, viewed):
    assert ((viewed[0] - everything.images).abs().amax(dim=(1, 2, 3)) > 0.01).all()
    index, face = data.name_of_image, data.face_of_image
    faces = np.bincount(index)[index]
    seen = {}
    for seed in range(3):
        image = views._another_face(data, index, face, np.random.default_rng(seed))
        np.testing.assert_array_equal(data.name_of_image[image], index)
        np.testing.assert_array_equal(data.face_of_image[image] != face, faces > 1)
        for first, second in zip(face[faces == 5], data.face_of_image[image][faces == 5], strict=True):
            seen[first, second] = seen.get((first, second), 0) + 1
    assert len(seen) == 5 * 4
    expected = 3 * (faces == 5).sum() / 20
    assert np.abs(np.array(list(seen.values())) - expected).max() < 6 * np.sqrt(expected)  # each equally often


def test_no_ink_is_lost(data):
    """The view holds the drawing's ink times the square of its scale, all of it inside, for every image there is."""
    rng = np.random.default_rng(0)
    ink = data.images.sum(axis=(1, 2), dtype=np.int64) / 255
    extent = views._ink_box(data.images)[1].max(axis=1) * data.size  # the longer side of the box round the ink
    for _ in range(2):
        moved = views._moved(data.images.copy(), rng)[:, 0].numpy()
        share = moved.sum(axis=(1, 2)) / ink
        assert share.min() > 0.8**2
        assert share.max() < 1.05
        assert share[extent < 18].min() > 0.95  # smaller drawings are not shrunk
        assert moved.max(axis=(1, 2)).min() > 0.25
    # A drawing that fills the image, the hardest case: its border may not reach outside in any direction.
    full = np.full((200, 24, 24), 255, dtype=np.uint8)
    share = views._moved(full, rng).sum(dim=(1, 2, 3)).numpy() / 24**2
    smallest = (1 - 1 / 24) / (np.cos(np.radians(10)) + np.sin(np.radians(10)))  # the turned square's box fits
    assert smallest > 0.82
    assert share.min() > smallest**2 - 1e-3
    assert share.max() < (1 - 1 / 24) ** 2 + 1e-3


def test_turn_and_shift_are_those_of_an_independent_library(data):
    """The same turn about the middle of the ink and the same shift, by scipy's spline-free affine transform."""
    rows = data.index("train")[:400]
    images = data.images[data.image_table[rows].max(axis=1)]
    moved = views._moved(images, np.random.default_rng(7))[:, 0].numpy()
    again = np.random.default_rng(7)
    angle = np.radians(again.uniform(-views.ROTATION, views.ROTATION, len(images)))
    shift = again.uniform(-2.0, 2.0, (len(images), 2))[:, ::-1]  # pixels, (y, x)
    compared = 0
    for image, result, a, by in zip(images, moved, angle, shift, strict=True):
        rows, columns = np.nonzero(image)
        if rows.min() < 4 or columns.min() < 4 or rows.max() > 19 or columns.max() > 19:
            continue  # near the border the drawing is moved less
        centre = np.array([rows.min() + rows.max(), columns.min() + columns.max()]) / 2
        back = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
        expected = ndimage.affine_transform(image / 255.0, back, centre - back @ (centre + by), order=1)
        np.testing.assert_allclose(result, expected, atol=1e-4)
        compared += 1
    assert compared > 20


# --- texts -----------------------------------------------------------------------------------------------------------


def test_synonyms_are_new_words_for_words_that_exist(data):
    assert set(SYNONYMS) <= set(data.vocabulary)
    assert not set(SYNONYMS.values()) & set(data.vocabulary)
    assert len(set(SYNONYMS.values())) == VIEW_WORDS
    assert len(view_vocabulary(data)) == Pairing().vocabulary_size(data, views=True)


def test_words_change_at_the_stated_rates(data, everything, viewed):
    before, after = everything.tokens.numpy(), viewed[1].numpy()
    length, left = (before != 0).sum(axis=1), (after != 0).sum(axis=1)
    assert left.min() >= 1
    assert (left <= length).all()
    long = length > 3  # where the word that always stays hardly counts
    assert 1 - left[long].sum() / length[long].sum() == pytest.approx(DROP, abs=0.005)
    grammar = np.isin(before, [data.vocabulary.index(word) for word in SYNONYMS]).sum()
    assert (after >= len(data.vocabulary)).sum() / grammar == pytest.approx(SYNONYM * (1 - DROP), abs=0.01)


def test_a_view_is_the_words_of_its_name_in_order(data, viewed):
    words = view_vocabulary(data)
    back = {synonym: word for word, synonym in SYNONYMS.items()}
    for row, place in zip(viewed[1][::7].tolist(), data.name_of_image[::7], strict=True):
        left = [back.get(words[token], words[token]) for token in row if token]
        assert row[len(left) :] == [0] * (len(row) - len(left))  # padding stands behind
        rest = iter(words[token] for token in data.tokens[place] if token)
        assert all(word in rest for word in left)  # a subsequence


@pytest.mark.parametrize("drop", [0.0, 0.9, 1.0])
def test_one_word_always_stays(data, monkeypatch, drop):
    monkeypatch.setattr(views, "DROP", drop)
    ids = views._synonym_ids(tuple(data.vocabulary))
    found = views._reworded(data.tokens, ids, np.random.default_rng(0))
    length = (data.tokens != 0).sum(axis=1)
    left = (found != 0).sum(axis=1)
    if drop == 0:
        np.testing.assert_array_equal(left, length)
    elif drop == 1:
        assert (left == 1).all()
        name = (data.tokens[length == 2] != 0).argmax(axis=1)
        first = found[length == 2][:, 0] == ids[data.tokens[length == 2]][np.arange(len(name)), name]
        assert 0.2 < first.mean() < 0.8  # any word may be the one
    else:
        assert left.min() == 1


def test_names_can_be_recovered_from_their_views(data):
    """Nearest name by shared words, synonyms undone: right for most; by the words of the grammar alone for few."""
    index = np.random.default_rng(0).permutation(len(data.names))[:500]
    image = data.image_table[index].max(axis=1)
    tokens = second_views(data, data.pairs(index, image), 0, 0)[1].numpy()
    back = np.arange(len(data.vocabulary) + VIEW_WORDS)
    for place, word in enumerate(SYNONYMS):
        back[len(data.vocabulary) + place] = data.vocabulary.index(word)

    def found(ids: np.ndarray) -> float:
        bags = [np.zeros((len(rows), len(data.vocabulary))) for rows in (ids, data.tokens)]
        for bag, rows in zip(bags, (ids, data.tokens), strict=True):
            np.add.at(bag, (np.arange(len(rows))[:, None], rows), rows != 0)
        query, names = (bag / np.maximum(np.linalg.norm(bag, axis=1, keepdims=True), 1e-9) for bag in bags)
        return float((np.argmax(query @ names.T, axis=1) == index).mean())

    whole = back[tokens]
    grammar = np.isin(whole, [data.vocabulary.index(word) for word in SYNONYMS])
    assert found(whole) > 0.7
    assert found(np.where(grammar, whole, 0)) < 0.1


def test_exchanged_partners_keep_their_texts(data):
    batch = Pairing(mismatch=1.0).batches(data, 128, 7)(0)
    tokens = second_views(data, batch, 7, 0)[1].numpy()
    own = data.tokens[np.asarray(batch.index)]
    shared = [
        [len(set(view) & set(text) - {0}) for view, text in zip(tokens.tolist(), texts.tolist(), strict=True)]
        for texts in (batch.tokens.numpy(), own)
    ]
    assert np.mean(shared[0]) > 2 * np.mean(shared[1])


# --- cost and bad input ----------------------------------------------------------------------------------------------


def test_views_of_a_batch_cost_little(data):
    """About 2 ms of one core for 256 pairs; the bound allows for a machine that is busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        pairs = data.batches("train", 256, 0)(0)
        spent = []
        for step in range(30):
            started = time.process_time()
            second_views(data, pairs, 0, step)
            spent.append(time.process_time() - started)
    finally:
        torch.set_num_threads(threads)
    assert sorted(spent)[len(spent) // 2] < 0.01


def test_bad_input(data):
    pairs = data.sample("dev", 8)
    for seed, step, name in ((-1, 0, "seed"), (0, -1, "step"), (0.5, 0, "seed"), (0, None, "step")):
        with pytest.raises(ValueError, match=f"^{name}: expected"):
            second_views(data, pairs, seed, step)
    with pytest.raises(ValueError, match=r"^pairs: .*face in \[0, 4\], got -1"):
        second_views(data, glyphs.load_face("STIXGeneral", data), 0, 0)
    with pytest.raises(ValueError, match=r"^pairs: .*style have no second view"):
        second_views(data, Pairing(style_words=1).captioned(data, pairs), 0, 0)
    with pytest.raises(ValueError, match=r"^pairs: .*shape"):
        second_views(data, replace(pairs, images=pairs.images[..., :12]), 0, 0)
    with pytest.raises(ValueError, match=r"^pairs: .*index"):
        second_views(data, replace(pairs, index=pairs.index + len(data.names)), 0, 0)
    lacking = np.flatnonzero(data.image_table[:, 4] < 0)[:3]
    odd = data.pairs(lacking, data.image_table[lacking].max(axis=1))
    with pytest.raises(ValueError, match=r"^pairs: .*a face that draws the name"):
        second_views(data, replace(odd, face=torch.full((3,), 4)), 0, 0)


@pytest.mark.parametrize("options", [{"style_words": 2}, {"modalities": "image-image"}])
def test_pairs_without_a_second_view(data, options):
    with pytest.raises(ValueError, match=r"^style_words, modalities: expected"):
        Pairing(**options).vocabulary_size(data, views=True)
    assert Pairing(**options).vocabulary_size(data) >= len(data.vocabulary)
