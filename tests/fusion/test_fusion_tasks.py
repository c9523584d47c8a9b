"""The three fusion tasks: exact answers, balance, no leak between splits, unimodal baselines near chance.

Answers are checked by a parser of this file: categories, decompositions and code points, not the package's names.
"""

import re
import unicodedata
from collections import Counter, defaultdict
from functools import cache

import numpy as np
import pytest
import torch

from gaplib.data import glyphs
from gaplib.fusion import baselines, entailment, letters, sampling, tasks, vocabulary, vqa

N = 1800
FACES = {"DejaVuSans": "sans", "DejaVuSans-Bold": "bold", "DejaVuSans-Oblique": "oblique"}
FACES |= {"DejaVuSerif": "serif", "DejaVuSansMono": "mono"}


@cache
def alphabet():
    return glyphs.load()


@cache
def batch(name, split, n=N, seed=0):
    return tasks.task(name, split, n, seed)


def rows_of(name, split):
    """(characters, faces, text, answer, kind, novel) of every question."""
    b, g = batch(name, split), alphabet()
    for i in range(len(b)):
        characters = [chr(g.codepoints[j]) for j in b.index[i]]
        faces = [FACES[g.faces[f]] for f in b.face[i]]
        yield characters, faces, b.text[i], b.answers[b.answer[i]], b.kinds[b.kind[i]], bool(b.novel[i])


# --- answers, by an independent parser --------------------------------------------------------------------------------

WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight"]


def script(c):
    return unicodedata.name(c).split()[0].lower()


def case(c):
    return {"Lu": "capital", "Ll": "small"}[unicodedata.category(c)]


def mark(c):
    parts = unicodedata.normalize("NFD", c)
    if len(parts) == 1:
        assert " WITH " not in unicodedata.name(c)
        return "none"
    (found,) = parts[1:]
    return unicodedata.name(found).removeprefix("COMBINING ").removesuffix(" ACCENT").lower()


def dots(c):
    """Braille code points are bit fields: bit k - 1 is dot k; 1, 2, 3 and 7 are the left column."""
    bits = ord(c) - 0x2800
    return bin(bits & 0b01000111).count("1"), bin(bits & 0b10111000).count("1")


def pips(c):
    """Dominoes stand in the order of their numbers, seven to a row: lying tiles first, then standing ones."""
    return divmod(ord(c) - (0x1F031 if ord(c) < 0x1F062 else 0x1F063), 7)


def vqa_answer(c, face, kind):
    if kind.startswith("dots"):
        left, right = dots(c)
        return WORDS[{"dots": left + right, "dots left": left, "dots right": right}[kind]]
    if kind.startswith("pips"):
        first, second = pips(c)
        more = "first" if first > second else "second"
        return {"pips first": WORDS[first], "pips second": WORDS[second], "pips more": more}[kind]
    return {"script": script, "case": case, "diacritic": mark}[kind](c) if kind != "style" else face


@pytest.mark.parametrize("split", glyphs.SPLITS)
def test_vqa_answers_are_those_of_the_parser(split):
    seen = Counter()
    for (c,), (face,), _, answer, kind, _ in rows_of("vqa", split):
        assert answer == vqa_answer(c, face, kind), (unicodedata.name(c), kind)
        seen[kind] += 1
    assert set(seen) == set(vqa.KINDS)


@pytest.mark.parametrize("split", glyphs.SPLITS)
def test_nlvr_answers_are_those_of_the_parser(split):
    for (left, right), _, text, answer, _, _ in rows_of("nlvr", split):
        a, b = unicodedata.normalize("NFD", left), unicodedata.normalize("NFD", right)
        capital = a == unicodedata.normalize("NFD", right.upper()) != b  # tonos and oxia are canonically equivalent
        truth = {
            "both letters are of the same script": script(left) == script(right),
            "the letters are of different scripts": script(left) != script(right),
            "the left is the capital of the right": capital,
            "the left is not the capital of the right": not capital,
            "the letters differ in the mark only": a[0] == b[0] and a != b,
            "the letters differ in more than the mark": not (a[0] == b[0] and a != b),
        }[text]
        assert answer == str(truth).lower(), (unicodedata.name(left), unicodedata.name(right), text)


@pytest.mark.parametrize("split", glyphs.SPLITS)
def test_entailment_answers_follow_from_identical_pictures(split):
    b, g = batch("entailment", split), alphabet()
    characters = defaultdict(set)
    for image, name in zip(g.images, g.name_of_image, strict=True):
        characters[image.tobytes()].add(chr(g.codepoints[name]))
    for i, text in enumerate(b.text):
        found = re.fullmatch(r"this is a (?:(capital|small) )?letter which is ([a-z ]+)", text)
        wanted, among = found[1], found[2].split(" or ")
        twins = characters[(b.images[i, 0, 0] * 255).round().to(torch.uint8).numpy().tobytes()]
        four = ("LATIN ", "GREEK ", "CYRILLIC ", "MATHEMATICAL ")
        twins = [c for c in twins if unicodedata.category(c) in ("Lu", "Ll") and unicodedata.name(c).startswith(four)]
        holds = {script(c) in among and wanted in (None, case(c)) for c in twins}
        expected = {(True,): "entailed", (False,): "contradicted", (False, True): "neutral"}[tuple(sorted(holds))]
        assert b.answers[b.answer[i]] == expected, text
        assert len(twins) > 1  # a picture with one reading says everything


def test_pictures_are_those_of_the_characters_and_faces():
    g = alphabet()
    for name in tasks.TASKS:
        b = batch(name, "test")
        image = g.images[g.image_table[b.index, b.face]]
        assert (b.images.numpy() == image[:, :, None].astype(np.float32) / 255).all()
        assert b.images.shape[1:] == (2 if name == "nlvr" else 1, 1, 24, 24)


def test_questions_about_letters_leave_no_doubt():
    g, seen = alphabet(), defaultdict(set)
    for image, name, face in zip(g.images, g.name_of_image, g.face_of_image, strict=True):
        found = letters.letter(chr(g.codepoints[name]))
        if found:
            seen[image.tobytes()].add((found.script, found.case, found.mark, int(face)))
    for split in glyphs.SPLITS:
        for group in ("letters", "unmarked letters"):
            assert all(len(seen[g.images[j].tobytes()]) == 1 for j in vqa.pools(split)[group].image)


# --- balance ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["train", "test"])
def test_vqa_answers_are_equally_frequent_given_the_question(split):
    b = batch("vqa", split)
    for place, kind in enumerate(b.kinds):
        counts = Counter(b.answer[b.kind == place].tolist())
        share = np.array(list(counts.values())) / sum(counts.values())
        assert share.max() - 1 / len(share) < 0.03, kind
    for pool in vqa.pools(split).values():
        for column in pool.answers.values():
            weight = np.bincount(np.unique(column, return_inverse=True)[1], pool.weight)
            assert np.allclose(weight, 1 / len(weight), atol=2e-3)


def test_the_dev_split_is_as_balanced_as_its_few_tiles_and_patterns_allow():
    shares = baselines.majority(batch("vqa", "dev"))
    assert all(shares[f"text.{kind}"] < floor for kind, floor in (("script", 0.25), ("case", 0.54), ("style", 0.26)))
    assert shares["text"] < 0.36


def test_every_picture_is_asked_all_questions_of_its_group():
    for split in glyphs.SPLITS:
        kinds = defaultdict(Counter)
        b = batch("vqa", split, 30 * 40)
        for pixels, kind in zip(b.images.numpy(), b.kind.tolist(), strict=True):
            kinds[pixels.tobytes()][kind] += 1
        for counts in kinds.values():
            assert len(set(counts.values())) == 1
            assert len(counts) in (3, 4)
        # Knowing the picture, but not the question: one in four of 12 questions, one in three of 18.
        assert baselines.majority(b)["image"] == pytest.approx((12 / 4 + 18 / 3) / 30)


@pytest.mark.parametrize("split", glyphs.SPLITS)
def test_nlvr_is_exactly_balanced_given_either_modality(split):
    shares = baselines.majority(batch("nlvr", split))
    assert all(share == 0.5 for share in shares.values()), shares


@pytest.mark.parametrize("split", glyphs.SPLITS)
def test_entailment_is_exactly_balanced_given_the_picture_and_nearly_given_the_statement(split):
    shares = baselines.majority(batch("entailment", split))
    assert shares["image"] == pytest.approx(1 / 3)
    assert shares["text"] < 0.35
    assert np.bincount(batch("entailment", split).answer).tolist() == [N // 3] * 3


def test_majority_finds_an_imbalance():
    b = batch("nlvr", "test")
    true = b.answer == 0
    texts = [text for text, kept in zip(b.text, true.tolist(), strict=True) if kept]
    assert baselines.majority_share(texts, b.answer[true].tolist()) == 1
    assert baselines.majority_share(["a", "a", "a", "b"], [0, 0, 1, 1]) == 0.75
    with pytest.raises(ValueError, match="lists of one length"):
        baselines.majority_share([], [])


@pytest.mark.parametrize("name", tasks.TASKS)
def test_unimodal_learners_stay_near_chance(name):
    table = baselines.unimodal(name, n_train=1500, n_test=1200).set_index("baseline")
    assert set(table.index) == {"majority", "text", "image"}
    assert (table["accuracy"] < table["chance"] + 0.05).all(), table


def test_unimodal_learners_can_learn():
    train, test = batch("vqa", "train"), batch("vqa", "test")
    text, words = baselines.learners()["text"]
    assert (text.fit(words(train), train.kind).predict(words(test)) == test.kind.numpy()).all()
    image, pixels = baselines.learners()["image"]
    asked = [b.kind == vqa.KINDS.index("dots left") for b in (train, test)]
    image.fit(pixels(train)[asked[0]], train.answer[asked[0]])
    right = image.predict(pixels(test)[asked[1]]) == test.answer[asked[1]].numpy()
    assert right.mean() > 0.4  # chance: a quarter


# --- no leak between splits -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", tasks.TASKS)
def test_splits_share_neither_characters_nor_pictures(name):
    for other in ("dev", "test"):
        a, b = batch(name, "train"), batch(name, other)
        assert not set(a.index.flatten().tolist()) & set(b.index.flatten().tolist())
        pixels = [{p.tobytes() for p in x.images.flatten(0, 1).numpy()} for x in (a, b)]
        assert not pixels[0] & pixels[1]
        assert set(alphabet().split[b.index].flatten()) == {other}


def combinations(name, characters, faces, text, kind):
    """What a question shows together, as this file reads it."""
    if name == "entailment":
        return {("statement", text.partition("which is ")[2], faces[0])}
    if kind.startswith("dots"):
        return {("braille", characters[0])}
    if kind.startswith("pips"):
        return {("domino", frozenset(pips(characters[0])))}
    out = {
        ("letter", script(c), case(c), part) for c, f in zip(characters, faces, strict=True) for part in (mark(c), f)
    }
    if name == "nlvr":
        out.add(("pair", frozenset((script(c), f) for c, f in zip(characters, faces, strict=True))))
    return out


@pytest.mark.parametrize("name", tasks.TASKS)
def test_novel_questions_show_a_combination_that_training_never_shows(name):
    seen = set()
    for characters, faces, text, _, kind, novel in rows_of(name, "train"):
        assert not novel
        seen |= combinations(name, characters, faces, text, kind)
    alone = {part for combination in seen for part in combination[1:]}
    counts = Counter()
    for characters, faces, text, _, kind, novel in rows_of(name, "test"):
        if novel:
            new = combinations(name, characters, faces, text, kind) - seen
            assert new, (characters, faces, text)
            if kind not in ("dots", "dots left", "dots right"):  # a pattern is its own combination
                assert all(part in alone for found in new for part in found[1:] if isinstance(part, str))
        counts[novel] += 1
    assert min(counts[True], counts[False]) > 0.05 * N


# --- interface --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", tasks.TASKS)
def test_questions_are_a_function_of_their_arguments(name):
    state = torch.get_rng_state()
    a, b, c = (tasks.task(name, "test", 50, seed) for seed in (3, 3, 4))
    assert a.text == b.text
    assert all(torch.equal(getattr(a, f), getattr(b, f)) for f in ("images", "tokens", "answer", "index", "novel"))
    assert not torch.equal(a.images, c.images)
    draw = tasks.batches(name, "train", 16, seed=3)
    later = draw(7)
    assert torch.equal(later.images, tasks.batches(name, "train", 16, seed=3)(7).images)
    assert not torch.equal(later.images, draw(8).images)
    assert len(later) == 16
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", tasks.TASKS)
def test_tokens_spell_the_texts(name):
    b = batch(name, "test")
    assert b.tokens.dtype == b.answer.dtype == torch.int64
    assert (b.tokens[:, 0] == vocabulary.CLS).all()
    assert not (b.tokens == vocabulary.UNK).any()
    assert vocabulary.decode(b.tokens[:20]) == list(b.text[:20])
    assert vocabulary.decode(b.answer_tokens[:20]) == [b.answers[i] for i in b.answer[:20]]
    assert (b.answer_tokens[:, 0] == vocabulary.BOS).all()
    assert ((b.answer_tokens == vocabulary.EOS).sum(dim=1) == 1).all()
    assert set(b.text) <= set(tasks.sentences(name))
    assert b.to("cpu").text == b.text


def test_vocabulary_starts_with_the_special_tokens_and_knows_the_names():
    words = vocabulary.vocabulary()
    assert words[:6] == ("[PAD]", "[UNK]", "[CLS]", "[MASK]", "[BOS]", "[EOS]")
    assert len(set(words)) == len(words)
    assert not (vocabulary.encode(alphabet().names, start=None) == vocabulary.UNK).any()
    assert vocabulary.encode(["zyzzyva dots"]).tolist()[0][:2] == [vocabulary.CLS, vocabulary.UNK]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: tasks.task("vqa2", "test", 4), "name: expected one of vqa, nlvr, entailment"),
        (lambda: tasks.task("vqa", "tests", 4), "split: expected one of .* did you mean test"),
        (lambda: tasks.task("vqa", "test", 0), "n: expected a whole number"),
        (lambda: tasks.task("vqa", "test", 4, seed=-1), "seed"),
        (lambda: tasks.batches("vqa", "test", 0), "batch_size"),
        (lambda: tasks.batches("nlvr", "validation", 4), "split"),
        (lambda: tasks.batches("nlvr", "test", 4)(-1), "step"),
        (lambda: tasks.answer_id("vqa", "acutee"), "answer: expected one of .* did you mean acute"),
        (lambda: vocabulary.encode(["one", "  "]), r"texts\[1\]: expected a string with at least one word"),
        (lambda: vocabulary.encode([None]), r"texts\[0\]"),
        (lambda: vocabulary.encode([]), "texts: expected a list"),
        (lambda: vocabulary.encode("latin"), "texts: expected a list"),
        (lambda: baselines.majority_share([1], []), "lists of one length"),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_answer_ids_are_places_in_the_batch():
    for name in tasks.TASKS:
        b = batch(name, "test")
        assert all(tasks.answer_id(name, b.answers[i]) == i for i in set(b.answer.tolist()))
        assert b.kinds == tasks.kinds(name)


def test_balanced_weights_have_equal_margins_where_that_can_be():
    rng = np.random.default_rng(0)
    columns = [rng.choice(3, 400, p=[0.7, 0.2, 0.1]), rng.choice(4, 400, p=[0.4, 0.4, 0.1, 0.1])]
    weight = sampling.balanced(columns)
    for column in columns:
        assert np.allclose(np.bincount(column, weight), 1 / len(set(column)), atol=1e-9)
    # Two binary columns that agree but in one row: equal margins need all weight elsewhere, none is negative or NaN.
    stuck = sampling.balanced([np.array([0, 0, 1]), np.array([0, 1, 1])])
    assert np.isfinite(stuck).all()
    assert stuck.min() >= 0
    counts = np.bincount(sampling.spread(weight, 1000, rng), minlength=400)
    assert np.abs(counts - 1000 * weight).max() < 1 + 1e-9


def test_entailment_refuses_what_cannot_be_balanced():
    answers = np.array([[0, 1], [0, 2]])  # the first statement is entailed by every picture
    with pytest.raises(ValueError, match="statements can be balanced"):
        entailment._balance(answers, np.ones_like(answers, dtype=bool), np.array([1, 1]))
