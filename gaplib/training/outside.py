"""Models of other libraries, ready to be trained: the towers, what makes their inputs, and how they are saved.

``open_clip:NAME[:PRETRAINED]`` or ``hf:NAME``. ``NAME`` is what the library itself takes: a listed model, ``hf-hub:``
or ``local-dir:`` for open_clip; a name on the hub or a folder for transformers.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import safetensors.torch
import torch
from torch import Tensor, nn

from gaplib._atomic import atomic, write_text_atomically
from gaplib._extras import MissingExtra, need
from gaplib._validate import check_choice, check_integer
from gaplib.data import DataUnavailable, cache_dir
from gaplib.towers.adapt import as_towers
from gaplib.towers.loading import no_retries, quiet
from gaplib.towers.two_tower import seeded

KINDS = ("open_clip", "hf")


@dataclass(frozen=True)
class Outside:
    """A model and what its library made for it.

    towers      a module with ``encode_image`` and ``encode_text``
    image       ``image(PIL image) -> (3, height, width)``, as the model was meant to see it
    augmented   the same with the library's own random cropping for training; None where it has none
    text        ``text(list of n strings) -> token ids (n, L)`` or a mapping of tensors
    spec        what ``load`` was called with
    save        ``save(folder)`` writes the weights and what the library needs to load them again
    """

    towers: nn.Module
    image: Callable[[Any], Tensor]
    text: Callable[[Sequence[str]], Any]
    spec: str
    save: Callable[[Path], Any] = field(repr=False)
    augmented: Callable[[Any], Tensor] | None = None


def load(spec: str, seed: int = 0, dim: int | None = None) -> Outside:
    """The model of ``open_clip:NAME[:PRETRAINED]`` or ``hf:NAME``, in evaluation mode on the CPU.

    Args:
        spec: PRETRAINED is a tag of open_clip or a checkpoint file. Without it the weights are random, by ``seed``.
        dim: width of new last projections of both towers, at random by ``seed``, with the rest as it was; ``None``
            leaves the model as it is.

    Raises:
        ValueError: another kind, a name or tag that open_clip does not list (near ones are named), a model without two
            towers, or (``dim``) without linear last projections.
        DataUnavailable: weights or a tokenizer that are neither here nor reachable.
        MissingExtra: the library is not installed.
    """
    kind, _, name = spec.partition(":")
    check_choice(kind, "towers", KINDS)
    if not name:
        raise ValueError(f"towers: expected {kind}:NAME, got {spec!r}")
    if dim is not None:
        check_integer(dim, "dim", low=1)
    return {"open_clip": _open_clip, "hf": _hugging_face}[kind](spec, name, seed, dim)


def reinitialize_projections(model: nn.Module, dim: int, seed: int = 0) -> None:
    """Give both towers of ``model`` new last projections to ``dim``, in place.

    A bias starts at zero where there was one. Entries are normal with a variance of one over the tower's width, as
    open_clip and transformers draw them. What the authors of Fahim et al. 2024 drew is not known to us.

    Raises ``ValueError`` for a model whose projections are not where open_clip's (ViT, ResNet) or transformers' CLIP
    has them.
    """
    generator = torch.Generator().manual_seed(seed)
    visual: Any = getattr(model, "visual", None)
    places = (
        (model, "visual_projection"),
        (visual, "proj"),
        (getattr(visual, "attnpool", None), "c_proj"),
        (getattr(visual, "head", None), "proj"),
    )
    texts = ((model, "text_projection"), (getattr(model, "text", None), "text_projection"))
    for side in (places, texts):
        found = [(holder, name) for holder, name in side if getattr(holder, name, None) is not None]
        if not found:
            raise ValueError(f"dim: expected a model with linear last projections, got {type(model).__name__}")
        holder, name = cast(Any, found[0][0]), found[0][1]
        old: Any = getattr(holder, name)
        new: Any
        weight: Any
        if isinstance(old, nn.Linear):
            new = nn.utils.skip_init(nn.Linear, old.in_features, dim, bias=old.bias is not None)
            weight, width = new.weight, old.in_features
            if new.bias is not None:
                nn.init.zeros_(new.bias)
        elif isinstance(old, nn.Parameter) and old.ndim == 2:
            new = nn.Parameter(torch.empty(len(old), dim))
            weight, width = new, len(old)
        else:
            raise ValueError(f"dim: expected a linear {name}, got {type(old).__name__}")
        with torch.no_grad():
            weight.normal_(std=width**-0.5, generator=generator)
        setattr(holder, name, new)
        if hasattr(holder, "output_dim"):
            holder.output_dim = dim
    if hasattr(visual, "output_dim"):
        visual.output_dim = dim


def _open_clip(spec: str, rest: str, seed: int, dim: int | None) -> Outside:
    need("open-clip", "open_clip")
    import open_clip

    placed = rest.startswith(("hf-hub:", "local-dir:"))  # says itself where its weights are
    name, _, tag = (rest, "", "") if placed else rest.partition(":")
    if not placed:
        check_choice(name, "towers", open_clip.list_models())
        if tag and not Path(tag).is_file():
            check_choice(tag, f"towers: weights of {name} (or a file)", open_clip.list_pretrained_tags_by_model(name))
    options: dict[str, Any] = {"pretrained": tag or None}
    if not placed and not tag:
        options = {"load_weights": False, "pretrained_text": False}
    remote = name.startswith("hf-hub:") or (tag and not Path(tag).is_file())
    try:
        with seeded(seed), quiet(), no_retries() if remote else nullcontext():
            folder = str(cache_dir() / "open_clip")
            model, augmented, image = open_clip.create_model_and_transforms(name, cache_dir=folder, **options)
            tokenize = open_clip.get_tokenizer(name, cache_dir=folder)
    except FileNotFoundError as error:
        raise DataUnavailable(f"towers: {error}") from error
    except (OSError, RuntimeError, ImportError) as error:
        if "state_dict" in str(error):
            raise ValueError(f"towers: the weights of {spec!r} are of another model ({_lines(error, 2)})") from error
        raise DataUnavailable(_unreachable(spec, error)) from error
    if dim is not None:
        reinitialize_projections(model, dim, seed)

    def save(folder: Path) -> None:
        with atomic(folder / "model.safetensors") as partial:
            safetensors.torch.save_file(_weights(model), partial)
        if config := _open_clip_config(name):
            document = {"model_cfg": config | ({"embed_dim": dim} if dim else {})}
            document["preprocess_cfg"] = model.visual.preprocess_cfg
            write_text_atomically(folder / "open_clip_config.json", json.dumps(document, indent=1) + "\n")

    return Outside(model.eval(), image, lambda texts: tokenize(list(texts)), spec, save, augmented)


def _open_clip_config(name: str) -> dict | None:
    """What ``local-dir:`` needs to build the model again; None for a model of the hub, which has its own."""
    import open_clip

    if name.startswith("local-dir:"):
        file = Path(name.removeprefix("local-dir:")) / "open_clip_config.json"
        return json.loads(file.read_text(encoding="utf-8"))["model_cfg"]
    return None if name.startswith("hf-hub:") else open_clip.get_model_config(name)


def _hugging_face(spec: str, name: str, seed: int, dim: int | None) -> Outside:
    try:
        transformers: Any = importlib.import_module("transformers")
    except ImportError:
        raise MissingExtra("hf: needs the library transformers: pip install transformers") from None
    try:
        with seeded(seed), quiet(), nullcontext() if Path(name).is_dir() else no_retries():
            model = transformers.AutoModel.from_pretrained(name)
            processor = transformers.AutoProcessor.from_pretrained(name)
    except (OSError, ImportError) as error:
        raise DataUnavailable(_unreachable(spec, error)) from error
    towers = as_towers(model)
    if dim is not None:
        reinitialize_projections(model, dim, seed)
        model.config.projection_dim = dim
    pixels, words = getattr(processor, "image_processor", None), getattr(processor, "tokenizer", None)
    if pixels is None or words is None:
        raise ValueError(
            f"towers: expected a processor of images and texts, got {type(processor).__name__} of {name!r}"
        )
    # SigLIP was trained on texts padded to the full length, CLIP on padding that is masked: the model's own choice.
    length = getattr(getattr(model.config, "text_config", model.config), "max_position_embeddings", None)

    def text(texts: Sequence[str]) -> dict[str, Tensor]:
        made = words(list(texts), padding="max_length", truncation=True, max_length=length, return_tensors="pt")
        return dict(made)

    def save(folder: Path) -> None:
        with quiet():
            model.save_pretrained(folder / "model")
            processor.save_pretrained(folder / "model")

    def image(picture: Any) -> Tensor:
        return pixels(images=picture, return_tensors="pt")["pixel_values"][0]

    return Outside(towers.eval(), image, text, spec, save)


def _weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone().contiguous() for name, value in model.state_dict().items()}


def _lines(error: Exception, n: int) -> str:
    return " ".join((str(error).strip() or type(error).__name__).split("\n")[:n])


def _unreachable(spec: str, error: Exception) -> str:
    return f"towers: {spec!r} cannot be had here ({_lines(error, 1)}); with network it is downloaded once"
