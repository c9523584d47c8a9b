"""Real architectures of open_clip, transformers and sentence-transformers, so small that they take no time."""

import json

import numpy as np
import torch
from PIL import Image

WORDS = ["[PAD]", "[UNK]", "[BOS]", "[EOS]", "a", "photo", "of", "cat", "dog", "red", "the"]
CAPTIONS = [["a photo of a cat", "the cat"], ["the dog"], ["a red dog", "red", "a photo of the red dog"]]
PAIRS = [0, 0, 1, 2, 2, 2]  # the image of each caption

#: A configuration of open_clip. 32 pixels is one more than its smallest kernel needs.
OPEN_CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}
#: A transform that is not open_clip's own default, so that a test sees which one was used.
PREPROCESS = {"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.6, 0.7], "interpolation": "bilinear", "resize_mode": "squash"}


def images(n=3):
    """PIL images of no even size, the last one gray."""
    pixels = np.random.default_rng(0).integers(0, 255, (n, 40, 50, 3), dtype=np.uint8)
    return [Image.fromarray(one) for one in pixels[:-1]] + [Image.fromarray(pixels[-1]).convert("L")]


def open_clip_folder(folder, seed=0):
    """Write such a folder as the hub has them; return open_clip's own model with these weights."""
    import open_clip

    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": OPEN_CLIP, "preprocess_cfg": PREPROCESS}))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = open_clip.CLIP(**OPEN_CLIP).eval()
    from safetensors.torch import save_file

    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return model


def into_hub_cache(folder, cache):
    """Fill the hub's cache with the folder, as a download of ``org/name`` fills it."""
    snapshot = cache / "models--org--name" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (cache / "models--org--name" / "refs").mkdir()
    (cache / "models--org--name" / "refs" / "main").write_text("abc")
    for file in folder.iterdir():
        (snapshot / file.name).write_bytes(file.read_bytes())


def word_tokenizer(**options):
    """One token a word, between a beginning and an end."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [("[BOS]", 2), ("[EOS]", 3)]
    tokenizer.post_processor = processors.TemplateProcessing(single="[BOS] $A [EOS]", special_tokens=ends)
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "bos_token": "[BOS]", "eos_token": "[EOS]"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names, **options)


_LAYER = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
_TEXT = {
    **_LAYER,
    **{"vocab_size": len(WORDS), "max_position_embeddings": 8},
    **{"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3},
}
_VISION = {**_LAYER, "image_size": 32, "patch_size": 16}
_SQUARE = {"height": 32, "width": 32}


def transformers_model(kind):
    """(model, processor) with weights large enough for inputs to make a difference."""
    model, processor = _transformers_model(kind)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.mul_(10)
    return model, processor


def _transformers_model(kind):
    """(model, processor): "clip", "siglip", "siglip2", "blip" or "blip-retrieval"."""
    import transformers as t

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if kind == "clip":
            config = t.CLIPConfig(text_config=_TEXT, vision_config=_VISION, projection_dim=12)
            images = t.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=_SQUARE)
            return t.CLIPModel(config).eval(), t.CLIPProcessor(images, word_tokenizer(model_max_length=8))
        if kind == "siglip":
            model = t.SiglipModel(t.SiglipConfig(text_config=_TEXT, vision_config=_VISION))
            tokenizer = word_tokenizer(model_input_names=["input_ids"])
            return model.eval(), t.SiglipProcessor(t.SiglipImageProcessor(size=_SQUARE), tokenizer)
        if kind == "siglip2":  # images of any shape: patches with a mask
            vision = {**_LAYER, "num_patches": 256, "patch_size": 16}
            model = t.Siglip2Model(t.Siglip2Config(text_config={**_TEXT, "vocab_size": 50}, vision_config=vision))
            tokenizer = t.Siglip2Tokenizer(vocab={chr(97 + i): i for i in range(26)} | {"<unk>": 26, "<pad>": 27})
            return model.eval(), t.Siglip2Processor(t.Siglip2ImageProcessor(), tokenizer)
        text = {**_TEXT, "encoder_hidden_size": 16, "projection_dim": 16, "sep_token_id": 3}
        config = t.BlipConfig(text_config=text, vision_config=_VISION, projection_dim=12, image_text_hidden_size=12)
        model = (t.BlipModel if kind == "blip" else t.BlipForImageTextRetrieval)(config)
        processor = t.BlipProcessor(t.BlipImageProcessor(size=_SQUARE), word_tokenizer(model_max_length=8))
        return model.eval(), processor
