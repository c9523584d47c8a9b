"""What the embeddings are good for: scores on downstream tasks, from embeddings alone."""

from gaplib.evaluation.retrieval import retrieval

__all__ = ["retrieval"]
