"""Measure, open and close the modality gap of contrastive two-encoder models."""

__version__ = "0.1.0"
