"""A method in Lightning: a LightningModule of two encoders; with several devices the batch is that of all of them."""

import lightning
import torch
from torch.nn.functional import normalize
from torch.utils.data import DataLoader, TensorDataset

from gaplib.distributed import gather
from gaplib.methods import method
from gaplib.pairs import PairedEmbeddings


class TwoTowers(lightning.LightningModule):
    """Any two encoders whose outputs have one width."""

    def __init__(self, image: torch.nn.Module, text: torch.nn.Module, name: str = "cua", lr: float = 1e-2):
        super().__init__()
        self.image, self.text, self.objective, self.lr = image, text, method(name, tau=0.1).build(), lr
        self.seen: list[float] = []

    def training_step(self, batch, index):
        x, y = normalize(self.image(batch[0]), dim=1), normalize(self.text(batch[1]), dim=1)
        progress = self.global_step, self.trainer.estimated_stepping_batches  # for methods with a schedule
        parts = self.objective.parts(gather(PairedEmbeddings(x, y, check=False)), *progress)
        self.log_dict(parts)
        loss = sum(parts.values())
        self.seen.append(float(loss.detach()))
        return loss

    def on_train_batch_end(self, *_):
        self.objective.after_step()  # the temperature stays in its range

    def configure_optimizers(self):
        towers = [*self.image.parameters(), *self.text.parameters()]
        return torch.optim.AdamW([{"params": towers}, *self.objective.param_groups(self.lr)], lr=self.lr)


def main(name: str = "cua", steps: int = 20) -> list[float]:
    draw = torch.Generator().manual_seed(0)
    signal = torch.randn(64, 16, generator=draw)
    data = TensorDataset(signal + 0.5 * torch.randn(64, 16, generator=draw), signal)
    torch.manual_seed(0)
    module = TwoTowers(torch.nn.Linear(16, 8), torch.nn.Linear(16, 8), name)
    trainer = lightning.Trainer(
        max_steps=steps, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, DataLoader(data, batch_size=32))
    return module.seen


if __name__ == "__main__":
    print(main())
