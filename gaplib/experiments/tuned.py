"""Written by ``python -m gaplib.experiments.tuning``: each method's tuned point. Not to be edited by hand."""

TUNED: dict[str, dict] = {}
TRIES: list[dict] = []
