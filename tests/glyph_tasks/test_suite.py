"""The tasks on the alphabet: no character in two roles, right labels, chance for towers that know nothing, controls."""

import itertools
import unicodedata
from dataclasses import replace

import numpy as np
import pytest
import torch

from gaplib import geometry, posthoc
from gaplib.data import glyphs
from gaplib.geometry.distribution_gap import distribution_gap
from gaplib.glyph_tasks import controls, labels, suite
from gaplib.glyph_tasks import tasks as glyph_tasks
from gaplib.towers import tiny_towers
from gaplib.training import RunConfig, train


@pytest.fixture(scope="module")
def alphabet():
    return glyphs.load()


@pytest.fixture(scope="module")
def towers(alphabet):
    return tiny_towers(len(alphabet.vocabulary), dim=16)


@pytest.fixture(scope="module", params=glyph_tasks.SPLITS)
def tasks(request):
    return glyph_tasks.build(request.param)


@pytest.fixture(scope="module")
def oracle(alphabet):
    """Embeddings that know the answers: the same random vector for the images and the texts of one answer class."""
    tasks = glyph_tasks.build("test")
    rng = np.random.default_rng(0)
    text = rng.standard_normal((len(tasks.tokens), 64))
    text[: len(alphabet.names)] = rng.standard_normal((int(alphabet.positive_id.max()) + 1, 64))[alphabet.positive_id]
    name = names_of_images(alphabet, tasks)
    image = np.where((name >= 0)[:, None], text[np.maximum(name, 0)], rng.standard_normal((len(name), 64)))
    return suite.encoded(tasks, image, text, 10.0)


def names_of_images(alphabet, tasks):
    """Which name each encoded image shows, found by its pixels (any name with these pixels in any face); -1: none."""
    first = {}
    for image, name in zip(alphabet.images, alphabet.name_of_image.tolist(), strict=True):
        first.setdefault(image.tobytes(), name)
    return np.array([first.get(image.tobytes(), -1) for image in tasks.images])


def test_no_group_of_characters_is_in_two_roles(alphabet, tasks):
    groups = {role: set(alphabet.split_group[index].tolist()) for role, index in tasks.roles.items()}
    for one, other in itertools.combinations(groups.values(), 2):
        assert not one & other
    if tasks.split == "test":
        assert set(tasks.roles["score"].tolist()) == set(alphabet.index("test").tolist())
    else:  # nothing that dev is scored with comes from test
        assert not groups["fit"] & set(alphabet.split_group[alphabet.index("test")].tolist())
        assert not groups["tune"] & set(alphabet.split_group[alphabet.index("test")].tolist())


def test_every_image_of_a_task_shows_a_character_of_its_role(alphabet, tasks):
    name = names_of_images(alphabet, tasks)
    answers = {role: set(alphabet.positive_id[index].tolist()) for role, index in tasks.roles.items()}

    def shown(images, role):
        assert (name[images] >= 0).all()
        assert set(alphabet.positive_id[name[images]].tolist()) <= answers[role]

    shown(tasks.pairs_image, "score")
    shown(tasks.second_image[tasks.second_image >= 0], "score")
    shown(tasks.search.image, "score")
    shown(tasks.search.image_query, "score")
    shown(tasks.fine_grained[:, 0], "score")
    shown(tasks.fine_grained[:, 1], "score")
    for sides in tasks.probes.values():
        for role, side in sides.items():
            shown(side.image, role)
    for role, quadruples in tasks.quadruples.items():
        for one in quadruples:
            shown(one.bank, role)
            shown(one.image, role)
    for task in ("scripts", "case", "diacritic"):
        shown(tasks.zero_shot[task].images.image, "score")
    shown(tasks.few_shot["scripts"][0].image, "tune")
    drawn = tasks.directions.source_image
    shown(drawn[drawn >= 0], "fit")
    assert set(tasks.directions.source.tolist()) <= set(tasks.roles["fit"].tolist())
    for examples, scored in tasks.few_shot.values():
        assert not set(examples.image.tolist()) & set(scored.image.tolist())
    # The ensembles of names that stand for a script are of the fit side.
    for prompts in tasks.zero_shot["scripts"].prompts:
        assert set(prompts.tolist()) <= set(tasks.roles["fit"].tolist())


def test_the_digits_of_dev_are_not_those_of_test():
    dev, test = (glyph_tasks.build(split) for split in ("dev", "test"))
    pixels = [{image.tobytes() for image in t.images[t.zero_shot["digits"].images.image]} for t in (dev, test)]
    assert len(pixels[1]) > 1000
    assert not pixels[0] & pixels[1]
    used = np.concatenate([side.image for side in dev.few_shot["digits"]])
    assert {image.tobytes() for image in dev.images[used]} <= pixels[0]


def test_labels_come_from_names_alone_and_agree_with_the_unicode_database(alphabet):
    for name, codepoint in zip(alphabet.names, alphabet.codepoints.tolist(), strict=True):
        category = unicodedata.category(chr(codepoint))
        if labels.case(name):
            # Lt: Greek capitals with a small iota beside them. Lo: letters of scripts that have one case of two.
            assert category in {"CAPITAL": {"Lu", "Lt", "Lo"}, "SMALL": {"Ll", "Lo"}}[labels.case(name)]
    assert labels.script("LATIN SMALL LETTER A") == "LATIN"
    assert labels.script("MATHEMATICAL BOLD SMALL A") is None
    assert labels.case("LATIN CAPITAL LETTER L WITH SMALL LETTER J") is None
    assert labels.modifications("O WITH HORN AND ACUTE") == ("O", {"HORN", "ACUTE"})
    assert labels.letter("GREEK SMALL LETTER ALPHA WITH TONOS") == "GREEK SMALL"
    assert labels.letter("GEORGIAN SMALL LETTER AN") is None


def test_changes_are_one_step_in_the_name():
    names = ["LATIN SMALL LETTER U", "LATIN SMALL LETTER U WITH HORN", "LATIN SMALL LETTER U WITH HORN AND ACUTE"]
    names += ["LATIN CAPITAL LETTER U", "LATIN SMALL LETTER U WITH TILDE", "COMBINING TILDE"]
    assert sorted(labels.case_changes(names)) == [(0, 3, "to capital"), (3, 0, "to small")]
    found = set(labels.diacritic_changes(names))
    assert found == {
        (0, 1, "+HORN"), (1, 0, "-HORN"), (1, 2, "+ACUTE"), (2, 1, "-ACUTE"), (0, 4, "+TILDE"), (4, 0, "-TILDE")
    }  # fmt: skip
    assert set(labels.one_stroke_apart(names)) == {(0, 1), (0, 4), (1, 2), (1, 4)}
    words = {"LATIN", "SMALL", "LETTER", "E", "COMBINING", "ACUTE", "ACCENT"}
    assert labels.another_name("é", words, 13) == "LATIN SMALL LETTER E COMBINING ACUTE ACCENT"
    assert labels.another_name("é", words - {"COMBINING"}, 13) is None
    assert labels.another_name("é", words, 6) is None
    assert labels.another_name("e", words, 13) is None


def test_quadruples_have_a_right_answer_that_is_not_the_query(tasks):
    families = set()
    for one in itertools.chain(*tasks.quadruples.values()):
        families.add(one.family)
        assert (one.bank[one.own] == one.image).all()
        assert np.isin(one.answer, one.bank_answer).all()
        assert (one.bank_answer[one.own] != one.answer).all()
        assert set(one.kind.tolist()) <= set(tasks.directions.kind.tolist())
    assert families == {"case", "diacritic", "script"}


def test_towers_that_know_the_answers_get_what_can_be_known(oracle):
    found = suite.score(oracle, only=["recall", "fine_grained", "mixed", "gap"])
    assert found["recall.mean@1"] == 1.0
    assert found["fine_grained.both"] == 1.0
    assert found["mixed.image@0"] == found["mixed.image@1"] == pytest.approx(1.0)
    assert found["mixed.image_sag"] == pytest.approx(0.0, abs=1e-9)
    assert found["gap.centroid_distance"] == pytest.approx(0.0, abs=1e-12)
    assert found["gap.distribution"] == pytest.approx(0.0, abs=1e-6)
    # Random directions lead nowhere, and the noise of unseen classes is chance.
    more = suite.score(oracle, only=["arithmetic", "zero_shot"])
    assert more["arithmetic.exact"] < 0.05
    assert more["zero_shot.digits"] == pytest.approx(0.1, abs=0.1)
    assert more["zero_shot.diacritic"] < 0.2


def test_an_additive_alphabet_solves_the_arithmetic(alphabet, oracle):
    """Letters as sums: base + case + each modification, the same for image and text, one random vector a part."""
    rng, parts = np.random.default_rng(1), {}

    def embed(name):
        base, changes = labels.modifications(name)
        case = labels.case(name)
        pieces = [base.replace(f" {case} ", " "), f"case {case}", *sorted(changes)]
        return sum(parts.setdefault(piece, rng.standard_normal(256)) for piece in pieces)

    text = rng.standard_normal((len(oracle.tasks.tokens), 256))
    text[: len(alphabet.names)] = [embed(name) for name in alphabet.names]
    image = rng.standard_normal((len(oracle.tasks.images), 256))
    places = glyph_tasks._Builder(alphabet, "test").table  # (names, faces): the place of the image
    name, face = (places >= 0).nonzero()
    image[places[name, face]] = text[name]
    # Directions are means over training pairs of unnormalised sums, so the raw matrices are used as they are.
    e = suite.Encoded(oracle.tasks, image, text, 1.0)
    move = suite.directions(e)
    for family in ("case", "diacritic"):
        # All but ties: U WITH DIAERESIS AND MACRON is the same sum as U WITH MACRON AND DIAERESIS.
        assert suite.arithmetic_share(e, move, "score", family, 1.0) > 0.98
        assert suite.arithmetic_share(e, move, "score", family, 0.0) < 0.6


def test_evaluate_is_flat_finite_repeatable_and_covers_its_table(towers):
    found = suite.evaluate(towers, split="dev")
    assert all(isinstance(value, float) and np.isfinite(value) for value in found.values())
    assert set(suite.METRICS) <= set(found)
    assert found == suite.evaluate(towers, split="dev")
    assert {name.split(".")[0] for name in found} == set(suite.GROUPS)
    # Untrained towers know nothing of names.
    assert found["recall.mean@1"] < 0.02
    assert found["zero_shot.scripts"] == pytest.approx(1 / 6, abs=0.1)
    assert found["zero_shot.faces"] < 0.03


def test_a_run_is_measured_as_its_training_measured_it():
    run = train(RunConfig(steps=3, dim=8, batch_size=64, history_points=2, eval_pairs=16), progress=False)
    found = suite.evaluate(run, only=["gap", "recall"])
    same = {"gap.centroid_distance": "centroid_distance", "gap.relative": "relative_modality_gap"}
    same |= {f"recall.{way}@1": f"{way}@1" for way in ("image_to_text", "text_to_image")}
    for name, own in same.items():
        assert found[name] == pytest.approx(run.metrics[own], abs=1e-6)
    other = replace(run, config=replace(run.config, modalities="image-image"))
    with pytest.raises(ValueError, match="towers: expected a run on images and texts"):
        suite.evaluate(other)


@pytest.mark.parametrize("same", [True, False])
def test_collapsed_towers_score_chance_and_nothing_breaks(same):
    tasks = glyph_tasks.build("dev")
    points = np.random.default_rng(0).standard_normal((2, 8)).astype(np.float32)
    image, text = np.tile(points[0], (len(tasks.images), 1)), np.tile(points[1 - same], (len(tasks.tokens), 1))
    found = suite.score(suite.encoded(tasks, image, text, 1.0))
    assert all(np.isfinite(value) for value in found.values())
    for name, chance in (("zero_shot.scripts", 1 / 6), ("zero_shot.digits", 0.1), ("probe.style", 0.2),
                         ("few_shot.digits", 0.1), ("fine_grained.both", 0.25)):  # fmt: skip
        assert found[name] == pytest.approx(chance, abs=1e-6), name
    assert found["recall.mean@1"] < 0.01
    assert found["arithmetic.exact"] < 0.01
    assert found["gap.centroid_distance"] == pytest.approx(
        0 if same else np.linalg.norm(points[0] / np.linalg.norm(points[0]) - points[1] / np.linalg.norm(points[1])),
        abs=1e-6,
    )
    assert found["gap.distribution"] == pytest.approx(0, abs=1e-6)


def test_a_treatment_acts_on_everything(towers):
    e = suite.encode(towers, split="dev")
    x, y = e.image[e.tasks.pairs_image], e.text[e.tasks.pairs_text]
    before = suite.score(e, only="gap")
    after = suite.evaluate(towers, posthoc.fit_mean_centring(x, y), split="dev", only=["gap"])
    assert before["gap.centroid_distance"] > 0.5
    assert after["gap.centroid_distance"] == pytest.approx(before["gap.centred_distance"], abs=1e-6)
    assert after["gap.relative"] == pytest.approx(before["gap.centred_relative"], abs=1e-6)


def test_distribution_gap_is_the_gaussian_wasserstein_distance_without_the_means():
    from scipy.linalg import sqrtm

    rng = np.random.default_rng(0)
    x, y = (geometry.normalize(rng.standard_normal((n, 5)) * rng.random(5) + 1).numpy() for n in (300, 200))
    a, b = np.cov(x.T, bias=True), np.cov(y.T, bias=True)
    root = sqrtm(a)
    expected = np.sqrt(np.trace(a + b - 2 * sqrtm(root @ b @ root).real))
    assert distribution_gap(x, y) == pytest.approx(expected, rel=1e-6)
    assert distribution_gap(x, x) == pytest.approx(0, abs=1e-7)
    with pytest.raises(ValueError, match="x: expected at least 2"):
        distribution_gap(x[:1], y)


def test_controls_have_the_names_of_the_suite(towers, oracle):
    pixels = controls.pixel_nearest_neighbour("dev")
    assert {"zero_shot.scripts", "recall.mean@1", "fine_grained.both", "arithmetic.all", "mixed.image@0"} <= set(pixels)
    assert pixels["zero_shot.digits"] > 0.8  # nearest neighbours read digits well
    ceiling = controls.unimodal(oracle.tasks, oracle.image)
    assert ceiling["recall.mean@1"] == 1.0
    assert ceiling["fine_grained.both"] == 1.0
    shuffled = suite.score(oracle, only="recall")
    order = np.random.default_rng(0).permutation(len(oracle.text))
    broken = suite.score(replace(oracle, text=oracle.text[order]), only="recall")
    assert shuffled["recall.mean@1"] == 1.0
    assert broken["recall.mean@1"] < 0.02
    groups = ["gap", "probe", "clustering"]
    own = suite.evaluate(towers, split="dev", only=groups)
    got = controls.shuffled_pairs(towers, split="dev", only=groups)
    assert set(own) == set(got)
    assert got["probe.style"] == own["probe.style"]
    assert got["clustering.text.v_measure"] != own["clustering.text.v_measure"]
    # Another seed is another untrained tower; the given one is not touched.
    weights = {name: value.clone() for name, value in towers.state_dict().items()}
    assert controls.untrained(towers, "dev", seed=0, only="gap").items() <= own.items()
    other = controls.untrained(towers, "dev", seed=5, only="gap")
    assert other["gap.centroid_distance"] != own["gap.centroid_distance"]
    assert all(torch.equal(weights[name], value) for name, value in towers.state_dict().items())


def test_bad_arguments_of_the_suite_are_named(towers, oracle):
    with pytest.raises(ValueError, match="split"):
        suite.evaluate(towers, split="train")
    with pytest.raises(ValueError, match="only: expected groups among"):
        suite.evaluate(towers, only=["zeroshot"])
    with pytest.raises(ValueError, match="seed"):
        suite.score(oracle, seed=-1)
    with pytest.raises(ValueError, match="towers: expected a run or two towers"):
        suite.evaluate(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="image: expected"):
        suite.encoded(oracle.tasks, oracle.image[:5], oracle.text, 1.0)
    with pytest.raises(ValueError, match="image: expected"):
        controls.unimodal(oracle.tasks, oracle.image[:5])
    with pytest.raises(ValueError, match="recipe"):
        controls.untrained(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="family"):
        suite.arithmetic_share(oracle, suite.directions(oracle), "score", "weight", 1.0)
