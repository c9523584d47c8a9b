"""A webdataset: tar files ("shards") of pictures and captions, read one after the other through the webdataset library.

Local files only, read as streams: nothing is unpacked to disk, no member is unpickled, no command is run (the library
itself would run one that is called ``pipe:``).
"""

from __future__ import annotations

import copy
import glob
import importlib
import io
import random
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from gaplib._extras import MissingExtra
from gaplib.data import DataUnavailable
from gaplib.data.natural.captioned import picture

IMAGE_SUFFIXES = ("jpg", "png", "jpeg", "webp")  # open_clip's choice
CAPTION_SUFFIX = "txt"
BUFFER = 1000  # samples to shuffle among


class Shards:
    """An iterable of ``(PIL image, [caption])``. It has no length: only reading all of it would say.

    Args:
        pattern: a file, or several by ``{00000..00003}`` or ``*``, such as "shards/{00000..00003}.tar".

    A sample without a picture (.jpg, .png, .jpeg, .webp) or without a .txt is passed over, as open_clip does.

    Raises:
        MissingExtra: no webdataset library.
        DataUnavailable: shards that are missing: how many, and which is the first.
        ValueError: when read, for a damaged shard or picture, a member whose name leads out of the archive's folder,
            and where no sample is complete. An address or a command instead of files.
    """

    def __init__(self, pattern: str):
        self.pattern, self.name, self.split = str(pattern), f"webdataset:{pattern}", ""
        try:
            self._library: Any = importlib.import_module("webdataset")
        except ImportError:
            raise MissingExtra("webdataset: needs the library of that name: pip install webdataset") from None
        self.shards = _files(self.pattern)

    def part(self, shards: Sequence[Path]) -> Shards:
        """The samples of some of the shards."""
        other = copy.copy(self)
        other.shards = list(shards)
        return other

    def __iter__(self) -> Iterator[tuple[Image.Image, list[str]]]:
        return self.read()

    def read(self, seed: int | None = None) -> Iterator[tuple[Image.Image, list[str]]]:
        """The samples in order, or shuffled by ``seed``: the shards, and then among each 1,000 samples."""
        shards, found = list(self.shards), 0
        if seed is not None:
            random.Random(seed).shuffle(shards)
        samples = self._samples(shards)
        if seed is not None:
            samples = self._library.filters._shuffle(samples, BUFFER, BUFFER, rng=random.Random(seed))
        for sample in samples:
            suffix = next((one for one in IMAGE_SUFFIXES if one in sample), None)
            if suffix is None or CAPTION_SUFFIX not in sample:
                continue
            place = f"{sample['__url__']}, {sample['__key__']}"
            found += 1
            yield _decoded(sample[suffix], place), [_caption(sample[CAPTION_SUFFIX], place)]
        if not found:
            wanted = f".{CAPTION_SUFFIX} and one of {', '.join(IMAGE_SUFFIXES)}"
            raise ValueError(f"{self.pattern}: expected at least one sample with {wanted}, got none")

    def _samples(self, shards: list[Path]) -> Iterator[dict[str, Any]]:
        """Members of all shards as bytes, those of one sample together."""
        iterators = self._library.tariterators
        for shard in shards:
            with open(shard, "rb") as stream:
                try:
                    members = iterators.tar_file_iterator(stream, select_files=_inside_archive)
                    yield from iterators.group_by_keys({**one, "__url__": str(shard)} for one in members)
                except (tarfile.TarError, EOFError, OSError, ValueError) as error:
                    # The library puts its own remarks behind the message.
                    reason = str(error.args[0] if error.args else error).split(" @ <")[0]
                    raise ValueError(f"{shard}: expected a tar file of samples: {reason}") from None


def _files(pattern: str) -> list[Path]:
    if "://" in pattern or pattern.startswith("pipe:"):
        raise ValueError(f"webdataset: expected local tar files, got {pattern!r}")
    if not pattern.strip():
        raise ValueError("webdataset: expected tar files, got an empty pattern")
    braceexpand = importlib.import_module("braceexpand").braceexpand  # comes with webdataset
    paths: list[Path] = []
    for one in braceexpand(pattern, escape=False):
        paths += [Path(name) for name in sorted(glob.glob(one))] if glob.has_magic(one) else [Path(one)]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise DataUnavailable(f"webdataset: {len(missing)} of {len(paths)} shards are missing, first {missing[0]}")
    if not paths:
        raise DataUnavailable(f"webdataset: there is no file {pattern}")
    return paths


def _inside_archive(name: str) -> bool:
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts:
        raise ValueError(f"a member leads out of the archive's folder: {name!r}")
    return True


def _decoded(content: bytes, place: str) -> Image.Image:
    try:
        return picture(Image.open(io.BytesIO(content)))
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{place}: expected a picture, got what cannot be read ({error})") from None


def _caption(content: bytes, place: str) -> str:
    try:
        return content.decode("utf-8").strip()
    except UnicodeDecodeError:
        raise ValueError(f"{place}: expected a caption in UTF-8") from None
