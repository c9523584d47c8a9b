"""The lint of typed numbers: what it finds, what it leaves alone, and that the book is clean."""

import json
from pathlib import Path

import pytest

from tools import lint_numbers

ROOT = Path(__file__).resolve().parents[2]

TYPED = {
    "The gap is 0.82 wide.": ["0.82"],
    "It fell by 30 %.": ["30 %"],
    "It fell by 30% and by 12.5 percent.": ["30%", "12.5 percent"],
    "From .66 to .08.": [".66", ".08"],
    "A loss of -0.31 or \N{MINUS SIGN}1.4.": ["-0.31", "\N{MINUS SIGN}1.4"],
    "Nearby code `tau = 0.07` does not help 0.5.": ["0.5"],
    "See {cite:p}`a`. Here it is 0.7.": ["0.7"],
    "| clip | 0.82 |\n| siglip | 0.5 {cite:p}`b` |": ["0.82"],
    "```{note}\nInside a note it is 0.4.\n```": ["0.4"],
    "```{exercise-start}\n:label: ex-1.5\n```\nShow that it is 0.6.\n```{exercise-end}\n```": ["0.6"],
    ":::{tip}\n0.9 is enough.\n:::": ["0.9"],
    "**0.82**, and in a heading\n\n## The gap is 0.9": ["0.82", "0.9"],
    "A sentence that goes\nover two lines, 0.25 wide, and ends.": ["0.25"],
    "Of the values 3 and 0.5 the second.": ["0.5"],
    "```python\nx = 0.5\n```\nAfter the block 0.6.": ["0.6"],
    "````md\n```{note}\n0.5\n```\n````\nOutside 0.7.": ["0.7"],
}
HELD = [
    "The gap is {glue:text}`L1.clip.centroid_distance:.2f` wide.",
    "From another page: {glue:text}`../notebooks/01_x.ipynb::L1.clip:.2f`.",
    "At $\\tau = 0.07$ and `tau=0.01`.",
    "$$\nx = 0.5\n$$",
    "```{math}\n0.5\n```",
    "```python\nx = 0.5\n```",
    "The paper reports 0.82 {cite:p}`liang2022mind`.",
    "{cite:t}`liang2022mind` found 0.82 on 5,000 pairs, a sentence\nof two lines.",
    "| CLIP | 0.82 | {cite:p}`liang2022mind` |",
    "Theorem 3.3, Section 4.1 and Table 2.1 say so; Python 3.11 to 3.13; licence CC BY 4.0.",
    "[link](https://example.org/v1.2/x) and https://example.org/0.5",
    "Version 1.0.4.post1 of 5,000 pairs, 24 x 24 pixels, 10 seeds, 2.11.0.",
    "<!-- 0.5 -->",
    "![alt](figure-0.5.png)",
]


@pytest.mark.parametrize(("text", "numbers"), TYPED.items())
def test_finds_typed_numbers(text, numbers):
    assert [finding.number for finding in lint_numbers.findings(text)] == numbers


@pytest.mark.parametrize("text", HELD)
def test_leaves_held_numbers_alone(text):
    assert lint_numbers.findings(text) == []


def test_names_the_line():
    assert [finding.line for finding in lint_numbers.findings("# Title\n\nOne.\nIt is 0.5.\n\n| a | 0.7 |")] == [4, 6]


def test_reads_notebooks_markdown_only(tmp_path):
    cells = [
        {"cell_type": "code", "source": "x = 0.5"},
        {"cell_type": "markdown", "source": ["It is\n", "0.6 wide."]},
    ]
    path = tmp_path / "01_x.ipynb"
    path.write_text(json.dumps({"cells": cells}))
    complaints = lint_numbers.lint([path], tmp_path / "none.txt")
    assert len(complaints) == 1
    assert "cell 1:1: 0.6 is typed" in complaints[0] or "cell 1:2: 0.6 is typed" in complaints[0]


def test_allow_list_holds_and_is_kept_short(tmp_path):
    page, allowed = tmp_path / "page.md", tmp_path / "allowed.txt"
    page.write_text("It is 0.5 by definition.\n")
    allowed.write_text("# file | number | why\npage.md | 0.5 | a definition\n")
    assert lint_numbers.lint([page], allowed) == []
    page.write_text("It is half.\n")
    assert lint_numbers.lint([page], allowed) == ["allowed.txt: page.md does not need '0.5' any more"]
    allowed.write_text("page.md | 0.5 |\n")
    with pytest.raises(ValueError, match="expected `file \\| number \\| why`"):
        lint_numbers.lint([page], allowed)


def test_a_block_that_a_tool_writes_is_left_alone():
    page = "Typed: 0.25.\n<!-- headline:begin -->\n| a | 0.5 |\n<!-- headline:end -->\nTyped again: 0.75.\n"
    assert [(found.line, found.number) for found in lint_numbers.findings(page)] == [(1, "0.25"), (5, "0.75")]
    assert lint_numbers.findings("<!-- headline:begin --> 0.5")  # a block without an end hides nothing


def test_command_line(tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text("It is 0.5.\n")
    assert lint_numbers.main([str(page)]) == 1
    assert "page.md:1: 0.5 is typed" in capsys.readouterr().out


def test_the_book_types_no_measured_number():
    pages = [*(ROOT / "notebooks").glob("*.ipynb"), *(ROOT / "book").glob("*.md"), *ROOT.glob("README.md")]
    assert lint_numbers.lint(sorted(pages)) == []
