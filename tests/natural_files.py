"""Tiny data sets in the form that their publishers' files have on disk."""

import io
import json
import tarfile

import numpy as np
import torch
from PIL import Image


def image(path, seed=0, kind="JPEG"):
    """A picture of one colour and some noise, which the colour outweighs; returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(picture_bytes(seed, kind=kind))
    return path


def picture_bytes(seed=0, size=40, kind="JPEG"):
    draw = np.random.default_rng(seed)
    pixels = np.clip(draw.integers(0, 256, 3) + draw.normal(0, 12, (size, size, 3)), 0, 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def coco(folder, n=6, part="val", year="2017", captions=5, first=100):
    """``annotations/captions_valYEAR.json`` and its pictures; ids are not in the order of the file."""
    names = {first + 7 * i: f"{first + 7 * i:012d}.jpg" for i in range(n)}
    for i, name in enumerate(names.values()):
        image(folder / f"{part}{year}" / name, seed=first + i)
    ids = list(names)[::-1]
    content = {
        "info": {"description": "COCO 2017 Dataset", "year": 2017},
        "licenses": [{"id": 1, "name": "some licence", "url": ""}],
        "images": [
            {"license": 1, "file_name": names[i], "coco_url": "", "height": 40, "width": 40, "id": i} for i in ids
        ],
        "annotations": [
            {"image_id": i, "id": 1000 + 10 * i + j, "caption": f"caption {j} of picture number {i}"}
            for j in range(captions)
            for i in ids
        ],
    }
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    (folder / "annotations" / f"captions_{part}{year}.json").write_text(json.dumps(content))
    return content


def coco_of_both(folder):
    """COCO of 2017 with both its parts: 24 pictures to train on, and 12 others."""
    coco(folder, n=24, part="train", first=5000)
    coco(folder, n=12, part="val")


def karpathy(folder, splits, name="coco"):
    """Karpathy's file with one picture a split named; COCO's lie in ``val2014``, Flickr's in one folder."""
    entries = []
    for i, split in enumerate(splits):
        file = f"COCO_val2014_{i:012d}.jpg" if name == "coco" else f"{1000 + i}.jpg"
        inner = "val2014" if name == "coco" else "flickr30k-images"
        image(folder / inner / file, seed=i)
        sentences = [
            {"tokens": ["a", str(j)], "raw": f"Sentence {j} of {i}.", "imgid": i, "sentid": 5 * i + j} for j in range(5)
        ]
        entry = {"filename": file, "imgid": i, "split": split, "sentences": sentences, "sentids": []}
        entries.append(entry | ({"filepath": inner, "cocoid": i} if name == "coco" else {}))
    (folder / f"dataset_{name}.json").write_text(json.dumps({"images": entries, "dataset": name}))
    return entries


def shard(path, samples):
    """A tar file; ``samples`` are (name, bytes) in order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in samples:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def shards(folder, n=2, per_shard=5):
    """``folder/{00000..}.tar`` as img2dataset writes them: .jpg, .txt and .json a sample."""
    for s in range(n):
        samples = []
        for i in range(per_shard):
            number = s * per_shard + i
            samples += [
                (f"{number:09d}.jpg", picture_bytes(number)),
                (f"{number:09d}.txt", f"picture number {number}".encode()),
                (f"{number:09d}.json", json.dumps({"key": number}).encode()),
            ]
        shard(folder / f"{s:05d}.tar", samples)
    return str(folder / f"{{00000..{n - 1:05d}}}.tar")


def csv(path, rows, separator="\t"):
    lines = [separator.join(("filepath", "title")), *(separator.join(row) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def simat(root):
    """Tables with the authors' columns; the wanted image of change k is the one that OSCAR scores 0.9."""
    db = root / "simat_db"
    db.mkdir(parents=True)
    words = [("cat", "sitting on a", "grass"), ("dog", "sitting on a", "grass"), ("cat", "sitting on a", "bed")]
    rows = [(100 - i, *words[i % 3]) for i in range(5)]
    table = ["region_id,subj,rel,obj", *(",".join(map(str, row)) for row in rows)]
    (db / "triplets.csv").write_text("\n".join(table) + "\n")
    head = ",transfo_id,region_id,field,value,target,norm,query_ids,target_ids,dataset_id,norm2,is_test"
    changes = ["0,0,100,subj,cat,dog,26,0,1,0,4,False", "1,1,99,subj,dog,cat,26,1,0,1,16,False"]
    changes += ["2,2,98,obj,bed,grass,26,2,0,2,9,True"]
    (db / "transfos.csv").write_text("\n".join([head, *changes]) + "\n")
    scores = torch.full((len(rows), 3), 0.1)
    for i in range(len(rows)):
        scores[i, i % 3] = 0.9
    torch.save(scores, db / "oscar_similarity_matrix.pt")
    for region, *triple in rows:
        image(db / "images" / f"A {' '.join(triple)}" / f"{region}.jpg", seed=region)
    return scores
