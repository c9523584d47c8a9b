"""A method in a training task of open_clip's main branch, ``CLIPTask(loss=...)`` of ``open_clip.task`` (not in 3.3).

The task sums what the loss calls ``..._loss``: the contrastive loss and each weighted term.
"""

import torch
from open_clip.task import CLIPTask

import gaplib


def main(model: torch.nn.Module, batches: list, method: str = "cua", lr: float = 1e-3) -> list[dict[str, float]]:
    """Train open_clip's ``model`` (made with ``output_dict=True``) on (images, texts); one row of losses a step."""
    loss = gaplib.as_open_clip_loss(method).attach(model)
    task = CLIPTask(model, loss=loss)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    rows = []
    for images, texts in batches:
        optimizer.zero_grad()
        losses = task(images, texts)
        losses["loss"].backward()
        optimizer.step()
        rows.append({name: float(z.detach()) for name, z in losses.items() if name.endswith("loss")})
    return rows
