"""The table of the suite's metrics: what each one is, its chance level and its good direction."""

from __future__ import annotations

from gaplib.geometry.metrics import METRICS as GEOMETRY

#: What the means are over. Case is nearly read off by any tower, an untrained one included, so it is left out.
ZERO_SHOT_MEAN = ("scripts", "digits", "faces")
PROBE_MEAN = ("script", "diacritic", "style")

#: The metrics that a leaderboard shows: what each is, its chance level (None: depends on the towers), whether more of
#: it is better (1), worse (-1) or neither (0). All other names are parts of these.
METRICS: dict[str, tuple[str, float | None, int]] = {
    # A gap by itself is neither good nor bad.
    **{
        name: (metric.meaning, metric.chance, 0)
        for metric in GEOMETRY.values()
        for name in metric.suite_names
        if name.startswith("gap.")
    },
    "uniformity.mean": ("Uniformity, mean of the two modalities", None, 0),
    "recall.mean@1": ("Recall at 1, mean of both directions", None, 1),
    "zero_shot.scripts": ("Zero-shot: script of an unseen character, class mean of 6", 1 / 6, 1),
    "zero_shot.case": ("Zero-shot: case, class mean of 2", 0.5, 1),
    "zero_shot.diacritic": ("Zero-shot: diacritic, class mean", None, 1),
    "zero_shot.digits": ("Zero-shot: handwritten digits", 0.1, 1),
    "zero_shot.faces": ("Zero-shot: name of an unseen character in an unseen face", None, 1),
    "zero_shot.mean": (f"Zero-shot: mean of {', '.join(ZERO_SHOT_MEAN)}", None, 1),
    "probe.script": ("Linear probe: script, class mean of 6", 1 / 6, 1),
    "probe.case": ("Linear probe: case, class mean of 2", 0.5, 1),
    "probe.diacritic": ("Linear probe: diacritic, class mean", None, 1),
    "probe.style": ("Linear probe: face of the font, class mean of 5", 0.2, 1),
    "probe.mean": (f"Linear probe: mean of {', '.join(PROBE_MEAN)}", None, 1),
    "few_shot.scripts": ("Few-shot: script, mean of 1 to 16 shots", 1 / 6, 1),
    "few_shot.digits": ("Few-shot: handwritten digits, mean of 1 to 16 shots", 0.1, 1),
    "few_shot.mean": ("Few-shot: mean of the two", None, 1),
    "arithmetic.exact": ("Arithmetic: mean of case and diacritic, one character is right", None, 1),
    "arithmetic.all": ("Arithmetic: mean of case, diacritic, script", None, 1),
    "clustering.v_measure": ("V-measure of k-means, both modalities pooled", 0.0, 1),
    "clustering.ari": ("Adjusted Rand index of k-means, both modalities pooled", 0.0, 1),
    "clustering.knn": ("kNN accuracy, both modalities pooled", None, 1),
    "mixed.mean": ("Mixed search: NDCG@10, mean of shares and of image and text queries", None, 1),
    "mixed.dip": ("Mixed search: mean of the two ends less the minimum between", 0.0, -1),
    "mixed.sag": ("Mixed search: greatest depth below the line between the ends", 0.0, -1),
    "fine_grained.both": ("One stroke apart: both images matched", 0.25, 1),
    "hubness.skewness": ("Skewness of the 10-occurrence, mean of both directions", None, -1),
    "calibration.ece": ("Calibration error of zero-shot, mean of scripts and digits", 0.0, -1),
    "noise.mean": ("Recall at 1 under noise, mean of three sizes", None, 1),
}
