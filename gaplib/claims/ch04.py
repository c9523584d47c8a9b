"""Claims of chapter 04, dynamics: L7, L8, L9, Y1 to Y5, S1, G1."""

from __future__ import annotations

from gaplib.claims.rules import Claim, Part

# Published minima of the nine-pair landscape, by logit scale: heights of the two rings above and below the equator.
_HEIGHTS = {50: 0.714, 100: 0.869, 500: 0.975, 1000: 0.988}
_LOG2_STEPS = (("100", "50"), ("50", "20"), ("20", "10"))

ROWS = (
    Claim(
        id="L7",
        chapter="04",
        paper="liang2022mind",
        source="Liang et al. 2022: at tau = 1/100 the default gap of 0.82 minimises the loss",
        setting="P",
        statement="At CLIP's own temperature moving the modalities together raises the loss; the barrier goes as the "
        "temperature grows.",
        test="Contrastive loss of CLIP's embeddings shifted along the gap, for six temperatures, in batches of 50.",
        refuted_if="At logit scale 100 some shift that at least halves the gap raises the loss by less than 0.05, the "
        "best shift is not the default, or a rise above 0.01 is left at logit scale 1.",
        parts=(
            Part(
                "L7.scale100.rise",
                "above",
                0.05,
                "Logit scale 100: smallest rise of the loss over shifts that at least halve the gap",
                unit="nats",
                headline=True,
            ),
            Part(
                "L7.scale100.best_shift",
                "within",
                (-0.3, 0.3),
                "Logit scale 100: the shift with the least loss is the default",
                why="the published grid has steps of 0.25",
            ),
            Part("L7.scale1.rise", "below", 0.01, "Logit scale 1: the same rise is gone", unit="nats"),
        ),
        seeds=0,
        note="The released sample is the same for everyone; its curves were known when the rule was written.",
        status="frozen",
    ),
    Claim(
        id="L8",
        chapter="04",
        paper="liang2022mind",
        source="Liang et al. 2022, simulated landscape: nine pairs on the sphere, one swap",
        setting="W",
        statement="With mismatched pairs the loss is least at a non-zero gap, at low temperature only.",
        test="Height of the loss minimum of the nine-pair landscape by logit scale, with and without the swap.",
        refuted_if="A minimum is off 0.714, 0.869, 0.975, 0.988 at logit scales 50, 100, 500, 1000 by more than 0.01, "
        "or off 0 at scale 10 or without the swap.",
        parts=(
            *(
                Part(
                    f"L8.swapped.scale{scale}.height",
                    "within",
                    (round(height - 0.01, 3), round(height + 0.01, 3)),
                    f"Swapped, logit scale {scale}: height of the minimum",
                    why="the grid of heights has steps below 0.01",
                    exact=True,
                    headline=scale == 100,
                )
                for scale, height in _HEIGHTS.items()
            ),
            Part("L8.swapped.scale10.height", "within", (-0.01, 0.01), "Swapped, logit scale 10: no gap", exact=True),
            Part(
                "L8.matched.scale1000.height", "within", (-0.01, 0.01), "Matched, logit scale 1000: no gap", exact=True
            ),
        ),
        seeds=0,
        status="frozen",
    ),
    Claim(
        id="L9",
        chapter="04",
        paper="liang2022mind",
        source="Liang et al. 2022, fine-tuned CLIP: gap 1.00, 0.80, 0.55, 0.30 at logit scales 100, 50, 20, 10",
        setting="G",
        statement="The gap after training shrinks as the temperature grows.",
        test="Centroid distance of glyph towers trained at fixed temperatures, each seed at every temperature.",
        refuted_if="One step of the temperature shrinks the distance by less than 0.05.",
        note="All runs have 400 steps. The page also shows how fast each of them moves: a gap that shrinks slowly is "
        "not a gap that stays.",
        parts=(
            *(
                Part(
                    f"L9.scale{a}_less_scale{b}",
                    "above",
                    0.05,
                    f"Distance at logit scale {a} less that at {b}",
                    why="a quarter of the published steps of 0.2",
                    headline=a == "100",
                )
                for a, b in _LOG2_STEPS
            ),
        ),
        status="frozen",
    ),
    Claim(
        id="Y1",
        chapter="04",
        paper="yaras2024explaining",
        source="Yaras et al. 2024, Theorem 3.3; over 100 initialisations the gap grew in every trial, by about 0.15",
        setting="W G",
        statement="From a random initialisation the gap first grows.",
        test="Sign of the gap's first change over 100 initialisations a seed under the theorem's assumptions (256 "
        "pairs in 64 dimensions, CLIP's first temperature), and over the first ten steps of 12 pairs of glyph "
        "towers a seed, by optimiser, each at its own learning rate.",
        refuted_if="The gap grows in fewer than 90 % of the initialisations, or by less than 0.05 on average.",
        parts=(
            Part("Y1.world.frequency", "above", 0.9, "World of the theorem: share of initialisations", headline=True),
            Part("Y1.adamw.frequency", "above", 0.9, "Glyphs, AdamW: share of initialisations", why="published: all"),
            Part("Y1.sgd.frequency", "above", 0.9, "Glyphs, SGD: share of initialisations", why="published: all"),
            *(
                Part(
                    f"Y1.{key}.rise",
                    "above",
                    0.05,
                    f"Glyphs, {name}: mean change of the distance in ten steps",
                    why="a third of the published 0.15",
                )
                for key, name in (("adamw", "AdamW"), ("sgd", "SGD"))
            ),
        ),
        note="The page also measures how well the parallel-modalities assumption holds in real training.",
        status="frozen",
    ),
    Claim(
        id="Y2",
        chapter="04",
        paper="yaras2024explaining",
        source="Yaras et al. 2024, Theorem 3.2: the gap closes no faster than 1/log(t)²",
        setting="W",
        statement="With a learnable temperature the gap closes only logarithmically.",
        test="Parallel-modalities flow to t = 1e8: the conserved quantity, gamma log(t)² between 1e4 and 1e8, and "
        "gamma against the lower bound that the page derives, constants included.",
        refuted_if="The conserved quantity drifts by more than 1e-6, gamma log(t)² loses more than half from t = 1e4 "
        "to 1e8, or gamma falls below the bound.",
        parts=(
            Part("Y2.conserved.drift", "below", 1e-6, "Relative drift of gamma exp(-gamma²/2) beta²", exact=True),
            Part(
                "Y2.bound.late_ratio",
                "above",
                0.5,
                "gamma log(t)² at t = 1e8 over that at 1e4",
                why="closing like 1/t to the half would give 0.04",
                exact=True,
                headline=True,
            ),
            Part("Y2.bound.least_ratio", "above", 1.0, "Least of gamma over its lower bound", exact=True),
        ),
        seeds=0,
        note="A slope fitted on the logarithmic axes reads -1.4 to -1.9, by the times fitted: it is no test.",
        status="frozen",
    ),
    Claim(
        id="Y3",
        chapter="04",
        paper="yaras2024explaining",
        source="Yaras et al. 2024: exponential closing at a fixed temperature",
        setting="W",
        statement="With a fixed temperature the gap closes exponentially.",
        test="The same flow with the temperature fixed, to t = 1000: the rate at which log gamma falls in the last "
        "quarter of the time over that in the quarter before.",
        refuted_if="The rate changes by more than 5 % from one quarter to the next.",
        parts=(
            Part(
                "Y3.rate_ratio",
                "within",
                (0.95, 1.05),
                "Rate of log gamma, last quarter over the quarter before",
                why="an exponential keeps its rate; the learned temperature's flow loses about a third of it",
                exact=True,
            ),
        ),
        seeds=0,
        note="A straight line through log gamma is no test: the learned temperature's flow fits one with R² above "
        "0.99.",
        status="frozen",
    ),
    Claim(
        id="Y4",
        chapter="04",
        paper="yaras2024explaining",
        source="Yaras et al. 2024, appendix C; the rates tested are derived on the page",
        setting="W",
        statement="Reparameterising the temperature closes the gap faster.",
        test="The same flow with softplus and exp(nu/2): orders of magnitude gained on exp(nu) at t = 1e8.",
        refuted_if="A reparameterisation gains less than one order of magnitude.",
        parts=(
            Part(
                "Y4.softplus.orders",
                "above",
                1.0,
                "Softplus: log10 of gamma, exp(nu) less softplus",
                exact=True,
                headline=True,
            ),
            Part("Y4.exp_half.orders", "above", 1.0, "exp(nu/2): log10 of gamma, exp(nu) less exp(nu/2)", exact=True),
        ),
        seeds=0,
        note="exp(nu/s) is exp(nu) with the temperature's rate scaled by 1/s² under the flow, and is not under Adam.",
        status="frozen",
    ),
    Claim(
        id="Y5",
        chapter="04",
        paper="yaras2024explaining",
        source="Yaras et al. 2024: mismatched pairs open the gap",
        setting="G W",
        statement="The more pairs are mismatched, the wider the gap.",
        test="Centroid distance of glyph towers after 400 steps with 0 to 50 % of the pairs permuted, at a learned "
        "and at a fixed temperature; the flow with a learned temperature and the same mismatch.",
        refuted_if="Half of the pairs permuted widen the gap by less than 0.1, or ten points by less than 0.02.",
        parts=(
            Part(
                "Y5.learned.half_less_none",
                "above",
                0.1,
                "Glyphs, learned temperature: distance at 50 % mismatch less that at none",
                headline=True,
            ),
            Part("Y5.fixed.half_less_none", "above", 0.1, "Glyphs, logit scale 50: the same difference"),
            Part(
                "Y5.fixed.slope_per_tenth",
                "above",
                0.02,
                "Glyphs, logit scale 50: distance gained for ten points of mismatch",
            ),
            Part("Y5.world.half_less_none", "above", 0.1, "World: gap at 50 % mismatch less that at none"),
        ),
        status="frozen",
    ),
    Claim(
        id="S1",
        chapter="04",
        paper="schrodi2025two",
        source="Schrodi et al. 2025: more attributes in the caption, smaller gap",
        setting="G",
        statement="Information imbalance between the modalities makes the gap.",
        test="Style words added to unique names by degrees: centroid distance of glyph towers after 400 steps, at a "
        "fixed and at a learned temperature.",
        refuted_if="Naming all style attributes shrinks the distance by less than 0.05, or one more by less than 0.01.",
        parts=(
            Part(
                "S1.fixed.none_less_all",
                "above",
                0.05,
                "Logit scale 50: distance with no style word less that with all",
                headline=True,
            ),
            Part(
                "S1.fixed.slope_per_attribute",
                "below",
                -0.01,
                "Logit scale 50: distance gained for one more style word",
            ),
            Part("S1.learned.none_less_all", "above", 0.05, "Learned temperature: none less all"),
        ),
        note="Words are added, not cut: cutting names makes duplicate captions, another cause of a gap.",
        status="frozen",
    ),
    Claim(
        id="G1",
        chapter="04",
        paper="bangachev2025global",
        source="Bangachev et al. 2025: constellations reach zero sigmoid loss with a gap",
        setting="W G",
        statement="The sigmoid loss can reach zero with a gap in place.",
        test="Loss and gap of a constructed constellation at logit scale 100 with its own bias; gap of glyph towers "
        "after 400 steps of the sigmoid loss with learnable temperature and bias.",
        refuted_if="The constellation's loss stays above 0.001 or its gap below 0.5, or trained towers end within 0.2 "
        "of their permutation floor.",
        parts=(
            Part("G1.world.loss", "below", 1e-3, "Constellation: sigmoid loss", unit="nats", exact=True),
            Part("G1.world.distance", "above", 0.5, "Constellation: centroid distance", exact=True),
            Part(
                "G1.glyphs.excess_distance",
                "above",
                0.2,
                "Glyphs: centroid distance less its permutation floor",
                headline=True,
            ),
        ),
        status="frozen",
    ),
)
