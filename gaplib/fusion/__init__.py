"""A fusion model of tutorial size after ALBEF, and three tasks on glyphs whose answers are exact."""

from gaplib._extras import need

need("train", "PIL", "filelock", "safetensors")
