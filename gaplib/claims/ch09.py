"""Claims of chapter 09, downstream: L10 F7 F8 Y12 Y13 J7 J8 M1 C1 C2 H1 R1 T1. Drafts until their confirming run."""

from __future__ import annotations

from gaplib.claims.rules import Baseline, Claim, Part

_UNIFORM = {"cua": "CUA", "cuaxu": "CUAXU"}
_LATENT = {"sep": "Sep", "br": "Br", "gc": "GC"}
_GAP_METHODS = {"ts-s3": "TS S3", "tr-softplus": "TR softplus", "slrt": "SLRT", "flt": "FLT", "hs": "HS", "ss": "SS"}

ROWS = (
    Claim(
        id="L10",
        chapter="09",
        paper="liang2022mind",
        source="Liang et al. 2022, Table 1, best shift: CIFAR-10 90.13 to 90.81 (wider), EuroSAT 54.10 to 56.45 "
        "(smaller)",
        setting="G H",
        statement="Changing the gap by a shift changes zero-shot accuracy, in either direction.",
        test="Trained towers shifted along the gap, nothing else touched; the best shift is chosen on dev and "
        "scored on "
        "test; so is doubling the gap.",
        refuted_if="On a task the chosen shift gains less than half a point and doubling the gap costs less than half.",
        parts=(
            Part(
                "L10.scripts.chosen_gain",
                "above",
                0.005,
                "Scripts: accuracy at the chosen shift less unshifted",
                why="published gains run from 0.0007 to 0.024",
                headline=True,
            ),
            Part(
                "L10.digits.chosen_gain",
                "above",
                0.005,
                "Handwritten digits: accuracy at the chosen shift less unshifted",
            ),
            Part("L10.scripts.doubled_loss", "above", 0.005, "Scripts: accuracy lost by doubling the gap"),
            Part("L10.digits.doubled_loss", "above", 0.005, "Handwritten digits: accuracy lost by doubling the gap"),
        ),
    ),
    Claim(
        id="F7",
        chapter="09",
        paper="fahim2024its",
        source="Fahim et al. 2024, 128 dimensions: CIFAR-100 0.32 to 0.33 and 0.35, Caltech101 0.42 to 0.48 and 0.49",
        setting="G H",
        statement="CUA and CUAXU improve zero-shot classification.",
        test="Zero-shot accuracy against plain CLIP on scripts, handwritten digits and unseen faces.",
        refuted_if="On a task the method gains less than 1 point.",
        parts=tuple(
            Part(
                f"F7.{task}.{key}_gain",
                "above",
                0.01,
                f"{words}: {name} less CLIP",
                why="published gains run from -0.01 to 0.07",
                headline=(task, key) == ("digits", "cuaxu"),
            )
            for task, words in {"scripts": "Scripts", "digits": "Handwritten digits", "faces": "Unseen faces"}.items()
            for key, name in _UNIFORM.items()
        ),
    ),
    Claim(
        id="F8",
        chapter="09",
        paper="fahim2024its",
        source="Fahim et al. 2024, SIMAT at 128 dimensions, recomputed over three seeds: 35.64 to 42.48 and 41.70",
        setting="G",
        statement="CUA and CUAXU improve multi-modal arithmetic.",
        test="Arithmetic on names with exact answers (case, diacritic, script), step length chosen on dev for each "
        "method.",
        refuted_if="A method gains less than 2 points on plain CLIP.",
        parts=tuple(
            Part(
                f"F8.{key}.gain",
                "above",
                0.02,
                f"{name} less CLIP: share of right answers",
                why="published 0.068 and 0.061",
                headline=key == "cua",
            )
            for key, name in _UNIFORM.items()
        ),
    ),
    Claim(
        id="Y12",
        chapter="09",
        paper="yaras2024explaining",
        source="Yaras et al. 2024, section 4: zero-shot and linear probe track uniformity, retrieval the gap",
        setting="G",
        statement="Zero-shot and linear-probe accuracy follow uniformity; retrieval follows the gap.",
        test="Rank correlations over method means with the temperature partialled out, intervals by leaving out "
        "methods; "
        "the post-hoc shift as the causal check.",
        refuted_if="The named driver's correlation does not exceed the other's by 0.1, or closing the gap by a "
        "shift alone "
        "gains less than 1 point of recall.",
        parts=(
            Part(
                "Y12.zero_shot.uniformity_less_gap",
                "above",
                0.1,
                "Zero-shot: strength of the correlation with uniformity less that with the gap",
                headline=True,
            ),
            Part("Y12.probe.uniformity_less_gap", "above", 0.1, "Linear probe: the same difference"),
            Part("Y12.retrieval.gap_less_uniformity", "above", 0.1, "Retrieval: the opposite difference"),
            Part("Y12.shift.recall_gain", "above", 0.01, "Recall gained by closing the gap with a shift alone"),
        ),
    ),
    Claim(
        id="Y13",
        chapter="09",
        paper="yaras2024explaining",
        source="Yaras et al. 2024, Table 1, MMVP-VLM: 11.85 to 14.82 over all variants, under the 25 % of chance",
        setting="G",
        statement="Fine-grained discrimination does not depend on the gap.",
        test="Pairs of glyphs that differ in one diacritic or stroke, both to be matched; each method against the "
        "learnable "
        "temperature, equivalence within 3 points, where the baseline is off its floor.",
        refuted_if="A method moves the accuracy by more than 3 points.",
        parts=tuple(
            Part(
                f"Y13.{key}.change",
                "within",
                (-0.03, 0.03),
                f"{name} less baseline: share of pairs matched",
                why="the whole published range is 0.03",
                baseline=Baseline("Y13.clip.accuracy", 0.25),
                headline=key == "ts-s3",
            )
            for key, name in _GAP_METHODS.items()
        ),
    ),
    Claim(
        id="J7",
        chapter="09",
        paper="jiang2023understanding",
        source="Jiang et al. 2023, abstract: direction only, the table was not read",
        setting="G H",
        statement="The latent-structure regularisers improve few-shot classification.",
        test="Linear classifiers on 1, 2, 4, 8, 16 shots, many draws: mean accuracy against plain CLIP.",
        refuted_if="A regulariser gains less than 1 point.",
        parts=tuple(
            Part(
                f"J7.{key}.gain",
                "above",
                0.01,
                f"{name} less CLIP: mean accuracy over the shots",
                headline=key == "sep",
            )
            for key, name in _LATENT.items()
        ),
    ),
    Claim(
        id="J8",
        chapter="09",
        paper="jiang2023understanding",
        source="Jiang et al. 2023, abstract: direction only, the table was not read",
        setting="G",
        statement="The latent-structure regularisers improve retrieval.",
        test="Recall, mean of both directions, against plain CLIP.",
        refuted_if="A regulariser gains less than 1 point.",
        parts=tuple(
            Part(f"J8.{key}.gain", "above", 0.01, f"{name} less CLIP: recall", headline=key == "sep")
            for key, name in _LATENT.items()
        ),
    ),
    Claim(
        id="M1",
        chapter="09",
        paper="grassucci2026closing",
        source="Grassucci et al. 2026, COCO: V-measure 12.98 to 23.63, kNN 26.3 to 36.4, recall@1 74.6 to 70.3",
        setting="G",
        statement="Closing the gap helps group-wise tasks, not instance-wise ones.",
        test="V-measure of k-means and kNN accuracy on both modalities pooled, and recall, for true-pair alignment "
        "with "
        "centroid uniformity against plain CLIP.",
        refuted_if="V-measure or kNN gain less than 2 points, or recall moves by more than 3 points.",
        parts=(
            Part("M1.v_measure.gain", "above", 0.02, "V-measure gained", why="published 0.107", headline=True),
            Part("M1.knn.gain", "above", 0.02, "kNN accuracy gained", why="published 0.101"),
            Part(
                "M1.recall.change",
                "within",
                (-0.03, 0.03),
                "Recall less that of CLIP",
                why="the published change is -0.043, outside this margin",
                baseline=Baseline("M1.clip.recall", 0.0),
            ),
        ),
    ),
    Claim(
        id="C1",
        chapter="09",
        paper="zhang2024connect",
        source="Zhang et al. 2024 (C3), An et al. 2025 (I0T), Li et al. 2025 (GR-CLIP)",
        setting="G P",
        statement="Mean-centring closes the centroid distance at no training cost, and retrieval survives.",
        test="Means fitted on one half of the pairs, distance and recall on the other: trained glyph towers, CLIP, "
        "VideoCLIP.",
        refuted_if="Held out, the distance stays 0.05 above its permutation floor, or recall moves by more than 2 "
        "points.",
        parts=tuple(
            part
            for key, name in {"glyphs": "Glyphs", "clip": "CLIP", "videoclip": "VideoCLIP"}.items()
            for part in (
                Part(
                    f"C1.{key}.excess_distance",
                    "below",
                    0.05,
                    f"{name}: distance after centring less its permutation floor",
                    headline=key == "glyphs",
                ),
                Part(
                    f"C1.{key}.recall_change",
                    "within",
                    (-0.02, 0.02),
                    f"{name}: recall after centring less before",
                    baseline=Baseline(f"C1.{key}.recall_before", 0.0),
                ),
            )
        ),
    ),
    Claim(
        id="C2",
        chapter="09",
        paper="li2025closing",
        source="Li et al. 2025 (GR-CLIP): NDCG@10 0.22, 0.02, 0.36 at shares 0, 0.99, 1 of one modality; flat after "
        "centring",
        setting="G",
        statement="In mixed-modality search the gap makes the score U-shaped in the mix; centring flattens it.",
        test="NDCG@10 by the share of names among the documents, query another face or another name of the character: "
        "depth of the dip, before and after centring.",
        refuted_if="The dip is shallower than 5 points, or centring removes less than half of it.",
        parts=(
            Part("C2.dip_before", "above", 0.05, "Dip: mean of the two ends less the minimum between", headline=True),
            Part("C2.dip_removed", "above", 0.5, "Share of the dip that centring removes"),
        ),
    ),
    Claim(
        id="H1",
        chapter="09",
        paper="sato2026when",
        source="Sato et al.: Spearman 0.743 between class bias and hub counts, mean of ten data sets",
        setting="G",
        statement="A linear shift makes hubs: the classes that it favours become nearest neighbours too often.",
        test="Rank correlation between the bias that the shift adds to a class and how often that class is predicted.",
        refuted_if="The rank correlation is below 0.3.",
        parts=(
            Part(
                "H1.rank_correlation",
                "above",
                0.3,
                "Spearman correlation of bias and hub counts",
                why="published 0.743",
            ),
        ),
    ),
    Claim(
        id="R1",
        chapter="09",
        paper="chowers2026bug",
        source="Chowers et al. 2026: clean accuracy unchanged, robustness rises as the gap closes",
        setting="G P",
        statement="A gap costs robustness to embedding noise; removing it after training keeps clean accuracy.",
        test="Retrieval under noise on the embeddings, before and after the shift orthogonal to the embeddings' span.",
        refuted_if="Removing the gap gains less than 2 points under noise, or moves clean recall by more than 1 point.",
        parts=tuple(
            part
            for key, name in {"glyphs": "Glyphs", "clip": "CLIP"}.items()
            for part in (
                Part(
                    f"R1.{key}.noisy_gain",
                    "above",
                    0.02,
                    f"{name}: recall under noise, gap removed less gap kept",
                    headline=key == "glyphs",
                ),
                Part(
                    f"R1.{key}.clean_change",
                    "within",
                    (-0.01, 0.01),
                    f"{name}: clean recall, gap removed less gap kept",
                    baseline=Baseline(f"R1.{key}.clean_recall", 0.0),
                ),
            )
        ),
    ),
    Claim(
        id="T1",
        chapter="09",
        paper="liu2026geometry",
        source="Liu et al. 2026 (TPC-CMA): R² 0.986 for the distribution gap, 0.691 for the raw gap",
        setting="G",
        statement="The distribution gap, what is left after centring, predicts task quality better than the "
        "centroid gap.",
        test="R² of the mean task score on either gap over all runs, intervals by leaving out methods.",
        refuted_if="The distribution gap explains less than 10 points of variance more.",
        parts=(
            Part(
                "T1.r2_difference",
                "above",
                0.1,
                "R² of the distribution gap less R² of the centroid gap",
                why="published 0.295",
            ),
        ),
    ),
)
