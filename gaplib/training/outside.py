"""Models of other libraries, ready to be trained: the towers, what makes their inputs, and how they are saved.

``open_clip:NAME[:PRETRAINED]`` or ``hf:NAME``. ``NAME`` is what the library itself takes: a listed model, ``hf-hub:``
or ``local-dir:`` for open_clip; a name on the hub or a folder for transformers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import safetensors.torch
import torch
from torch import Tensor, nn

from gaplib._atomic import atomic, write_text_atomically
from gaplib._validate import check_choice, check_integer
from gaplib.towers.external import CONFIG, FOLDER, HUB, from_open_clip, split_tag
from gaplib.towers.hub import from_hub
from gaplib.towers.loading import quiet

KINDS = ("open_clip", "hf")


@dataclass(frozen=True)
class Outside:
    """A model and what its library made for it.

    towers      a module with ``encode_image`` and ``encode_text``
    image       ``image(PIL image) -> (3, height, width)``, as the model was meant to see it
    augmented   the same with the library's own random cropping for training; None where it has none
    text        ``text(list of n strings) -> token ids (n, L)`` or a mapping of tensors
    save        ``save(folder)`` writes the weights and what the library needs to load them again
    """

    towers: nn.Module
    image: Callable[[Any], Tensor]
    text: Callable[[Sequence[str]], Any]
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
    try:
        return {"open_clip": _open_clip, "hf": _hugging_face}[kind](name, seed, dim)
    except ValueError as error:
        raise ValueError(f"towers: {spec!r}: {error}") from error


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


def _open_clip(rest: str, seed: int, dim: int | None) -> Outside:
    name, tag = split_tag(rest)
    found = from_open_clip(name, tag, seed)
    from open_clip.transform import PreprocessCfg, image_transform_v2

    model = found.model
    if dim is not None:
        reinitialize_projections(model, dim, seed)

    def save(folder: Path) -> None:
        with atomic(folder / "model.safetensors") as partial:
            safetensors.torch.save_file(_weights(model), partial)
        if config := _open_clip_config(name):
            document = {"model_cfg": config | ({"embed_dim": dim} if dim else {})}
            document["preprocess_cfg"] = model.visual.preprocess_cfg
            write_text_atomically(folder / CONFIG, json.dumps(document, indent=1) + "\n")

    augmented = image_transform_v2(PreprocessCfg(**model.visual.preprocess_cfg), is_train=True)
    return Outside(model, cast(Any, found.preprocess), found.tokenize, save, augmented)


def _open_clip_config(name: str) -> dict | None:
    """What ``local-dir:`` needs to build the model again; None for a model of the hub, which has its own."""
    import open_clip

    if name.startswith(FOLDER):
        file = Path(name.removeprefix(FOLDER)) / CONFIG
        return json.loads(file.read_text(encoding="utf-8"))["model_cfg"]
    return None if name.startswith(HUB) else open_clip.get_model_config(name)


def _hugging_face(name: str, seed: int, dim: int | None) -> Outside:
    found = from_hub(name)
    model: Any = found.model
    if dim is not None:
        reinitialize_projections(model, dim, seed)
        model.config.projection_dim = dim

    def save(folder: Path) -> None:
        with quiet():
            model.save_pretrained(folder / "model")
            found.processor.save_pretrained(folder / "model")

    return Outside(found.towers, found.preprocess, found.tokenize, save)


def _weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone().contiguous() for name, value in model.state_dict().items()}
