"""Real architectures at random initialisation, looked at layer by layer: ResNet-18, a vision and a text transformer.

Inputs are glyphs and their names, or noise. Images are standardised by the mean and the standard deviation of all glyph
pixels, as image pipelines do; noise is standard Gaussian, which has no direction of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from gaplib._devices import note_device
from gaplib._validate import check_choice, check_integer
from gaplib.data.glyphs import Glyphs
from gaplib.geometry import mean_cosine
from gaplib.towers import OpenClipTowers, open_clip_towers, torchvision_image_tower

SETUPS = ("resnet18", "resnet18_train", "vit", "text")  # ResNet-18 twice: by batch-normalisation mode
KINDS = ("data", "noise")
OPEN_CLIP_NAME = "ViT-S-32-alt"  # open_clip's smallest pair of transformers
RESNET_SIZE = 96  # pixels a side: a ninth of the arithmetic of 224, same network


def images(glyphs: Glyphs, kind: str, n: int, size: int, seed: int) -> Tensor:
    """(n, 3, size, size) float images: test glyphs of distinct names, enlarged and standardised, or Gaussian noise."""
    check_choice(kind, "kind", KINDS)
    size = check_integer(size, "size", low=1)
    if kind == "noise":
        return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(seed))
    pixels = glyphs.images / 255.0
    x = functional.interpolate(glyphs.sample("test", n, seed).images, size=(size, size), mode="bilinear")
    return ((x - pixels.mean()) / pixels.std()).float().expand(-1, 3, -1, -1)


def tokens(glyphs: Glyphs, towers: OpenClipTowers, kind: str, n: int, seed: int) -> Tensor:
    """(n, L) token ids: test names through open_clip's tokenizer, or random words of the same lengths."""
    check_choice(kind, "kind", KINDS)
    index = glyphs.sample("test", n, seed).index
    ids = towers.tokenize([glyphs.names[i].lower() for i in index])
    if kind == "noise":
        end = ids.argmax(dim=1, keepdim=True)  # the end token has the largest id
        place = torch.arange(ids.shape[1])
        word = torch.from_numpy(np.random.default_rng(seed).integers(1, int(ids.max()) - 1, size=ids.shape))
        ids = torch.where((place > 0) & (place < end), word, ids)
    return ids


@torch.no_grad()
def resnet_states(x: Tensor, seed: int, mode: str = "eval") -> dict[str, Tensor]:
    """ResNet-18 on images: state -> (n, features), from the flattened input to the linearly projected embedding.

    mode: batch normalisation by its initial running statistics ("eval") or by the batch's own ("train").
    """
    network = torchvision_image_tower("resnet18", seed=seed, mode=mode).to(x.device)
    paths = {"stem": "maxpool", **{f"stage {i}": f"layer{i}" for i in range(1, 5)}, "pooled": "avgpool"}
    states = {"input": x.flatten(1)}
    with _recorded(
        {state: network.get_submodule(path) for state, path in paths.items()}, states, lambda h: h.flatten(1)
    ):
        features = network(x)
    # CLIP's image towers end in a random linear map without bias: it turns all vectors alike and keeps their angles
    generator, dim = torch.Generator().manual_seed(seed), features.shape[1]
    states["embedding"] = features @ (torch.randn(dim, 512, generator=generator) / dim**0.5).to(x.device)
    return states


@torch.no_grad()
def vit_states(x: Tensor, towers: OpenClipTowers) -> dict[str, Tensor]:
    """open_clip's vision transformer: the class token before the first and after each block, then the embedding."""
    states = {"input": x.flatten(1)}
    blocks = towers.model.visual.transformer.resblocks
    with _recorded(_named(blocks), states, lambda h: h[:, 0]):
        states["embedding"] = towers.encode_image(x)
    return states


@torch.no_grad()
def text_states(ids: Tensor, towers: OpenClipTowers) -> dict[str, Tensor]:
    """open_clip's text transformer: the end token before the first and after each block, then the embedding.

    Attention is causal, so positions behind the last end token change nothing and are cut off: several times less work.
    """
    model, end = towers.model, ids.argmax(dim=1)
    length, rows = int(end.max()) + 1, torch.arange(len(ids), device=ids.device)
    states: dict[str, Tensor] = {}
    place, mask = model.positional_embedding, model.attn_mask
    try:
        model.positional_embedding, model.attn_mask = nn.Parameter(place[:length]), mask[:length, :length]
        with _recorded(_named(model.transformer.resblocks), states, lambda h: h[rows, end]):
            states["embedding"] = model.encode_text(ids[:, :length])
    finally:
        model.positional_embedding, model.attn_mask = place, mask
    return states


# --- all of them, over initialisations -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Survey:
    """One architecture on one kind of input, over several initialisations and the same inputs.

    cosines: state -> mean cosine, averaged over initialisations. embeddings: (K, n, d), float32, on the CPU.
    """

    cosines: dict[str, float]
    embeddings: Tensor

    @property
    def previous(self) -> float:
        """Mean cosine of the state that the last linear map reads."""
        return list(self.cosines.values())[-2]


def survey(
    glyphs: Glyphs, seed: int, *, inits: int = 3, n: int = 32, device: str | torch.device = "cpu"
) -> dict[tuple[str, str], Survey]:
    """Every setup on every kind of input: (setup, kind) -> Survey. Initialisations and inputs follow from ``seed``."""
    seed, inits, n = (
        check_integer(seed, "seed", low=0),
        check_integer(inits, "inits", low=1),
        check_integer(n, "n", low=2),
    )
    found: dict[tuple[str, str], list[dict[str, Tensor]]] = {(s, k): [] for s in SETUPS for k in KINDS}
    for init in range(1000 * seed, 1000 * seed + inits):
        towers = open_clip_towers(OPEN_CLIP_NAME, seed=init, device=device)
        note_device(device)
        for kind in KINDS:
            small = images(glyphs, kind, n, RESNET_SIZE, seed).to(device)
            found["resnet18", kind].append(resnet_states(small, init, "eval"))
            found["resnet18_train", kind].append(resnet_states(small, init, "train"))
            large = images(glyphs, kind, n, towers.image_size, seed).to(device)
            found["vit", kind].append(vit_states(large, towers))
            found["text", kind].append(text_states(tokens(glyphs, towers, kind, n, seed).to(device), towers))
    return {key: _survey(runs) for key, runs in found.items()}


def _survey(runs: list[dict[str, Tensor]]) -> Survey:
    cosines = {state: float(np.mean([float(mean_cosine(run[state])) for run in runs])) for state in runs[0]}
    return Survey(cosines, torch.stack([run["embedding"].float().cpu() for run in runs]))


def _named(blocks: nn.ModuleList) -> dict[str, nn.Module]:
    return {f"block {i}": block for i, block in enumerate(blocks, 1)}


@contextmanager
def _recorded(
    modules: dict[str, nn.Module], states: dict[str, Tensor], view: Callable[[Tensor], Tensor]
) -> Iterator[None]:
    """While the block runs, write ``view`` of each module's output into ``states``; of the first one's input too."""
    first = next(iter(modules))
    if first.startswith("block"):
        handles = [modules[first].register_forward_pre_hook(lambda _m, x: states.__setitem__("block 0", view(x[0])))]
    else:
        handles = []
    for state, module in modules.items():
        handles.append(
            module.register_forward_hook(lambda _m, _x, out, state=state: states.__setitem__(state, view(out).clone()))
        )
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
