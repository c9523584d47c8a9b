"""Embeddings from files that others wrote: checked, with unit rows, memory-mapped where the format can be.

Formats: .npy, .npz, .pt and .pth, .safetensors, .parquet, .csv, and folders of .npy shards as clip-retrieval writes
them; float16, bfloat16, float32, float64. A format is a function in :data:`gaplib.embedding_files.loading.FORMATS`.
"""

from gaplib.embedding_files.labels import load_groups, load_index
from gaplib.embedding_files.loading import check_stored_pair, load_embeddings, load_pair, open_both, open_embeddings

__all__ = [
    "check_stored_pair",
    "load_embeddings",
    "load_groups",
    "load_index",
    "load_pair",
    "open_both",
    "open_embeddings",
]
