"""The gap of your own embeddings in one call: :func:`measure`, and the :class:`Card` that it returns.

``modalities`` reads what is given, ``intervals`` says how sure the numbers are, ``models`` where they stand, ``advice``
what to do next; ``card`` and ``rendering`` show it.
"""

from gaplib.measuring.call import measure
from gaplib.measuring.card import Card

__all__ = ["Card", "measure"]
