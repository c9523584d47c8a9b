"""CIFAR-10, CIFAR-100 and EMNIST: pictures with a class, and the prompts that stand for each class.

CIFAR (Krizhevsky 2009) is published twice. The binary version is read here with NumPy and is taken where it is there.
The Python version is pickles, whose content runs when they are opened. torchvision opens them, and only after this
module has found every file to have the MD5 that torchvision knows of the publisher's; it names the one that has not.

open_clip has prompts for ImageNet only. ``PROMPTS`` are those that OpenAI published for CIFAR with CLIP (Radford et al.
2021, data/prompts.md), which LAION's CLIP_benchmark uses with open_clip's models.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gaplib._extras import need
from gaplib._validate import check_choice
from gaplib.data import DataUnavailable
from gaplib.data.natural.captioned import Captioned

_KINDS = ("blurry", "black and white", "low contrast", "high contrast", "bad", "good")
_PHOTOS = ("a photo", *(f"a {kind} photo" for kind in _KINDS))
#: templates with a place for the class name, as ``open_clip.build_zero_shot_classifier`` takes them
PROMPTS = tuple(
    f"{photo} of {article}{size} {{}}."
    for article in ("a", "the")
    for photo, size in [*((photo, "") for photo in _PHOTOS), ("a photo", " small"), ("a photo", " big")]
)
SIZE = 32


class Classified(Captioned):
    """``Captioned`` with classes: ``label`` (n,) int64, ``classes`` (names), ``prompts`` (a list of texts a class).

    The captions of a picture are its class's prompts.
    """

    def __init__(
        self, pictures: Sequence[Any], label: np.ndarray, classes: Sequence[str], prompts: Any, name: str, split: str
    ):
        super().__init__(pictures, [prompts[number] for number in label], name, split)
        self.label, self.classes, self.prompts = label, list(classes), prompts

    def subset(self, rows: Any) -> Classified:
        """The rows of these numbers, with all classes."""
        chosen = [int(row) for row in rows]
        pictures = [self.pictures[row] for row in chosen]
        return Classified(pictures, self.label[chosen], self.classes, self.prompts, self.name, self.split)


class _Pixels(Sequence):
    """Arrays (n, height, width, 3) or (n, height, width) of bytes as PIL images, made when asked for."""

    def __init__(self, arrays: np.ndarray):
        self.arrays = arrays

    def __len__(self) -> int:
        return len(self.arrays)

    def __getitem__(self, place: Any) -> Any:
        return Image.fromarray(self.arrays[place])


def cifar10(folder: str | Path, split: str | None = None) -> Classified:
    """CIFAR-10's pictures, 32 x 32; ``split`` is "train" or, also by default, "test".

    folder: holds ``cifar-10-batches-bin/`` (the binary version) or ``cifar-10-batches-py/``.

    Raises:
        DataUnavailable: neither is there, or a file that is missing, cut off, or not the publisher's.
        ValueError: another split, or labels that no class has.
    """
    train, names = [f"data_batch_{number}.bin" for number in range(1, 6)], "batches.meta.txt"
    return _cifar(Path(folder), split, "cifar10", "cifar-10-batches-bin", train, "test_batch.bin", names, 1)


def cifar100(folder: str | Path, split: str | None = None) -> Classified:
    """CIFAR-100's pictures with their fine labels; as :func:`cifar10`, with ``cifar-100-binary/`` or ``-python/``."""
    names = "fine_label_names.txt"
    return _cifar(Path(folder), split, "cifar100", "cifar-100-binary", ["train.bin"], "test.bin", names, 2)


def emnist(folder: str | Path, split: str | None = None) -> Classified:
    """The test images of EMNIST's balanced split, by `gaplib.data.emnist`, with the characters' Unicode names.

    folder: holds ``EMNIST/raw`` as torchvision keeps it. Errors as for :func:`cifar10`.
    """
    from gaplib.data import emnist as handwriting

    check_choice(split or "test", "split", ("test",))
    data = handwriting.load(root=Path(folder).expanduser())
    classes = list(data.names)
    label = np.array([classes.index(str(one)) for one in data.label])
    pixels = (255 * data.images[:, 0]).round().byte().numpy()
    prompts = [[name.lower() for name in data.names[one]] for one in classes]
    return Classified(_Pixels(pixels), label, classes, prompts, f"emnist:{folder}", "test")


def _cifar(
    root: Path, split: str | None, name: str, binary: str, train: list[str], test: str, names: str, label_bytes: int
) -> Classified:
    part = check_choice(split or "test", "split", ("train", "test"))
    root = root.expanduser()
    folder = next((one for one in (root / binary, root) if (one / names).is_file()), None)
    if folder is None:
        pixels, label, classes = _python_version(root, name, part == "train", binary)
    else:
        read = [_binary(folder / file, label_bytes) for file in (train if part == "train" else [test])]
        pixels, label = np.concatenate([one for one, _ in read]), np.concatenate([one for _, one in read])
        classes = (folder / names).read_text(encoding="ascii").split()
    if len(label) and label.max() >= len(classes):
        raise ValueError(f"{name}: expected labels below {len(classes)}, got {int(label.max())}")
    classes = [one.replace("_", " ") for one in classes]
    prompts = [[prompt.format(one) for prompt in PROMPTS] for one in classes]
    return Classified(_Pixels(pixels), label, classes, prompts, f"{name}:{root}", part)


def _binary(file: Path, label_bytes: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (n, 32, 32, 3) and labels (n,): each record is its labels (the last is the one), then three planes."""
    if not file.is_file():
        raise DataUnavailable(f"CIFAR: there is no file {file}")
    content = np.fromfile(file, dtype=np.uint8)
    record = label_bytes + 3 * SIZE * SIZE
    if not len(content) or len(content) % record:
        raise DataUnavailable(f"{file}: expected records of {record} bytes, got {len(content)} bytes")
    rows = content.reshape(-1, record)
    planes = rows[:, label_bytes:].reshape(-1, 3, SIZE, SIZE)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), rows[:, label_bytes - 1].astype(np.int64)


def _python_version(root: Path, name: str, train: bool, binary: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
    need("open-clip", "torchvision")
    from torchvision import datasets
    from torchvision.datasets.utils import check_integrity

    published = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]
    folder = root / published.base_folder
    if not folder.is_dir():
        raise DataUnavailable(
            f"{name}: there is no {root / binary} (nor {folder}); cs.toronto.edu/~kriz/cifar.html has it"
        )
    files = [*published.train_list, *published.test_list, (published.meta["filename"], published.meta["md5"])]
    for file, md5 in files:
        if not check_integrity(folder / file, md5):
            raise DataUnavailable(f"{folder / file}: missing, or not the publisher's (MD5 {md5}); it was not opened")
    data = published(root, train=train)
    return data.data, np.array(data.targets, dtype=np.int64), list(data.classes)
