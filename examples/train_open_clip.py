"""Train a small open_clip model on glyphs with a method of this book; prints the gap before and after.

    python examples/train_open_clip.py --method cua

The model (from a configuration file, as any other) and its tokenizer are open_clip's, the loop is gaplib's `fit`. In a
loop of open_clip's own, `gaplib.as_open_clip_loss` takes the place of its loss. Takes under half a minute on one core,
and nothing is downloaded.
"""

import argparse
import json
import math
import tempfile
from pathlib import Path

import open_clip
import torch

from gaplib import geometry
from gaplib.data import glyphs
from gaplib.evaluation import retrieval
from gaplib.methods import method
from gaplib.training import fit

NAME = "glyph-ViT-tiny"
CONTEXT = 24  # tokens a name
SIDE = 24  # pixels
CONFIG = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": SIDE, "layers": 2, "width": 64, "head_width": 32, "patch_size": 6},
    "text_cfg": {"context_length": CONTEXT, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}


def make_model(sigmoid: bool = False) -> torch.nn.Module:
    """A two-layer CLIP by way of a configuration file in a folder of one's own."""
    # The sigmoid loss has a bias, and starts where its paper does.
    extra = {"init_logit_scale": math.log(10), "init_logit_bias": -10.0} if sigmoid else {}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / f"{NAME}.json").write_text(json.dumps(CONFIG))
        open_clip.add_model_config(folder)
        return open_clip.create_model(NAME, load_weights=False, output_dict=True, **extra)


class Pictures:
    """Glyphs as open_clip wants them: three channels, and names cut by its tokenizer."""

    def __init__(self) -> None:
        self.data = glyphs.load(size=SIDE)
        self.tokens = open_clip.SimpleTokenizer(context_length=CONTEXT)(self.data.names)

    def of(self, pairs: glyphs.GlyphPairs) -> tuple[torch.Tensor, torch.Tensor]:
        """Images (n, 3, side, side) in [-1, 1] and token ids (n, context)."""
        return (2 * pairs.images - 1).expand(-1, 3, -1, -1), self.tokens[pairs.index]


@torch.no_grad()
def report(model: torch.nn.Module, images: torch.Tensor, texts: torch.Tensor, answer: torch.Tensor) -> str:
    """Gap and retrieval of held-out pairs in one line."""
    model.eval()
    out = model(images, texts)
    x, y = out["image_features"], out["text_features"]
    hits = retrieval(x, y, ks=(10,), image_groups=answer, text_groups=answer)
    return (
        f"centroid distance {geometry.centroid_distance(x, y):.3f}, true-pair cosine "
        f"{geometry.true_pair_cosine(x, y):.3f}, image to text recall@10 {hits['image_to_text@10']:.3f}"
    )


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="open_clip with a loss of this book")
    parser.add_argument("--method", default="cua", help="a name of gaplib.methods.METHODS")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=128)
    options = parser.parse_args(argv)

    torch.manual_seed(0)
    model = make_model(sigmoid=method(options.method).contrastive == "siglip")
    pictures = Pictures()
    draw = pictures.data.batches("train", options.batch_size, seed=0)
    held_out = pictures.data.sample("dev", 500, seed=0)

    def batches(step: int) -> dict[str, torch.Tensor]:
        return dict(zip(("image", "text"), pictures.of(draw(step)), strict=True))

    print(f"before: {report(model, *pictures.of(held_out), held_out.positive_id)}")
    history = fit(model, options.method, batches, options.steps, lr=1e-3, weight_decay=0.2)
    for row in history[:: max(1, len(history) // 5)]:
        print(", ".join(f"{name} {value:.4g}" for name, value in row.items()))
    print(f"after:  {report(model, *pictures.of(held_out), held_out.positive_id)}")


if __name__ == "__main__":
    main()
