"""What fine-tuning puts on the fusion encoder: an answer decoder, or a classifier over one or two images."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gaplib.fusion.model import Architecture, FusionModel, mean_state
from gaplib.fusion.vocabulary import PAD
from gaplib.towers import check_tokens, seeded


class TaskModel(nn.Module):
    """A pre-trained model that reads a text beside k images; the base of both heads."""

    def __init__(self, model: FusionModel, images: int):
        super().__init__()
        self.model, self.images = model, images

    def read(self, images: Tensor, tokens: Tensor) -> list[Tensor]:
        """Fused states (n, L, width) of texts (n, L) beside each of the images (n, k, 1, size, size): k tensors."""
        if images.ndim != 5 or images.shape[:2] != (len(tokens), self.images):
            raise ValueError(
                f"images: expected shape ({len(tokens)}, {self.images}, 1, size, size), got {tuple(images.shape)}"
            )
        words = self.model.encoders.text_encoder(tokens)
        patches = self.model.encoders.image_encoder(images.transpose(0, 1).flatten(0, 1))
        texts, k = tokens.repeat(self.images, 1), self.images
        return list(self.model.fusion(words.repeat(k, 1, 1), patches, texts).chunk(k))


class Classifier(TaskModel):
    """Mean fused state -> perceptron -> classes, as ALBEF has it for visual entailment.

    Two images are read one after the other with shared weights, as in ALBEF's model for NLVR2. Word by word their
    states u and v are compared as [u, v, |u - v|, u * v]; then the statement weighs the comparison, feature by feature,
    both standardised over the batch. Whether a statement or its negation is true depends on neither factor alone: a
    perceptron on the fused states stays at chance for hundreds of steps here, their product leaves it at once.
    """

    def __init__(self, model: FusionModel, images: int, classes: int):
        super().__init__(model, images)
        width = model.size.width
        if images == 2:
            self.compare = nn.Sequential(nn.Linear(4 * width, 4 * width), nn.GELU())
            self.statement = nn.Sequential(nn.Linear(width, 4 * width), nn.BatchNorm1d(4 * width))
            self.norm = nn.BatchNorm1d(4 * width)
            self.head = nn.Linear(4 * width, classes)
        else:
            self.head = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, classes))

    def scores(self, images: Tensor, tokens: Tensor) -> Tensor:
        """Logits (n, classes)."""
        states = self.read(images, tokens)
        if self.images == 1:
            return self.head(mean_state(states[0], tokens))
        u, v = states
        compared = mean_state(self.compare(torch.cat([u, v, (u - v).abs(), u * v], dim=2)), tokens)
        statement = self.statement(mean_state(self.model.encoders.text_encoder(tokens), tokens))
        return self.head(self.norm(compared) * statement)

    def loss(self, images: Tensor, tokens: Tensor, answer: Tensor) -> Tensor:
        """Cross-entropy of the right classes int64 (n,), 0-d."""
        return F.cross_entropy(self.scores(images, tokens), answer)


class AnswerDecoder(TaskModel):
    """A small decoder that writes the answer word by word, looking at the fused states (ALBEF's for VQA).

    answers: int64 (m, A), every answer of the list as [BOS] words [EOS], padded with 0. In training the right one is
    forced; to answer, all m are ranked by the probability that the decoder gives them. It can only write the words of
    the list: over the whole vocabulary a third of the few steps would go into learning which words answers have.
    """

    def __init__(self, model: FusionModel, answers: Tensor):
        super().__init__(model, images=1)
        size: Architecture = model.size
        check_tokens(answers, size.vocabulary_size)
        self.register_buffer("answers", answers)
        self.register_buffer("allowed", torch.unique(answers[:, 1:][answers[:, 1:] != PAD]))
        self.places = nn.Parameter(torch.randn(answers.shape[1], size.width) * 0.02)
        self.layer = nn.TransformerDecoderLayer(
            size.width, size.heads, size.hidden, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.norm = nn.LayerNorm(size.width)

    def log_likelihood(self, states: Tensor, tokens: Tensor, answers: Tensor) -> Tensor:
        """(n,) log probability of answers int64 (n, A) after fused ``states`` (n, L, width) of the texts ``tokens``."""
        words = self.model.encoders.text_encoder.words.weight
        given, wanted = answers[:, :-1], answers[:, 1:]
        length = given.shape[1]
        ahead = torch.ones(length, length, dtype=torch.bool, device=given.device).triu(1)
        inside = F.embedding(given, words) + self.places[:length]
        written = self.layer(inside, states, tgt_mask=ahead, memory_key_padding_mask=tokens == PAD)
        logits = self.model.masking_logits(self.norm(written), self.allowed)
        place = torch.searchsorted(self.allowed, wanted.contiguous()).masked_fill(wanted == PAD, -1)
        lost = F.cross_entropy(logits.flatten(0, 1), place.flatten(), ignore_index=-1, reduction="none")
        return -lost.view(wanted.shape).sum(dim=1)

    def scores(self, images: Tensor, tokens: Tensor) -> Tensor:
        """(n, m) log probability of every answer of the list."""
        n, m = len(tokens), len(self.answers)
        states = self.read(images, tokens)[0].repeat_interleave(m, dim=0)
        asked = tokens.repeat_interleave(m, dim=0)
        return self.log_likelihood(states, asked, self.answers.repeat(n, 1)).view(n, m)

    def loss(self, images: Tensor, tokens: Tensor, answer: Tensor) -> Tensor:
        """Mean negative log likelihood a text of the right answers, given by their places int64 (n,) in the list."""
        return -self.log_likelihood(self.read(images, tokens)[0], tokens, self.answers[answer]).mean()


def task_model(model: FusionModel, images: int, answers: Tensor | None, classes: int, seed: int) -> TaskModel:
    """A decoder over ``answers`` if there are any, else a classifier; the head's first weights by ``seed``."""
    with seeded(seed):
        return Classifier(model, images, classes) if answers is None else AnswerDecoder(model, answers)
