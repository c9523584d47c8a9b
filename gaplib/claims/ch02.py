"""Claims of chapter 02, the cone effect: L3, L4, L5, L6."""

from __future__ import annotations

from gaplib.claims.rules import Claim, Part

ROWS = (
    Claim(
        id="L3",
        chapter="02",
        paper="liang2022mind",
        source="Liang et al. 2022: mean cosine 0.56/0.47/0.51 trained, 0.99/0.72/0.67 at random initialisation, "
        "0.999/0.94/0.41 on noise (ResNet-18, ViT, text transformer)",
        setting="P R",
        statement="Embeddings of one modality lie in a narrow cone, trained or not, on real data and on noise.",
        test="Mean cosine of different embeddings of one modality: published embeddings, and real architectures at "
        "random initialisation fed with data and with noise.",
        refuted_if="A modality's mean cosine is below 0.2.",
        parts=(
            Part("L3.clip.image.mean_cosine", "above", 0.2, "CLIP images, trained", headline=True),
            Part("L3.clip.text.mean_cosine", "above", 0.2, "CLIP texts, trained"),
            Part("L3.clip_random.image.mean_cosine", "above", 0.2, "CLIP images, untrained"),
            Part("L3.clip_random.text.mean_cosine", "above", 0.2, "CLIP texts, untrained"),
            Part("L3.resnet18.data.mean_cosine", "above", 0.2, "ResNet-18 at random initialisation, glyphs"),
            Part("L3.resnet18.noise.mean_cosine", "above", 0.2, "ResNet-18 at random initialisation, noise"),
            Part("L3.vit.data.mean_cosine", "above", 0.2, "ViT at random initialisation, glyphs"),
            Part("L3.vit.noise.mean_cosine", "above", 0.2, "ViT at random initialisation, noise"),
            Part("L3.text.data.mean_cosine", "above", 0.2, "Text transformer at random initialisation, names"),
            Part("L3.text.noise.mean_cosine", "above", 0.2, "Text transformer at random initialisation, random tokens"),
        ),
        status="frozen",
    ),
    Claim(
        id="L4",
        chapter="02",
        paper="liang2022mind",
        source="Liang et al. 2022: width 512, up to 25 layers, linear about 0.05, sigmoid, ReLU near 1",
        setting="W",
        statement="Depth with a non-linearity makes the cone; depth alone does not.",
        test="Mean cosine of 1,024 Gaussian inputs after 25 random layers of width 512, by activation.",
        refuted_if="A linear stack ends above 0.2, or a non-linear one gains less than 0.2 on the linear one.",
        parts=(
            Part("L4.linear.cosine", "below", 0.2, "Linear stack: mean cosine after 25 layers"),
            Part("L4.relu.gain", "above", 0.2, "ReLU less linear after 25 layers", headline=True),
            Part("L4.leaky_relu.gain", "above", 0.2, "Leaky ReLU less linear after 25 layers"),
            Part("L4.sigmoid.gain", "above", 0.2, "Sigmoid less linear after 25 layers"),
            Part("L4.tanh.gain", "above", 0.2, "Tanh less linear after 25 layers"),
        ),
        status="frozen",
    ),
    Claim(
        id="L5",
        chapter="02",
        paper="liang2022mind",
        source="Liang et al. 2022, Theorem 1: with probability at least 1 - O(1/width)",
        setting="W",
        statement="A random ReLU layer raises the cosine of two vectors with high probability.",
        test="Frequency over random layers and admissible pairs by width, from 8 to 1,024.",
        refuted_if="At width 512 the cosine rises in fewer than 95 % of draws, or the failures do not fall with width.",
        parts=(
            Part(
                "L5.width512.frequency", "above", 0.95, "Share of draws that raise the cosine, width 512", headline=True
            ),
            Part("L5.width8_to_512.rise", "above", 0.05, "The same share at width 512 less that at width 8"),
        ),
        status="frozen",
    ),
    Claim(
        id="L6",
        chapter="02",
        paper="liang2022mind",
        source="Liang et al. 2022, Theorem 2: the variance is mostly due to the random initialisation",
        setting="W R",
        statement="Different random initialisations give different cones.",
        test="Share of the variance of the outputs that lies between initialisations (law of total variance).",
        refuted_if="Less than half of the variance lies between initialisations.",
        parts=(
            Part("L6.mlp.share", "above", 0.5, "ReLU network: share due to the initialisation", headline=True),
            Part("L6.resnet18.share", "above", 0.5, "ResNet-18: share due to the initialisation"),
        ),
        status="frozen",
    ),
)
