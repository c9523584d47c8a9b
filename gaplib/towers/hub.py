"""Models of the transformers library with their processor, from the hub or from a folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from gaplib.towers.adapt import as_towers
from gaplib.towers.loading import check_device, no_retries, nothing_unpickled, quiet, reason, unavailable

_OFFLINE = (
    "run the same call once where there is network and copy the hub's cache (the folder that HF_HOME names), or give "
    "the folder that save_pretrained wrote"
)


class HubModel(nn.Module):
    """A two-encoder model of transformers with its processor, behind open_clip's interface.

    ``model`` and ``processor`` are transformers' own objects. Images are mappings as `process_images` makes them, or
    their ``pixel_values``; texts are mappings as `tokenize` makes them, or their ``input_ids``.
    """

    def __init__(self, model: nn.Module, processor: Any, name: str = ""):
        super().__init__()
        self.towers: Any = as_towers(model)
        self.processor, self.name = processor, name

    @property
    def model(self) -> nn.Module:
        """The model as transformers loaded it."""
        return self.towers.model

    @property
    def logit_scale(self) -> nn.Parameter | None:
        """The logarithm of the scale, where the model has one."""
        return getattr(self.model, "logit_scale", None)

    @property
    def logit_bias(self) -> nn.Parameter | None:
        """The bias of models made for the sigmoid loss, else None."""
        return getattr(self.model, "logit_bias", None)

    def encode_image(self, images: Any, normalize: bool = False) -> Tensor:
        """Embeddings (n, d)."""
        return _normalized(self.towers.encode_image(images), normalize)

    def encode_text(self, texts: Any, normalize: bool = False) -> Tensor:
        """Embeddings (n, d)."""
        return _normalized(self.towers.encode_text(texts), normalize)

    def preprocess(self, image: Any) -> Tensor:
        """The ``pixel_values`` of one PIL image."""
        return self.process_images([image])["pixel_values"][0]

    def process_images(self, images: Sequence[Any]) -> dict[str, Tensor]:
        """What the processor makes of a list of PIL images: the keyword arguments of the image tower."""
        return dict(self.processor(images=list(images), return_tensors="pt"))

    def tokenize(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """What the processor makes of a list of texts: the keyword arguments of the text tower.

        Long texts are cut. The padding is the one that the model was trained with: to full length for SigLIP.
        """
        padding = "max_length" if self._model_type.startswith("siglip") else True
        options: dict[str, Any] = {"padding": padding, "truncation": True, "return_tensors": "pt"}
        if (longest := self._longest()) is not None:
            options["max_length"] = longest
        return dict(self.processor(text=list(texts), **options))

    @property
    def _model_type(self) -> str:
        return str(getattr(getattr(self.model, "config", None), "model_type", ""))

    def _longest(self) -> int | None:
        """The most tokens that both the tokenizer and the text tower take. A tokenizer without a limit names 10^30."""
        text = getattr(getattr(self.model, "config", None), "text_config", None)
        tokenizer = getattr(self.processor, "tokenizer", self.processor)
        found = [getattr(text, "max_position_embeddings", None), getattr(tokenizer, "model_max_length", None)]
        return min((int(one) for one in found if one is not None and one < 10**6), default=None)


def from_hub(name: str | Path, device: str | torch.device = "cpu", **options: Any) -> HubModel:
    """A CLIP-, SigLIP- or BLIP-like model of the transformers library with its processor, in evaluation mode.

    Args:
        name: ``"ORG/NAME"`` on the model hub, or a folder that ``save_pretrained`` wrote (model and processor).
        device: where the model is put.
        options: of ``from_pretrained``, such as ``revision``, ``dtype`` or ``cache_dir``.

    Returns:
        :class:`HubModel`. The class is the one that the configuration names, ``AutoModel`` where it names none of two
        encoders: it has ``get_image_features`` and ``get_text_features``, or BLIP's projections.

    Raises:
        ValueError: a folder that is not there or holds no such model; weights that are missing in the file, which
            transformers would fill with random numbers; a device that this machine does not have.
        DataUnavailable: a model of the hub that cannot be had here; it says what to do.

    Example:
        >>> towers = from_hub("openai/clip-vit-base-patch32")  # doctest: +SKIP
    """
    from gaplib._extras import need

    need("hub", "transformers")
    import transformers

    device, name = check_device(device), str(name)
    local = Path(name).is_dir()
    if not local and (Path(name).is_absolute() or name.startswith((".", "~")) or name.count("/") > 1 or not name):
        raise ValueError(f"name: expected a folder or ORG/NAME on the model hub, and there is no folder {name!r}")
    try:
        with quiet(), _silent(transformers.logging), nothing_unpickled(), no_retries(not local):
            config = transformers.AutoConfig.from_pretrained(name, **_of_files(options))
            kind = _class_of(transformers, config)
            model, info = kind.from_pretrained(name, output_loading_info=True, **options)
            processor = transformers.AutoProcessor.from_pretrained(name, **_of_files(options))
    except Exception as error:  # transformers and what it calls raise many kinds for one thing: it is not there
        if local or not isinstance(error, OSError):
            raise ValueError(f"name: transformers cannot load {name} ({reason(error):.300})") from error
        raise unavailable(f"the model {name!r}", error, _OFFLINE) from error
    missing = sorted(info["missing_keys"])
    if missing:
        raise ValueError(f"name: {name} has no weights for {len(missing)} parts of {kind.__name__}, first {missing[0]}")
    try:
        return HubModel(model, processor, name).eval().to(device)
    except ValueError as error:
        raise ValueError(f"name: {name} is a {type(model).__name__}, not a model of two encoders") from error


# --- helpers ---------------------------------------------------------------------------------------------------------


@contextmanager
def _silent(logging: Any) -> Iterator[None]:
    """No remarks and no progress bars of transformers inside; ``logging`` is its module of that name."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _of_files(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that say where files are, not what is made of them."""
    return {key: options[key] for key in ("cache_dir", "revision", "token", "local_files_only") if key in options}


def _class_of(transformers: Any, config: Any) -> Any:
    """The class that the configuration names, if it has embeddings of both modalities."""
    for architecture in getattr(config, "architectures", None) or ():
        kind = getattr(transformers, architecture, None)
        if hasattr(kind, "get_image_features") or str(architecture).endswith("ForImageTextRetrieval"):
            return kind
    return transformers.AutoModel


def _normalized(x: Tensor, normalize: bool) -> Tensor:
    return functional.normalize(x, dim=-1) if normalize else x
