"""Embeddings that Liang et al. (2022, "Mind the Gap") published with Figure 1: four models and their random twins.

Taken unchanged from the authors' repository at one commit (MIT licence) and checked by SHA-256 however they come.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path

from gaplib._extras import need

need("train", "pooch")

import numpy as np
import pooch
import torch

from gaplib._validate import check_choice
from gaplib.data import DataUnavailable, cache_dir

SOURCE = "https://raw.githubusercontent.com/Weixin-Liang/Modality-Gap/8e20cb24efa4c5f89aad694f2f65eb43ffc46d10"
_TIMEOUT = (4, 30)  # seconds to connect, and between two chunks: no network must be said soon


@dataclass(frozen=True)
class Model:
    """What is known of one published file: SHA-256, array shape (2, n, d), names of the modalities, what it shows."""

    sha256: str
    shape: tuple[int, int, int]
    modality_names: tuple[str, str]
    title: str
    paired_retrieval: bool = False

    @property
    def trained(self) -> bool:
        return "random" not in self.title


MODELS: dict[str, Model] = {
    "clip": Model(
        "7227280ace0f145d2c45afa8ab507a1cb280e9460aa271fe9052d08e35342adb",
        (2, 500, 512),
        ("image", "caption"),
        "CLIP on COCO captions",
        paired_retrieval=True,
    ),
    "clip_random": Model(
        "c6a5f9ca3fba36d635fd47d20b3cdd5b9ac78dc462070240fdc2ee2786110403",
        (2, 500, 512),
        ("image", "caption"),
        "CLIP at random initialisation",
    ),
    "convirt": Model(
        "8cfb9c31888d12726a3f8b551bed64f04b25d1c76d5353b0a3e9efeceb43edb9",
        (2, 500, 512),
        ("X-ray", "report"),
        "ConVIRT on chest X-rays and reports",
    ),
    "convirt_random": Model(
        "2fd5698e712d5e0d72256a1b29044b2059818f0575ab12bfcb2c5ae13092007f",
        (2, 500, 512),
        ("X-ray", "report"),
        "ConVIRT at random initialisation",
    ),
    "videoclip": Model(
        "53255cac6105c5c47dd1850d77de084957d5f83841ba9ae9254bf7ae998573da",
        (2, 100, 768),
        ("video", "text"),
        "VideoCLIP",
        paired_retrieval=True,
    ),
    "videoclip_random": Model(
        "c57ee05a606c4a9da0d71ad8b5d5c964d780af816890064a693eb178492c0f3b",
        (2, 100, 768),
        ("video", "text"),
        "VideoCLIP at random initialisation",
    ),
    "clasp": Model(
        "5a1d12a68729405003fe19b271a38ae35adab97c139e4b4a51d70b18c44bf628",
        (2, 99, 768),
        ("protein", "text"),
        "CLASP, amino-acid sequences and text",
    ),
    "clasp_random": Model(
        "2a159d008b7527e9fbd3de49daf9116d9500d1aaa250c3a5b009b162c5f4066b",
        (2, 99, 768),
        ("protein", "text"),
        "CLASP at random initialisation",
    ),
}


@dataclass(frozen=True, eq=False)
class Published:
    """Paired embeddings of one model.

    x, y: float32 tensors (n, d), first and second modality. The published rows have norm one to 6e-4 only (CLIP's were
    computed in half precision): they are normalised again here, in double precision.
    modality_names: of x and of y. trained: False for the random twins. paired_retrieval: whether row i of x finds
    row i of y far above chance; where False (ConVIRT, CLASP, every random twin) metrics of pairs say little.
    source: the publisher's address, whichever way the bytes came.
    """

    name: str
    title: str
    x: torch.Tensor
    y: torch.Tensor
    modality_names: tuple[str, str]
    trained: bool
    paired_retrieval: bool
    source: str


def address(name: str) -> str:
    """Where the publisher keeps the file of one of ``MODELS``."""
    return f"{SOURCE}/Figure_1_Modality_Gap/features_{check_choice(name, 'name', MODELS)}.npy"


def load(name: str) -> Published:
    """The published embeddings ``name``, one of ``MODELS``.

    The file comes from ``$GAPLIB_DATA/liang2022/<name>.npy`` if that is there, else from the cache, else from the
    publisher. Raises ``ValueError`` for another name and `DataUnavailable` (one plain sentence) when there is no such
    file and no network, or when the bytes are not the published ones. A bad download is removed; a bad file in
    ``GAPLIB_DATA`` is the reader's own and stays.
    """
    model = MODELS[check_choice(name, "name", MODELS)]
    try:
        array = np.load(_file(name, model), allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataUnavailable(f"the published embeddings {name!r} cannot be read: {error}") from error
    if array.shape != model.shape or array.dtype != np.float32 or not np.isfinite(array).all():
        raise DataUnavailable(f"the published embeddings {name!r} are not finite float32 of shape {model.shape}")
    x, y = (torch.nn.functional.normalize(torch.from_numpy(a).double(), dim=1).float() for a in array)
    return Published(
        name, model.title, x, y, model.modality_names, model.trained, model.paired_retrieval, address(name)
    )


def unavailable_reason(name: str = "clip") -> str:
    """Why ``load(name)`` would fail, in a sentence; empty if it works (a download stays in the cache)."""
    try:
        load(name)
    except DataUnavailable as error:
        return str(error)
    return ""


def available(name: str = "clip") -> bool:
    """Whether ``load(name)`` works here."""
    return not unavailable_reason(name)


def _is_published(path: Path, model: Model) -> bool:
    return pooch.file_hash(str(path)) == model.sha256


def _file(name: str, model: Model) -> Path:
    folder = os.environ.get("GAPLIB_DATA", "").strip()
    if folder:
        path = Path(folder).expanduser() / "liang2022" / f"{name}.npy"
        if path.is_file():
            if not _is_published(path, model):
                raise DataUnavailable(
                    f"GAPLIB_DATA: {path} is not the published file (its SHA-256 is not {model.sha256}); "
                    "replace it or unset GAPLIB_DATA"
                )
            return path
    return _download(name, model, f"; GAPLIB_DATA={folder} has no liang2022/{name}.npy" if folder else "")


def _download(name: str, model: Model, also: str) -> Path:
    path = cache_dir() / "published" / f"{name}-{model.sha256[:12]}.npy"
    logger = pooch.get_logger()
    level = logger.level
    try:
        if path.is_file():
            if _is_published(path, model):
                return path
            path.unlink()  # our own earlier download, damaged since
        logger.setLevel(logging.WARNING)  # a notice on stderr is no part of a page
        pooch.retrieve(
            address(name),
            known_hash=f"sha256:{model.sha256}",
            fname=path.name,
            path=path.parent,
            downloader=pooch.HTTPDownloader(timeout=_TIMEOUT),
        )
    except ValueError as error:  # the digest; pooch has removed what it had downloaded
        raise DataUnavailable(
            f"the download of {name!r} from {address(name)} is not the published file and was removed{also}"
        ) from error
    except OSError as error:  # requests' errors are OSErrors too
        raise DataUnavailable(
            f"the published embeddings {name!r} are not on this machine and could not be downloaded from "
            f"{address(name)} ({type(error).__name__}); connect to the network, or set GAPLIB_DATA to a folder that "
            f"holds liang2022/{name}.npy{also}"
        ) from error
    finally:
        logger.setLevel(level)
    return path
