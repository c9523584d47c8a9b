"""Claims of chapter 10, fusion: J9, J10, J11.

The published differences are under a point, so the smallest effects asked for are too: `undecided` is the expected
verdict, with the number of seeds that it would take.
"""

from __future__ import annotations

from gaplib.claims.rules import Baseline, Claim, Part

_METHODS = {"sep": "Sep", "br": "Br", "gc": "GC"}


def _row(
    claim: str,
    task: str,
    words: str,
    published: dict[str, str],
    source: str,
    smallest: float,
    chance: float,
    levels: str,
) -> Claim:
    best = max(published, key=lambda key: float(published[key]))
    return Claim(
        id=claim,
        chapter="10",
        paper="jiang2023understanding",
        source=source,
        setting="G",
        statement=f"In a fusion model the three regularisers improve {words}.",
        test="Each regulariser at weight 1 in pre-training, second views from the momentum encoders; then the same "
        f"fine-tuning on {words}. Accuracy on characters and combinations that no training question shows, less that "
        "of the model without a regulariser, paired by seed: first weights, batches and questions are equal.",
        refuted_if=f"Every regulariser gains less than {100 * smallest:g} points.",
        parts=tuple(
            Part(
                f"{claim}.{task}.{key}_gain",
                "above",
                smallest,
                f"{name} less baseline: accuracy",
                why=f"published {published[key]}",
                baseline=Baseline(f"{claim}.{task}.baseline", chance),
                headline=key == best,
            )
            for key, name in _METHODS.items()
        ),
        status="frozen",
        note=f"{levels} A difference of under a point in the source: the page states the power of the test.",
    )


ROWS = (
    _row(
        "J9",
        "vqa",
        "visual question answering",
        {"sep": "0.0014", "br": "0.0088", "gc": "0.0052"},
        "Jiang et al. 2023, Table 4, VQA test-dev: 73.38 to 73.52 (Sep), 74.26 (Br), 73.90 (GC)",
        0.002,
        0.267,
        "Chance is an even guess among the answers that a question can have.",
    ),
    _row(
        "J10",
        "nlvr",
        "reasoning over two images",
        {"sep": "0.0069", "br": "0.0034", "gc": "0.0060"},
        "Jiang et al. 2023, Table 4, NLVR2 dev: 78.36 to 79.05 (Sep), 78.70 (Br), 78.96 (GC)",
        0.002,
        0.5,
        "Statements are true as often as false.",
    ),
    _row(
        "J11",
        "entailment",
        "visual entailment",
        {"sep": "0.0026", "br": "0.0017", "gc": "0.0013"},
        "Jiang et al. 2023, Table 4, SNLI-VE val: 79.69 to 79.95 (Sep), 79.86 (Br), 79.82 (GC)",
        0.001,
        1 / 3,
        "Three answers, equally frequent.",
    ),
)
