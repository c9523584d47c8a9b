"""A method in the Hugging Face Trainer: another ``compute_loss`` for any model of transformers with CLIP's output."""

import tempfile

import torch
from transformers import CLIPConfig, CLIPModel, Trainer, TrainingArguments

import gaplib


class GapTrainer(Trainer):
    """``GapTrainer(gap_loss=gaplib.as_open_clip_loss("cua").attach(model), model=model, ...)``"""

    def __init__(self, gap_loss: torch.nn.Module, **options):
        super().__init__(**options)
        self.gap_loss = gap_loss

    def compute_loss(self, model, inputs, return_outputs=False, **others):
        out = model(**inputs)
        scale = self.accelerator.unwrap_model(model).logit_scale.exp()
        loss = self.gap_loss(out.image_embeds, out.text_embeds, scale)
        return (loss, out) if return_outputs else loss


def tiny_model() -> CLIPModel:
    """Random weights; ``CLIPModel.from_pretrained(...)`` in earnest."""
    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**size, "vocab_size": 50, "max_position_embeddings": 8, "bos_token_id": 48, "eos_token_id": 49}
    torch.manual_seed(0)
    vision = {**size, "image_size": 12, "patch_size": 6}
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8))


def pairs(n: int) -> list[dict[str, torch.Tensor]]:
    """Noise, and a caption of six words for each; a processor makes these of pictures and texts."""
    draw = torch.Generator().manual_seed(0)
    words = torch.randint(1, 48, (n, 6), generator=draw)
    words[:, -1] = 49
    images = torch.rand(n, 3, 12, 12, generator=draw)
    return [{"pixel_values": image, "input_ids": ids} for image, ids in zip(images, words, strict=True)]


def main(method: str = "cua", steps: int = 20) -> list[float]:
    model = tiny_model()
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, max_steps=steps, per_device_train_batch_size=16, learning_rate=1e-2, logging_steps=1,
            report_to=[], use_cpu=True, disable_tqdm=True, save_strategy="no",
        )  # fmt: skip
        loss = gaplib.as_open_clip_loss(method).attach(model)
        trainer = GapTrainer(loss, model=model, args=arguments, train_dataset=pairs(32))
        trainer.train()
        return [row["loss"] for row in trainer.state.log_history if "loss" in row]


if __name__ == "__main__":
    print(main())
