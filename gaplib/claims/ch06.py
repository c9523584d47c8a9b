"""Claims of chapter 06, uniformity: F5, F6, A1. Drafts until the commit before their run."""

from __future__ import annotations

from gaplib.claims.rules import Baseline, Claim, Part

_METHODS = {"cua": "CUA", "cuaxu": "CUAXU"}

ROWS = (
    Claim(
        id="F5",
        chapter="06",
        paper="fahim2024its",
        source="Fahim et al. 2024, 128 dimensions: distance 0.66 to 0.08 and 0.13, separability 1.00 to 0.73 and 0.82",
        setting="G",
        statement="Adding uniformity and alignment terms (CUA, CUAXU) closes the gap.",
        test="Relative cut of the centroid distance and fall of separability against plain CLIP, fine-tuned from a "
        "trained run as in the paper, and from scratch.",
        refuted_if="A method cuts the distance by less than half, or separability falls by less than 0.1.",
        parts=(
            *(
                Part(
                    f"F5.{start}.{key}.cut",
                    "above",
                    0.5,
                    f"{name}, {words}: relative cut of the centroid distance",
                    why="published 0.88 and 0.81",
                    headline=(start, key) == ("finetuned", "cua"),
                )
                for start, words in {"finetuned": "fine-tuned", "scratch": "from scratch"}.items()
                for key, name in _METHODS.items()
            ),
            *(
                Part(
                    f"F5.finetuned.{key}.separability_fall",
                    "above",
                    0.1,
                    f"{name}, fine-tuned: fall of separability",
                    why="published 0.27 and 0.18",
                )
                for key, name in _METHODS.items()
            ),
        ),
        note="Cross-uniformity alone prefers the two modalities at opposite poles, so CUAXU pulls less than CUA.",
    ),
    Claim(
        id="F6",
        chapter="06",
        paper="fahim2024its",
        source="Fahim et al. 2024, 128 dimensions: image-to-text recall@1 0.276 to 0.258 (CUA) and 0.267 (CUAXU)",
        setting="G",
        statement="Retrieval does not suffer from closing the gap.",
        test="Non-inferiority of recall against plain CLIP, margin 2 points, each at its own tuned temperature and at "
        "an equal one.",
        refuted_if="A method loses more than 2 points of recall.",
        parts=tuple(
            Part(
                f"F6.{key}.{how}.recall_change",
                "above",
                -0.02,
                f"{name}, {words}: recall less that of CLIP",
                why="the paper's own table shows up to 1.8 points lost",
                baseline=Baseline(f"F6.clip.{how}.recall", 0.0),
                headline=(key, how) == ("cua", "tuned"),
            )
            for key, name in _METHODS.items()
            for how, words in {"tuned": "own temperature", "equal": "equal temperature"}.items()
        ),
    ),
    Claim(
        id="A1",
        chapter="06",
        paper="eslami2025mitigate",
        source="Eslami and de Melo 2025: mean true-pair cosine 0.38-0.47 to 0.54-0.62 (shared) and 0.62-0.67 (both)",
        setting="G",
        statement="Sharing tower weights and separating embeddings within a modality shrink the gap.",
        test="Relative cut of the centroid distance and rise of the true-pair cosine: shared trunk against separate "
        "towers, and separation added to the shared trunk.",
        refuted_if="Sharing cuts the distance by less than a tenth, or separation adds less than a tenth.",
        parts=(
            Part("A1.shared.cut", "above", 0.1, "Shared trunk: relative cut of the distance", headline=True),
            Part("A1.separation.cut", "above", 0.1, "Separation on top of it: relative cut of the distance"),
            Part(
                "A1.shared.true_pair_rise",
                "above",
                0.05,
                "Shared trunk: rise of the true-pair cosine",
                why="published about 0.15",
            ),
        ),
    ),
)
