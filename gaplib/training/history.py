"""What is measured of a run: the geometry of its dev pairs at some steps and of its test pairs at the end.

Nothing here changes what is trained, so it is not in the key of a run (``gaplib.training.cache``). A cached run whose
numbers an older version of this code measured is measured again, from its stored embeddings.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from gaplib import _dependencies
from gaplib._store import NOT_BEHAVIOUR, Store, content_hash, content_key
from gaplib.evaluation.retrieval import retrieval_of
from gaplib.geometry.inputs import Embeddings, normalize
from gaplib.geometry.metrics import METRICS, measured

if TYPE_CHECKING:
    from gaplib.training.run import Run

#: what a row of the history has from training itself
TRAINED = ("step", "loss", "tau")


@cache
def measuring_digest() -> str:
    """Hash of the code that this module's numbers depend on."""
    files = _dependencies.closure(__name__, packages=False, leave_out=NOT_BEHAVIOUR)
    return _dependencies.digest(files)


def measured_now(run: Run, store: Store) -> Run:
    """``run`` with the numbers that this code measures, which ``store`` keeps for the next time."""
    now = measuring_digest()
    if run.info.get("measured_by") == now:
        return run

    def measure_again() -> tuple[dict, dict]:
        seen, positive_id = run.dev_embeddings(), run.embeddings["dev_answer"]
        rows = zip(run.history, *(torch.from_numpy(seen[side]) for side in ("image", "text")), strict=True)
        history = [{name: row[name] for name in TRAINED} | measure(x, y, positive_id) for row, x, y in rows]
        test = (torch.from_numpy(run.embeddings[f"test_{side}"]) for side in ("image", "text"))
        return {}, {"history": history, "metrics": measure(*test, run.embeddings["test_answer"])}

    trained = content_hash({"config": run.config.to_dict(), "embeddings": run.info["files"]})
    _, note = store.make(content_key({"run": trained, "measured_by": now}), measure_again)
    return replace(run, **note, info={**run.info, "measured_by": now})


def measure(image: Tensor, text: Tensor, answer: np.ndarray) -> dict[str, float]:
    """The metrics of paired embeddings, in double precision, and retrieval at 1 where equal answers are hits."""
    # The towers normalise in single precision; what is left of that would count in the eighth digit of a distance.
    data = Embeddings(normalize(image.double()), normalize(text.double()))
    codes = np.unique(answer, return_inverse=True)[1]
    hits = retrieval_of(data.x, data.y, codes, codes, ks=(1,))
    found = measured(data, (metric for metric in METRICS.values() if metric.history))
    return found | {name: float(value) for name, value in hits.items()}
