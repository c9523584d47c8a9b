"""COCO captions (Chen et al. 2015) and Flickr30k (Young et al. 2014): five captions a picture.

Karpathy and Fei-Fei (2015) published the splits that papers report on, in ``dataset_coco.json`` and
``dataset_flickr30k.json``. Where the file is there, its splits are taken ("restval" belongs to the training part).

COCO's own annotations are plain JSON and are read as such: torchvision's ``CocoCaptions`` would need pycocotools,
which is compiled, for this alone. Flickr30k is read through torchvision.
"""

from __future__ import annotations

from pathlib import Path

from gaplib._extras import need
from gaplib._validate import check_choice
from gaplib.data import DataUnavailable
from gaplib.data.annotations import field, first_there, inside, read_object, require_files, text_field
from gaplib.data.natural.captioned import SPLITS, Captioned

YEARS = ("2017", "2014")
_COCO_PAGE = "cocodataset.org has the annotations and pictures"
_KARPATHY = "it comes with Karpathy's caption_datasets.zip"
_FLICKR_PAGE = "the publisher's page sends results_20130124.token and flickr30k-images on request"


def coco(folder: str | Path, split: str | None = None, karpathy: bool = True) -> Captioned:
    """COCO's pictures and captions.

    Args:
        folder: holds ``annotations/captions_val2017.json`` and ``val2017/`` (and the same for train, or of 2014); with
            Karpathy's split, ``dataset_coco.json`` (here, in ``annotations`` or in ``karpathy``) and the pictures
            of 2014. Pictures may also lie in ``images/val2017``.
        split: "train", "val" or "test". ``None``: what is reported on, "test" of Karpathy's split where it is there,
            else "val". COCO's own test captions are not published.
        karpathy: whether to take Karpathy's split where it is there.

    Raises:
        DataUnavailable: a file that is missing (it says which, and who has it), or pictures (how many, and the first).
        ValueError: another split, annotations that are not what COCO wrote, names that lead out of the folder.
    """
    folder = _folder(folder)
    if split is not None:
        check_choice(split, "split", SPLITS)
    theirs = [folder / inner / "dataset_coco.json" for inner in ("", "annotations", "karpathy")]
    if karpathy and (found := _first(theirs)):
        return _karpathy(found, folder, split or "test", "coco")
    if split == "test":
        first_there(
            theirs if karpathy else [folder / "captions_test.json"],
            "coco",
            f"the split 'test' is Karpathy's, and {_KARPATHY}",
        )
    part = split or "val"
    wanted = [folder / "annotations" / f"captions_{part}{year}.json" for year in YEARS]
    path = first_there(wanted, "coco", _COCO_PAGE)
    pictures = _pictures_folder(folder, path.stem.removeprefix("captions_"))
    document = read_object(path)
    names: dict[int, str] = {}
    for i, entry in enumerate(field(document, "images", list, str(path))):
        place = f"{path}, images[{i}]"
        names[field(entry, "id", int, place)] = text_field(entry, "file_name", place)
    captions: dict[int, list[str]] = {}
    for i, entry in enumerate(field(document, "annotations", list, str(path))):
        place = f"{path}, annotations[{i}]"
        image = field(entry, "image_id", int, place)
        if image not in names:
            raise ValueError(f"{place}: expected the id of an image of this file, got image_id {image}")
        captions.setdefault(image, []).append(text_field(entry, "caption", place))
    rows = [(inside(pictures, names[image], str(path)), captions[image]) for image in sorted(captions)]
    return _checked(rows, "coco", folder, part, path)


def flickr30k(folder: str | Path, split: str | None = None) -> Captioned:
    """Flickr30k's pictures and captions.

    Args:
        folder: holds ``flickr30k-images/`` and ``dataset_flickr30k.json`` (Karpathy's split) or
            ``results_20130124.token`` (no splits).
        split: "train", "val" or "test" of Karpathy's split. ``None``: its "test", or everything without that file.

    Raises as for :func:`coco`.
    """
    folder = _folder(folder)
    if split is not None:
        check_choice(split, "split", SPLITS)
    karpathy = [folder / inner / "dataset_flickr30k.json" for inner in ("", "karpathy")]
    if found := _first(karpathy):
        return _karpathy(found, folder, split or "test", "flickr30k")
    if split is not None:
        first_there(karpathy, "flickr30k", f"the split {split!r} is Karpathy's, and {_KARPATHY}")
    need("open-clip", "torchvision")
    from torchvision.datasets import Flickr30k

    path = first_there([folder / "results_20130124.token"], "flickr30k", _FLICKR_PAGE)
    pictures = _pictures_folder(folder, "flickr30k-images")
    try:
        published = Flickr30k(str(pictures), str(path))
    except (ValueError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: expected lines of NAME#NUMBER, a tab and a caption ({error})") from None
    rows = [(inside(pictures, name, str(path)), published.annotations[name]) for name in published.ids]
    return _checked(rows, "flickr30k", folder, "", path)


def _karpathy(path: Path, folder: Path, split: str, name: str) -> Captioned:
    rows, places = [], {}
    for i, entry in enumerate(field(read_object(path), "images", list, str(path))):
        place = f"{path}, images[{i}]"
        part = text_field(entry, "split", place).replace("restval", "train")
        if check_choice(part, f"{place}: split", SPLITS) != split:
            continue
        inner = text_field(entry, "filepath", place) if "filepath" in entry else "flickr30k-images"
        file = text_field(entry, "filename", place)
        sentences = field(entry, "sentences", list, place)
        captions = [text_field(one, "raw", f"{place}, sentences[{j}]") for j, one in enumerate(sentences)]
        if inner not in places:  # of which there are one or two, for a hundred thousand pictures
            places[inner] = _pictures_folder(folder, inner, place)
        rows.append((inside(places[inner], file, place), captions))
    return _checked(rows, name, folder, split, path)


def _first(paths: list[Path]) -> Path | None:
    return next((path for path in paths if path.exists()), None)


def _folder(folder: str | Path) -> Path:
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise DataUnavailable(f"data: there is no folder {folder}")
    return folder


def _pictures_folder(folder: Path, name: str, place: str = "") -> Path:
    """Where pictures lie: ``folder / name``, or ``folder / images / name``."""
    direct = inside(folder, name, place or str(folder))
    other = folder / "images" / name
    return other if other.is_dir() and not direct.is_dir() else direct


def _checked(rows: list[tuple[Path, list[str]]], name: str, folder: Path, split: str, source: Path) -> Captioned:
    if not rows:
        raise ValueError(f"{source}: expected at least one picture with a caption, got none")
    bare = [path for path, captions in rows if not captions]
    if bare:
        raise ValueError(f"{source}: expected a caption for every picture, got none for {bare[0].name}")
    require_files((path for path, _ in rows), str(source))
    return Captioned([path for path, _ in rows], [captions for _, captions in rows], f"{name}:{folder}", split)
