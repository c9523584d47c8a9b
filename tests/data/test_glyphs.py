"""The glyph data: its leaks are absent, it is the same everywhere, and it says what it is."""

import os
import re
import subprocess
import sys
import unicodedata
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont

from gaplib.data import cache_dir, glyph_faces, glyph_names, glyph_split, glyph_summary, glyphs


@cache
def _alphabet():
    return glyphs.build()


@pytest.fixture(scope="module")
def alphabet():
    return _alphabet()


def _place(alphabet):
    return {chr(c): i for i, c in enumerate(alphabet.codepoints.tolist())}


# --- leaks -----------------------------------------------------------------------------------------------------------


def test_no_image_is_on_two_sides_and_identical_images_are_one_answer(alphabet):
    sides, answers = {}, {}
    for image, name in zip(alphabet.images, alphabet.name_of_image, strict=True):
        sides.setdefault(image.tobytes(), set()).add(str(alphabet.split[name]))
        answers.setdefault(image.tobytes(), set()).add(int(alphabet.positive_id[name]))
    assert max(map(len, sides.values())) == 1
    assert max(map(len, answers.values())) == 1
    shared = len(alphabet.images) - len(sides)
    assert shared > 1000  # the guard is needed: many images are drawn alike


def test_answers_hold_no_more_than_chains_of_identical_images(alphabet):
    """Every class of several names is connected by shared images, found here by flooding instead of union-find."""
    names_of = {}
    for image, name in zip(alphabet.images, alphabet.name_of_image.tolist(), strict=True):
        names_of.setdefault(image.tobytes(), set()).add(name)
    near = {}
    for names in names_of.values():
        for name in names:
            near.setdefault(name, set()).update(names)
    for answer in np.flatnonzero(np.bincount(alphabet.positive_id) > 1):
        members = set(np.flatnonzero(alphabet.positive_id == answer).tolist())
        reached, edge = set(), {min(members)}
        while edge:
            reached |= edge
            edge = set().union(*(near[name] for name in edge)) - reached
        assert reached == members


def test_cases_and_base_letters_are_on_one_side(alphabet):
    place, pairs = _place(alphabet), 0
    for character, i in place.items():
        kin = {character.lower(), character.upper(), unicodedata.normalize("NFD", character)[0]}
        for other in kin & place.keys():
            assert alphabet.split[place[other]] == alphabet.split[i], (character, other)
            assert alphabet.split_group[place[other]] == alphabet.split_group[i]
            pairs += other != character
    assert pairs > 2000


def test_groups_are_on_one_side_and_none_is_giant(alphabet):
    for group in np.unique(alphabet.split_group):
        assert len(set(alphabet.split[alphabet.split_group == group].tolist())) == 1
    assert np.bincount(alphabet.split_group).max() < 0.03 * len(alphabet.names)


def test_no_held_out_name_has_a_token_that_training_lacks(alphabet):
    tokens = [set(glyph_names.words(name)) for name in alphabet.names]
    seen = set().union(*(t for t, s in zip(tokens, alphabet.split, strict=True) if s == "train"))
    assert all(t <= seen for t in tokens)
    assert seen == set(alphabet.vocabulary[2:])
    assert not (alphabet.tokens == 1).any()
    # The rule is needed, and it costs little: whole words would leave many names out, the rule leaves out under 2 %.
    whole = [set(name.split()) for name in alphabet.names]
    whole_seen = set().union(*(t for t, s in zip(whole, alphabet.split, strict=True) if s == "train"))
    held_out = [t for t, s in zip(whole, alphabet.split, strict=True) if s != "train"]
    assert np.mean([not t <= whole_seen for t in held_out]) > 0.05
    assert 0 < len(alphabet.left_out) < 0.02 * len(alphabet.names)
    assert not set(alphabet.left_out) & set(alphabet.names)


def test_a_split_by_characters_alone_is_caught(alphabet):
    """The counts that the page shows do see a leak: here the sides are dealt at random."""
    dealt = np.random.default_rng(0).permutation(alphabet.split)
    leaky = glyph_summary.summary(replace(alphabet, split=dealt))
    assert leaky["test_images_identical_to_training_share"] > 0.05
    assert glyph_summary.summary(alphabet)["test_images_identical_to_training_share"] == 0


def test_sides_are_large_enough_and_hold_letters(alphabet):
    size = {split: len(alphabet.index(split)) for split in glyphs.SPLITS}
    assert size["test"] >= 1000
    assert size["dev"] >= 600
    assert size["train"] > 0.65 * sum(size.values())
    for start in ("LATIN", "GREEK", "CYRILLIC", "BRAILLE", "CANADIAN"):
        assert sum(alphabet.names[i].startswith(start) for i in alphabet.index("test")) >= 20, start


# --- what is drawn ---------------------------------------------------------------------------------------------------


def test_contents_are_what_the_documentation_says(alphabet):
    n, m = len(alphabet.names), len(alphabet.images)
    assert 6000 < n < 6400
    assert 22000 < m < 24000
    assert alphabet.images.shape == (m, 24, 24)
    assert alphabet.images.dtype == np.uint8
    assert alphabet.images.any(axis=(1, 2)).all()  # no blank
    assert [unicodedata.name(chr(c)) for c in alphabet.codepoints.tolist()] == alphabet.names
    key = alphabet.name_of_image * 5 + alphabet.face_of_image
    assert (np.diff(key) > 0).all()  # sorted, and one image a name and face
    assert set(alphabet.name_of_image.tolist()) == set(range(n))
    assert alphabet.positive_id.shape == alphabet.split.shape == (n,)
    for array in (alphabet.images, alphabet.tokens, alphabet.split):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = array[0]


def test_no_ink_is_cut_off(alphabet):
    """Against the same glyph on a canvas four times as wide: nothing is lost, unless it had to be drawn smaller."""
    rng = np.random.default_rng(0)
    for face in glyph_faces.FACES:
        points = rng.choice(glyph_faces.codepoints_of(face), 300, replace=False).tolist()
        images, kept = glyph_faces.draw(face, points)
        font = ImageFont.truetype(str(glyph_faces.font_file(face)), 18, layout_engine=ImageFont.Layout.BASIC)
        same = 0
        for image, point in zip(images, kept.tolist(), strict=True):
            canvas = Image.new("L", (96, 96))
            ImageDraw.Draw(canvas).text((40, 48), chr(point), fill=255, font=font, anchor="ls")
            whole = np.asarray(canvas)
            rows, columns = np.nonzero(whole.any(axis=1))[0], np.nonzero(whole.any(axis=0))[0]
            box = whole[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            r, c = np.nonzero(image.any(axis=1))[0], np.nonzero(image.any(axis=0))[0]
            if max(*box.shape, font.getlength(chr(point))) <= 22:
                np.testing.assert_array_equal(image[r[0] : r[-1] + 1, c[0] : c[-1] + 1], box)
                same += 1
            else:
                assert max(np.ptp(r), np.ptp(c)) + 1 >= 10  # smaller, but there
        assert same > 0.9 * len(kept)


def test_position_carries_meaning(alphabet):
    place = _place(alphabet)

    def image(character):
        return alphabet.images[alphabet.image_table[place[character], 0]].astype(float)

    rows, columns = np.arange(24)[:, None], np.arange(24)[None, :]
    assert (image(",") * rows).sum() / image(",").sum() > (image("'") * rows).sum() / image("'").sum() + 5
    left, right = ((image(c) * columns).sum() / image(c).sum() for c in "▌▐")
    assert left < 11 < 12 < right
    braille = [i for i, name in enumerate(alphabet.names) if name.startswith("BRAILLE")]
    assert len(braille) > 200
    assert (np.bincount(alphabet.positive_id)[alphabet.positive_id[braille]] == 1).all()
    letters = [image(c) for c in "HOAEMXTZ"]
    assert all(abs((i * columns).sum() / i.sum() - 11.5) < 2 for i in letters)


def test_five_faces_are_five_pictures(alphabet):
    chosen = alphabet.five_faces()
    assert 1500 < len(chosen) < 2000
    counts = np.array(
        [len(np.unique(alphabet.images[alphabet.name_of_image == i], axis=0)) for i in range(0, len(alphabet.names), 7)]
    )
    np.testing.assert_array_equal(np.flatnonzero(counts == 5) * 7, [i for i in chosen if i % 7 == 0])


@pytest.mark.parametrize("size", [12, 32])
def test_other_sizes(size):
    images, points = glyph_faces.draw("DejaVuSerif", [ord("g"), ord(" "), ord("Å")], size)
    assert images.shape == (2, size, size)
    assert points.tolist() == [ord("g"), ord("Å")]


# --- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "tokens"),
    [
        ("LATIN SMALL LETTER E WITH ACUTE", ["LATIN", "SMALL", "LETTER", "E", "WITH", "ACUTE"]),
        ("BRAILLE PATTERN DOTS-1234", ["BRAILLE", "PATTERN", "DOTS", "1", "2", "3", "4"]),
        ("DOMINO TILE HORIZONTAL-03-05", ["DOMINO", "TILE", "HORIZONTAL", "#1-03", "#2-05"]),
        ("CANADIAN SYLLABICS PWOO", ["CANADIAN", "SYLLABICS", "P-", "-W-", "-OO"]),
        ("CANADIAN SYLLABICS WEST-CREE LOO", ["CANADIAN", "SYLLABICS", "WEST", "CREE", "L-", "-OO"]),
        ("CANADIAN SYLLABICS FINAL MIDDLE DOT", ["CANADIAN", "SYLLABICS", "FINAL", "MIDDLE", "DOT"]),
        ("LEFTWARDS ARROW", ["LEFT", "-WARDS", "ARROW"]),
        ("digit three", ["DIGIT", "THREE"]),
    ],
)
def test_words(name, tokens):
    assert glyph_names.words(name) == tokens


def test_splitting_loses_no_letter(alphabet):
    """Tokens put together again give the name's letters and digits, for every name."""
    for name in alphabet.names:
        tokens = [re.sub(r"^#[12]-", "", token) for token in glyph_names.words(name)]
        assert sorted("".join(tokens).replace("-", "")) == sorted(re.sub(r"[\s-]", "", name)), name


@given(st.lists(st.lists(st.sampled_from("ABCDEFG"), min_size=1, max_size=6), min_size=1, max_size=8))
def test_encode_can_be_read_back(tokenised):
    vocabulary = glyph_names.build_vocabulary(tokenised[:1])
    ids = glyph_names.encode(tokenised, vocabulary)
    assert ids.shape == (len(tokenised), max(map(len, tokenised)))
    for row, tokens in zip(ids, tokenised, strict=True):
        known = [token if token in tokenised[0] else "<unknown>" for token in tokens]
        assert [vocabulary[i] for i in row if i] == known


def test_unknown_words_are_one(alphabet):
    tokens = alphabet.encode(["LATIN SMALL LETTER E", "XYZZY SMALL"])
    assert tokens.dtype == torch.int64
    assert tokens[1].tolist()[0] == 1
    assert tokens[1, 1] == tokens[0, 1] > 1
    place = _place(alphabet)["e"]
    np.testing.assert_array_equal(tokens[0], alphabet.tokens[place][:4])


# --- split rules on small alphabets ----------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 40), st.data())
def test_assign_keeps_groups_together_and_tokens_seen(n, data):
    group = np.array(data.draw(st.lists(st.integers(0, 10), min_size=n, max_size=n)))
    group = np.unique(group, return_inverse=True)[1]
    words = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=3)
    tokenised = data.draw(st.lists(words, min_size=n, max_size=n))
    names = [f"{i} {' '.join(t)}" for i, t in enumerate(tokenised)]
    side = glyph_split.assign(group, names, tokenised)
    seen = {t for tokens, s in zip(tokenised, side, strict=True) if s == "train" for t in tokens}
    for g in np.unique(group):
        assert len(set(side[group == g].tolist()) - {"out"}) <= 1
    assert all(set(tokens) <= seen for tokens, s in zip(tokenised, side, strict=True) if s != "out")
    order = np.random.default_rng(0).permutation(n)
    again = glyph_split.assign(group[order], [names[i] for i in order], [tokenised[i] for i in order])
    np.testing.assert_array_equal(again, side[order])


def test_relatives():
    assert set(glyph_split.relatives("É")) == {"é", "E"}
    assert "e" in glyph_split.relatives("ₑ")
    assert glyph_split.relatives("½") == []  # several characters: would chain unlike things
    assert glyph_split.relatives("☃") == []


# --- sampling --------------------------------------------------------------------------------------------------------


def test_sample_pairs_belong_together(alphabet):
    pairs = alphabet.sample("test", 200, seed=3)
    assert pairs.images.shape == (200, 1, 24, 24)
    assert pairs.images.dtype == torch.float32
    assert (pairs.images.amin(), pairs.images.amax()) == (0, 1)
    assert len(set(pairs.index.tolist())) == len(pairs) == 200
    for k in range(200):
        index = int(pairs.index[k])
        image = alphabet.images[alphabet.image_table[index, int(pairs.face[k])]]
        np.testing.assert_array_equal((pairs.images[k, 0] * 255).round().to(torch.uint8), image)
        np.testing.assert_array_equal(pairs.tokens[k], alphabet.tokens[index])
        assert pairs.positive_id[k] == alphabet.positive_id[index]
        assert alphabet.split[index] == "test"


def test_sample_everything_in_order_and_by_face(alphabet):
    everything = alphabet.sample("dev")
    np.testing.assert_array_equal(everything.index, alphabet.index("dev"))
    assert len(set(everything.face.tolist())) == 5
    mono = alphabet.sample("dev", face="DejaVuSansMono")
    assert set(mono.face.tolist()) == {4}
    assert 0 < len(mono) < len(everything)
    assert torch.equal(mono.images, alphabet.sample("dev", face=4).images)
    assert not torch.equal(everything.face, alphabet.sample("dev", seed=1).face)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**40), size=st.integers(1, 700), step=st.integers(0, 10**6))
def test_a_batch_depends_on_seed_and_step_alone(seed, size, step):
    alphabet = _alphabet()
    size = min(size, len(alphabet.index("dev")))
    batch = alphabet.batches("dev", size, seed)
    first = batch(step)
    batch(step + 1)
    again = alphabet.batches("dev", size, seed)(step)
    assert torch.equal(first.index, again.index)
    assert torch.equal(first.images, again.images)
    assert len(set(first.index.tolist())) == size
    assert set(alphabet.split[first.index.numpy()].tolist()) == {"dev"}


def test_an_epoch_visits_every_name_once_and_differs_from_the_next(alphabet):
    batch = alphabet.batches("train", 256, seed=5)
    per_epoch = len(alphabet.index("train")) // 256
    first = torch.cat([batch(step).index for step in range(per_epoch)])
    second = torch.cat([batch(step).index for step in range(per_epoch, 2 * per_epoch)])
    assert len(set(first.tolist())) == len(first) == per_epoch * 256
    assert not torch.equal(first, second)
    assert not torch.equal(alphabet.batches("train", 256, seed=6)(0).index, batch(0).index)


def test_every_face_is_drawn_about_equally(alphabet):
    full = alphabet.five_faces()
    drawn = alphabet._draw_faces(np.repeat(full, 10), np.random.default_rng(0))
    share = np.bincount(alphabet.face_of_image[drawn], minlength=5) / len(drawn)
    np.testing.assert_allclose(share, 0.2, atol=0.02)


def test_global_random_state_is_left_alone(alphabet):
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    alphabet.sample("train", 10)
    alphabet.batches("train", 10, 0)(0)
    assert torch.equal(before[0], torch.get_rng_state())
    np.testing.assert_array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002


# --- unseen faces and handwriting ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("face", "least"), [("STIXGeneral", 1800), ("cmr10", 62)])
def test_unseen_faces(alphabet, face, least):
    everything, test = glyphs.load_face(face, alphabet), glyphs.load_face(face, alphabet, "test")
    assert least <= len(everything)
    assert 0 < len(test) < len(everything)
    assert set(alphabet.split[test.index.numpy()].tolist()) == {"test"}
    assert (everything.face == -1).all()
    # The letters are the right ones: an unseen "A" is nearer to our "A" than to most other capitals.
    capitals = [_place(alphabet)[c] for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"]
    ours = alphabet.images[alphabet.image_table[capitals, 3]].reshape(26, -1) / 255
    rows = [everything.index.tolist().index(c) for c in capitals]
    theirs = everything.images[rows].reshape(26, -1).numpy()
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (ours, theirs)]
    assert ((unit[1] @ unit[0].T).argmax(1) == np.arange(26)).mean() > 0.6


def test_handwriting_has_the_form_of_the_glyphs(alphabet):
    written = glyphs.handwriting(alphabet)
    assert len(written) == 1797
    names = {alphabet.names[i] for i in written.index.tolist()}
    assert names == {unicodedata.name(str(digit)) for digit in range(10)}
    digits = [_place(alphabet)[c] for c in "0123456789"]
    printed = alphabet.images[alphabet.image_table[digits, 0]].reshape(10, -1) / 255
    ink = written.images.reshape(1797, -1).numpy()
    cosine = (ink / np.linalg.norm(ink, axis=1, keepdims=True)) @ (printed / np.linalg.norm(printed, axis=1)[:, None]).T
    right = np.array(digits)[cosine.argmax(1)] == written.index.numpy()
    assert right.mean() > 0.4  # upright and in place: chance is .1
    rows = np.nonzero(written.images.amax(dim=(0, 1, 3)).numpy() > 0)[0]
    printed_rows = np.nonzero(printed.reshape(10, 24, 24).max(axis=(0, 2)) > 0)[0]
    assert abs(rows[0] - printed_rows[0]) <= 1
    assert abs(rows[-1] - printed_rows[-1]) <= 1


# --- the same everywhere, and the cache ------------------------------------------------------------------------------


def test_the_same_in_another_process_whatever_pythons_hash(alphabet):
    code = "from gaplib.data import glyphs; print(glyphs.build().digest)"
    env = {**os.environ, "PYTHONHASHSEED": "12345"}
    out = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120)
    assert out.stdout.strip() == alphabet.digest, out.stderr


def test_cache_is_used_repaired_and_optional(alphabet, tmp_path, monkeypatch):
    monkeypatch.setenv("GAPLIB_CACHE", str(tmp_path))
    assert cache_dir() == tmp_path
    made = glyphs.load()
    (file,) = (tmp_path / "glyphs").glob("*.safetensors")
    assert made.digest == alphabet.digest

    monkeypatch.setattr(glyphs, "build", lambda size=24: pytest.fail("the cache was not used"))
    kept = glyphs.load()
    monkeypatch.undo()
    monkeypatch.setenv("GAPLIB_CACHE", str(tmp_path))
    assert kept.digest == made.digest
    assert (kept.names, kept.vocabulary, kept.left_out) == (made.names, made.vocabulary, made.left_out)
    for field in ("images", "tokens", "split", "positive_id", "codepoints"):
        np.testing.assert_array_equal(getattr(kept, field), getattr(made, field))

    whole = file.read_bytes()
    middle = len(whole) // 2
    for damage in (b"", whole[:middle], whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]):
        file.write_bytes(damage)
        with pytest.warns(UserWarning, match="a damaged alphabet, which will be made again"):
            assert glyphs.load().digest == made.digest
        assert file.stat().st_size == len(whole)
    assert [f.name for f in (tmp_path / "glyphs").iterdir() if f.suffix != ".lock"] == [
        file.name
    ]  # nothing half-written

    (tmp_path / "a_file").write_text("")
    monkeypatch.setenv("GAPLIB_CACHE", str(tmp_path / "a_file"))
    with pytest.warns(UserWarning, match="cannot be kept"):
        assert glyphs.load().digest == made.digest


def test_digest_sees_every_part(alphabet):
    other = alphabet.tokens.copy()
    other[0, 0] += 1
    assert glyphs._seal(replace(alphabet, tokens=other)).digest != alphabet.digest
    assert glyphs._seal(replace(alphabet, names=[*alphabet.names[:-1], "X"])).digest != alphabet.digest
    assert glyphs._seal(replace(alphabet)).digest == alphabet.digest


# --- what the page says ----------------------------------------------------------------------------------------------


def test_summary_counts(alphabet):
    said = glyph_summary.summary(alphabet)
    assert said["names"] == len(alphabet.names)
    assert said["names_train"] + said["names_dev"] + said["names_test"] == said["names"]
    assert said["images_train"] + said["images_dev"] + said["images_test"] == said["images"] == len(alphabet.images)
    assert said["answers"] < said["names"]
    assert said["test_names_with_unseen_token_share"] == 0
    bags = ["|".join(sorted(glyph_names.words(name))) for name in alphabet.names]
    assert said["names_that_share_their_bag_of_tokens"] == sum(bags.count(bag) > 1 for bag in bags)
    assert 0.05 < said["test_images_nearly_identical_to_training_share"] < 0.5
    assert glyph_summary.summary(alphabet, near=1.0)["test_images_nearly_identical_to_training_share"] < 0.01
    table = glyph_summary.by_split(alphabet)
    assert table["names"].sum() == said["names"]
    assert list(table.index) == ["train", "dev", "test"]


def test_nearest_training_image_against_brute_force(alphabet):
    closest = glyph_summary.nearest_training_cosine(alphabet)
    side = alphabet.split[alphabet.name_of_image]
    train = alphabet.images[side == "train"].reshape(-1, 576).astype(np.float64)
    test = alphabet.images[side == "test"].reshape(-1, 576).astype(np.float64)
    for i in (0, 1111, len(test) - 1):
        cosine = (train @ test[i]) / (np.linalg.norm(train, axis=1) * np.linalg.norm(test[i]))
        assert closest[i] == pytest.approx(cosine.max(), abs=1e-5)


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda a: a.sample("tset"), "split"),
        (lambda a: a.sample("test", 0), "n"),
        (lambda a: a.sample("test", 10**6), "n"),
        (lambda a: a.sample("test", 2.5), "n"),
        (lambda a: a.sample("test", 5, seed=-1), "seed"),
        (lambda a: a.sample("test", 5, seed=None), "seed"),
        (lambda a: a.sample("test", 5, face="Arial"), "face"),
        (lambda a: a.sample("test", 5, face=5), "face"),
        (lambda a: a.batches("all", 5, 0), "split"),
        (lambda a: a.batches("train", 0, 0), "batch_size"),
        (lambda a: a.batches("dev", 10**6, 0), "batch_size"),
        (lambda a: a.batches("dev", 5, -1), "seed"),
        (lambda a: a.batches("dev", 5, 0)(-1), "step"),
        (lambda a: a.batches("dev", 5, 0)(0.5), "step"),
        (lambda a: a.encode("LATIN"), "names"),
        (lambda a: a.encode([]), "names"),
        (lambda a: a.encode([3]), "name"),
        (lambda a: a.encode(["  "]), "name"),
        (lambda a: glyph_summary.summary(a, near=0), "near"),
        (lambda a: glyph_summary.summary(a, near=float("nan")), "near"),
        (lambda a: glyphs.load(size=5), "size"),
        (lambda a: glyphs.load(size="24"), "size"),
        (lambda a: glyph_faces.draw("Arial", [65]), "face"),
        (lambda a: glyph_faces.handwritten_digits(1000), "size"),
        (lambda a: glyphs.load_face("DejaVuSans", a), "name"),
        (lambda a: glyphs.load_face("cmr10", a, "tests"), "split"),
    ],
)
def test_bad_input_names_the_argument(alphabet, call, argument):
    with pytest.raises(ValueError, match=rf"^{argument}: expected"):
        call(alphabet)
