"""Render the staged tree with Sphinx: every warning is an error, and nothing of an earlier build is reused.

    python -m tools.build_site --build _build

Doctrees that are kept let other pages show an old glued number, so they go first. ``html/`` is replaced only when the
new one is whole. Before that it is slimmed: the download of a chapter is its source notebook (executed, it would carry
every figure a second time), figures take a palette where nobody can see it, and maps for debuggers of stylesheets go.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import numpy as np
from PIL import Image

from tools.kernel import ROOT, own_environment

# A palette of 256 colours is taken where so few pixels move that figure and copy look the same: their mean difference
# (of the worst channel, of 255 levels) and the share of pixels further off than VISIBLE stay below these.
MEAN_DIFFERENCE, VISIBLE, VISIBLE_SHARE = 0.25, 16, 0.002


def build_site(build: Path) -> int:
    """Render ``build/stage`` into ``build/html``; returns Sphinx's exit status (its warnings count as failures)."""
    stage, fresh, html = build / "stage", build / "html.new", build / "html"
    for leftover in (build / "doctrees", build / "jupyter_execute", stage / "_build", fresh):
        shutil.rmtree(leftover, ignore_errors=True)
    path = [str((stage / "book/_ext").resolve()), str(ROOT)]
    environment = own_environment(PYTHONPATH=os.pathsep.join(path))
    config = [str(Path(sys.executable).with_name("jupyter-book")), "config", "sphinx", str(stage)]
    made = subprocess.run(config, env=environment, capture_output=True, text=True, check=False)
    if made.returncode:
        print(made.stdout, made.stderr, sep="\n")
        return made.returncode
    options = ["-b", "html", "-W", "--keep-going", "-n", "-q", "-d", str(build / "doctrees")]
    command = [sys.executable, "-m", "sphinx", *options, str(stage), str(fresh)]
    status = subprocess.run(command, env=environment, check=False).returncode
    if status == 0:
        slim(fresh, Path.cwd())
        shutil.rmtree(html, ignore_errors=True)
        fresh.rename(html)
    return status


def slim(html: Path, root: Path) -> None:
    """Make the rendered site in ``html`` smaller without taking anything from its readers; ``root`` is the project."""
    for offered in (html / "_sources").rglob("*.ipynb"):
        source = root / offered.relative_to(html / "_sources")
        if source.exists():
            shutil.copyfile(source, offered)
        else:
            strip_outputs(offered)
    for unused in (html / "_static").rglob("*.map"):
        unused.unlink()
    images = list((html / "_images").glob("*.png"))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for path, small in zip(images, pool.map(lambda path: smaller(path.read_bytes()), images), strict=True):
            path.write_bytes(small)


def strip_outputs(path: Path) -> None:
    """Rewrite the notebook without outputs and execution counts."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    nbformat.write(notebook, path)


def smaller(png: bytes) -> bytes:
    """The picture with a palette of its 256 main colours if it looks the same, else as it was.

    Lines and text on a plain page keep their edges (no dithering); smooth colour maps, where a palette would show, and
    pictures with transparency are left alone.
    """
    image = Image.open(io.BytesIO(png))
    if image.mode not in ("RGB", "RGBA") or (image.mode == "RGBA" and image.getextrema()[3][0] < 255):
        return png
    image = image.convert("RGB")
    palette = image.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    moved = np.asarray(palette.convert("RGB"), dtype=np.int16) - np.asarray(image, dtype=np.int16)
    moved = np.abs(moved).max(axis=-1)
    if moved.mean() > MEAN_DIFFERENCE or (moved > VISIBLE).mean() > VISIBLE_SHARE:
        return png
    written = io.BytesIO()
    palette.save(written, format="png", optimize=True)
    return min(written.getvalue(), png, key=len)


def sizes(html: Path) -> Counter[str]:
    """Bytes of the site by kind: pages, figures, notebooks to download, and the theme's and scripts' own files."""
    kinds: Counter[str] = Counter()
    for path in html.rglob("*"):
        if path.is_file():
            top = path.relative_to(html).parts[0]
            name = {"_images": "figures", "_sources": "sources", "_static": "theme and scripts"}.get(top, "pages")
            kinds[name] += path.stat().st_size
    return kinds


def main(argv: list[str] | None = None) -> int:
    """Render, and say how long it took and how large the site is."""
    parser = argparse.ArgumentParser(description="render the staged book")
    parser.add_argument("--build", type=Path, default=Path("_build"))
    build = parser.parse_args(argv).build
    started = time.monotonic()
    status = build_site(build)
    if status:
        print(f"  the site was not rendered (see above); the older one in {build / 'html'} is untouched")
        return status
    kinds = sizes(build / "html")
    parts = ", ".join(f"{name} {size / 2**20:.1f}" for name, size in kinds.most_common())
    seconds, total = time.monotonic() - started, kinds.total() / 2**20
    print(f"  rendered {build / 'html'} in {seconds:.0f} s ({total:.1f} MiB: {parts})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
