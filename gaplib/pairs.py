"""Paired embeddings and the Gram matrices that the losses share."""

from __future__ import annotations

from dataclasses import InitVar, dataclass, field, fields

import torch

from gaplib._validate import check_matrix, check_pair, check_unit_rows
from gaplib.tiled import tile_rows

HALF_TYPES = (torch.float16, torch.bfloat16)


def working(x: torch.Tensor) -> torch.Tensor:
    """``x`` in the type that the losses compute in: float32 for half types, else its own."""
    return x.float() if x.dtype in HALF_TYPES else x


@dataclass(frozen=True, eq=False, repr=False)
class PairedEmbeddings:
    """Image and text embeddings of the same n pairs: row i of every matrix belongs to pair i.

    Args:
        image, text: (n, d), rows of norm one; NumPy arrays or tensors of one float type on one device.
        image_view, text_view: (n, d), unit rows: embeddings of a second view of the same items. Optional.
        image_private, text_private, image_private_view, text_private_view: (n, p), unit rows: features that one
            modality keeps for itself, of the first and of the second view. Optional; p need not be d.
        groups: (n,) whole numbers, keyword only: items with equal ids are the right answer to each other, so that a
            contrastive loss must not push them apart (:func:`~gaplib.losses.clip_loss` spreads its target over them).
            None: every item is alone.
        caption_similarity: (n, n) in [0, 1], keyword only: how alike the captions of pairs i and j are, for
            :func:`~gaplib.losses.intra_modality_separation_loss`. Any float type; no gradient flows into it.
        check: ``False`` leaves out the tests that look at the values (finite, unit norm), for a training loop whose
            towers normalise anyway. Shapes and types are always tested.

    The Gram matrices ``image_image``, ``text_text`` and ``image_text`` (each (n, n), ``[i, j]`` the inner product of
    row i and row j) are computed once, when first asked for, and shared by all losses, in float32 for half types, under
    autocast too. Terms that share a matrix share its graph: add the terms up, then call ``backward`` once (or pass
    ``retain_graph=True``). Do not change an embedding in place after a matrix was read.

    Raises:
        ValueError: what is not a float matrix of shape (n, d), has NaN, infinity or rows of another norm, or does not
            fit ``image`` in rows, dimension, type or device; the message names the argument.
    """

    image: torch.Tensor
    text: torch.Tensor
    image_view: torch.Tensor | None = None
    text_view: torch.Tensor | None = None
    image_private: torch.Tensor | None = None
    text_private: torch.Tensor | None = None
    image_private_view: torch.Tensor | None = None
    text_private_view: torch.Tensor | None = None
    groups: torch.Tensor | None = field(default=None, kw_only=True)
    caption_similarity: torch.Tensor | None = field(default=None, kw_only=True)
    _grams: dict = field(default_factory=dict, init=False)
    check: InitVar[bool] = field(default=True, kw_only=True)

    def __post_init__(self, check: bool) -> None:
        for name in self._names():
            value = getattr(self, name)
            if value is None and name not in ("image", "text"):
                continue
            matrix = check_matrix(value, name, finite=check)
            if check:
                check_unit_rows(matrix, name)
            object.__setattr__(self, name, matrix)
            self._check_fits(matrix, name)
        for private in ("text_private", "image_private_view", "text_private_view"):
            if self.image_private is not None and getattr(self, private) is not None:
                check_pair(self.image_private, getattr(self, private), ("image_private", private))
        if self.groups is not None:
            object.__setattr__(self, "groups", self._checked_groups())
        if self.caption_similarity is not None:
            object.__setattr__(self, "caption_similarity", self._checked_similarity(check))

    @classmethod
    def _names(cls) -> list[str]:
        return [f.name for f in fields(cls) if f.init and f.name not in ("groups", "caption_similarity")]

    def _checked_groups(self) -> torch.Tensor:
        try:
            groups = torch.as_tensor(self.groups)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"groups: expected {self.n} whole numbers, got {self.groups!r:.80}") from error
        if groups.shape != (self.n,) or groups.is_floating_point() or groups.is_complex() or groups.dtype == torch.bool:
            raise ValueError(
                f"groups: expected {self.n} whole numbers, got {groups.dtype} of shape {tuple(groups.shape)}"
            )
        return groups.to(self.image.device)

    def _checked_similarity(self, check: bool) -> torch.Tensor:
        name = "caption_similarity"
        similarity = check_matrix(self.caption_similarity, name, finite=check).detach()
        if similarity.shape != (self.n, self.n):
            raise ValueError(f"{name}: expected shape ({self.n}, {self.n}), got {tuple(similarity.shape)}")
        if check and not bool(((similarity >= 0) & (similarity <= 1)).all()):
            low, high = (float(z) for z in similarity.aminmax())
            raise ValueError(f"{name}: expected values in [0, 1], got {low:.4g} to {high:.4g}")
        return similarity.to(self.image.device, working(self.image).dtype)

    def _check_fits(self, matrix: torch.Tensor, name: str) -> None:
        """Raise ``ValueError`` unless ``matrix`` goes with ``image``."""
        first = self.image
        if "private" not in name:
            check_pair(first, matrix, ("image", name))
        elif len(matrix) != len(first):
            raise ValueError(f"{name}: expected as many rows as image ({len(first)} pairs), got {len(matrix)}")
        if matrix.dtype != first.dtype or matrix.device != first.device:
            raise ValueError(
                f"{name}: expected the type and device of image ({first.dtype}, {first.device}), "
                f"got {matrix.dtype}, {matrix.device}"
            )

    def __repr__(self) -> str:
        names = [*self._names(), "groups", "caption_similarity"]
        given = ", ".join(name for name in names if getattr(self, name) is not None)
        return f"PairedEmbeddings(n={self.n}, dim={self.dim}, dtype={self.dtype}, given: {given})"

    @property
    def n(self) -> int:
        """Number of pairs."""
        return self.image.shape[0]

    @property
    def dim(self) -> int:
        """Dimension of the shared space."""
        return self.image.shape[1]

    @property
    def dtype(self) -> torch.dtype:
        """Float type of the embeddings, and of the losses' results."""
        return self.image.dtype

    @property
    def device(self) -> torch.device:
        """Device of the embeddings."""
        return self.image.device

    def needed(self, who: str, *names: str) -> tuple[torch.Tensor, ...]:
        """The matrices called ``names``; ``ValueError`` naming the first that is missing and ``who`` needs it."""
        for name in names:
            if getattr(self, name) is None:
                raise ValueError(f"{name}: expected a matrix, which {who} needs, got None (pairs brought: {self!r})")
        return tuple(getattr(self, name) for name in names)

    def tile_rows(self, chunk_size: int | None, *, symmetric: bool = False) -> int | None:
        """Rows a tile that a loss of all n² pairs takes, None for the dense form (:func:`gaplib.tiled.tile_rows`)."""
        return tile_rows(self.n, self.n, self.image, chunk_size, symmetric=symmetric)

    def gram(self, a: str, b: str) -> torch.Tensor:
        """(n, n) inner products of the rows of two matrices by name, such as ``gram("image", "image_view")``; shared.

        In float32 for half types. A caller asks for what is there (:meth:`needed`).
        """
        # A matrix made under no_grad has no graph: it must not serve a later call that needs one.
        key = (a, b, torch.is_grad_enabled())
        if key not in self._grams:
            x, y = getattr(self, a), getattr(self, b)
            with torch.autocast(x.device.type, enabled=False):
                self._grams[key] = working(x) @ working(y).T
        return self._grams[key]

    @property
    def image_image(self) -> torch.Tensor:
        """(n, n) inner products of the images."""
        return self.gram("image", "image")

    @property
    def text_text(self) -> torch.Tensor:
        """(n, n) inner products of the texts."""
        return self.gram("text", "text")

    @property
    def image_text(self) -> torch.Tensor:
        """(n, n) inner products, ``[i, j]`` of image i and text j: the diagonal holds the true pairs."""
        return self.gram("image", "text")
