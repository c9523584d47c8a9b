"""The examples in gaplib's docstrings run, and give what they say."""

import doctest
import importlib
from pathlib import Path

import pytest

import gaplib

ROOT = Path(gaplib.__file__).parent
MODULES = sorted(
    ".".join(("gaplib", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
    for path in ROOT.rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_give_what_they_say(name, capsys):
    found = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert found.failed == 0, capsys.readouterr().out
