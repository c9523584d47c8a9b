"""Models of transformers: from a folder as from the hub, and their embeddings as transformers computes them."""

import pytest
import tiny_models
import torch
from torch.nn import functional

import gaplib
from gaplib import zoo
from gaplib.data import DataUnavailable
from gaplib.towers import as_towers, from_hub

IMAGES, CAPTIONS = tiny_models.images(), tiny_models.CAPTIONS
TEXTS = [text for captions in CAPTIONS for text in captions]
KINDS = ["clip", "siglip", "siglip2", "blip", "blip-retrieval"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """kind -> (model, processor, folder that both were written to)."""
    made = {}
    for kind in KINDS:
        model, processor = tiny_models.transformers_model(kind)
        folder = tmp_path_factory.mktemp(kind)
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
        made[kind] = model, processor, folder
    return made


def by_hand(model, processor, padding):
    """Embeddings by transformers' own calls, one input at a time."""
    rgb = [image.convert("RGB") for image in IMAGES]
    options = {"padding": padding, "truncation": True, "max_length": 8, "return_tensors": "pt"}
    pixels = [processor(images=[one], return_tensors="pt") for one in rgb]
    tokens = [processor(text=[text], **options) for text in TEXTS]
    with torch.no_grad():
        if hasattr(model, "get_image_features"):
            found = [
                [model.get_image_features(**one).pooler_output for one in pixels],
                [model.get_text_features(**one).pooler_output for one in tokens],
            ]
        else:  # the scores of the image-text contrast are all that its forward pass gives
            scores = [
                [model(**t, pixel_values=p["pixel_values"], use_itm_head=False).itm_score for t in tokens]
                for p in pixels
            ]
            return torch.tensor(scores)
    return [functional.normalize(torch.cat(rows), dim=1) for rows in found]


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_gives_what_transformers_computes(folders, kind, capfd):
    model, processor, folder = folders[kind]
    wanted = by_hand(model, processor, "max_length" if kind.startswith("siglip") else True)
    capfd.readouterr()
    towers = from_hub(folder)
    assert capfd.readouterr() == ("", "")
    assert type(towers.model) is type(model)
    assert not towers.training
    for one in (towers, model):  # loaded, or at hand with its processor
        found = gaplib.embed(
            one, list(zip(IMAGES, CAPTIONS, strict=True)), batch_size=4, processor=None if one is towers else processor
        )
        assert found.pairs.tolist() == tiny_models.PAIRS
        if kind == "blip-retrieval":
            torch.testing.assert_close(found.image @ found.text.T, wanted, atol=1e-5, rtol=0)
        else:
            torch.testing.assert_close(found.image, wanted[0], atol=1e-5, rtol=0)
            torch.testing.assert_close(found.text, wanted[1], atol=1e-5, rtol=0)
    assert wanted[0].std() > 1e-2


def test_padding_matters_to_siglip_so_that_the_test_above_can_fail(folders):
    model, processor, _ = folders["siglip"]
    short, full = (by_hand(model, processor, padding)[1] for padding in (True, "max_length"))
    assert (short - full).abs().max() > 1e-3


def test_the_interface_of_open_clip(folders):
    model, _, folder = folders["clip"]
    towers = from_hub(folder)
    with torch.no_grad():
        unit = towers.encode_text(towers.tokenize(["a cat"]), normalize=True)
        raw = towers.encode_text(towers.tokenize(["a cat"])["input_ids"])
    torch.testing.assert_close(unit, functional.normalize(raw, dim=1))
    assert towers.preprocess(IMAGES[0]).shape == (3, 32, 32)
    torch.testing.assert_close(towers.logit_scale, model.logit_scale)
    assert towers.logit_bias is None
    long = towers.tokenize(["a photo of a cat of a dog of a cat of a dog"])
    assert long["input_ids"].shape == (1, 8)


def test_blips_projections_are_towers(folders):
    model = folders["blip-retrieval"][0]
    towers = as_towers(model)
    pixels = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert (
        towers.encode_image(pixels).shape == towers.encode_text(torch.tensor([[2, 4, 3], [2, 7, 3]])).shape == (2, 12)
    )


def test_weights_that_are_missing_are_not_made_up(folders, tmp_path):
    """transformers would fill them with random numbers, and only warn."""
    from safetensors.torch import load_file, save_file

    _model, processor, folder = folders["clip"]
    weights = load_file(folder / "model.safetensors")
    del weights["text_projection.weight"]
    processor.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"has no weights for 1 parts of CLIPModel, first text_projection.weight$"):
        from_hub(tmp_path)


def test_folders_that_hold_no_model_of_two_encoders(folders, tmp_path):
    model, processor, _ = folders["clip"]
    with pytest.raises(ValueError, match=r"^name: transformers cannot load"):
        from_hub(tmp_path)
    with pytest.raises(ValueError, match=r"there is no folder '.*missing'"):
        from_hub(tmp_path / "missing")
    model.vision_model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="is a CLIPVisionModel, not a model of two encoders"):
        from_hub(tmp_path)


def test_nothing_is_unpickled(folders, tmp_path):
    """A file of weights with code in it is refused; the code is not run."""
    import pickle

    class Harm:
        def __reduce__(self):
            return (open, (str(tmp_path / "harmed"), "w"))

    _model, processor, folder = folders["clip"]
    processor.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    torch.save({"text_projection.weight": Harm()}, tmp_path / "pytorch_model.bin", pickle_module=pickle)
    with pytest.raises(ValueError, match=r"^name: transformers cannot load"):
        from_hub(tmp_path)
    assert not (tmp_path / "harmed").exists()


def test_a_device_that_is_not_there(folders):
    with pytest.raises(ValueError, match=r"^device: this machine has no cuda:99$"):
        from_hub(folders["clip"][2], device="cuda:99")
    with pytest.raises(ValueError, match=r"^device: expected a name as cpu"):
        from_hub(folders["clip"][2], device="gpu")


def test_without_network_the_error_says_what_to_do(no_network):
    with pytest.raises(DataUnavailable, match=r"^the model 'org/name' cannot be had here .*HF_HOME.*save_pretrained"):
        from_hub("org/name")


def test_a_model_that_was_downloaded_before_needs_no_network(folders, no_network, tmp_path):
    tiny_models.into_hub_cache(folders["clip"][2], tmp_path)
    towers = from_hub("org/name", cache_dir=tmp_path)
    torch.testing.assert_close(towers.model.state_dict(), folders["clip"][0].state_dict())


# --- sentence-transformers -------------------------------------------------------------------------------------------


def test_sentence_transformers_models(folders, tmp_path):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Transformer

    model, processor, folder = folders["clip"]
    SentenceTransformer(modules=[Transformer(str(folder))], device="cpu").save(str(tmp_path))
    loaded = SentenceTransformer(str(tmp_path), device="cpu")
    loaded.train()
    found = gaplib.embed(loaded, list(zip(IMAGES, CAPTIONS, strict=True)), batch_size=2)
    wanted = by_hand(model, processor, True)
    torch.testing.assert_close(found.image, wanted[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(found.text, wanted[1], atol=1e-5, rtol=0)
    assert loaded.training
    by_name = zoo.LIBRARIES["st"].load(zoo.parse(f"st:{tmp_path}"), "cpu")
    torch.testing.assert_close(gaplib.embed(by_name, [(IMAGES[0], "a cat")]).image, found.image[:1])


# --- what is missing -------------------------------------------------------------------------------------------------


def test_a_model_without_its_processor_says_so(folders):
    with pytest.raises(ValueError, match=r"^processor: expected it for images that are no tensors"):
        gaplib.embed(folders["clip"][0], [(IMAGES[0], "a cat")])


def test_a_model_of_one_modality(folders):
    model, processor, _ = folders["clip"]
    for options in ({}, {"processor": processor}):
        with pytest.raises(ValueError, match=r"^model: expected a module with encode_image .* got CLIPVisionModel$"):
            gaplib.embed(model.vision_model, [(IMAGES[0], "a cat")], **options)
