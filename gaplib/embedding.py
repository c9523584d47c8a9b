"""Embeddings of pairs of images and captions, by a model as people have it.

pairs = gaplib.embed(gaplib.towers.from_open_clip("ViT-B-32", "laion2b_s34b_b79k"), [("cat.jpg", ["a cat", "a pet"])])
gaplib.measure(pairs.image, pairs.text, pairs=pairs.pairs)
pairs.save("embeddings.safetensors")
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from gaplib._atomic import atomic
from gaplib._validate import check_integer
from gaplib.towers import HubModel, as_towers, check_device
from gaplib.towers.encode import evaluating


@dataclass(frozen=True)
class EmbeddedPairs:
    """What :func:`embed` returns, all on the CPU.

    image: (n, d) float32, rows of norm one. text: (m, d), the same. pairs: (m,) int64; text j belongs to image
    ``pairs[j]``, so that ``image[pairs]`` and ``text`` are paired row by row.
    """

    image: Tensor
    text: Tensor
    pairs: Tensor

    def save(self, path: str | Path) -> None:
        """Write a .safetensors file with ``image``, ``text`` and ``pairs``, wholly or not at all.

        ``python -m gaplib measure FILE --pairs FILE:pairs`` measures it.
        """
        from safetensors.torch import save_file

        with atomic(path) as partial:
            save_file({name: getattr(self, name).contiguous() for name in ("image", "text", "pairs")}, partial)

    @classmethod
    def load(cls, path: str | Path) -> EmbeddedPairs:
        """What :meth:`save` wrote; ``ValueError`` for a file that is none."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            found = load_file(path)
            return cls(found["image"], found["text"], found["pairs"])
        except (OSError, SafetensorError, KeyError) as error:
            raise ValueError(f"path: expected a file that EmbeddedPairs.save wrote, got {path}: {error}") from error


def embed(
    model: Any,
    data: Any,
    *,
    processor: Any = None,
    preprocess: Callable[[Any], Tensor] | None = None,
    tokenizer: Callable[[list[str]], Any] | None = None,
    batch_size: int = 64,
    device: str | torch.device | None = None,
) -> EmbeddedPairs:
    """Embeddings of images and captions through a model's own preprocessing, without gradients, in evaluation mode.

    Args:
        model: one of
            * :func:`gaplib.towers.from_open_clip`, :func:`gaplib.towers.from_hub`, which know their preprocessing;
            * a module with open_clip's ``encode_image`` and ``encode_text``, with ``preprocess`` and ``tokenizer``;
            * a CLIP-, SigLIP- or BLIP-like model of transformers, with its ``processor``;
            * a multi-modal model of sentence-transformers, whose ``encode`` takes PIL images and strings.
        data: pairs (image, captions): a list, any iterable, or a data set with a length and places; or the tuple of two
            *lists*, (images, captions), of one length. It is read once, in order, and never held as a whole.
            An image is a PIL image, the path of a file, or a tensor as the model's image tower wants it (bytes are
            pixels: divided by 255). Captions are a string, or several of one image; also token ids, (L,) or (k, L).
        processor, preprocess, tokenizer: transformers' processor; PIL image -> tensor; list of strings -> token ids (or
            a mapping of the text tower's arguments). What the model brings along need not be given.
        batch_size: images, and texts, encoded at a time. It bounds the memory beside the embeddings themselves.
        device: where the model is moved before; ``None``: it is used where it is.

    Returns:
        :class:`EmbeddedPairs`. PIL images and files are handed over in RGB (gray for towers of one channel).

    Raises:
        ValueError: a model without embeddings of both modalities or without what makes its inputs; items that are no
            pairs; an image without a caption; files that are missing (how many, and the first) or are no images;
            embeddings that are not finite or are zero; a device that this machine does not have.

    Example:
        >>> from gaplib.towers import tiny_towers
        >>> images, tokens = torch.rand(2, 1, 24, 24), torch.tensor([[4, 5], [6, 7], [8, 9]])
        >>> found = embed(tiny_towers(10, dim=8), [(images[0], tokens[:2]), (images[1], tokens[2])])
        >>> tuple(found.image.shape), tuple(found.text.shape), found.pairs.tolist()
        ((2, 8), (3, 8), [0, 0, 1])
    """
    size = check_integer(batch_size, "batch_size", low=1)
    encoder = _encoder(model, processor, preprocess, tokenizer)
    if device is not None:
        encoder.module.to(check_device(device))
    if isinstance(data, (list, tuple)):  # nothing is encoded before all files are known to be there
        deque(_present(_pairs(data)), maxlen=0)
    images, texts, pairs = _Batches(encoder.images, size), _Batches(encoder.texts, size), []
    with torch.no_grad(), evaluating(encoder.module):
        for number, (image, captions) in enumerate(_present(_pairs(data))):
            images.add(image)
            for caption in captions:
                texts.add(caption)
            pairs += [number] * len(captions)
        if not pairs:
            raise ValueError("data: expected at least one pair (image, captions), got none")
        image_rows, text_rows = images.rows("images"), texts.rows("captions")
    if image_rows.shape[1] != text_rows.shape[1]:
        wide = f"{image_rows.shape[1]} and {text_rows.shape[1]}"
        raise ValueError(f"model: expected embeddings of one dimension for images and texts, got {wide}")
    return EmbeddedPairs(image_rows, text_rows, torch.tensor(pairs))


# --- data ------------------------------------------------------------------------------------------------------------


def _pairs(data: Any) -> Iterator[tuple[Any, list[Any]]]:
    """(image, list of captions) for each item of ``data``."""
    if isinstance(data, tuple) and len(data) == 2 and isinstance(data[0], (list, Tensor)):
        if len(data[0]) != len(data[1]):
            counts = f"{len(data[0])} images and {len(data[1])}"
            raise ValueError(f"data: expected captions for each image, got {counts} (a list of several is one image's)")
        items: Iterable[Any] = zip(*data, strict=True)
    elif isinstance(data, (str, bytes, Mapping)) or not (hasattr(data, "__iter__") or hasattr(data, "__getitem__")):
        raise ValueError(f"data: expected pairs (image, captions) or two lists, got {type(data).__name__}")
    else:  # a data set of torch has places and a length, but does not always say where it ends
        items = data if hasattr(data, "__iter__") else (data[place] for place in range(len(data)))
    for number, item in enumerate(items):
        if not isinstance(item, (tuple, list)) or len(item) != 2:
            raise ValueError(f"data: expected pairs (image, captions), got {type(item).__name__} in place {number}")
        yield item[0], _captions(item[1], number)


def _captions(given: Any, number: int) -> list[Any]:
    single = isinstance(given, str) or (isinstance(given, Tensor) and given.ndim == 1)
    captions = [given] if single else list(given) if isinstance(given, (list, tuple, Tensor)) else [None]
    for caption in captions:
        if not isinstance(caption, str) and not (isinstance(caption, Tensor) and caption.ndim == 1):
            raise ValueError(f"data: expected a caption, or a list of them, in place {number}, got {given!r:.80}")
    if not captions:
        raise ValueError(f"data: expected at least one caption for each image, got none in place {number}")
    return captions


def _present(items: Iterable[tuple[Any, list[Any]]]) -> Iterator[tuple[Any, list[Any]]]:
    """``items`` up to the first whose file is missing; the rest is then only counted, for the error."""
    missing, first, number = 0, "", -1
    for number, item in enumerate(items):
        if isinstance(item[0], (str, os.PathLike)) and not os.path.isfile(item[0]):
            missing, first = missing + 1, first or f"{os.fspath(item[0])} (place {number})"
        elif not missing:
            yield item
    if missing:
        raise ValueError(f"data: {missing} of {number + 1} images are missing, first {first}")


def _open(image: Any, mode: str) -> Any:
    """A PIL image in ``mode``, from one or from a file; a tensor as it is."""
    if isinstance(image, Tensor):
        return image
    if isinstance(image, (str, os.PathLike)):
        from PIL import Image

        try:
            with Image.open(image) as file:
                return file.convert(mode)
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            raise ValueError(f"data: {os.fspath(image)} is not an image that can be read ({error})") from error
    if callable(getattr(image, "convert", None)):
        return image.convert(mode)
    raise ValueError(f"data: expected a PIL image, a path or a tensor, got {type(image).__name__}")


class _Batches:
    """Encodes items in batches as they come, and keeps only what came out."""

    def __init__(self, encode: Callable[[list[Any]], Tensor], size: int):
        self.encode, self.size = encode, size
        self.waiting: list[Any] = []
        self.done: list[Tensor] = []

    def add(self, item: Any) -> None:
        self.waiting.append(item)
        if len(self.waiting) == self.size:
            self._flush()

    def _flush(self) -> None:
        found = self.encode(self.waiting).detach().float().cpu()
        if found.ndim != 2 or len(found) != len(self.waiting):
            wanted = f"embeddings ({len(self.waiting)}, d)"
            raise ValueError(f"model: expected {wanted} of {len(self.waiting)} inputs, got shape {tuple(found.shape)}")
        self.done.append(found)
        self.waiting = []

    def rows(self, what: str) -> Tensor:
        """All rows, of norm one."""
        if self.waiting:
            self._flush()
        rows = torch.cat(self.done)
        bad = ~(torch.isfinite(rows).all(dim=1) & (rows != 0).any(dim=1))
        if bool(bad.any()):
            count, first = int(bad.sum()), int(bad.nonzero()[0])
            raise ValueError(f"model: {count} of {len(rows)} {what} have no finite embedding, first row {first}")
        return functional.normalize(rows, dim=1)


# --- models ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Encoder:
    """What turns lists of images and of captions into embeddings, and the module whose mode and place count."""

    module: nn.Module
    images: Callable[[list[Any]], Tensor]
    texts: Callable[[list[Any]], Tensor]


def _encoder(model: Any, processor: Any, preprocess: Any, tokenizer: Any) -> _Encoder:
    if callable(getattr(model, "encode", None)) and not hasattr(model, "encode_image"):
        return _of_sentence_transformers(model)
    try:
        model = model if processor is None else HubModel(model, processor)
        towers: Any = as_towers(model)
    except ValueError as error:
        raise ValueError(f"model: {str(error).removeprefix('towers: ')}") from None
    if preprocess is None and isinstance(model, HubModel):
        process: Any = model.process_images
    else:
        one = preprocess or getattr(model, "preprocess", None) or _of_open_clip(model)
        process = None if one is None else lambda images: torch.stack([one(image) for image in images])
    tokenize = tokenizer or getattr(model, "tokenize", None)
    mode = "L" if getattr(towers, "channels", 3) == 1 else "RGB"
    hint = "processor" if hasattr(model, "get_image_features") or hasattr(model, "vision_proj") else None

    def encode_images(batch: list[Any]) -> Tensor:
        opened = [_open(image, mode) for image in batch]
        needs = _inputs(opened, process, f"{hint or 'preprocess'}: expected it for images that are no tensors")
        return towers.encode_image(_moved(needs, towers))

    def encode_texts(batch: list[Any]) -> Tensor:
        needs = _inputs(batch, tokenize, f"{hint or 'tokenizer'}: expected it for captions that are strings")
        return towers.encode_text(_moved(needs, towers))

    return _Encoder(towers, encode_images, encode_texts)


def _of_sentence_transformers(model: Any) -> _Encoder:
    def encode(batch: list[Any]) -> Tensor:
        return model.encode(batch, batch_size=len(batch), convert_to_tensor=True, show_progress_bar=False)

    return _Encoder(model, lambda batch: encode([_open(image, "RGB") for image in batch]), encode)


def _of_open_clip(model: Any) -> Callable[[Any], Tensor] | None:
    """The evaluation transform of a bare open_clip model, by the configuration that open_clip leaves on it."""
    configuration = getattr(getattr(model, "visual", None), "preprocess_cfg", None)
    if configuration is None:
        return None
    from open_clip.transform import PreprocessCfg, image_transform_v2

    return image_transform_v2(PreprocessCfg(**configuration), is_train=False)


def _inputs(batch: list[Any], process: Any, needed: str) -> Any:
    """A batch as the tower takes it: tensors joined, or what ``process`` makes of the others."""
    tensors = sum(isinstance(one, Tensor) for one in batch)
    if tensors == len(batch):
        try:
            return torch.stack(batch)
        except RuntimeError as error:
            raise ValueError(f"data: expected tensors of one shape ({error})") from error
    if tensors:
        raise ValueError("data: expected tensors throughout or not at all, got both")
    if process is None:
        raise ValueError(f"{needed}; this model brings none")
    return process(batch)


def _moved(inputs: Any, towers: nn.Module) -> Any:
    """Inputs on the device of ``towers``; pixels in the type of its weights."""
    if isinstance(inputs, Mapping):
        return {name: _moved(value, towers) for name, value in inputs.items()}
    if not isinstance(inputs, Tensor):
        return inputs
    weight = next(iter(towers.parameters()), torch.zeros(()))
    if inputs.dtype == torch.uint8:
        inputs = inputs.float() / 255
    # open_clip's half precision keeps some weights in full: the patches' own, of four dimensions, is what meets pixels.
    patches = next((one for one in towers.parameters() if one.ndim == 4 and one.is_floating_point()), weight)
    return inputs.to(weight.device, patches.dtype) if inputs.is_floating_point() else inputs.to(weight.device)
