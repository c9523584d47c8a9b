"""Measurements of speed and memory: ``make bench`` (see ``bench.__main__``)."""
