"""A method as a loss of sentence-transformers: columns of a data set are the two sides of a pair."""

import tempfile
from collections.abc import Iterable

import torch
from sentence_transformers import SentenceTransformer
from torch.nn.functional import normalize

from gaplib.distributed import gather
from gaplib.methods import method
from gaplib.pairs import PairedEmbeddings

ENGLISH = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
GERMAN = ["eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun", "zehn", "elf", "zwölf"]


class GapLoss(torch.nn.Module):
    """``GapLoss(model, method("cua", tau=.05))``; a temperature that is learned is trained with the model."""

    def __init__(self, model: SentenceTransformer, chosen):
        super().__init__()
        self.model, self.objective = model, chosen.build()

    def forward(self, sentence_features: Iterable[dict[str, torch.Tensor]], labels: torch.Tensor | None = None):
        self.objective.after_step()  # a temperature stays in its range
        first, second = (normalize(self.model(z)["sentence_embedding"], dim=1) for z in sentence_features)
        return self.objective(gather(PairedEmbeddings(first, second)))


def tiny_model(words: list[str]) -> SentenceTransformer:
    """A random vector a word; ``SentenceTransformer("clip-ViT-B-32")`` and others in earnest."""
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(["[UNK]", *words])}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    torch.manual_seed(0)
    return SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=16)], device="cpu")


def main(name: str = "cua", steps: int = 20) -> list[float]:
    # pip install "sentence-transformers[train]"
    from datasets import Dataset
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments

    model = tiny_model([*ENGLISH, *GERMAN])
    with tempfile.TemporaryDirectory() as folder:
        arguments = SentenceTransformerTrainingArguments(
            folder, max_steps=steps, per_device_train_batch_size=12, learning_rate=1e-2, logging_steps=1,
            report_to=[], use_cpu=True, disable_tqdm=True, save_strategy="no",
        )  # fmt: skip
        trainer = SentenceTransformerTrainer(
            model=model, args=arguments, loss=GapLoss(model, method(name, tau=0.1)),
            train_dataset=Dataset.from_dict({"english": ENGLISH, "german": GERMAN}),
        )  # fmt: skip
        trainer.train()
        return [row["loss"] for row in trainer.state.log_history if "loss" in row]


if __name__ == "__main__":
    print(main())
