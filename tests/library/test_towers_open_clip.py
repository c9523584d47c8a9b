"""open_clip's models as people have them: files, folders, the hub's cache, with their own transform and tokenizer."""

import json
import pickle

import numpy as np
import open_clip
import pytest
import tiny_models
import torch
from safetensors.torch import save_file
from torchvision.transforms import v2

from gaplib.data import DataUnavailable
from gaplib.towers import from_open_clip, load, open_clip_towers

LISTED = "Tiny-For-Tests"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """(a folder as the hub has them, open_clip's own model with its weights)."""
    path = tmp_path_factory.mktemp("model")
    return path, tiny_models.open_clip_folder(path)


@pytest.fixture
def listed(monkeypatch):
    """A small model under a name that open_clip lists."""
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, LISTED, tiny_models.OPEN_CLIP)
    return LISTED


def assert_same(towers, model):
    torch.testing.assert_close(towers.model.state_dict(), model.state_dict(), rtol=0, atol=0)
    assert not towers.training


def transformed(image):
    """The transform that the folder's configuration asks for, written out."""
    pixels = v2.functional.pil_to_tensor(v2.functional.resize(image.convert("RGB"), [32, 32], antialias=True)) / 255
    return v2.functional.normalize(pixels, tiny_models.PREPROCESS["mean"], tiny_models.PREPROCESS["std"])


def test_a_folder_brings_weights_transform_and_tokenizer(folder, capfd):
    path, model = folder
    towers = from_open_clip(f"local-dir:{path}")
    assert capfd.readouterr() == ("", "")
    assert_same(towers, model)
    for image in tiny_models.images():
        torch.testing.assert_close(towers.preprocess(image), transformed(image), atol=1e-5, rtol=0)
    tokens = towers.tokenize(["a cat", "a photo of a dog " * 9])
    assert tokens.shape == (2, 16)  # the context of its configuration
    with torch.no_grad():
        torch.testing.assert_close(towers.encode_text(tokens), model.encode_text(tokens))


@pytest.mark.parametrize("form", ["weights.pt", "training.pt", "weights.safetensors"])
def test_a_checkpoint_file(folder, listed, tmp_path, form):
    """What open_clip's own ``create_model(pretrained=file)`` loads: plain weights, or what its training writes."""
    model, file = folder[1], tmp_path / form
    weights = model.state_dict()
    if form == "training.pt":
        parallel = {f"module.{name}": value for name, value in weights.items()}
        torch.save({"epoch": 3, "name": "run", "state_dict": parallel, "optimizer": {"state": {}}}, file)
    elif form == "weights.pt":
        torch.save(weights, file)
    else:
        save_file(weights, file)
    assert_same(from_open_clip(listed, file), open_clip.create_model(listed, pretrained=str(file)))
    assert_same(open_clip_towers(listed, str(file)), model)
    assert_same(from_open_clip(listed, file, force_image_size=32), model)


def test_a_model_that_was_downloaded_before_needs_no_network(folder, no_network, tmp_path):
    tiny_models.into_hub_cache(folder[0], tmp_path)
    towers = from_open_clip("hf-hub:org/name", cache_dir=str(tmp_path))
    assert_same(towers, folder[1])
    image = tiny_models.images()[0]
    torch.testing.assert_close(towers.preprocess(image), transformed(image), atol=1e-5, rtol=0)
    assert towers.tokenize(["a cat"]).shape == (1, 16)


def test_without_network_the_error_says_what_to_do(no_network):
    with pytest.raises(DataUnavailable, match=r"^'hf-hub:org/name', or a part of it, cannot be had here .*local-dir:"):
        from_open_clip("hf-hub:org/name")


def test_saved_and_loaded_again(folder, listed, tmp_path):
    for number, towers in enumerate([from_open_clip(f"local-dir:{folder[0]}"), from_open_clip(listed, seed=5)]):
        towers.save(tmp_path / f"{number}.safetensors")
        assert_same(load(tmp_path / f"{number}.safetensors"), towers.model)


def test_a_listed_name_as_openai_writes_it(monkeypatch):
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "ViT-X-16", tiny_models.OPEN_CLIP)
    assert from_open_clip("ViT-X/16").name == "ViT-X-16"


# --- what cannot be loaded -------------------------------------------------------------------------------------------


def test_weights_of_another_model(listed, tmp_path):
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=rf"^pretrained: open_clip cannot load .*other.pt as {LISTED} \(.{{1,300}}\)$"):
        from_open_clip(listed, tmp_path / "other.pt")


@pytest.mark.parametrize("content", [b"", b"not weights", b"PK\x03\x04"])
def test_files_that_are_no_weights(listed, tmp_path, content):
    for name in ("file.pt", "file.safetensors"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=r"^pretrained: open_clip cannot load .*file\."):
            from_open_clip(listed, tmp_path / name)


@pytest.mark.parametrize("as_asked", [True, False])
def test_nothing_is_unpickled(listed, tmp_path, as_asked):
    """A checkpoint with code in it is refused, even where open_clip is asked to unpickle; the code is not run."""

    class Harm:
        def __reduce__(self):
            return (open, (str(tmp_path / "harmed"), "w"))

    torch.save({"state_dict": Harm()}, tmp_path / "harm.pt", pickle_module=pickle)
    with pytest.raises(ValueError, match=r"^pretrained: open_clip cannot load"):
        from_open_clip(listed, tmp_path / "harm.pt", weights_only=as_asked)
    assert not (tmp_path / "harmed").exists()


def test_folders_without_weights_or_configuration(tmp_path):
    """open_clip would return random weights without an error."""
    with pytest.raises(ValueError, match=r"^name: there is no open_clip_config.json in the folder"):
        from_open_clip(f"local-dir:{tmp_path}")
    config = tmp_path / "open_clip_config.json"
    config.write_text(json.dumps({"model_cfg": tiny_models.OPEN_CLIP}))
    with pytest.raises(ValueError, match=r"^name: open_clip cannot load local-dir:.*could not be loaded"):
        from_open_clip(f"local-dir:{tmp_path}")
    random = [from_open_clip(f"local-dir:{tmp_path}", seed=seed, load_weights=False) for seed in (0, 0, 1)]
    first, again, other = (one.model.visual.conv1.weight.detach().numpy() for one in random)
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    config.write_text("{")
    with pytest.raises(ValueError, match=r"^name: open_clip cannot load local-dir:"):
        from_open_clip(f"local-dir:{tmp_path}")


def test_options_that_open_clip_does_not_have(listed):
    with pytest.raises(ValueError, match=rf"^name: open_clip cannot load {LISTED} .*no_such_option"):
        from_open_clip(listed, no_such_option=1)
