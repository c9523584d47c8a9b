"""What the chapters run: one module a chapter, so that the notebooks only tell the story."""

from gaplib._extras import need

need("book", "matplotlib", "open_clip", "statsmodels", "torchvision", "tqdm")
