"""Train two towers: a loop for any towers and data, runs on disk and in a cache, presets of the book."""

from gaplib._extras import need

need("train", "filelock", "lightning_fabric", "safetensors", "tqdm")

from gaplib.training.config import RunConfig
from gaplib.training.fitting import fit
from gaplib.training.loop import NonFiniteLoss
from gaplib.training.run import Run, RunFolderError
from gaplib.training.trainer import cached_run, train

__all__ = ["NonFiniteLoss", "Run", "RunConfig", "RunFolderError", "cached_run", "fit", "train"]
