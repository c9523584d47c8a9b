"""The architectures that towers can be built of, by name: one row each, open to registration from outside.

    towers.register("my-kind", my_builder)
    towers.build({"kind": "my-kind", ...}), RunConfig(architecture="my-kind")

A process that was started anew, such as a worker of the leaderboard, knows only what its own imports register.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gaplib._validate import check_choice
from gaplib.towers.two_tower import TwoTower


@dataclass(frozen=True)
class Architecture:
    """How towers of a kind are built, and what they can have.

    builder         ``builder(**recipe, seed=0) -> TwoTower``: the fields of the recipe but for its ``kind``
    runs            runs can train it: ``builder(vocabulary_size, dim=, image_size=, seed=)`` gives towers of images
                    (n, 1, image_size, image_size) and token ids (n, L)
    private_heads   the builder takes ``private_dim``: features that a modality keeps for itself
    shared_trunk    the builder takes ``shared``: one trunk for both modalities
    """

    builder: Callable[..., TwoTower]
    runs: bool = True
    private_heads: bool = False
    shared_trunk: bool = False

    @property
    def source(self) -> Path | None:
        """The file of a builder that is not gaplib's own, whose code no key of gaplib's covers."""
        if self.builder.__module__.partition(".")[0] == "gaplib":
            return None
        return Path(inspect.getfile(self.builder))


_ROWS: dict[str, Architecture] = {}


def register(
    kind: str,
    builder: Callable[..., TwoTower],
    *,
    runs: bool = True,
    private_heads: bool = False,
    shared_trunk: bool = False,
) -> None:
    """Add an architecture under the name ``kind``, which its recipes hold.

    Args:
        kind: a name that is not taken by another builder.
        builder, runs, private_heads, shared_trunk: see :class:`Architecture`.

    Raises:
        ValueError: a name that is empty or taken, or a builder that cannot be called.

    Example:
        >>> from gaplib import towers
        >>> towers.register("very-small", lambda vocabulary_size, **sizes: towers.tiny_towers(vocabulary_size, **sizes))
        >>> towers.architecture("very-small").runs
        True
    """
    if not isinstance(kind, str) or not kind:
        raise ValueError(f"kind: expected a name, got {kind!r}")
    if not callable(builder):
        raise ValueError(f"builder: expected a function that builds towers, got {builder!r:.80}")
    if kind in _ROWS and _ROWS[kind].builder is not builder:
        raise ValueError(f"kind: expected a name that is free, got {kind!r}, which has another builder")
    _ROWS[kind] = Architecture(builder, runs, private_heads, shared_trunk)


def architecture(kind: str) -> Architecture:
    """The row of ``kind``; ``ValueError`` lists the near names."""
    return _ROWS[check_choice(kind, "architecture", _ROWS)]


def architectures(**wanted: bool) -> list[str]:
    """Names of the rows that have what is asked: ``architectures(runs=True, shared_trunk=True)``."""
    return [kind for kind, row in _ROWS.items() if all(getattr(row, name) == value for name, value in wanted.items())]


def build(recipe: Mapping[str, Any]) -> TwoTower:
    """Towers of the architecture that a model's ``recipe`` names, at some random initialisation."""
    options = dict(recipe)
    kind = options.pop("kind", None)
    if kind not in _ROWS:
        raise ValueError("recipe: it does not say how its model was built, or by what is not registered here")
    return _ROWS[kind].builder(**options)
