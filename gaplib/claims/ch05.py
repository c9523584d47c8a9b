"""Claims of chapter 05, exact alignment: J1, J2, J3. Drafts until the commit before their run."""

from __future__ import annotations

from gaplib.claims.rules import Baseline, Claim, Part

_WEIGHTS = {"weight_0": "no", "weight_half": "half", "weight_1": "full"}

ROWS = (
    Claim(
        id="J1",
        chapter="05",
        paper="jiang2023understanding",
        source="Jiang et al. 2023, Theorem 3.1",
        setting="W",
        statement="Exactly aligned features cost at least the information gap in cross-entropy.",
        test="Excess cross-entropy of the best exactly aligned features less the information gap, both computed "
        "exactly, "
        "in random discrete worlds with a common part and in generic ones without.",
        refuted_if="In one world the excess falls below the information gap.",
        parts=(
            Part(
                "J1.common.smallest_slack",
                "above",
                -1e-9,
                "Worlds with a common part: smallest excess less information gap",
                why="round-off of double precision",
                unit="nats",
                exact=True,
                headline=True,
            ),
            Part(
                "J1.generic.smallest_slack",
                "above",
                -1e-9,
                "Generic worlds, where alignment leaves nothing: the same",
                unit="nats",
                exact=True,
            ),
        ),
        seeds=0,
        note="Exact alignment makes the features a function of the common part of the two variables, so the bound "
        "is trivial in a world that has none.",
    ),
    Claim(
        id="J2",
        chapter="05",
        paper="jiang2023understanding",
        source="Jiang et al. 2023, section 3",
        setting="G",
        statement="Exact alignment throws away what one modality alone knows.",
        test="A linear probe for the font style, which only the image holds, on characters not seen in training, by "
        "the "
        "strength of the alignment; as a control, captions that name the style.",
        refuted_if="The strongest alignment costs the style probe less than 5 points, or as much where captions "
        "name the "
        "style.",
        parts=(
            Part(
                "J2.style.drop",
                "above",
                0.05,
                "Style accuracy without alignment less that with the strongest",
                baseline=Baseline("J2.style.unaligned", 0.27),
                headline=True,
            ),
            Part("J2.style.drop_less_control", "above", 0.05, "The same drop less that where captions name the style"),
        ),
        note="Floors beside it: the untrained tower, and the name alone (0.27); ceiling: a probe on the pixels.",
    ),
    Claim(
        id="J3",
        chapter="05",
        paper="jiang2023understanding",
        source="Jiang et al. 2023, Fig. 2: alignment loss times 1, 0.5, 0",
        setting="G",
        statement="Forcing the gap to other sizes moves retrieval little.",
        test="Alignment forced by 1/<z_T, z_V>² as printed, and by 2 - 2 cos, at weights 1, 0.5, 0: the range of "
        "the gap "
        "and the change of retrieval.",
        refuted_if="Retrieval moves by more than 2 points at one of the weights, or the gap hardly moves.",
        parts=(
            *(
                Part(
                    f"J3.{loss}.{weight}.recall_change",
                    "within",
                    (-0.02, 0.02),
                    f"{name}, {_WEIGHTS[weight]} weight: recall less that without the term",
                    baseline=Baseline("J3.recall_without", 0.0),
                    headline=(loss, weight) == ("inverse_square", "weight_1"),
                )
                for loss, name in {"inverse_square": "1/cos²", "chordal": "2 - 2 cos"}.items()
                for weight in ("weight_half", "weight_1")
            ),
            Part(
                "J3.inverse_square.gap_range", "above", 0.1, "1/cos²: largest less smallest distance over the weights"
            ),
            Part("J3.chordal.gap_range", "above", 0.1, "2 - 2 cos: largest less smallest distance over the weights"),
        ),
        note="1/cos² is blind to the sign of the cosine and singular at 0: sign flips are counted on the page.",
    ),
)
