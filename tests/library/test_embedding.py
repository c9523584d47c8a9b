"""gaplib.embed: data as people have them, what it refuses, and what it leaves as it was. Models: test_towers_*.py."""

import open_clip
import pytest
import tiny_models
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import Dataset, IterableDataset

import gaplib
from gaplib.embedding import EmbeddedPairs
from gaplib.geometry import gap_report
from gaplib.towers import from_open_clip, tiny_towers

IMAGES, CAPTIONS = tiny_models.images(), tiny_models.CAPTIONS
DATA = list(zip(IMAGES, CAPTIONS, strict=True))


@pytest.fixture(scope="module")
def towers(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    tiny_models.open_clip_folder(path)
    return from_open_clip(f"local-dir:{path}")


@pytest.fixture(scope="module")
def wanted(towers):
    """Embeddings by open_clip's own calls, one input at a time."""
    with torch.no_grad():
        image = torch.cat([towers.model.encode_image(towers.preprocess(one)[None]) for one in IMAGES])
        text = torch.cat([towers.model.encode_text(towers.tokenize([one])) for some in CAPTIONS for one in some])
    return functional.normalize(image, dim=1), functional.normalize(text, dim=1)


class Places(Dataset):
    """A data set as torchvision's: places and a length, and no end of its own."""

    def __len__(self):
        return len(DATA)

    def __getitem__(self, place):
        return DATA[place % len(DATA)]


class Stream(IterableDataset):
    def __len__(self):
        return len(DATA)

    def __iter__(self):
        return iter(DATA)


def files(folder):
    for number, image in enumerate(IMAGES):
        image.save(folder / f"{number}.png")
    return [f"{folder}/0.png", folder / "1.png", folder / "2.png"]


FORMS = {
    "list": lambda towers, folder: DATA,
    "tuple": lambda towers, folder: tuple(DATA),
    "iterator": lambda towers, folder: iter(DATA),
    "places": lambda towers, folder: Places(),
    "stream": lambda towers, folder: Stream(),
    "two lists": lambda towers, folder: (IMAGES, CAPTIONS),
    "files": lambda towers, folder: (files(folder), CAPTIONS),
    "tensors": lambda towers, folder: (torch.stack([towers.preprocess(one) for one in IMAGES]), CAPTIONS),
    "tokens": lambda towers, folder: [(image, towers.tokenize(captions)) for image, captions in DATA],
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("batch_size", [1, 4])
def test_all_forms_of_data_give_open_clips_own_embeddings(towers, wanted, tmp_path, form, batch_size):
    found = gaplib.embed(towers, FORMS[form](towers, tmp_path), batch_size=batch_size)
    torch.testing.assert_close(found.image, wanted[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(found.text, wanted[1], atol=1e-5, rtol=0)
    assert found.pairs.tolist() == tiny_models.PAIRS
    assert (found.image.dtype, found.text.dtype, found.pairs.dtype) == (torch.float32, torch.float32, torch.int64)
    assert not found.image.requires_grad


def test_a_bare_model_of_open_clip(towers, wanted):
    """Its transform is on it; its tokenizer is given."""
    tokenizer = open_clip.get_tokenizer(towers.name)
    found = gaplib.embed(towers.model, DATA, tokenizer=tokenizer)
    torch.testing.assert_close(found.image, wanted[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(found.text, wanted[1], atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match=r"^tokenizer: expected it for captions that are strings"):
        gaplib.embed(towers.model, DATA)


def test_what_is_given_goes_before_what_is_found(towers):
    black = gaplib.embed(towers, DATA, preprocess=lambda image: torch.zeros(3, 32, 32))
    assert black.image.std(dim=0).max() < 1e-6
    one = gaplib.embed(towers, DATA, tokenizer=lambda texts: towers.tokenize(["a"] * len(texts)))
    assert one.text.std(dim=0).max() < 1e-6


def test_half_precision(wanted, tmp_path):
    tiny_models.open_clip_folder(tmp_path)
    half = from_open_clip(f"local-dir:{tmp_path}", precision="bf16")
    found = gaplib.embed(half, DATA)
    assert found.image.dtype == torch.float32
    torch.testing.assert_close(found.image, wanted[0], atol=0.03, rtol=0)
    torch.testing.assert_close(found.text, wanted[1], atol=0.03, rtol=0)


def test_own_towers_of_one_channel_get_gray_images():
    own, modes = tiny_towers(10, dim=8), []

    def preprocess(image):
        modes.append(image.mode)
        return torch.zeros(1, 24, 24, dtype=torch.uint8)

    found = gaplib.embed(own, DATA, preprocess=preprocess, tokenizer=lambda texts: torch.ones(len(texts), 3).long())
    assert set(modes) == {"L"}
    with torch.no_grad():
        black = own.encode_image(torch.zeros(1, 1, 24, 24), normalize=True)
    torch.testing.assert_close(found.image, black.expand(3, -1))


def test_bytes_are_pixels():
    own = tiny_towers(10, dim=8)
    pixels = torch.randint(0, 256, (4, 1, 24, 24), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    tokens = torch.ones(4, 2, dtype=torch.int64)
    found = gaplib.embed(own, (pixels, tokens))
    with torch.no_grad():
        torch.testing.assert_close(found.image, own.encode_image(pixels / 255, normalize=True))


class Watched(nn.Module):
    """Two encoders that note the mode and the number of inputs, and refuse gradients."""

    def __init__(self):
        super().__init__()
        self.frozen, self.head, self.sizes = nn.Dropout(), nn.Linear(2, 2), []

    def encode_image(self, x):
        assert not self.training
        assert not self.frozen.training
        assert not torch.is_grad_enabled()
        self.sizes.append(len(x))
        return self.head(x)

    encode_text = encode_image


@pytest.mark.parametrize("fails", [False, True])
def test_every_part_is_in_its_mode_afterwards(fails):
    model = Watched().train()
    model.frozen.eval()  # a part that its owner keeps in evaluation mode
    data = [(torch.ones(2), torch.ones(2))] * 3 + [(torch.ones(3 if fails else 2), torch.ones(2))]
    if fails:
        with pytest.raises(ValueError, match=r"^data: expected tensors of one shape"):
            gaplib.embed(model, data)
    else:
        gaplib.embed(model, data)
    assert model.training
    assert model.head.training
    assert not model.frozen.training


def test_memory_is_bounded_by_the_batch():
    """No more than a batch of images lives at a time, and no more are encoded at a time."""
    alive, most = set(), 0

    class Image(torch.Tensor):
        pass

    def data():
        nonlocal most
        import weakref

        for number in range(20):
            image = torch.ones(2).as_subclass(Image)
            alive.add(number)
            weakref.finalize(image, alive.discard, number)
            most = max(most, len(alive))
            yield image, torch.ones(2)
            del image

    model = Watched()
    found = gaplib.embed(model, data(), batch_size=4)
    assert len(found.image) == 20
    assert max(model.sizes) == 4
    assert most <= 6


def test_saved_and_loaded(tmp_path):
    pairs = EmbeddedPairs(torch.eye(2), torch.eye(2)[[0, 1, 1]], torch.tensor([0, 1, 1]))
    pairs.save(tmp_path / "e.safetensors")
    back = EmbeddedPairs.load(tmp_path / "e.safetensors")
    assert all(torch.equal(getattr(back, name), getattr(pairs, name)) for name in ("image", "text", "pairs"))
    assert [file.name for file in tmp_path.iterdir()] == ["e.safetensors"]
    (tmp_path / "e.safetensors").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"^path: expected a file that EmbeddedPairs.save wrote"):
        EmbeddedPairs.load(tmp_path / "e.safetensors")


def test_it_fits_the_report_card(towers):
    found = gaplib.embed(towers, DATA * 4)
    report = gap_report(found.image[found.pairs], found.text, groups=found.pairs)
    assert (report.n, report.n_groups) == (24, 12)


# --- what is refused -------------------------------------------------------------------------------------------------


def test_missing_images_are_counted_before_anything_is_encoded(tmp_path):
    paths = files(tmp_path)
    gone = tmp_path / "gone.png"
    pairs = [(path, "a cat") for path in (paths[0], gone, paths[1], tmp_path / "too.png")]
    message = rf"^data: 2 of 4 images are missing, first {gone} \(place 1\)$"
    watched = Watched()
    for data in (pairs, iter(pairs), ([path for path, _ in pairs], ["a cat"] * 4)):
        with pytest.raises(ValueError, match=message):
            gaplib.embed(
                watched, data, preprocess=lambda image: torch.ones(2), tokenizer=lambda t: torch.ones(len(t), 2)
            )
        assert watched.sizes == []


def test_files_that_are_no_images(towers, tmp_path):
    (tmp_path / "text.png").write_text("words")
    cut = tmp_path / "cut.png"
    IMAGES[0].save(cut)
    cut.write_bytes(cut.read_bytes()[:500])
    for path in (tmp_path / "text.png", cut):
        with pytest.raises(ValueError, match=rf"^data: {path} is not an image that can be read"):
            gaplib.embed(towers, [(path, "a cat")])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "expected at least one pair"),
        ("folder", "expected pairs .* got str"),
        ({"image": 1}, "expected pairs .* got dict"),
        (7, "expected pairs .* got int"),
        ([IMAGES[0]], r"expected pairs \(image, captions\), got Image in place 0"),
        ([DATA[0], (IMAGES[0],)], "expected pairs .* in place 1"),
        ([(IMAGES[0], [])], "expected at least one caption for each image, got none in place 0"),
        ([(IMAGES[0], [1])], "expected a caption, or a list of them, in place 0"),
        ([(IMAGES[0], None)], "expected a caption, or a list of them, in place 0"),
        ((IMAGES, ["a", "b"]), "expected captions for each image, got 3 images and 2"),
        ([(7, "a cat")], "expected a PIL image, a path or a tensor, got int"),
        ([DATA[0], (torch.zeros(3, 32, 32), "a cat")], "expected tensors throughout or not at all"),
    ],
)
def test_data_that_are_no_pairs(towers, data, message):
    with pytest.raises(ValueError, match=f"^data: {message}"):
        gaplib.embed(towers, data)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "^batch_size: expected"),
        ({"device": "cuda:99"}, "^device: this machine has no cuda:99"),
    ],
)
def test_bad_options(towers, options, message):
    with pytest.raises(ValueError, match=message):
        gaplib.embed(towers, DATA, **options)


def test_models_that_do_not_embed():
    with pytest.raises(ValueError, match=r"^model: expected a module with encode_image"):
        gaplib.embed(nn.Linear(2, 2), DATA)

    class Broken(Watched):
        def encode_image(self, x):
            return torch.where(torch.arange(len(x))[:, None] % 2 == 1, torch.nan, x)

        def encode_text(self, x):
            return x[:, :1]

    data = [(torch.ones(2), torch.ones(2))] * 5
    with pytest.raises(ValueError, match=r"^model: 2 of 5 images have no finite embedding, first row 1$"):
        gaplib.embed(Broken(), data)
    with pytest.raises(ValueError, match=r"^model: 1 of 1 captions have no finite embedding"):
        gaplib.embed(Broken(), [(torch.ones(2), torch.zeros(2))])
    with pytest.raises(ValueError, match=r"^model: expected embeddings of one dimension .* got 2 and 1$"):
        gaplib.embed(Broken(), data[:1])
    with pytest.raises(ValueError, match=r"^model: expected embeddings \(1, d\) of 1 inputs, got shape \(2,\)"):
        gaplib.embed(Flat(), data[:1])


class Flat(Watched):
    def encode_image(self, x):
        return x[0]
