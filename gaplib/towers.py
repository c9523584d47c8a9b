"""Two-encoder models with open_clip's interface: tiny ones for glyphs, any open_clip model, torchvision image towers.

    towers.encode_image(images), towers.encode_text(tokens), towers.logit_scale (the logarithm of the scale)

Every builder is seeded and leaves torch's global random state as it was.
"""

from __future__ import annotations

import json
import logging
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from ._files import whole
from ._validate import check_choice, check_integer, check_number
from .data import DataUnavailable, cache_dir

INIT_LOGIT_SCALE = math.log(1 / 0.07)  # CLIP's initial temperature of 0.07


class TwoTower(nn.Module):
    """An image tower and a text tower that end in the same space.

    image_tower: module (n, channels, size, size) -> (n, dim). text_tower: module (n, L) int64 -> (n, dim).
    logit_scale: parameter, the *logarithm* of the inverse temperature, as in open_clip.
    image_size: side of the images. channels: 1 (glyphs) or 3. recipe: how `load` builds the model again.
    """

    def __init__(
        self,
        image_tower: nn.Module,
        text_tower: nn.Module,
        image_size: int,
        channels: int = 1,
        init_logit_scale: float = INIT_LOGIT_SCALE,
        recipe: dict | None = None,
    ):
        super().__init__()
        self.image_tower, self.text_tower = image_tower, text_tower
        self.logit_scale = nn.Parameter(torch.tensor(float(init_logit_scale)))
        self.image_size, self.channels, self.recipe = image_size, channels, recipe

    def encode_image(self, images: Tensor, normalize: bool = False) -> Tensor:
        """Embeddings (n, dim) of float images (n, channels, image_size, image_size); ``ValueError`` otherwise."""
        check_images(images, self.channels, self.image_size)
        return _maybe_normalized(self.image_tower(images), normalize)

    def encode_text(self, tokens: Tensor, normalize: bool = False) -> Tensor:
        """Embeddings (n, dim) of token ids int64 (n, L), 0 = padding; ``ValueError`` for anything else."""
        return _maybe_normalized(self.text_tower(tokens), normalize)

    def save(self, path: str | Path) -> None:
        """Write the weights and how the model was built to a safetensors file, wholly or not at all."""
        if self.recipe is None:
            raise ValueError("towers: only models made by this module's builders can be saved with their recipe")
        weights = {name: value.detach().cpu().contiguous().clone() for name, value in self.state_dict().items()}
        with whole(path) as partial:
            save_file(weights, partial, metadata={"gaplib.towers": json.dumps(self.recipe)})


class BagOfTokens(nn.Module):
    """Mean of token embeddings (padding left out), then a perceptron: word order is not seen."""

    def __init__(self, vocabulary_size: int, dim: int, width: int):
        super().__init__()
        self.embedding = nn.EmbeddingBag(vocabulary_size, width, mode="mean", padding_idx=0)
        self.head = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, dim))

    def forward(self, tokens: Tensor) -> Tensor:
        """int64 (n, L) -> (n, dim)."""
        check_tokens(tokens, self.embedding.num_embeddings)
        return self.head(self.embedding(tokens))


def tiny_towers(
    vocabulary_size: int,
    dim: int = 64,
    image_size: int = 24,
    seed: int = 0,
    init_logit_scale: float = INIT_LOGIT_SCALE,
) -> TwoTower:
    """Three convolutions for images (n, 1, image_size, image_size), a bag of tokens for names; random weights by seed.

    A training step at batch 256 takes about 13 ms on one CPU core, a run of 600 steps about 8 s. Raises ``ValueError``
    for a vocabulary below 3 (padding, unknown, one word), ``dim`` below 2, ``image_size`` outside [12, 128] or a
    negative seed.
    """
    vocabulary_size = check_integer(vocabulary_size, "vocabulary_size", low=3)
    dim = check_integer(dim, "dim", low=2)
    image_size = check_integer(image_size, "image_size", low=12, high=128)
    init_logit_scale = float(check_number(init_logit_scale, "init_logit_scale"))
    recipe = dict(vocabulary_size=vocabulary_size, dim=dim, image_size=image_size, init_logit_scale=init_logit_scale)
    with seeded(seed):
        image_tower = _convolutions(image_size, dim)
        text_tower = BagOfTokens(vocabulary_size, dim, width=128)
    recipe = {"kind": "tiny", **recipe}
    return TwoTower(image_tower, text_tower, image_size, 1, init_logit_scale, recipe)


def _convolutions(image_size: int, dim: int) -> nn.Sequential:
    left = math.ceil(image_size / 8)  # each convolution halves the side
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.GELU()),
        *(nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.GELU()),
        *(nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.GELU()),
        nn.Flatten(),
        nn.Linear(64 * left * left, dim),
    )


class FixedMap(nn.Module):
    """A linear map that is not trained: x -> x @ matrix, the identity until `set` is called."""

    def __init__(self, dim: int):
        super().__init__()
        self.register_buffer("matrix", torch.eye(dim))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.matrix

    def set(self, matrix: Tensor) -> None:
        """Take ``matrix`` (dim, dim) as the map from now on."""
        self.matrix.copy_(torch.as_tensor(matrix, dtype=self.matrix.dtype))


def image_pair_towers(
    dim: int = 64, image_size: int = 24, seed: int = 0, init_logit_scale: float = INIT_LOGIT_SCALE
) -> TwoTower:
    """Two image towers of `tiny_towers`, initialised apart: no second modality. ``encode_text`` takes images as well.

    The second tower ends in a `FixedMap`, so that an initial gap can be rotated away (Fahim et al. 2024, Sec. 3.2).
    Raises ``ValueError`` as `tiny_towers`.
    """
    dim = check_integer(dim, "dim", low=2)
    image_size = check_integer(image_size, "image_size", low=12, high=128)
    init_logit_scale = float(check_number(init_logit_scale, "init_logit_scale"))
    with seeded(seed):
        first = _convolutions(image_size, dim)
        second = nn.Sequential(_convolutions(image_size, dim), FixedMap(dim))
    recipe = dict(kind="image-pair", dim=dim, image_size=image_size, init_logit_scale=init_logit_scale)
    return TwoTower(first, second, image_size, 1, init_logit_scale, recipe)


class OpenClipTowers(TwoTower):
    """An open_clip model behind the same interface; ``model`` is open_clip's own object."""

    def __init__(self, model: nn.Module, name: str):
        nn.Module.__init__(self)
        size = model.visual.image_size
        self.model, self.name, self.channels = model, name, 3
        self.image_size = size[0] if isinstance(size, (tuple, list)) else size
        self.recipe = {"kind": "open_clip", "name": name}

    @property
    def logit_scale(self) -> nn.Parameter:
        """The logarithm of the scale: open_clip's own parameter."""
        return self.model.logit_scale

    @property
    def logit_bias(self) -> nn.Parameter | None:
        """The bias of models made for the sigmoid loss, else None."""
        return getattr(self.model, "logit_bias", None)

    def encode_image(self, images: Tensor, normalize: bool = False) -> Tensor:
        """Embeddings (n, dim) of float images (n, 3, image_size, image_size)."""
        check_images(images, self.channels, self.image_size)
        return self.model.encode_image(images, normalize=normalize)

    def encode_text(self, tokens: Tensor, normalize: bool = False) -> Tensor:
        """Embeddings (n, dim) of token ids int64 (n, L) as `tokenize` makes them."""
        text = _text_config(self.name)
        check_tokens(tokens, text.get("vocab_size", 49408), text.get("context_length", 77))
        return self.model.encode_text(tokens, normalize=normalize)

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Token ids int64 (n, L). CLIP's tokenizer works offline; `DataUnavailable` where one must be downloaded."""
        import open_clip

        if isinstance(texts, str) or not texts or not all(isinstance(text, str) for text in texts):
            raise ValueError(f"texts: expected a list of at least one string, got {texts!r:.80}")
        try:
            with quiet():
                return open_clip.get_tokenizer(self.name)(list(texts))
        except (OSError, RuntimeError, ImportError) as error:
            raise DataUnavailable(_reason(f"the tokenizer of {self.name!r}", error)) from error


def open_clip_towers(
    name: str, pretrained: str | None = None, seed: int = 0, device: str | torch.device = "cpu"
) -> OpenClipTowers:
    """Any model that open_clip lists, in evaluation mode: random by ``seed``, or with the weights of a tag.

    Raises ``ValueError`` for a name or tag that open_clip does not have (near ones are listed), and `DataUnavailable`
    when weights (or a text tower that open_clip takes from the transformers library) cannot be had here.
    """
    import open_clip

    check_choice(name, "name", open_clip.list_models())
    if pretrained is not None:
        check_choice(pretrained, "pretrained", open_clip.list_pretrained_tags_by_model(name))
    try:
        with seeded(seed), quiet():
            if pretrained is None:
                model = open_clip.create_model(name, load_weights=False, pretrained_text=False)
            else:
                with _no_retries():
                    folder = str(cache_dir() / "open_clip")
                    model = open_clip.create_model(name, pretrained=pretrained, cache_dir=folder)
    except (OSError, RuntimeError, ImportError) as error:
        what = f"the weights {pretrained!r} of {name!r}" if pretrained else f"a part of {name!r} that is downloaded"
        raise DataUnavailable(_reason(what, error)) from error
    return OpenClipTowers(model, name).eval().to(device)


def torchvision_image_tower(name: str, seed: int = 0, mode: str = "eval") -> nn.Module:
    """A torchvision classifier at random initialisation without its last linear layer: images -> features (n, d).

    images: float (n, 3, H, W), 224 x 224 for most. The features are what the classification head would read.
    ``mode="train"`` makes batch normalisation use the batch's own statistics (its running ones stay as they are), and
    "eval" its initial running ones (mean 0, variance 1): at random initialisation the two differ much.
    Raises ``ValueError`` for an unknown name, a mode other than these two, or a network without a linear head.
    """
    import torchvision

    check_choice(name, "name", torchvision.models.list_models(module=torchvision.models))
    check_choice(mode, "mode", ("eval", "train"))
    with seeded(seed):
        options = {"init_weights": True} if name in ("googlenet", "inception_v3") else {}
        network = torchvision.models.get_model(name, weights=None, **options)
    linear = [(path, module) for path, module in network.named_modules() if isinstance(module, nn.Linear)]
    path, head = linear[-1] if linear else ("", None)
    if path.split(".")[0] not in ("fc", "classifier", "heads", "head"):
        raise ValueError(f"name: expected a network with a linear classification head, got {name!r}")
    network.set_submodule(path, nn.Identity())
    network.dim = head.in_features
    network.eval()  # dropout stays off in both modes: features are a function of the images
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = 0.0  # the running statistics keep their initial values
            module.train(mode == "train")
    return network


def build(recipe: Mapping) -> TwoTower:
    """Towers of the architecture that a model's ``recipe`` names, at some random initialisation."""
    options = dict(recipe)
    builders = {"tiny": tiny_towers, "image-pair": image_pair_towers, "open_clip": open_clip_towers}
    builder = builders.get(options.pop("kind", None))
    if builder is None:
        raise ValueError("recipe: it does not say how its model was built")
    return builder(**options)


def load(path: str | Path) -> TwoTower:
    """Towers that `TwoTower.save` wrote, on the CPU in evaluation mode; ``ValueError`` for a file that is none."""
    try:
        with safe_open(path, framework="pt") as file:
            recipe = json.loads((file.metadata() or {}).get("gaplib.towers", "{}"))
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        towers = build(recipe)
        towers.load_state_dict(weights)
    except (OSError, SafetensorError, ValueError, TypeError, RuntimeError, struct.error) as error:
        raise ValueError(f"path: expected a file written by TwoTower.save, got {path}: {error}") from error
    return towers.eval()


# --- helpers ---------------------------------------------------------------------------------------------------------


def _maybe_normalized(x: Tensor, normalize: bool) -> Tensor:
    return functional.normalize(x, dim=-1) if normalize else x


def check_images(images: Tensor, channels: int, size: int) -> None:
    """Raise ``ValueError`` unless ``images`` is a finite float tensor (n, channels, size, size) with n >= 1."""
    wanted = f"a finite float tensor of shape (n, {channels}, {size}, {size})"
    if not isinstance(images, Tensor) or not images.is_floating_point():
        raise ValueError(f"images: expected {wanted}, got {getattr(images, 'dtype', type(images).__name__)}")
    if images.ndim != 4 or images.shape[1:] != (channels, size, size) or not len(images):
        raise ValueError(f"images: expected {wanted}, got shape {tuple(images.shape)}")
    if not bool(torch.isfinite(images).all()):
        raise ValueError(f"images: expected {wanted}, got NaN or infinity")


def check_tokens(tokens: Tensor, vocabulary_size: int, longest: int | None = None) -> None:
    """Raise ``ValueError`` unless ``tokens`` (n, L) holds ids in [0, vocabulary_size) and 1 <= L <= longest, n >= 1."""
    if not isinstance(tokens, Tensor) or tokens.dtype not in (torch.int64, torch.int32):
        raise ValueError(f"tokens: expected integers (n, L), got {getattr(tokens, 'dtype', type(tokens).__name__)}")
    if tokens.ndim != 2 or not tokens.numel():
        raise ValueError(f"tokens: expected shape (n, L) with n, L >= 1, got {tuple(tokens.shape)}")
    if longest is not None and tokens.shape[1] > longest:
        raise ValueError(f"tokens: expected at most {longest} tokens a text, got {tokens.shape[1]}")
    low, high = (int(value) for value in tokens.aminmax())
    if low < 0 or high >= vocabulary_size:
        raise ValueError(f"tokens: expected ids in [0, {vocabulary_size - 1}], got {low} to {high}")


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw torch's CPU random numbers from ``seed`` inside the block; outside, the global state is as it was."""
    check_integer(seed, "seed", low=0, high=2**63 - 1)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # the CPU's alone: torch.manual_seed would reseed a GPU too
        yield


@contextmanager
def quiet() -> Iterator[None]:
    """Keep a library's remarks to the root logger (and the handler that they would install) out of a page."""
    root, level, handler = logging.getLogger(), logging.getLogger().level, logging.NullHandler()
    root.addHandler(handler)
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
        root.removeHandler(handler)


def _text_config(name: str) -> dict:
    import open_clip

    return open_clip.get_model_config(name).get("text_cfg", {})


@contextmanager
def _no_retries() -> Iterator[None]:
    """Without network, let the model hub say so at once (from its cache if it can) and not after minutes of retries."""
    import requests
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    try:
        requests.head(constants.ENDPOINT, timeout=4)
    except requests.RequestException:
        constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _reason(what: str, error: Exception) -> str:
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    return f"{what} cannot be had here ({first})"
