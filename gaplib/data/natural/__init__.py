"""Natural images with captions or classes, as their publishers' files hold them. Nothing is downloaded here.

    data = open_data("coco:/data/coco", split="test")     # len(data), data[0] -> (path, [five captions])

Every kind checks all its entries, and that every picture is there, before it returns. No archive is unpacked to disk,
no name leads out of the data's folder, and nothing is unpickled that is not its publisher's (``classes``).
"""

from gaplib._extras import need

need("train", "PIL")

from gaplib.data.natural.captioned import Captioned, picture
from gaplib.data.natural.specification import KINDS, open_data

__all__ = ["KINDS", "Captioned", "open_data", "picture"]
