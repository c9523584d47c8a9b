"""The README's headline comes from the committed results, and the check notices when it does not."""

import json
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest

from gaplib.claims import CLAIMS
from gaplib.stats import Estimate
from tools import readme


def results_file(factor=1.0):
    """A confirmed chapter 01 with a value far beyond every threshold of L1."""

    def estimate(value):
        return Estimate(value, value - 0.01, value + 0.01, 100, "made up", 0.005)

    estimates = {part.quantity: estimate(0.99 * factor) for part in CLAIMS["L1"].parts}
    estimates["L1.clip.centroid_distance"] = estimate(0.82 * factor)
    estimates["L2.clip_random.excess_distance"] = estimate(0.5 * factor)
    return SimpleNamespace(chapter="01", seeds=(100, 101), estimates=estimates, extra={"commit": "0123456789abcdef"})


@pytest.fixture
def root(tmp_path):
    (tmp_path / "README.md").write_text(f"top\n{readme.BEGIN}\n{readme.END}\nbottom\n", encoding="utf-8")
    return tmp_path


def test_committed_readme_is_in_sync():
    assert readme.update(readme.ROOT, check=True) == [], "run: python -m tools.readme"


def test_without_results_it_says_so(root):
    assert readme.update(root) == ["README.md"]
    assert (root / "README.md").read_text() == (f"top\n{readme.BEGIN}\n{readme.NOTHING_YET}\n{readme.END}\nbottom\n")
    assert readme.update(root, check=True) == []


def test_table_and_figure_follow_the_results(root, monkeypatch):
    monkeypatch.setattr(readme, "confirmed", lambda folder: [results_file()])
    assert readme.update(root, check=True) == ["README.md", readme.FIGURE]
    assert not (root / readme.FIGURE).exists()
    readme.update(root)
    text = (root / "README.md").read_text()
    row = next(line for line in text.splitlines() if line.startswith("| L1 |"))
    assert row.endswith("| **reproduced** |")
    assert "0.99 [0.98, 1.00]" in row
    assert "commit 0123456789;" in text
    assert ElementTree.parse(root / readme.FIGURE).getroot().tag.endswith("svg")
    assert readme.update(root, check=True) == []

    # Other results, or a number changed by hand, are noticed.
    monkeypatch.setattr(readme, "confirmed", lambda folder: [results_file(0.9)])
    assert readme.update(root, check=True) == ["README.md", readme.FIGURE]
    readme.update(root)
    (root / "README.md").write_text((root / "README.md").read_text().replace("0.89", "0.98"), encoding="utf-8")
    assert readme.update(root, check=True) == ["README.md"]


def test_reads_committed_files_in_chapter_order(tmp_path, monkeypatch):
    for name in ("02.json", "01.json", "notes.json"):
        (tmp_path / name).write_text(json.dumps({"name": name}), encoding="utf-8")
    monkeypatch.setattr(readme, "load", lambda path: path.name)
    assert readme.confirmed(tmp_path) == ["01.json", "02.json"]


@pytest.mark.parametrize("text", ["no marks", f"{readme.END}{readme.BEGIN}", f"{readme.BEGIN * 2}{readme.END}"])
def test_marks_are_needed_once_and_in_order(text):
    with pytest.raises(ValueError, match="once each"):
        readme.fill(text, "block")
