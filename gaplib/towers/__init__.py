"""Two-encoder models with open_clip's interface: tiny ones for glyphs, and the models that others trained.

    towers.encode_image(images), towers.encode_text(tokens), towers.logit_scale (the logarithm of the scale)

``from_open_clip`` and ``from_hub`` load what others trained, with preprocessing and tokenizer.
Every builder is seeded and leaves torch's global random state as it was.
"""

from gaplib._extras import need

need("train", "safetensors")

from gaplib.towers.adapt import as_towers
from gaplib.towers.external import OpenClipTowers, from_open_clip, open_clip_towers, torchvision_image_tower
from gaplib.towers.files import load
from gaplib.towers.hub import HubModel, from_hub
from gaplib.towers.loading import check_device, quiet
from gaplib.towers.mlp import mlp_towers
from gaplib.towers.registry import architecture, architectures, build, register
from gaplib.towers.tiny import BagOfTokens, FixedMap, image_pair_towers, tiny_towers
from gaplib.towers.transformer import transformer_towers
from gaplib.towers.two_tower import INIT_LOGIT_SCALE, TwoTower, check_images, check_tokens, seeded

register("tiny", tiny_towers, private_heads=True)
register("transformer", transformer_towers, shared_trunk=True)
register("mlp", mlp_towers)
register("image-pair", image_pair_towers, runs=False)
register("open_clip", open_clip_towers, runs=False)

__all__ = [
    "INIT_LOGIT_SCALE",
    "BagOfTokens",
    "FixedMap",
    "HubModel",
    "OpenClipTowers",
    "TwoTower",
    "architecture",
    "architectures",
    "as_towers",
    "build",
    "check_device",
    "check_images",
    "check_tokens",
    "from_hub",
    "from_open_clip",
    "image_pair_towers",
    "load",
    "mlp_towers",
    "open_clip_towers",
    "quiet",
    "register",
    "seeded",
    "tiny_towers",
    "torchvision_image_tower",
    "transformer_towers",
]
