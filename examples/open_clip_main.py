"""A method as the loss of open_clip's own training program; every other option is open_clip's.

python examples/open_clip_main.py cua --model ViT-B-32 --train-data pairs.csv ...
torchrun --nproc-per-node 2 -- examples/open_clip_main.py cuaxu --local-loss --gather-with-grad ...
"""

import sys

import torch
from open_clip_train import main as program

import gaplib


def main(method: str, *options: str) -> None:
    args = program.parse_args(options)
    loss = gaplib.as_open_clip_loss(method, local_loss=args.local_loss, gather_with_grad=args.gather_with_grad)
    make, ddp = program.create_model_and_transforms, torch.nn.parallel.DistributedDataParallel

    def make_and_attach(*args, **kwargs):
        made = make(*args, **kwargs)
        loss.attach(made[0])  # before the optimizer is made: a temperature of the method's is then the model's
        return made

    program.create_model_and_transforms, program.create_loss = make_and_attach, lambda args: loss
    if args.device == "cpu":  # where torch takes no list of devices, which open_clip gives
        torch.nn.parallel.DistributedDataParallel = lambda model, device_ids=None, **others: ddp(model, **others)
    try:
        program.main(list(options))
    finally:
        program.create_model_and_transforms, torch.nn.parallel.DistributedDataParallel = make, ddp


if __name__ == "__main__":
    main(*sys.argv[1:])
