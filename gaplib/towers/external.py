"""Architectures of other libraries: any open_clip model, any torchvision classifier without its head."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from gaplib._extras import need
from gaplib._validate import check_choice
from gaplib.data import DataUnavailable, cache_dir
from gaplib.towers.two_tower import TwoTower, check_images, check_tokens, seeded


class OpenClipTowers(TwoTower):
    """An open_clip model behind the same interface; ``model`` is open_clip's own object."""

    def __init__(self, model: Any, name: str):
        nn.Module.__init__(self)
        size = model.visual.image_size
        self.model, self.name, self.channels = model, name, 3
        self.image_private = self.text_private = None
        self.image_size = size[0] if isinstance(size, (tuple, list)) else size
        self.recipe = {"kind": "open_clip", "name": name}

    @property
    def logit_scale(self) -> nn.Parameter:  # type: ignore[override]  # open_clip's own, not set here
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
    need("open-clip", "open_clip")
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
    need("open-clip", "torchvision")
    import torchvision

    check_choice(name, "name", torchvision.models.list_models(module=torchvision.models))
    check_choice(mode, "mode", ("eval", "train"))
    with seeded(seed):
        options = {"init_weights": True} if name in ("googlenet", "inception_v3") else {}
        network = torchvision.models.get_model(name, weights=None, **options)
    linear = [(path, module) for path, module in network.named_modules() if isinstance(module, nn.Linear)]
    path, head = linear[-1] if linear else ("", None)
    if head is None or path.split(".")[0] not in ("fc", "classifier", "heads", "head"):
        raise ValueError(f"name: expected a network with a linear classification head, got {name!r}")
    network.set_submodule(path, nn.Identity())
    network.dim = head.in_features
    network.eval()  # dropout stays off in both modes: features are a function of the images
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = 0.0  # the running statistics keep their initial values
            module.train(mode == "train")
    return network


# --- helpers ---------------------------------------------------------------------------------------------------------


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
