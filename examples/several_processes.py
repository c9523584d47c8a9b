"""Train in several processes; the steps are those of one process on the joined batch. Seconds, no download.

python examples/several_processes.py                                          # one
torchrun --nproc-per-node 2 examples/several_processes.py                     # two; or: fabric run --devices 2 ...
python examples/several_processes.py --devices 2                              # two, by Fabric's own launcher
"""

import argparse

import torch

from gaplib import distributed
from gaplib.methods import method
from gaplib.training import fit


def own_rows(step: int) -> dict[str, torch.Tensor]:
    """Every process makes its own part of a batch of 64: here by taking every other row of the same numbers."""
    draw = torch.Generator().manual_seed(step)
    signal = torch.randn(64, 16, generator=draw)
    joined = {"image": signal + 0.5 * torch.randn(64, 16, generator=draw), "text": signal}
    return {name: z[distributed.rank() :: distributed.processes()] for name, z in joined.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="fit in several processes")
    parser.add_argument("--devices", type=int, default=1, help="processes that Fabric starts")
    parser.add_argument("--method", default="cua")
    options = parser.parse_args()
    if options.devices > 1:
        from lightning_fabric import Fabric

        Fabric(accelerator="cpu", devices=options.devices, strategy="ddp").launch()
    torch.manual_seed(0)
    towers = torch.nn.Linear(16, 8), torch.nn.Linear(16, 8)
    history = fit(towers, method(options.method, tau=0.1), own_rows, steps=20, lr=0.01)
    if distributed.rank() == 0:
        print(f"{distributed.processes()} processes, loss {history[0]['loss']:.4f} to {history[-1]['loss']:.4f}")


if __name__ == "__main__":
    main()
