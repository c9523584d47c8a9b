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
from gaplib.geometry.distance import (
    alignment_of,
    centroid_distance_of,
    relative_modality_gap_of,
    true_pair_cosine_of,
)
from gaplib.geometry.inputs import Embeddings, normalize
from gaplib.geometry.separability import separability_of
from gaplib.geometry.spread import cross_uniformity_of, mean_cosine_of, uniformity_of

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

    def measured() -> tuple[dict, dict]:
        seen, positive_id = run.dev_embeddings(), run.embeddings["dev_answer"]
        rows = zip(run.history, *(torch.from_numpy(seen[side]) for side in ("image", "text")), strict=True)
        history = [{name: row[name] for name in TRAINED} | measure(x, y, positive_id) for row, x, y in rows]
        test = (torch.from_numpy(run.embeddings[f"test_{side}"]) for side in ("image", "text"))
        return {}, {"history": history, "metrics": measure(*test, run.embeddings["test_answer"])}

    trained = content_hash({"config": run.config.to_dict(), "embeddings": run.info["files"]})
    _, note = store.make(content_key({"run": trained, "measured_by": now}), measured)
    return replace(run, **note, info={**run.info, "measured_by": now})


def measure(image: Tensor, text: Tensor, answer: np.ndarray) -> dict[str, float]:
    """The gap metrics of paired embeddings, in double precision, and retrieval at 1 where equal answers are hits."""
    # The towers normalise in single precision; what is left of that would count in the eighth digit of a distance.
    data = Embeddings(normalize(image.double()), normalize(text.double()))
    directions = data.directions()
    codes = np.unique(answer, return_inverse=True)[1]
    values = {
        "centroid_distance": centroid_distance_of(data),
        "linear_separability": separability_of(data),
        "relative_modality_gap": relative_modality_gap_of(directions),
        "true_pair_cosine": true_pair_cosine_of(directions),
        "alignment": alignment_of(data),
        "uniformity_image": uniformity_of(data.x),
        "uniformity_text": uniformity_of(data.y),
        "cross_uniformity": cross_uniformity_of(data),
        "mean_cosine_image": mean_cosine_of(directions.x),
        "mean_cosine_text": mean_cosine_of(directions.y),
        **retrieval_of(data.x, data.y, codes, codes, ks=(1,)),
    }
    return {name: float(value) for name, value in values.items()}
