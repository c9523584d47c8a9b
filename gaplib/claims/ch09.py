"""Claims of chapter 09, downstream: L10 F7 F8 Y12 Y13 J7 J8 M1 C1 C2 H1 R1 T1. Frozen before their confirming run.

"Sharp towers" are plain CLIP at a fixed temperature of 0.02: at its tuned temperature there is next to no gap left that
a treatment after training could move, so what is said of the gap is tried where there is one.
"""

from __future__ import annotations

from gaplib.claims.rules import Baseline, Claim, Part

_UNIFORM = {"cua": "CUA", "cuaxu": "CUAXU"}
_LATENT = {"sep": "Sep", "br": "Br", "gc": "GC"}
_GAP_METHODS = {"ts-s3": "TS S3", "tr-softplus": "TR softplus", "slrt": "SLRT", "flt": "FLT", "hs": "HS", "ss": "SS"}
_TASKS = {"scripts": "Scripts", "digits": "Handwritten digits", "faces": "Unseen faces"}
_HOW = {"tuned": "own tuned point", "equal": "equal temperature"}
_AGAINST = {"gain": "CLIP", "gain_on_control": "the four-way loss alone"}

ROWS = (
    Claim(
        id="L10",
        chapter="09",
        paper="liang2022mind",
        source="Liang et al. 2022, Table 1, best shift: CIFAR-10 90.13 to 90.81 (wider), EuroSAT 54.10 to 56.45 "
        "(smaller)",
        setting="G H",
        statement="Changing the gap by a shift changes zero-shot accuracy, in either direction.",
        test="Sharp towers shifted along the gap, nothing else touched; the best of nine shifts is chosen on dev and "
        "scored on test; so is doubling the gap.",
        refuted_if="On a task the chosen shift gains less than half a point and doubling the gap costs less than half.",
        parts=tuple(
            Part(
                f"L10.{task}.{what}",
                "above",
                0.005,
                f"{_TASKS[task]}: {words}",
                why="published gains run from 0.0007 to 0.024",
                headline=(task, what) == ("scripts", "chosen_gain"),
            )
            for what, words in {
                "chosen_gain": "accuracy at the chosen shift less unshifted",
                "doubled_loss": "accuracy lost by doubling the gap",
            }.items()
            for task in ("scripts", "digits")
        ),
        status="frozen",
    ),
    Claim(
        id="F7",
        chapter="09",
        paper="fahim2024its",
        source="Fahim et al. 2024, 128 dimensions: CIFAR-100 0.32 to 0.33 and 0.35, Caltech101 0.42 to 0.48 and 0.49",
        setting="G H",
        statement="CUA and CUAXU improve zero-shot classification.",
        test="Zero-shot accuracy against plain CLIP on scripts, handwritten digits and unseen faces, each at its own "
        "tuned point and all at a fixed temperature of 0.03.",
        refuted_if="On a task the method gains less than 1 point.",
        parts=tuple(
            Part(
                f"F7.{task}.{key}.{how}_gain",
                "above",
                0.01,
                f"{words}, {at}: {name} less CLIP",
                why="published gains run from -0.01 to 0.07",
                headline=(task, key, how) == ("digits", "cuaxu", "tuned"),
            )
            for how, at in _HOW.items()
            for task, words in _TASKS.items()
            for key, name in _UNIFORM.items()
        ),
        status="frozen",
    ),
    Claim(
        id="F8",
        chapter="09",
        paper="fahim2024its",
        source="Fahim et al. 2024, SIMAT at 128 dimensions, recomputed over three seeds: 35.64 to 42.48 and 41.70",
        setting="G",
        statement="CUA and CUAXU improve multi-modal arithmetic.",
        test="Arithmetic on names with one right answer (mean of case and diacritic), step length chosen on dev for "
        "each run; each method at its own tuned point and all at a fixed temperature of 0.03.",
        refuted_if="A method gains less than 2 points on plain CLIP.",
        parts=tuple(
            Part(
                f"F8.{key}.{how}_gain",
                "above",
                0.02,
                f"{name} less CLIP, {at}: share of right answers",
                why="published 0.068 and 0.061",
                headline=(key, how) == ("cua", "tuned"),
            )
            for how, at in _HOW.items()
            for key, name in _UNIFORM.items()
        ),
        status="frozen",
    ),
    Claim(
        id="Y12",
        chapter="09",
        paper="yaras2024explaining",
        source="Yaras et al. 2024, section 4: zero-shot and linear probe track uniformity, retrieval the gap",
        setting="G",
        statement="Zero-shot and linear-probe accuracy follow uniformity; retrieval follows the gap.",
        test="Rank correlations over the means of all trained methods and of CLIP at five fixed temperatures, the "
        "rank of the temperature partialled out, sizes compared; intervals by leaving out methods. The shift of sharp "
        "towers as the causal check.",
        refuted_if="The named driver's correlation does not exceed the other's by 0.1, or closing the gap by a "
        "shift alone gains less than 1 point of recall.",
        parts=(
            Part(
                "Y12.zero_shot.uniformity_less_gap",
                "above",
                0.1,
                "Zero-shot: size of the correlation with uniformity less that with the gap",
                headline=True,
            ),
            Part("Y12.probe.uniformity_less_gap", "above", 0.1, "Linear probe: the same difference"),
            Part("Y12.retrieval.gap_less_uniformity", "above", 0.1, "Recall at 1: the opposite difference"),
            Part("Y12.shift.recall_gain", "above", 0.01, "Recall at 1 gained by closing the gap with a shift alone"),
        ),
        status="frozen",
    ),
    Claim(
        id="Y13",
        chapter="09",
        paper="yaras2024explaining",
        source="Yaras et al. 2024, Table 1, MMVP-VLM: 11.85 to 14.82 over all variants, under the 25 % of chance",
        setting="G",
        statement="Fine-grained discrimination does not depend on the gap.",
        test="Pairs of glyphs that differ in one diacritic or stroke, both to be matched; each method against the "
        "learnable temperature, equivalence within 3 points, where the baseline is off its floor.",
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
        status="frozen",
    ),
    Claim(
        id="J7",
        chapter="09",
        paper="jiang2023understanding",
        source="Jiang et al. 2023, abstract: direction only, the table was not read",
        setting="G H",
        statement="The latent-structure regularisers improve few-shot classification.",
        test="Linear classifiers on 1, 2, 4, 8, 16 shots, many draws, scripts and handwritten digits: mean accuracy "
        "against plain CLIP, and against the four-way contrastive loss with the same second views but no regulariser.",
        refuted_if="A regulariser gains less than 1 point.",
        parts=tuple(
            Part(
                f"J7.{key}.{against}",
                "above",
                0.01,
                f"{name} less {words}: mean accuracy over the shots",
                headline=(key, against) == ("sep", "gain"),
            )
            for against, words in _AGAINST.items()
            for key, name in _LATENT.items()
        ),
        status="frozen",
    ),
    Claim(
        id="J8",
        chapter="09",
        paper="jiang2023understanding",
        source="Jiang et al. 2023, abstract: direction only, the table was not read",
        setting="G",
        statement="The latent-structure regularisers improve retrieval.",
        test="Recall at 1, mean of both directions, against plain CLIP, and against the four-way contrastive loss "
        "with the same second views but no regulariser.",
        refuted_if="A regulariser gains less than 1 point.",
        parts=tuple(
            Part(
                f"J8.{key}.{against}",
                "above",
                0.01,
                f"{name} less {words}: recall",
                headline=(key, against) == ("sep", "gain"),
            )
            for against, words in _AGAINST.items()
            for key, name in _LATENT.items()
        ),
        status="frozen",
    ),
    Claim(
        id="M1",
        chapter="09",
        paper="grassucci2026closing",
        source="Grassucci et al. 2026, COCO: V-measure 12.98 to 23.63, kNN 26.3 to 36.4, recall@1 74.6 to 70.3",
        setting="G",
        statement="Closing the gap helps group-wise tasks, not instance-wise ones.",
        test="V-measure of k-means and kNN accuracy on both modalities pooled, and recall at 5 (recall at 1 is too "
        "near its floor), for true-pair alignment with centroid uniformity against plain CLIP.",
        refuted_if="V-measure or kNN gain less than 2 points, or recall moves by more than 3 points.",
        parts=(
            Part("M1.v_measure.gain", "above", 0.02, "V-measure gained", why="published 0.107", headline=True),
            Part("M1.knn.gain", "above", 0.02, "kNN accuracy gained", why="published 0.101"),
            Part(
                "M1.recall.change",
                "within",
                (-0.03, 0.03),
                "Recall at 5 less that of CLIP",
                why="the published change is -0.043, outside this margin",
                baseline=Baseline("M1.clip.recall", 0.0),
            ),
        ),
        status="frozen",
    ),
    Claim(
        id="C1",
        chapter="09",
        paper="zhang2024connect",
        source="Zhang et al. 2024 (C3), An et al. 2025 (I0T), Li et al. 2025 (GR-CLIP)",
        setting="G P",
        statement="Mean-centring closes the centroid distance at no training cost, and retrieval survives.",
        test="Means fitted on one half of the pairs, distance and recall on the other: sharp glyph towers and the "
        "worst of all trained methods (recall at 5), CLIP and VideoCLIP (recall at 1).",
        refuted_if="Held out, the distance stays 0.05 above its permutation floor, or recall moves by more than 2 "
        "points.",
        parts=(
            *(
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
            Part("C1.methods.largest_excess", "below", 0.05, "Every method: the largest of these distances"),
            Part("C1.methods.largest_recall_loss", "below", 0.02, "Every method: the largest loss of recall"),
        ),
        status="frozen",
    ),
    Claim(
        id="C2",
        chapter="09",
        paper="li2025closing",
        source="Li et al. 2025 (GR-CLIP): NDCG@10 0.22, 0.02, 0.36 at shares 0, 0.99, 1 of one modality; flat after "
        "centring",
        setting="G",
        statement="In mixed-modality search the gap makes the score U-shaped in the mix; centring flattens it.",
        test="NDCG@10 by the share of names among the documents, mean of queries that are another face and of queries "
        "that are another name of the character: depth of the dip of sharp towers, before and after centring.",
        refuted_if="The dip is shallower than 5 points, or centring removes less than half of it.",
        parts=(
            Part("C2.dip_before", "above", 0.05, "Dip: mean of the two ends less the minimum between", headline=True),
            Part("C2.dip_removed", "above", 0.5, "Share of the dip that centring removes"),
        ),
        status="frozen",
    ),
    Claim(
        id="H1",
        chapter="09",
        paper="sato2026when",
        source="Sato et al.: Spearman 0.743 between class bias and hub counts, mean of ten data sets",
        setting="G",
        statement="A linear shift makes hubs: the classes that it favours become nearest neighbours too often.",
        test="Sharp towers, zero-shot on scripts, handwritten digits and unseen faces: rank correlation between the "
        "bias that the shift of the images adds to a class and how often, by its own number of images, that class is "
        "predicted; and between the bias and the change by the shift. Mean of the three.",
        refuted_if="A rank correlation is below 0.3.",
        parts=(
            Part(
                "H1.rank_correlation",
                "above",
                0.3,
                "Spearman correlation of bias and hub counts",
                why="published 0.743",
                headline=True,
            ),
            Part("H1.change_correlation", "above", 0.3, "Spearman correlation of bias and change of the counts"),
        ),
        status="frozen",
    ),
    Claim(
        id="R1",
        chapter="09",
        paper="chowers2026bug",
        source="Chowers et al. 2026: clean accuracy unchanged, robustness rises as the gap closes",
        setting="G P",
        statement="A gap costs robustness to embedding noise; removing it after training keeps clean accuracy.",
        test="Retrieval under noise on the embeddings, before and after the shift orthogonal to the embeddings' span: "
        "sharp glyph towers (recall at 5), CLIP (recall at 1, shift fitted on one half, scored on the other).",
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
        status="frozen",
    ),
    Claim(
        id="T1",
        chapter="09",
        paper="liu2026geometry",
        source="Liu et al. 2026 (TPC-CMA): R² 0.986 for the distribution gap, 0.691 for the raw gap",
        setting="G",
        statement="The distribution gap, what is left after centring, predicts task quality better than the "
        "centroid gap.",
        test="R² of the mean of nine task scores on either gap over all trained runs, intervals by leaving out "
        "methods.",
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
        status="frozen",
    ),
)
