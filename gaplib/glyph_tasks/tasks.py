"""The downstream tasks on the alphabet: which images and texts, with which labels, in which roles.

Characters are in one role only: *fit* (directions, probes), *tune* (step lengths, penalties, few-shot examples) or
*score*. For the split "test" these are train, dev and test; for "dev" they are a part of train, the rest of train, and
dev. The towers were trained on train. Handwritten digits are cut in two parts, "dev" and "test", which no training saw;
of their names DIGIT TWO is a test name and the nine others are train names, so the seen and the unseen are told apart.

`build` lays every image and every text that a task needs into one list each, to be encoded once; all else is places in
these lists.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property, lru_cache
from itertools import permutations

import numpy as np
import torch

from gaplib._validate import check_choice
from gaplib.data import glyphs
from gaplib.glyph_tasks import labels as glyph_labels
from gaplib.glyph_tasks.task_types import Directions, Labelled, Quadruples, Search, Tasks, ZeroShot

SPLITS = ("dev", "test")
SCRIPT_PROMPTS = ("{}", "{} LETTER", "{} SMALL LETTER", "{} CAPITAL LETTER")
CASE_PROMPTS = tuple(f"{script} {{}} LETTER" for script in glyph_labels.CASED)
DIACRITIC_PROMPTS = tuple(
    f"{script} {case} LETTER WITH {{}}" for script in ("LATIN", "GREEK") for case in ("SMALL", "CAPITAL")
)
SCRIPT_NAMES = 20  # names of the fit side that stand for their script as an ensemble of prompts
SCRIPT_PAIRS = 300  # pairs of letters that a direction between two scripts is averaged over
DIGITS = ("ZERO", "ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE")
#: Rows of scikit-learn's digits before this one are "dev", the others "test"; its order follows the writers.
DIGITS_CUT = 597
#: For "dev" the few shots are drawn before this row, and what comes after is scored.
DIGITS_EXAMPLES = 300
TUNING_FACES = ("DejaVuSans", "DejaVuSerif")
STYLE_NAMES = 250  # characters of the fit side whose style is read, five images each
PAIRS_A_LETTER = 40  # fine-grained pairs of one base letter at most, or U alone would be half of the task


def roles(alphabet: glyphs.Glyphs, split: str) -> dict[str, np.ndarray]:
    """Names in each role, int64 places by "fit", "tune", "score"; no group of relatives is in two roles."""
    train, dev = alphabet.index("train"), alphabet.index("dev")
    if check_choice(split, "split", SPLITS) == "test":
        return {"fit": train, "tune": dev, "score": alphabet.index("test")}
    tuning = np.random.default_rng(0).permutation(np.unique(alphabet.split_group[train]))
    held_out = np.isin(alphabet.split_group[train], tuning[: len(tuning) // 4])
    return {"fit": train[~held_out], "tune": train[held_out], "score": dev}


@lru_cache(maxsize=4)
def build(split: str = "test", size: int = 24) -> Tasks:
    """The tasks that score ``split`` ("dev" or "test") on images of ``size`` pixels; built once a process.

    Raises ``ValueError`` for another split or a size outside [12, 128].
    """
    return _Builder(glyphs.load(size), check_choice(split, "split", SPLITS)).tasks()


class _Builder:
    """Lays images and texts down once, and writes the tasks as places."""

    def __init__(self, alphabet: glyphs.Glyphs, split: str):
        self.a, self.split = alphabet, split
        self.roles = roles(alphabet, split)
        self.rng = np.random.default_rng([20, SPLITS.index(split)])
        self.fit, self.tune, self.score = (self.roles[role] for role in ("fit", "tune", "score"))
        self.texts = list(alphabet.names)
        drawn = self.one_image(self.fit)
        full = np.intersect1d(alphabet.five_faces(), self.fit)
        self.style_names = np.sort(self.rng.permutation(full)[:STYLE_NAMES])
        used = np.isin(alphabet.name_of_image, np.concatenate([self.tune, self.score]))
        used[drawn] = used[alphabet.image_table[self.style_names].ravel()] = True
        used[(alphabet.face_of_image == 0) & np.isin(alphabet.name_of_image, self.fit)] = True
        self.images, self.count = [alphabet.images[used]], int(used.sum())
        place = np.full(len(alphabet.images) + 1, -1, dtype=np.int64)  # the last is "no such image"
        place[:-1][used] = np.arange(self.count)
        self.table = place[alphabet.image_table]  # (names, faces): place of the image, -1 where there is none
        self.fit_image = place[drawn]
        self.place = place

    def one_image(self, index: np.ndarray) -> np.ndarray:
        """One image of each name, its face drawn at random (places in the alphabet)."""
        table = self.a.image_table[index]
        return table[np.arange(len(index)), np.where(table >= 0, self.rng.random(table.shape), -1).argmax(axis=1)]

    def add_images(self, images: torch.Tensor) -> np.ndarray:
        """Lay further images down; their places."""
        self.images.append((images[:, 0] * 255).round().to(torch.uint8).numpy())
        self.count += len(images)
        return np.arange(self.count - len(images), self.count)

    def add_texts(self, texts: list[str]) -> np.ndarray:
        """Lay further texts down; their places."""
        self.texts += texts
        return np.arange(len(self.texts) - len(texts), len(self.texts))

    def labelled(self, index: np.ndarray, labels: np.ndarray) -> Labelled:
        """All faces of the names ``index``, each with its name's label; "" is no label."""
        index, labels = index[labels != ""], labels[labels != ""]
        row, face = (self.table[index] >= 0).nonzero()
        return Labelled(self.table[index[row], face], labels[row])

    def labels(self, index: np.ndarray, of_name: Callable[[str], str | None]) -> np.ndarray:
        """``of_name`` of each name, "" for none, and for those that a pixel-identical character would have another."""
        found = np.array([of_name(name) or "" for name in self.a.names])
        known = found != ""
        order = np.lexsort((found[known], self.a.positive_id[known]))
        answer, label = self.a.positive_id[known][order], found[known][order]
        twice = np.unique(answer[1:][(answer[1:] == answer[:-1]) & (label[1:] != label[:-1])])
        return np.where(np.isin(self.a.positive_id[index], twice), "", found[index])

    def tasks(self) -> Tasks:
        pairs = self.a.sample(self.split, None, seed=0)
        image = self.table[pairs.index.numpy(), pairs.face.numpy()]
        zero_shot, probes, few_shot = self.zero_shot(), self.probes(), {}
        for task, source in (("scripts", "script"), ("digits", None)):
            few_shot[task] = self.few_shot(source, zero_shot)
        search, apart = self.search(), self.fine_grained()
        label = self.labels(pairs.index.numpy(), glyph_labels.script)
        tokens = self.a.encode(self.texts)
        return Tasks(
            split=self.split,
            pairs_image=image,
            pairs_text=pairs.index.numpy(),
            pairs_answer=pairs.positive_id.numpy(),
            second_image=self.another_face(pairs.index.numpy(), pairs.face.numpy()),
            zero_shot=zero_shot,
            probes=probes,
            few_shot=few_shot,
            printed=self.printed,
            clusters=np.flatnonzero(label != ""),
            cluster_label=label[label != ""],
            directions=self.directions,
            quadruples={role: self.quadruples(role) for role in ("tune", "score")},
            search=search,
            fine_grained=apart,
            images=np.concatenate(self.images),
            tokens=tokens,
            roles=self.roles,
        )

    def zero_shot(self) -> dict[str, ZeroShot]:
        out = {}
        for task, of_name, classes, prompts in (
            ("scripts", glyph_labels.script, glyph_labels.SCRIPTS, SCRIPT_PROMPTS),
            ("case", glyph_labels.case, glyph_labels.CASES, CASE_PROMPTS),
        ):
            images = self.labelled(self.score, self.labels(self.score, of_name))
            texts = [self.add_texts([prompt.format(one) for prompt in prompts]) for one in classes]
            out[task] = ZeroShot(images, np.array(classes), texts)
        out["scripts_template"] = out["scripts"]
        label = self.labels(self.fit, glyph_labels.script)
        ensembles = [self.rng.permutation(self.fit[label == one])[:SCRIPT_NAMES] for one in glyph_labels.SCRIPTS]
        out["scripts"] = replace(out["scripts"], prompts=ensembles)
        images = self.labelled(self.score, self.labels(self.score, self.common_diacritic))
        classes = np.unique(images.label)
        texts = [self.add_texts([prompt.format(one) for prompt in DIACRITIC_PROMPTS]) for one in classes.tolist()]
        out["diacritic"] = ZeroShot(images, classes, texts)
        written = glyphs.handwriting(self.a)
        part = slice(DIGITS_CUT, None) if self.split == "test" else slice(DIGITS_CUT)
        self.digit_image = self.add_images(written.images)
        self.digit_label = np.array([self.a.names[i].removeprefix("DIGIT ") for i in written.index.tolist()])
        texts = [np.array([self.a.names.index(f"DIGIT {digit}")]) for digit in DIGITS]
        out["digits"] = ZeroShot(Labelled(self.digit_image[part], self.digit_label[part]), np.array(DIGITS), texts)
        out["faces"] = self.unseen_faces()
        return out

    def unseen_faces(self) -> ZeroShot:
        """Characters in two faces that no training saw; the classes are their names, twins one class."""
        drawn = [glyphs.load_face(face, self.a, self.split) for face in ("STIXGeneral", "cmr10")]
        index = np.concatenate([one.index.numpy() for one in drawn])
        images = self.add_images(torch.cat([one.images for one in drawn]))
        classes, label = np.unique(self.a.positive_id[index], return_inverse=True)
        prompts = [np.unique(index[self.a.positive_id[index] == one]) for one in classes]
        names = np.unique(index)
        face = (self.table[names] >= 0).argmax(axis=1)
        self.printed = Labelled(self.table[names, face], self.a.positive_id[names])
        return ZeroShot(Labelled(images, classes[label]), classes, prompts)

    def probes(self) -> dict[str, dict[str, Labelled]]:
        """For each task images and labels by role; the fit side has one image a character, the others all faces."""
        out = {}
        for task, of_name in (
            ("script", glyph_labels.script),
            ("case", glyph_labels.case),
            ("diacritic", self.common_diacritic),
        ):
            fit = self.labels(self.fit, of_name)
            out[task] = {
                "fit": Labelled(self.fit_image[fit != ""], fit[fit != ""]),
                "tune": self.labelled(self.tune, self.labels(self.tune, of_name)),
                "score": self.labelled(self.score, self.labels(self.score, of_name)),
            }
        sides = {"fit": self.style_names} | {
            role: np.intersect1d(self.a.five_faces(), self.roles[role]) for role in ("tune", "score")
        }
        out["style"] = {
            role: Labelled(self.table[index].ravel(), np.tile(self.a.faces, len(index)))
            for role, index in sides.items()
        }
        return out

    @cached_property
    def common_diacritic(self) -> Callable[[str], str | None]:
        """The single modification of a name, where each side has at least two characters with it."""
        single = {name: next(iter(m)) for name in self.a.names if len(m := glyph_labels.modifications(name)[1]) == 1}
        of_letters = {name: m for name, m in single.items() if " LETTER " in name}
        counts = [
            Counter(of_letters[n] for i in index if (n := self.a.names[i]) in of_letters)
            for index in self.roles.values()
        ]
        common = {m for m in set(of_letters.values()) if all(count[m] >= 2 for count in counts)}
        return lambda name: m if (m := of_letters.get(name)) in common else None

    def few_shot(self, probe: str | None, zero_shot: dict[str, ZeroShot]) -> tuple[Labelled, Labelled]:
        """(examples to draw from, images to score): no character in both, and no digit of "test" seen for "dev"."""
        if probe is None:
            examples, scored = DIGITS_EXAMPLES, zero_shot["digits"].images
            if self.split == "test":
                examples = DIGITS_CUT
            else:
                scored = Labelled(scored.image[examples:], scored.label[examples:])
            return Labelled(self.digit_image[:examples], self.digit_label[:examples]), scored
        label = self.labels(self.tune, glyph_labels.script)
        image = self.place[self.one_image(self.tune)]
        return Labelled(image[label != ""], label[label != ""]), zero_shot["scripts"].images

    def changes(self, index: np.ndarray, family: str) -> list[tuple[int, int, str]]:
        """(source, target, kind) among the names ``index``, pixel-identical ones left out; "case" or "diacritic"."""
        names = [self.a.names[i] for i in index.tolist()]
        found = getattr(glyph_labels, f"{family}_changes")(names)
        found = [(int(index[source]), int(index[target]), kind) for source, target, kind in found]
        return [one for one in found if self.a.positive_id[one[0]] != self.a.positive_id[one[1]]]

    @cached_property
    def directions(self) -> Directions:
        found = [one for family in ("case", "diacritic") for one in self.changes(self.fit, family)]
        common = Counter(kind for _, _, kind in found)
        found = [one for one in found if common[one[2]] >= 2]
        label = self.labels(self.fit, glyph_labels.letter)
        for case in glyph_labels.CASES:
            for here, there in permutations(glyph_labels.CASED, 2):
                a, b = (self.fit[label == f"{script} {case}"] for script in (here, there))
                pairs = zip(self.rng.choice(a, SCRIPT_PAIRS), self.rng.choice(b, SCRIPT_PAIRS), strict=True)
                found += [(int(i), int(j), f"{here} to {there} {case}") for i, j in pairs]
        source, target, kind = (np.array(one) for one in zip(*found, strict=True))
        return Directions(source, target, kind, self.table[source, 0], self.table[target, 0])

    def quadruples(self, role: str) -> list[Quadruples]:
        index, known, out = self.roles[role], set(self.directions.kind.tolist()), []
        faces = range(len(self.a.faces)) if role == "score" else [self.a.faces.index(face) for face in TUNING_FACES]
        for family in ("case", "diacritic"):
            changes = [one for one in self.changes(index, family) if one[2] in known]
            source, target, kind = (np.array(one) for one in zip(*changes, strict=True))
            for face in faces:
                both = (self.table[source, face] >= 0) & (self.table[target, face] >= 0)
                bank = index[self.table[index, face] >= 0]
                answer = self.a.positive_id[target[both]]
                out.append(self.in_face(family, face, source[both], kind[both], answer, bank, self.a.positive_id[bank]))
        # Letters with a twin in another script are neither asked for nor in the bank.
        every = np.array([glyph_labels.letter(self.a.names[i]) or "" for i in index.tolist()])
        label = self.labels(index, glyph_labels.letter)
        bank, label = index[label == every], label[label == every]
        for face in faces:
            there = self.table[bank, face] >= 0
            queries = [
                (name, f"{one.split()[0]} to {other} {one.split()[1]}", f"{other} {one.split()[1]}")
                for name, one in zip(bank[there], label[there], strict=True)
                for other in glyph_labels.CASED
                if one and not one.startswith(other) and f"{other} {one.split()[1]}" in label[there]
            ]
            source, kind, answer = (np.array(one) for one in zip(*queries, strict=True))
            out.append(self.in_face("script", face, source, kind, answer, bank[there], label[there]))
        return out

    def in_face(self, family, face, source, kind, answer, bank, bank_answer) -> Quadruples:
        """Quadruples from names: ``source`` and the ascending ``bank``, all drawn in this face."""
        own = np.searchsorted(bank, source)
        return Quadruples(family, self.table[source, face], kind, answer, own, self.table[bank, face], bank_answer)

    def another_face(self, index: np.ndarray, face: np.ndarray) -> np.ndarray:
        """Place of an image of the same name in another face that draws it differently, drawn at random; or -1."""
        own = self.a.images[self.a.image_table[index, face]]
        other = np.full(len(index), -1, dtype=np.int64)
        chance = self.rng.random((len(index), len(self.a.faces)))
        best = np.full(len(index), -1.0)
        for column in range(len(self.a.faces)):
            image = self.a.image_table[index, column]
            differs = (image >= 0) & (self.a.images[image] != own).any(axis=(1, 2)) & (chance[:, column] > best)
            other[differs], best[differs] = self.table[index[differs], column], chance[differs, column]
        return other

    def search(self) -> Search:
        face = (self.table[self.score] >= 0).argmax(axis=1)  # upright sans serif where it has the character
        query = self.another_face(self.score, face)
        known, longest = set(self.a.vocabulary), self.a.tokens.shape[1]
        second = [glyph_labels.another_name(chr(self.a.codepoints[i]), known, longest) for i in self.score]
        named = np.array([text is not None for text in second])
        return Search(
            image=self.table[self.score, face],
            text=self.score,
            answer=self.a.positive_id[self.score],
            image_query=query[query >= 0],
            image_query_answer=self.a.positive_id[self.score[query >= 0]],
            text_query=self.add_texts([text for text in second if text is not None]),
            text_query_answer=self.a.positive_id[self.score[named]],
        )

    def fine_grained(self) -> np.ndarray:
        """Rows (first image, second image, first name, second name, first and second image in another face or -1)."""
        names = [self.a.names[i] for i in self.score.tolist()]
        pairs = self.score[np.array(glyph_labels.one_stroke_apart(names))]
        pairs = pairs[self.a.positive_id[pairs[:, 0]] != self.a.positive_id[pairs[:, 1]]]
        base = np.array([glyph_labels.modifications(self.a.names[i])[0] for i in pairs[:, 0]])
        kept = [self.rng.permutation(np.flatnonzero(base == one))[:PAIRS_A_LETTER] for one in np.unique(base)]
        pairs = pairs[np.sort(np.concatenate(kept))]
        rows = []
        for face in range(len(self.a.faces)):
            here = pairs[(self.table[pairs, face] >= 0).all(axis=1)]
            other = self.table[here, (face + 1) % len(self.a.faces)]
            rows.append(np.concatenate([self.table[here, face], here, other], axis=1))
        return np.concatenate(rows)
