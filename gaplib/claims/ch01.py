"""Claims of chapter 01, meet the gap: L1, L2, S2, C3, E1."""

from __future__ import annotations

from gaplib.claims.rules import Claim, Part

_TRAINED = {"clip": "CLIP", "convirt": "ConVIRT", "videoclip": "VideoCLIP", "clasp": "CLASP"}
_UNTRAINED = {f"{key}_random": f"{name} untrained" for key, name in _TRAINED.items()}
_UNTRAINED["open_clip"] = "an open_clip model untrained, fed with glyphs"

# A gap "exists" where the centroid distance exceeds what exchanging the modalities within pairs gives by a fifth of a
# radius (a quarter of the published 0.82), and where a linear probe on held-out pairs is nearly always right.
_DISTANCE, _SEPARABLE = 0.2, 0.95
_BAR_S2 = 0.25
_KNOWN = "The published embeddings are the same for everyone and their figures were known when the rule was written."


def _gap_parts(claim: str, models: dict[str, str]) -> tuple[Part, ...]:
    return tuple(
        part
        for key, name in models.items()
        for part in (
            Part(
                f"{claim}.{key}.excess_distance",
                "above",
                _DISTANCE,
                f"{name}: centroid distance less its permutation floor",
                why="a quarter of the published 0.82",
                headline=key.startswith("clip"),
            ),
            Part(
                f"{claim}.{key}.separability",
                "above",
                _SEPARABLE,
                f"{name}: held-out accuracy of a linear probe for the modality",
                why="0.5 is no gap, 1 is a clean cut",
            ),
        )
    )


def _pair_parts(claim: str, keys: tuple[str, ...]) -> tuple[Part, ...]:
    return tuple(
        Part(
            f"{claim}.{key}.relative_gap",
            "above",
            0.52,
            f"{_TRAINED[key]}: relative modality gap",
            why="0.5 is where partners are as far apart as strangers of one modality, 0.52 is a twelfth farther",
        )
        for key in keys
    )


def _concentration_parts() -> tuple[Part, ...]:
    names = {**_TRAINED, "glyphs": "Glyph towers at a fixed temperature of 0.01"}
    return tuple(
        Part(
            f"S2.{key}.top5_excess",
            "above",
            _BAR_S2,
            f"{name}: share of the squared gap in five coordinates less that under rotation",
            why="about a third of what CLIP's released sample shows would still be a concentration",
            headline=key == "clip",
        )
        for key, name in names.items()
    )


def _constancy_parts(key: str, name: str, content: str) -> tuple[Part, ...]:
    return (
        Part(
            f"C3.{key}.direction_cosine",
            "above",
            0.95,
            f"{name}: mean cosine between the gap directions of random groups of 100",
            why="18 degrees; sampling noise alone leaves more than this only where the gap itself is small",
            headline=key == "clip",
        ),
        Part(
            f"C3.{key}.length_spread",
            "below",
            0.1,
            f"{name}: standard deviation over mean of these groups' gap lengths",
            why="a tenth of the length",
        ),
        Part(
            f"C3.{key}.content_cosine",
            "above",
            0.95,
            f"{name}: the same cosine between groups of like content ({content})",
            why="the same bar: a constant vector does not depend on what the pair is about",
        ),
        *(
            Part(
                f"C3.{key}.{side}_lean_ratio",
                "below",
                1.0,
                f"{name}: variation of {side}s along the gap, a random direction being 1",
                why="a gap that the data avoid reads less than a direction drawn at random",
            )
            for side in ("image", "text")
        ),
    )


ROWS = (
    Claim(
        id="L1",
        chapter="01",
        paper="liang2022mind",
        source="Liang et al. 2022: centroid distance 0.82 for CLIP on 5,000 MSCOCO pairs",
        setting="P",
        statement="Trained two-encoder models keep a gap: each modality fills a region of its own.",
        test="Centroid distance above its permutation floor and separability on held-out pairs, on the released "
        "embeddings of CLIP, ConVIRT, VideoCLIP and CLASP; the relative modality gap where pairs retrieve (CLIP, "
        "VideoCLIP); for CLIP also the published size.",
        refuted_if="In one of the four models the distance is within 0.2 of its permutation floor, a linear probe errs "
        "on more than 5 % of held-out embeddings, or partners are no farther apart than strangers of one modality.",
        parts=(
            *_gap_parts("L1", _TRAINED),
            *_pair_parts("L1", ("clip", "videoclip")),
            Part(
                "L1.clip.centroid_distance",
                "within",
                (0.72, 0.92),
                "CLIP: the centroid distance is of the published size",
                why="0.82 give or take 0.1: the 500 released pairs are not the 5,000 of the paper",
            ),
        ),
        seeds=0,
        status="frozen",
        note=f"{_KNOWN} Pairs of the released CLASP and ConVIRT samples retrieve at or near chance: they serve for the "
        "gap only.",
    ),
    Claim(
        id="L2",
        chapter="01",
        paper="liang2022mind",
        source="Liang et al. 2022, the same architectures before training",
        setting="P R",
        statement="The gap is there before any training, from the random initialisation alone.",
        test="The same two measures on the randomly initialised twins of the four models, and on an open_clip "
        "architecture that is initialised here and fed with glyphs.",
        refuted_if="In one of the five untrained models the distance is within 0.2 of its permutation floor, or a "
        "linear probe errs on more than 5 % of held-out embeddings.",
        parts=_gap_parts("L2", _UNTRAINED),
        status="frozen",
        note=f"{_KNOWN} Being there is not being largest: VideoCLIP's trained gap exceeds its untrained one.",
    ),
    Claim(
        id="S2",
        chapter="01",
        paper="schrodi2025two",
        source="Schrodi et al. 2025: a few embedding dimensions drive the gap",
        setting="P G",
        statement="A few coordinates carry the gap.",
        test="Share of the squared gap vector in its five largest coordinates, less the same share after random "
        "rotations of the space; the four trained models, and glyph towers trained here.",
        refuted_if="The five largest coordinates hold no more than 25 points above what a random rotation gives.",
        parts=_concentration_parts(),
        status="frozen",
        note=f"{_KNOWN} Glyph towers have 64 dimensions, so five coordinates are a larger part of them.",
    ),
    Claim(
        id="C3",
        chapter="01",
        paper="zhang2024connect",
        source="Zhang et al. 2024: image minus text is a constant vector, orthogonal to both spans, plus noise",
        setting="P G",
        statement="The gap is one constant vector, orthogonal to the directions in which either modality varies.",
        test="Gap vectors of disjoint groups of pairs, random ones of 100 and ones of like content: spread of their "
        "length, cosine of their directions; variation of each modality along the gap direction, absolute and against "
        "a random direction. CLIP, and glyph towers trained at a fixed temperature of 0.01.",
        refuted_if="Directions of two groups agree with a cosine below 0.95, lengths vary by more than a tenth, more "
        "than 1 % of a modality's variance lies along the gap (CLIP), or more than along a random direction.",
        parts=(
            *_constancy_parts("clip", "CLIP", "clusters of the embeddings"),
            *(
                Part(
                    f"C3.clip.{side}_lean",
                    "below",
                    0.1,
                    f"CLIP: root mean square cosine of {side} differences with the gap direction",
                    why="0.1 is 1 % of the variance, 6 degrees off a right angle; a random direction gives 0.044",
                )
                for side in ("image", "text")
            ),
            *_constancy_parts("glyphs", "Glyph towers", "the script in the name"),
        ),
        status="frozen",
        note=f"{_KNOWN} ConVIRT and CLASP are left out, because a difference within a pair needs pairs that match; "
        "VideoCLIP, because 100 pairs make one group.",
    ),
    Claim(
        id="E1",
        chapter="01",
        paper="levi2025double",
        source="Levi and Gilboa 2025: Pearson r = 0.9998 on COCO",
        setting="P",
        statement="How well an embedding conforms to its modality is a linear function of its cosine to the mean.",
        test="Correlation of an embedding's mean cosine to one half of its modality with its cosine to the mean of the "
        "other half, over random halvings of CLIP's images and texts.",
        refuted_if="The correlation is below 0.99 in one of CLIP's modalities.",
        parts=(
            Part(
                "E1.clip.image.split_correlation",
                "above",
                0.99,
                "CLIP images: correlation across halves",
                why="2 % of the variance is left",
                headline=True,
            ),
            Part(
                "E1.clip.text.split_correlation",
                "above",
                0.99,
                "CLIP texts: correlation across halves",
                why="2 % of the variance is left",
            ),
        ),
        seeds=0,
        status="frozen",
        note=f"{_KNOWN} With the mean of the same set the relation is an identity of algebra and r = 1 for any data, "
        "noise included; the page derives it. Across halves r falls short of 1 by sampling error only.",
    ),
)
