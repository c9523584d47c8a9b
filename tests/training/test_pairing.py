"""Pairs made on purpose: mismatch, style captions, look-alikes apart and together, two towers of one modality."""

import numpy as np
import pytest
import torch
from scipy.stats import ortho_group

from gaplib.data import glyphs
from gaplib.towers import image_pair_towers, load
from gaplib.training import train
from gaplib.training.config import RunConfig
from gaplib.training.pairing import STYLE, STYLE_WORDS, Pairing, mismatched_partners


@pytest.fixture(scope="module")
def data():
    return glyphs.load()


def test_default_pairs_are_the_data_s_own(data):
    ours, plain = Pairing().batches(data, 64, 3), data.batches("train", 64, 3)
    for step in (0, 5, 200):
        for name, value in vars(ours(step)).items():
            assert torch.equal(value, getattr(plain(step), name))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_mismatch_moves_that_share_and_nobody_else(data, share):
    index = data.index("train")
    partner = mismatched_partners(index, share, 7, len(data.names))
    moved = np.flatnonzero(partner != np.arange(len(data.names)))
    assert len(moved) == round(share * len(index))
    assert set(moved) <= set(index)
    assert sorted(partner) == list(range(len(data.names)))  # a permutation: no text is lost or doubled
    batch = Pairing(mismatch=share).batches(data, 128, 7)(0)
    wrong = (batch.tokens != torch.from_numpy(data.tokens[partner[batch.index]])).any()
    assert not wrong
    assert torch.equal(batch.images, data.batches("train", 128, 7)(0).images)


def test_style_words_name_the_face_by_degrees(data):
    seen = []
    for words in range(len(STYLE) + 1):
        pairing = Pairing(style_words=words)
        pairs = pairing.sample(data, "dev", 400, seed=1)
        assert int(pairs.tokens.max()) < pairing.vocabulary_size(data)
        style, names = pairs.tokens[:, :words], pairs.tokens[:, words:]
        assert torch.equal(names, data.sample("dev", 400, seed=1).tokens)
        # How many of the five faces the words tell apart.
        told = {(tuple(row), int(face)) for row, face in zip(style.tolist(), pairs.face, strict=True)}
        seen.append(len({row for row, _ in told}))
    assert seen == [1, 2, 3, 4, 5]
    face = data.faces.index("DejaVuSerif")
    caption = Pairing(style_words=4).captioned(data, data.sample("dev", 3, face=face)).tokens[0, :4]
    assert [STYLE_WORDS[i - len(data.vocabulary)] for i in caption] == [
        "<regular>",
        "<upright>",
        "<serif>",
        "<proportional>",
    ]


def test_mismatched_captions_keep_their_style(data):
    batch = Pairing(mismatch=1.0, style_words=4).batches(data, 64, 0)(0)
    matched = Pairing(style_words=4).batches(data, 64, 0)(0)
    assert torch.equal(batch.tokens[:, :4], matched.tokens[:, :4])
    assert not torch.equal(batch.tokens, matched.tokens)


def test_look_alikes_apart_and_together(data):
    apart = Pairing(look_alikes="apart").batches(data, 256, 0)
    for step in (0, 3):
        assert len(apart(step).positive_id.unique()) == 256
    together = Pairing(look_alikes="together").batches(data, 256, 0)
    share = []
    for step in range(4):
        _, place, size = np.unique(together(step).positive_id, return_inverse=True, return_counts=True)
        share.append(np.mean(size[place] > 1))
    assert min(share) > 0.9  # a class may be cut at a batch's end
    assert torch.equal(together(2).index, Pairing(look_alikes="together").batches(data, 256, 0)(2).index)


def test_two_image_towers_start_without_a_gap_only_after_procrustes():
    base = dict(modalities="image-image", dim=16, steps=1, batch_size=32, eval_pairs=64, lr=1e-12)
    raw, rotated = (train(RunConfig(**base, procrustes=p), progress=False) for p in (False, True))
    before, after = (run.history[0]["centroid_distance"] for run in (raw, rotated))
    assert after < 0.3 < before
    matrix = rotated.weights["text_tower.1.matrix"].double()
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(16, dtype=torch.float64), rtol=0, atol=1e-5)
    np.testing.assert_allclose(rotated.towers().text_tower[1].matrix, matrix, atol=1e-6)


def test_image_pair_towers_survive_a_file(tmp_path):
    towers = image_pair_towers(8, seed=3)
    rotation = torch.tensor(ortho_group.rvs(8, random_state=0), dtype=torch.float32)
    towers.text_tower[-1].set(rotation)
    towers.save(tmp_path / "towers.safetensors")
    images = torch.rand(2, 1, 24, 24, generator=torch.Generator().manual_seed(0))
    again = load(tmp_path / "towers.safetensors")
    torch.testing.assert_close(again.encode_text(images), towers.encode_text(images))
    assert not torch.allclose(again.encode_text(images), again.encode_image(images))


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("mismatch", {"mismatch": 1.5}),
        ("style_words", {"style_words": 5}),
        ("modalities", {"modalities": "text-text"}),
        ("look_alikes", {"look_alikes": "far"}),
        ("mismatch, style_words", {"modalities": "image-image", "mismatch": 0.1}),
        ("procrustes", {"procrustes": True}),
        ("dim", {"dim": 1}),
    ],
)
def test_bad_input_is_named(field, values):
    with pytest.raises(ValueError, match=f"^{field}:"):
        RunConfig(**values)


def test_a_face_that_captions_cannot_name(data):
    with pytest.raises(ValueError, match=r"^pairs:"):
        Pairing(style_words=1).captioned(data, glyphs.load_face("STIXGeneral", data))
