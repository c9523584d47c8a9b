"""Claims of chapter 05, exact alignment: J1, J2, J3."""

from __future__ import annotations

from gaplib.claims.rules import Baseline, Claim, Part

_WEIGHTS = {"half": "weight 0.5", "one": "weight 1"}
_WAYS = {
    "printed": ("1/cos² as printed, from scratch", "J3.recall_without"),
    "continued": ("1/cos² as printed, added to trained towers", "J3.continued.recall_without"),
    "chordal": ("2 - 2 cos, from scratch", "J3.recall_without"),
}


def _retrieval_parts() -> tuple[Part, ...]:
    """For every way to force the gap: it moves, and recall at 10 does not."""
    return tuple(
        part
        for way, (name, baseline) in _WAYS.items()
        for part in (
            *(
                Part(
                    f"J3.{way}.{weight}.recall_change",
                    "within",
                    (-0.05, 0.05),
                    f"{name}, {words}: recall at 10 less that without the term",
                    why="a tenth of the recall without it; on dev, seeds of one setting differ by 0.04",
                    family=way,
                    baseline=Baseline(baseline, 0.01),
                    headline=(way, weight) == ("printed", "one"),
                )
                for weight, words in _WEIGHTS.items()
            ),
            Part(
                f"J3.{way}.gap_range",
                "above",
                0.1,
                f"{name}: largest less smallest centroid distance over the weights 0, 0.5, 1",
                family=way,
            ),
        )
    )


ROWS = (
    Claim(
        id="J1",
        chapter="05",
        paper="jiang2023understanding",
        source="Jiang et al. 2023, Theorem 3.1",
        setting="W",
        statement="Exactly aligned features cost at least the information gap in cross-entropy.",
        test="Excess cross-entropy of the best exactly aligned features less the information gap, both computed "
        "exactly, in random discrete worlds with a common part, in every world that an adversarial search over "
        "weights and supports tries, and in generic worlds without a common part.",
        refuted_if="In one world the excess falls below the information gap.",
        parts=(
            Part(
                "J1.common.smallest_slack",
                "above",
                -1e-9,
                "Random worlds with a common part: smallest excess less information gap",
                why="round-off of double precision",
                unit="nats",
                exact=True,
                headline=True,
            ),
            Part(
                "J1.search.smallest_slack",
                "above",
                -1e-9,
                "Every world that the adversary tried: the same",
                why="round-off of double precision",
                unit="nats",
                exact=True,
            ),
            Part(
                "J1.generic.smallest_slack",
                "above",
                -1e-9,
                "Generic worlds, where alignment leaves nothing: the same",
                why="round-off of double precision",
                unit="nats",
                exact=True,
            ),
        ),
        seeds=0,
        status="frozen",
        note="Exact alignment makes the features a function of the common part of the two variables, so the bound "
        "is trivial in a world that has none. A theorem cannot fail; its test is one of the definitions and the code.",
    ),
    Claim(
        id="J2",
        chapter="05",
        paper="jiang2023understanding",
        source="Jiang et al. 2023, section 3",
        setting="G",
        statement="Exact alignment throws away what one modality alone knows.",
        test="A linear probe for the font style, which only the image holds, on characters with five distinct faces "
        "that neither towers nor probe were trained on, without alignment and at weight 5, the strongest that still "
        "retrieves; from the embeddings as they are, and with noise of 0.05 a coordinate; as a control, captions that "
        "name the style.",
        refuted_if="Alignment at weight 5 costs the style probe less than 5 points, or as much where captions name "
        "the style.",
        parts=(
            Part(
                "J2.style.drop",
                "above",
                0.05,
                "Style accuracy without alignment less that at weight 5",
                family="exact",
                baseline=Baseline("J2.style.unaligned", 0.2),
                headline=True,
            ),
            Part(
                "J2.style.drop_less_control",
                "above",
                0.05,
                "The same drop less that where captions name the style",
                family="exact",
            ),
            Part(
                "J2.noisy.drop",
                "above",
                0.05,
                "Style accuracy at finite precision without alignment less that at weight 5",
                family="noisy",
            ),
            Part(
                "J2.noisy.drop_less_control",
                "above",
                0.05,
                "The same drop less that where captions name the style",
                family="noisy",
            ),
        ),
        status="frozen",
        note="All runs at a fixed temperature of 0.02. Chance is 0.2, since every test character is shown in all five "
        "faces. Floors beside it: the untrained tower, the name alone; ceiling: a probe on the pixels.",
    ),
    Claim(
        id="J3",
        chapter="05",
        paper="jiang2023understanding",
        source="Jiang et al. 2023, Fig. 2: alignment loss times 1, 0.5, 0",
        setting="G",
        statement="Forcing the gap to other sizes moves retrieval little.",
        test="Alignment forced by 1/<z_T, z_V>² as printed, from scratch and from trained towers on, and by 2 - 2 cos, "
        "at weights 1, 0.5, 0 and a fixed temperature of 0.02: the range of the gap and the change of recall at 10.",
        refuted_if="Recall at 10 moves by more than 5 points at one of the weights, or the gap by less than 0.1.",
        parts=_retrieval_parts(),
        status="frozen",
        note="1/cos² is blind to the sign of the cosine and singular at 0, where randomly initialised pairs start: "
        "sign flips are counted on the page. Whether the paper trained from scratch with it, is not said.",
    ),
)
