"""Other people's models behind the two methods that this package calls: ``encode_image`` and ``encode_text``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn


class TwoEncoders(nn.Module):
    """Any two modules as towers: ``encode_image`` calls the first, ``encode_text`` the second.

    An input that is a mapping is handed over as keyword arguments.
    """

    def __init__(self, image_encoder: nn.Module, text_encoder: nn.Module):
        super().__init__()
        self.image_encoder, self.text_encoder = image_encoder, text_encoder

    def encode_image(self, images: Any) -> Tensor:
        """Embeddings (n, d), not normalised."""
        return _embeddings(_called(self.image_encoder, images))

    def encode_text(self, texts: Any) -> Tensor:
        """Embeddings (n, d), not normalised."""
        return _embeddings(_called(self.text_encoder, texts))


class HubTowers(nn.Module):
    """A model with ``get_image_features`` and ``get_text_features``, as CLIP and SigLIP have in transformers.

    Images are ``pixel_values``, texts ``input_ids``, or mappings as the model's processor makes them.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model: Any = model

    def encode_image(self, images: Any) -> Tensor:
        """Embeddings (n, d), not normalised."""
        images = images if isinstance(images, Mapping) else {"pixel_values": images}
        return _embeddings(self.model.get_image_features(**images))

    def encode_text(self, texts: Any) -> Tensor:
        """Embeddings (n, d), not normalised."""
        texts = texts if isinstance(texts, Mapping) else {"input_ids": texts}
        return _embeddings(self.model.get_text_features(**texts))


class RetrievalTowers(nn.Module):
    """A model as BLIP's for retrieval: ``vision_model`` and ``vision_proj``, ``text_encoder`` and ``text_proj``.

    Its embeddings are the projections of the first position, which its image-text contrastive loss compares.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model: Any = model

    def encode_image(self, images: Any) -> Tensor:
        """Embeddings (n, d), not normalised."""
        images = images if isinstance(images, Mapping) else {"pixel_values": images}
        return self.model.vision_proj(self.model.vision_model(**images).last_hidden_state[:, 0])

    def encode_text(self, texts: Any) -> Tensor:
        """Embeddings (n, d), not normalised."""
        texts = texts if isinstance(texts, Mapping) else {"input_ids": texts}
        return self.model.text_proj(self.model.text_encoder(**texts).last_hidden_state[:, 0])


#: what a model of transformers has -> the towers that it makes
_OF_TRANSFORMERS = {
    ("get_image_features", "get_text_features"): HubTowers,
    ("vision_model", "vision_proj", "text_encoder", "text_proj"): RetrievalTowers,
}


def as_towers(model: Any) -> nn.Module:
    """``model`` as a module with ``encode_image`` and ``encode_text``.

    Args:
        model: a module that has both (the package's own, open_clip's), one with ``get_image_features`` and
            ``get_text_features`` (transformers) or BLIP's projections, or two modules, the image's first.

    Returns:
        The module itself where it has the two methods, else one around it that shares its parameters.

    Raises:
        ValueError: for anything else.

    Example:
        >>> from torch import nn
        >>> as_towers((nn.Linear(8, 4), nn.Linear(6, 4))).encode_text
        <bound method TwoEncoders.encode_text of ...
    """
    if isinstance(model, (tuple, list)) and len(model) == 2 and all(isinstance(one, nn.Module) for one in model):
        return TwoEncoders(*model)
    if isinstance(model, nn.Module):
        if all(callable(getattr(model, name, None)) for name in ("encode_image", "encode_text")):
            return model
        for names, towers in _OF_TRANSFORMERS.items():
            if all(callable(getattr(model, name, None)) for name in names):
                return towers(model)
    raise ValueError(
        "towers: expected a module with encode_image and encode_text (or get_image_features and get_text_features), "
        f"or two modules, got {type(model).__name__}"
    )


def _called(module: nn.Module, inputs: Any) -> Any:
    return module(**inputs) if isinstance(inputs, Mapping) else module(inputs)


def _embeddings(output: Any) -> Tensor:
    """The matrix in what an encoder gives back: itself, or what libraries call the pooled output."""
    for name in ("pooler_output", "image_embeds", "text_embeds"):
        if not isinstance(output, Tensor) and getattr(output, name, None) is not None:
            output = getattr(output, name)
    if not isinstance(output, Tensor):
        raise ValueError(f"towers: expected encoders that give tensors (n, d), got {type(output).__name__}")
    return output
