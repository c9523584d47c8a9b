"""Claims of chapter 02, the cone effect: L3, L4, L5, L6."""

from __future__ import annotations

from gaplib.claims.rules import Claim, Part

# Evenly spread directions have a mean cosine of 0. "Far above" is half of the smallest value in the paper, 0.41.
_CONE = 0.2
# The smallest difference between two mean cosines that would change the story of a figure.
_GAIN = 0.2

_PUBLISHED = {
    "clip": ("CLIP", ("image", "caption")),
    "convirt": ("ConVIRT", ("X-ray", "report")),
    "videoclip": ("VideoCLIP", ("video", "text")),
    "clasp": ("CLASP", ("protein", "text")),
}
_SETUPS = {
    "resnet18": "ResNet-18, batch normalisation by its running statistics",
    "resnet18_train": "ResNet-18, batch normalisation by the batch",
    "vit": "Vision transformer",
    "text": "Text transformer",
}


def _cone_parts() -> tuple[Part, ...]:
    published = [
        Part(
            f"L3.{key}{suffix}.{modality}.mean_cosine",
            "above",
            _CONE,
            f"{name}, {modality} embeddings, {state}",
            why="half of the smallest published value",
            headline=key == "clip" and suffix == "" and modality == "image",
        )
        for key, (name, modalities) in _PUBLISHED.items()
        for suffix, state in (("", "trained"), ("_random", "untrained"))
        for modality in modalities
    ]
    random = [
        Part(
            f"L3.{setup}.{kind}.mean_cosine",
            "above",
            _CONE,
            f"{name}, untrained, {'glyphs or their names' if kind == 'data' else 'noise'}",
            why="half of the smallest published value",
        )
        for setup, name in _SETUPS.items()
        for kind in ("data", "noise")
    ]
    return (*published, *random)


def _depth_parts() -> tuple[Part, ...]:
    names = {"relu": "ReLU", "leaky_relu": "Leaky ReLU", "tanh": "Tanh", "sigmoid": "Sigmoid"}
    gains = [
        Part(
            f"L4.{key}.gain",
            "above",
            _GAIN,
            f"{name} less linear, mean cosine after 25 layers of the same weights",
            headline=key == "relu",
        )
        for key, name in names.items()
    ]
    depth = [
        Part(
            f"L4.{key}.depth_gain",
            "above",
            0.1 if key == "sigmoid" else _GAIN,
            f"{name}: mean cosine after 25 layers less that after one",
            why="the paper reads 0.85 after one sigmoid layer, which leaves 0.15 to gain" if key == "sigmoid" else "",
        )
        for key, name in names.items()
    ]
    linear = Part("L4.linear.cosine", "below", _CONE, "Linear stack: mean cosine after 25 layers")
    return (linear, *gains, *depth)


ROWS = (
    Claim(
        id="L3",
        chapter="02",
        paper="liang2022mind",
        source="Liang et al. 2022: mean cosine of ResNet-18, a vision and a text transformer 0.56/0.47/0.51 trained, "
        "0.99/0.72/0.67 untrained, 0.999/0.94/0.41 untrained on noise",
        setting="P R",
        statement="Embeddings of one modality lie in a narrow cone, trained or not, on real data and on noise.",
        test="Mean cosine of different embeddings of one modality: the released embeddings of four models and their "
        "untrained twins, and three architectures at random initialisation fed with glyphs or names and with noise.",
        refuted_if="In one of these sets the mean cosine is below 0.2.",
        parts=_cone_parts(),
        status="frozen",
        note="Our architectures are smaller than the paper's and the images are glyphs.",
    ),
    Claim(
        id="L4",
        chapter="02",
        paper="liang2022mind",
        source="Liang et al. 2022, width 512, up to 25 layers: linear about 0.05, tanh 0.52, ReLU 0.32 after one layer "
        "and near 1 by layer 14, sigmoid 0.85 after one",
        setting="W",
        statement="Non-linearity and depth make the cone: linear layers do not.",
        test="Mean cosine of 1,024 Gaussian inputs after 1 and 25 random layers of width 512, by activation; the "
        "activations of one seed share weights and inputs.",
        refuted_if="The linear stack ends above 0.2, or a non-linear one gains less than 0.2 on the linear one, or "
        "less than 0.2 (sigmoid: 0.1) between its first and its 25th layer.",
        parts=_depth_parts(),
        status="frozen",
    ),
    Claim(
        id="L5",
        chapter="02",
        paper="liang2022mind",
        source="Liang et al. 2022, Theorem 1: with probability at least 1 - O(1/width)",
        setting="W",
        statement="A random ReLU layer raises the cosine of two vectors with high probability.",
        test="Random pairs that meet the theorem's condition, each with a random layer of its own: how often the "
        "cosine rises, and how fast the failures fall over widths 8 to 512.",
        refuted_if="At width 512 the cosine rises in fewer than 95 % of draws, or failures fall more slowly than "
        "width to the power -0.8.",
        parts=(
            Part(
                "L5.width512.frequency",
                "above",
                0.95,
                "Share of admissible pairs whose cosine rises, width 512",
                why="a constant of 25 in O(1/width)",
                headline=True,
            ),
            Part(
                "L5.failure_exponent",
                "above",
                0.8,
                "Power of 1/width with which failures fall, widths 8 to 512",
                why="the theorem says 1; chance variation of the cosine alone would fall with power 0.5",
            ),
        ),
        status="frozen",
        note="Norm ratio and norm are log-uniform between 1/4 and 4, the cosine uniform up to the condition's edge.",
    ),
    Claim(
        id="L6",
        chapter="02",
        paper="liang2022mind",
        source="Liang et al. 2022, Theorem 2: most of the variance is due to the random initialisation; the share is "
        "at least a bound tied to the average cosine of the previous layer",
        setting="W R",
        statement="Different random initialisations give different cones.",
        test="Share of the variance of the outputs that lies between initialisations (law of total variance), and the "
        "cosine between the centres of their cones; a ReLU network of 25 layers, and real architectures on glyphs or "
        "names.",
        refuted_if="Less than half of the variance lies between initialisations, the cones' centres agree with a "
        "cosine above 0.2, or the ReLU network's share lies more than 0.02 below its previous layer's mean cosine.",
        parts=(
            Part(
                "L6.mlp.share",
                "above",
                0.5,
                "ReLU network: share due to the initialisation, layer 25",
                why="'mostly' means more than half",
                headline=True,
            ),
            Part(
                "L6.mlp.excess",
                "above",
                -0.02,
                "ReLU network: that share less the previous layer's mean cosine, mean over 25 layers",
                why="the theorem's bound, less the smallest violation that would matter",
            ),
            Part("L6.mlp.centre_cosine", "below", 0.2, "ReLU network: cosine between the cones' centres, layer 25"),
            *(
                part
                for setup in ("resnet18", "vit", "text")
                for part in (
                    Part(f"L6.{setup}.share", "above", 0.5, f"{_SETUPS[setup]}: share due to the initialisation"),
                    Part(f"L6.{setup}.centre_cosine", "below", 0.2, f"{_SETUPS[setup]}: cosine between cones' centres"),
                )
            ),
        ),
        status="frozen",
    ),
)
