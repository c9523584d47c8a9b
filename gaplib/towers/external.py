"""Architectures of other libraries: any open_clip model, any torchvision classifier without its head."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gaplib._extras import need
from gaplib._validate import check_choice
from gaplib.towers.loading import check_device, near, no_retries, nothing_unpickled, quiet, reason, unavailable
from gaplib.towers.two_tower import TwoTower, check_images, check_tokens, seeded

#: Names that open_clip does not list, but knows where to find: both bring configuration, weights and tokenizer along.
HUB, FOLDER = "hf-hub:", "local-dir:"
CONFIG = "open_clip_config.json"
_CHECKPOINTS = (".pt", ".pth", ".bin", ".safetensors", ".npz")
_OFFLINE = (
    "run the same call once where there is network and copy the hub's cache (the folder that HF_HOME names), or give a "
    "file of weights (pretrained=FILE) or a folder (local-dir:FOLDER)"
)


class OpenClipTowers(TwoTower):
    """An open_clip model behind the same interface; ``model`` is open_clip's own object.

    ``preprocess`` makes of a PIL image the tensor (3, image_size, image_size) that the model was evaluated with.
    """

    def __init__(
        self,
        model: Any,
        name: str,
        preprocess: Callable[[Any], Tensor] | None = None,
        cache_dir: str | None = None,
        **options: Any,
    ):
        nn.Module.__init__(self)
        size = model.visual.image_size
        self.model, self.name, self.channels, self.preprocess = model, name, 3, preprocess
        self.image_private = self.text_private = None
        self.image_size = size[0] if isinstance(size, (tuple, list)) else size
        self.recipe = {"kind": "open_clip", "name": name, **options}
        self._tokenizer_options = {"cache_dir": cache_dir, "context_length": options.get("force_context_length")}

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
        check_tokens(tokens, *_limits(self.model))
        return self.model.encode_text(tokens, normalize=normalize)

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Token ids int64 (n, L). CLIP's tokenizer works offline; `DataUnavailable` where one must be downloaded."""
        if isinstance(texts, str) or not texts or not all(isinstance(text, str) for text in texts):
            raise ValueError(f"texts: expected a list of at least one string, got {texts!r:.80}")
        return self._tokenizer(list(texts))

    @cached_property
    def _tokenizer(self) -> Callable[[list[str]], Tensor]:
        import open_clip

        try:
            with quiet(), no_retries(_needs_hub(self.name, "hf_tokenizer_name") or "siglip" in self.name.lower()):
                return open_clip.get_tokenizer(self.name, **self._tokenizer_options)
        except (OSError, RuntimeError, ImportError) as error:
            raise unavailable(f"the tokenizer of {self.name!r}", error, _OFFLINE) from error


def from_open_clip(
    name: str,
    pretrained: str | Path | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
    **options: Any,
) -> OpenClipTowers:
    """An open_clip model with its ``preprocess`` and its tokenizer (``tokenize``), in evaluation mode.

    Args:
        name: a name that open_clip lists ("ViT-B-32"), ``"hf-hub:ORG/NAME"`` (a model of the hub with an
            ``open_clip_config.json``) or ``"local-dir:FOLDER"`` (the same in a folder); these two bring their weights.
        pretrained: with a listed name, one of its tags ("laion2b_s34b_b79k") or a checkpoint file: .pt as open_clip's
            training writes it, .safetensors, .bin, .npz. ``None``: random weights.
        seed: of random weights; torch's global random state is left as it was.
        device: where the model is put.
        options: of open_clip's ``create_model``, such as ``force_image_size``, ``precision`` or ``cache_dir``.

    Returns:
        :class:`OpenClipTowers`. Downloads go where open_clip puts them, so that nothing is downloaded twice.

    Raises:
        ValueError: a name or tag that open_clip does not have (near ones are named), a file or folder that is not there
            or does not hold this model, a device that this machine does not have.
        DataUnavailable: weights, or a text tower that is a model of the hub itself, that cannot be had here; it says
            what to do. Weights are only read, never unpickled.

    Example:
        >>> towers = from_open_clip("ViT-S-32-alt", seed=1)
        >>> towers.tokenize(["a photo of a cat"]).shape
        torch.Size([1, 77])
    """
    need("open-clip", "open_clip")
    import open_clip

    device = check_device(device)
    name, pretrained = check_open_clip(name, pretrained)
    weights = pretrained is not None or (elsewhere(name) and options.get("load_weights", True))
    options = {"load_weights": weights, "pretrained_text": weights, **options}
    if weights:
        options = {"require_pretrained": True, **options}
    local = name.startswith(FOLDER) or Path(pretrained or "").is_file()
    download = (weights and not local) or _needs_hub(name, "hf_model_name")
    with seeded(seed), quiet(), nothing_unpickled(), no_retries(download):
        try:
            model, _, preprocess = open_clip.create_model_and_transforms(name, pretrained=pretrained, **options)
        except (OSError, RuntimeError, ImportError) as error:
            if local:
                raise _unloadable(name, pretrained, error) from error
            what = f"the weights {pretrained!r} of {name!r}" if pretrained else f"{name!r}, or a part of it,"
            raise unavailable(what, error, _OFFLINE) from error
        except Exception as error:  # a damaged file fails in a way of its own in each library that reads it
            raise _unloadable(name, pretrained, error) from error
    kept = {key: value for key, value in options.items() if key.startswith("force_")}
    return OpenClipTowers(model, name, preprocess, options.get("cache_dir"), **kept).eval().to(device)


def open_clip_towers(
    name: str, pretrained: str | None = None, seed: int = 0, device: str | torch.device = "cpu", **options: Any
) -> OpenClipTowers:
    """:func:`from_open_clip`, by the name under which recipes know it."""
    return from_open_clip(name, pretrained, seed, device, **options)


def check_open_clip(name: str, pretrained: str | Path | None = None) -> tuple[str, str | None]:
    """Both as open_clip spells them; ``ValueError`` if it does not know them. Nothing is loaded or downloaded."""
    import open_clip

    if not isinstance(name, str) or not name:
        raise ValueError(
            f"name: expected a name that open_clip lists, hf-hub:ORG/NAME or local-dir:FOLDER, got {name!r}"
        )
    if elsewhere(name):
        if pretrained is not None:
            raise ValueError(f"pretrained: {name} brings its own weights, got {str(pretrained)!r} besides")
        if name.startswith(FOLDER) and not Path(name.removeprefix(FOLDER), CONFIG).is_file():
            raise ValueError(f"name: there is no {CONFIG} in the folder {name.removeprefix(FOLDER)}")
        return name, None
    listed = open_clip.list_models()
    name = name.replace("/", "-")  # as open_clip reads "ViT-B/32"
    if name not in listed:
        raise ValueError(
            f"name: open_clip lists no model {name!r}{near(name, listed)} "
            "(open_clip.list_models() has all; hf-hub:ORG/NAME and local-dir:FOLDER work too)"
        )
    if pretrained is None or Path(pretrained).is_file():
        return name, None if pretrained is None else str(pretrained)
    tags = open_clip.list_pretrained_tags_by_model(name)
    if str(pretrained) not in tags:
        if Path(pretrained).suffix in _CHECKPOINTS:
            raise ValueError(f"pretrained: there is no file {pretrained}")
        listed_tags = f"one of {', '.join(tags)}" if tags else "no tag, as open_clip has none for it,"
        raise ValueError(
            f"pretrained: expected for {name} {listed_tags} or a checkpoint file, got {str(pretrained)!r}"
            f"{near(str(pretrained), tags)}"
        )
    return name, str(pretrained)


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


def elsewhere(name: str) -> bool:
    """Whether a name says itself where the model is: on the hub or in a folder."""
    return name.startswith((HUB, FOLDER))


def split_tag(text: str) -> tuple[str, str | None]:
    """Name and weights of ``NAME[:PRETRAINED]``.

    >>> split_tag("ViT-B-32:openai"), split_tag("hf-hub:ORG/NAME")
    (('ViT-B-32', 'openai'), ('hf-hub:ORG/NAME', None))
    """
    name, _, tag = (text, "", "") if elsewhere(text) else text.partition(":")
    return name, tag or None


def _needs_hub(name: str, part: str) -> bool:
    """Whether ``part`` of a model comes from the hub: of all its models, and of others whose configuration names it."""
    import open_clip

    if name.startswith(FOLDER):  # whose tokenizer is in the folder
        return part == "hf_model_name" and part in Path(name.removeprefix(FOLDER), CONFIG).read_text(encoding="utf-8")
    return name.startswith(HUB) or part in open_clip.get_model_config(name)["text_cfg"]


def _unloadable(name: str, pretrained: str | None, error: Exception) -> ValueError:
    what = (
        f"pretrained: open_clip cannot load {pretrained} as {name}"
        if pretrained
        else f"name: open_clip cannot load {name}"
    )
    return ValueError(f"{what} ({reason(error):.300})")


def _limits(model: Any) -> tuple[int, int | None]:
    """Size of the vocabulary, and the most tokens a text can have, as the model itself has them."""
    text = getattr(model, "text", model)
    size = getattr(text, "vocab_size", None) or getattr(model, "vocab_size", None)
    longest = getattr(text, "context_length", None) or getattr(model, "context_length", None)
    return size or torch.iinfo(torch.int32).max, longest
