"""Claims of chapter 03, the same modality twice: F1, F2, F3, F4, D1."""

from __future__ import annotations

from gaplib.claims.rules import Baseline, Claim, Part

ROWS = (
    Claim(
        id="F1",
        chapter="03",
        paper="fahim2024its",
        source="Fahim et al. 2024, Table 1: from distance 0.00 and separability 0.50 to 0.06 and 1.00 at zero loss",
        setting="G",
        statement="Two encoders of one modality, fed identical inputs and started without a gap, are driven apart by "
        "the contrastive loss.",
        test="Two image towers on identical, distinct glyphs; an orthogonal Procrustes map removes the gap at the "
        "start; "
        "training until the loss stops falling, by optimiser; separability with the paper's probe and with a tuned "
        "one.",
        refuted_if="Separability rises by less than 0.2 for either optimiser or for the tuned probe, or the distance "
        "ends within 0.02 of its permutation floor.",
        parts=(
            Part("F1.start.excess_distance", "below", 0.02, "Before training: centroid distance less its floor"),
            Part("F1.start.separability", "below", 0.6, "Before training: separability (C = 1)"),
            Part(
                "F1.adamw.separability_rise",
                "above",
                0.2,
                "AdamW: separability (C = 1) at the end less that at the start",
                why="two fifths of the published rise of 0.5",
                headline=True,
            ),
            Part("F1.sgd.separability_rise", "above", 0.2, "SGD: the same rise, so not the optimiser's doing"),
            Part(
                "F1.adamw.excess_distance",
                "above",
                0.02,
                "AdamW: centroid distance at the end less its permutation floor",
                why="a third of the published 0.06",
            ),
            Part("F1.sgd.excess_distance", "above", 0.02, "SGD: the same distance"),
            Part(
                "F1.adamw.separability_tuned",
                "above",
                0.95,
                "AdamW: separability at the end with standardised features and tuned C",
                why="the published probe reads 1.00",
            ),
            Part(
                "F1.adamw.separability_tuned_rise",
                "above",
                0.2,
                "AdamW: by how much the tuned probe rises, so that training makes the separation",
                why="as for the published probe",
            ),
        ),
        status="frozen",
        note="The paper's probe (C = 1) can read 0.68 where a weaker penalty reads 0.99 on the same run.",
    ),
    Claim(
        id="F2",
        chapter="03",
        paper="fahim2024its",
        source="Fahim et al. 2024: centroid distance 0.10, 0.31, 0.66 at 32, 64, 128 dimensions",
        setting="G",
        statement="The gap grows with the dimension of the embedding space.",
        test="Centroid distance after training at 3 to 256 dimensions, each seed at every dimension: images and names "
        "at the published temperature, where the gap is there at the start; and two image towers, where it is not.",
        refuted_if="The distance gains less than 0.05 a doubling, or less than 0.01 where it starts at zero.",
        parts=(
            Part(
                "F2.slope_per_doubling",
                "above",
                0.05,
                "Centroid distance gained a doubling, 8 to 256 dimensions",
                why="a fifth of the published 0.28",
                headline=True,
            ),
            Part("F2.d64_less_d32", "above", 0.05, "Distance at 64 dimensions less that at 32", why="published 0.21"),
            Part("F2.d128_less_d64", "above", 0.05, "Distance at 128 dimensions less that at 64", why="published 0.35"),
            Part(
                "F2.same.slope_per_doubling",
                "above",
                0.01,
                "Two image towers: distance gained a doubling, 16 to 256 dimensions",
                why="the published 0.06 at 512 dimensions, over the six doublings from 8",
            ),
        ),
        status="frozen",
    ),
    Claim(
        id="F3",
        chapter="03",
        paper="fahim2024its",
        source="Fahim et al. 2024, abstract: direction only",
        setting="G",
        statement="The gap grows as the batch shrinks.",
        test="Centroid distance after training by batch size, once at equal samples seen and once at equal steps, for "
        "images and names and for two image towers.",
        refuted_if="In one of the comparisons the distance gains less than 0.02 a halving of the batch.",
        parts=tuple(
            Part(
                f"F3.{key}.equal_{what}.slope_per_halving",
                "above",
                0.02,
                f"{name}: distance gained a halving of the batch, equal {what}",
                headline=(key, what) == ("same", "samples"),
            )
            for key, name in {"same": "Two image towers", "mixed": "Images and names"}.items()
            for what in ("samples", "steps")
        ),
        status="frozen",
        note="At equal samples a small batch also takes more steps: both comparisons are needed.",
    ),
    Claim(
        id="F4",
        chapter="03",
        paper="fahim2024its",
        source="Fahim et al. 2024: the first 16 of 128 principal components carry 0.63 of the variance",
        setting="G P",
        statement="CLIP's space is used unevenly: few principal components carry most of the variance.",
        test="Share of the variance in the first eighth of the components, and effective rank of the centred "
        "covariance, both against uniform points of the same number and dimension; trained glyph towers and published "
        "CLIP embeddings.",
        refuted_if="The first eighth carries less than 0.2 more of the variance than for uniform points, or the "
        "effective rank exceeds half of theirs.",
        parts=tuple(
            part
            for key, name in {
                "glyphs.image": "Glyph images",
                "glyphs.text": "Glyph names",
                "clip.image": "CLIP images",
                "clip.text": "CLIP texts",
            }.items()
            for part in (
                Part(
                    f"F4.{key}.first_eighth_excess",
                    "above",
                    0.2,
                    f"{name}: variance share of the first eighth of the components, less that of uniform points",
                    why="half of the published 0.63 less 0.24, which 512 uniform points have in 128 dimensions",
                    headline=key == "glyphs.image",
                ),
                Part(f"F4.{key}.rank_ratio", "below", 0.5, f"{name}: effective rank over that of uniform points"),
            )
        ),
        status="frozen",
        note="Few points in many dimensions look concentrated even where they are uniform: 500 in 512 dimensions have "
        "0.38 of their variance in the first eighth.",
    ),
    Claim(
        id="D1",
        chapter="03",
        paper="yi2025decipher",
        source="Yi et al. 2025: projection onto the shared space cuts the centre angle from 74.69 to 5.37 degrees on "
        "CIFAR-10, from 78.16 to 68.06 on COCO",
        setting="G P",
        statement="Where the dimensions collapse, the gap is the smallest angle between the modalities' subspaces, and "
        "projecting onto the shared space removes it.",
        test="Angle between the modalities' centres against the smallest principal angle of their subspaces; the angle "
        "cut by a projection fitted on other pairs; retrieval after it.",
        refuted_if="The two angles differ by more than 10 degrees, the projection cuts the angle by less than a "
        "quarter, "
        "or retrieval moves by more than 3 points.",
        parts=(
            Part(
                "D1.glyphs.angle_difference",
                "within",
                (-10.0, 10.0),
                "Glyphs: centre angle less principal angle",
                unit="deg",
            ),
            Part(
                "D1.clip.angle_difference",
                "within",
                (-10.0, 10.0),
                "CLIP: centre angle less principal angle",
                unit="deg",
            ),
            Part(
                "D1.glyphs.projection_cut",
                "above",
                0.25,
                "Glyphs: relative cut of the centre angle by the projection",
                why="between the published 0.13 on COCO and 0.93 on CIFAR-10",
                headline=True,
            ),
            Part("D1.clip.projection_cut", "above", 0.25, "CLIP: relative cut of the centre angle by the projection"),
            Part(
                "D1.glyphs.recall_change",
                "within",
                (-0.03, 0.03),
                "Glyphs: recall at 10 after the projection less before",
                baseline=Baseline("D1.glyphs.recall_before", 0.01),
            ),
            Part(
                "D1.clip.recall_change",
                "within",
                (-0.03, 0.03),
                "CLIP: recall at 1 after the projection less before",
                baseline=Baseline("D1.clip.recall_before", 0.004),
            ),
        ),
        status="frozen",
        note="The released CLIP sample of 500 pairs is too small for the published tolerance once the fit is made on "
        "other pairs than the test: half of it shares no direction to within a cosine of 0.999. There, cosines above "
        "0.8 are taken instead. Recall of the glyphs is at 10: at 1 it lies below the range that can show a change.",
    ),
)
