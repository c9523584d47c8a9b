"""Claims of chapter 01, meet the gap: L1, L2, S2, C3, E1."""

from __future__ import annotations

from gaplib.claims.rules import Claim, Part

_TRAINED = {"clip": "CLIP", "convirt": "ConVIRT", "videoclip": "VideoCLIP", "clasp": "CLASP"}

# A gap "exists" where the centroid distance exceeds what exchanging the modalities within pairs gives by a fifth of a
# radius (a quarter of the published 0.82), and where a linear probe on held-out pairs is nearly always right.
_DISTANCE, _SEPARABLE = 0.2, 0.95


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


ROWS = (
    Claim(
        id="L1",
        chapter="01",
        paper="liang2022mind",
        source="Liang et al. 2022: centroid distance 0.82 for CLIP on 5,000 MSCOCO pairs",
        setting="P",
        statement="Trained two-encoder models keep a gap: each modality fills a region of its own.",
        test="Centroid distance above its permutation floor and separability on held-out pairs, on the released "
        "embeddings of CLIP, ConVIRT, VideoCLIP and CLASP; for CLIP also the published size.",
        refuted_if="In one of the four models the distance is within 0.2 of its permutation floor, or a linear probe "
        "errs on more than 5 % of held-out embeddings.",
        parts=(
            *_gap_parts("L1", _TRAINED),
            Part(
                "L1.clip.centroid_distance",
                "within",
                (0.72, 0.92),
                "CLIP: the centroid distance is of the published size",
                why="0.82 give or take 0.1: the released sample is another draw of pairs",
            ),
        ),
        seeds=0,
        status="frozen",
        note="Pairs of the released CLASP and ConVIRT samples retrieve at chance: they serve for the gap only.",
    ),
    Claim(
        id="L2",
        chapter="01",
        paper="liang2022mind",
        source="Liang et al. 2022, the same architectures before training",
        setting="P R",
        statement="The gap is there before any training, from the random initialisation alone.",
        test="The same two measures on the randomly initialised twins of the four models.",
        refuted_if="In one of the four untrained models the distance is within 0.2 of its permutation floor, or a "
        "linear probe errs on more than 5 % of held-out embeddings.",
        parts=_gap_parts("L2", {f"{key}_random": f"{name} untrained" for key, name in _TRAINED.items()}),
        seeds=0,
        status="frozen",
        note="Being there is not being largest: VideoCLIP's trained gap exceeds its random one.",
    ),
    Claim(
        id="S2",
        chapter="01",
        paper="schrodi2025two",
        source="Schrodi et al. 2025: a few embedding dimensions drive the gap",
        setting="P G",
        statement="A few coordinates carry most of the gap vector.",
        test="Share of the squared gap vector in its five largest coordinates, less the same share after random "
        "rotations of the space; CLIP, and glyph towers trained here.",
        refuted_if="The five largest coordinates hold no more than 25 points above what a random rotation gives.",
        parts=(
            Part(
                "S2.clip.top5_excess",
                "above",
                0.25,
                "CLIP: share of the squared gap in five coordinates less that under rotation",
                why="a third of the difference of the figures published for CLIP would still be a concentration",
                headline=True,
            ),
            Part(
                "S2.glyphs.top5_excess",
                "above",
                0.25,
                "Glyph towers: the same difference",
                why="the same bar as for CLIP",
            ),
        ),
        status="frozen",
    ),
    Claim(
        id="C3",
        chapter="01",
        paper="zhang2024connect",
        source="Zhang et al. 2024: image minus text is a constant vector, orthogonal to both spans, plus noise",
        setting="P G",
        statement="The gap is one constant vector, orthogonal to the directions in which either modality varies.",
        test="Gap vectors of disjoint groups of 100 pairs: spread of their length, cosine of their directions; cosine "
        "of differences within a modality with the gap direction.",
        refuted_if="Directions of two groups agree with a cosine below 0.95, lengths vary by more than a tenth, or "
        "differences within a modality lean on the gap direction with a mean absolute cosine above 0.1.",
        parts=(
            Part(
                "C3.clip.direction_cosine",
                "above",
                0.95,
                "CLIP: mean cosine between the gap directions of disjoint groups",
                headline=True,
            ),
            Part(
                "C3.clip.length_spread", "below", 0.1, "CLIP: standard deviation over mean of the groups' gap lengths"
            ),
            Part(
                "C3.clip.image_leaning",
                "below",
                0.1,
                "CLIP: mean absolute cosine of image differences with the gap direction",
                why="random directions in 512 dimensions give 0.035",
            ),
            Part(
                "C3.clip.text_leaning",
                "below",
                0.1,
                "CLIP: mean absolute cosine of text differences with the gap direction",
                why="random directions in 512 dimensions give 0.035",
            ),
        ),
        status="frozen",
    ),
    Claim(
        id="E1",
        chapter="01",
        paper="levi2025double",
        source="Levi and Gilboa 2025: Pearson r = 0.9998 on COCO",
        setting="P",
        statement="How well an embedding conforms to its modality is a linear function of its cosine to the mean.",
        test="Correlation of an embedding's mean cosine to its modality with its cosine to that modality's mean.",
        refuted_if="The correlation is below 0.99 in one of CLIP's modalities.",
        parts=(
            Part("E1.clip.image.correlation", "above", 0.99, "CLIP images: correlation", headline=True),
            Part("E1.clip.text.correlation", "above", 0.99, "CLIP texts: correlation"),
        ),
        seeds=0,
        status="frozen",
        note="For unit vectors the mean cosine is the product of the mean's length and the cosine to it, up to the "
        "embedding's own term: nearly an identity, which the page says.",
    ),
)
