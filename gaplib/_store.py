"""Results kept by the content of what made them, so that nothing is made twice: one store for all of gaplib's caches.

    store = Store(cache_dir() / "fusion")
    key = content_key({"config": config.to_dict(), "code": code_digest(), "torch": torch.__version__})
    tensors, note = store.make(key, build)      # build() -> (tensors, note), called only if the store lacks them

An entry is one file: ``<key>.safetensors`` (tensors by name, and a note), or ``<key>.json`` (a note alone). A result of
several files that grows while it is made, such as a training run, has a folder ``<key>`` that its maker writes and
checks; the store names, locks and clears it. ``<key>.lock`` is empty and stays: removing it would let two in.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gaplib._extras import need

need("train", "filelock", "safetensors")

from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from gaplib._atomic import atomic

#: Modules that find, lock or name files. A key of code leaves them out: an edit of theirs changes no result.
NOT_BEHAVIOUR = ("gaplib._store", "gaplib._dependencies", "gaplib._atomic")

_UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, SafetensorError)
_JSON, _TENSORS = ".json", ".safetensors"


def content_hash(content: Any) -> str:
    """SHA-256 of plain values (what JSON can hold: finite numbers), whatever the order of a dictionary's keys.

    ``ValueError`` for anything else.

    >>> content_hash({"a": 1, "b": [2.5, None]}) == content_hash({"b": [2.5, None], "a": 1})
    True
    """
    return hashlib.sha256(_text(content, "content", sort_keys=True).encode()).hexdigest()


def content_key(content: Any) -> str:
    """The key of a result: 32 hexadecimal digits of the hash of all that it depends on, as plain values.

    >>> len(content_key({"config": {"seed": 0}, "torch": "2.4"}))
    32
    """
    return content_hash(content)[:32]


def sealed(note: Mapping[str, Any]) -> dict[str, Any]:
    """``note`` as JSON gives it back, with its own hash as ``sha256``; see `unsealed`.

    ``ValueError`` for what JSON cannot hold, and for a note that has such a field already.
    """
    if "sha256" in note:
        raise ValueError(f"note: expected no field sha256, which its hash is kept in, got {note['sha256']!r}")
    plain = json.loads(_text(dict(note), "note"))  # numbers as keys become text, and sort otherwise
    return {**plain, "sha256": content_hash(plain)}


def unsealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """What was given to `sealed`. ``ValueError`` if it is not that any more.

    >>> unsealed(sealed({"seed": 3}))
    {'seed': 3}
    """
    note = dict(content)
    if note.pop("sha256", None) != content_hash(note):
        raise ValueError("its SHA-256 is not its own")
    return note


@dataclass(frozen=True)
class Store:
    """The entries below one folder, which is made when something is written. ``what`` names an entry in messages.

    >>> import tempfile
    >>> store = Store(Path(tempfile.mkdtemp()) / "squares")
    >>> key = content_key({"of": 3})
    >>> store.make(key, lambda: ({"square": torch.tensor([9.0])}, {"seconds": 0.1}))
    ({'square': tensor([9.])}, {'seconds': 0.1})
    >>> store.make(key, lambda: 1 / 0)  # not called
    ({'square': tensor([9.])}, {'seconds': 0.1})
    >>> store.stored_keys() == [key]
    True
    """

    root: Path
    what: str = "cached result"

    def stored_keys(self) -> list[str]:
        """Sorted keys of the files that are there, damaged or not."""
        return sorted({file.stem for suffix in (_JSON, _TENSORS) for file in self.root.glob(f"*{suffix}")})

    def folder(self, key: str) -> Path:
        """The folder of an entry that is one; it need not exist. Its maker holds the `lock`."""
        return self.root / key

    def clear(self, key: str) -> None:
        """Remove an entry, whichever form it has; one that is not there already is fine."""
        shutil.rmtree(self.folder(key), ignore_errors=True)
        for suffix in (_JSON, _TENSORS):
            self._file(key, suffix).unlink(missing_ok=True)

    def read(self, key: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Tensors (on the CPU) and note of an entry, or None: missing, or, with a warning, damaged."""
        try:
            return self._load(key)
        except FileNotFoundError:
            return None
        except _UNREADABLE as error:
            warnings.warn(f"a damaged {self.what}, which will be made again: {self.root / key}: {error}", stacklevel=3)
            return None

    def write(self, key: str, tensors: Mapping[str, Tensor], note: Mapping[str, Any]) -> None:
        """Keep an entry, wholly or not at all, in place of one that is there. Without tensors it is a JSON text.

        Hold the `lock` if others may write the same key. ``ValueError`` for a note with anything that JSON cannot hold
        (NaN and infinities too), ``OSError`` where nothing can be written.
        """
        text = json.dumps(sealed(note), indent=None if tensors else 1)
        ready = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        data = save(ready, {"note": text, "sha256": tensor_hash(ready)}) if ready else f"{text}\n".encode()
        self.root.mkdir(parents=True, exist_ok=True)
        with atomic(self._file(key, _TENSORS if ready else _JSON)) as partial:
            partial.write_bytes(data)

    def make(
        self,
        key: str,
        build: Callable[[], tuple[Mapping[str, Tensor], Mapping[str, Any]]],
        timeout: float = 3600.0,
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The entry, built and kept if it is not there; of several that ask for it one builds and the others wait.

        What ``build`` raises is raised, and nothing is kept. Where nothing can be written (a read-only or full disk)
        the result is given all the same, with a warning. ``TimeoutError`` as in `lock`.
        """
        with suppress(*_UNREADABLE):
            return self._load(key)
        with ExitStack() as held:
            try:
                held.enter_context(self.lock(key, timeout))
            except TimeoutError:
                raise
            except OSError as error:
                self._warn_not_kept(key, error)
                return _built(build)
            if (found := self.read(key)) is not None:
                return found
            tensors, note = _built(build)
            try:
                self.write(key, tensors, note)
            except OSError as error:
                self._warn_not_kept(key, error)
            return tensors, note

    @contextmanager
    def lock(self, key: str, timeout: float = 3600.0, doing: str = "making this entry") -> Iterator[None]:
        """Be the only one at an entry. The lock ends with its process, however that ends.

        What a killed process left half-written of the entry's file is removed. ``TimeoutError`` if another process, or
        another thread, has the lock for ``timeout`` seconds more; ``doing`` says in the message what it has been at.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self._file(key, ".lock"))
        try:
            lock.acquire(timeout=timeout)
        except Timeout:
            message = f"another process has been {doing} for over {timeout:g} s ({self.root / key})"
            raise TimeoutError(message) from None
        try:
            for left_over in self.root.glob(f".{key}.*.part"):
                left_over.unlink(missing_ok=True)
            yield
        finally:
            lock.release()

    def _file(self, key: str, suffix: str) -> Path:
        return self.root / f"{key}{suffix}"

    def _load(self, key: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and note; ``FileNotFoundError`` if there is no entry, one of ``_UNREADABLE`` if it is damaged."""
        if (file := self._file(key, _JSON)).exists():
            return {}, unsealed(json.loads(file.read_text(encoding="utf-8")))
        if not (file := self._file(key, _TENSORS)).exists():
            raise FileNotFoundError(file)
        with safe_open(file, framework="pt") as opened:
            metadata = opened.metadata()
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (not a dict)
        if metadata["sha256"] != tensor_hash(tensors):
            raise ValueError("the SHA-256 of its tensors is not the one that was kept")
        return tensors, unsealed(json.loads(metadata["note"]))

    def _warn_not_kept(self, key: str, error: OSError) -> None:
        warnings.warn(f"a {self.what} that cannot be kept: {self.root / key}: {error}", stacklevel=3)


def _text(value: Any, name: str, **options: Any) -> str:
    try:
        return json.dumps(value, allow_nan=False, **options)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: expected plain values that JSON can hold, got {value!r:.200}: {error}") from None


def _built(build: Callable[[], tuple[Mapping[str, Tensor], Mapping[str, Any]]]) -> tuple[dict[str, Tensor], dict]:
    """What ``build`` gives, as it would be read back: on the CPU, and no tuples in the note."""
    tensors, note = build()
    return {name: value.detach().cpu() for name, value in tensors.items()}, unsealed(sealed(note))


def tensor_hash(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes, not over the file: a safetensors to come may lay that out anew."""
    seen = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        seen.update(f"{name}\0{value.dtype}\0{list(value.shape)}\0".encode())
        seen.update(value.flatten().view(torch.uint8).numpy().data)
    return seen.hexdigest()
