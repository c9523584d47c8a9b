"""What only some parts of gaplib need: an import without it names the extra to install, not the missing module."""

from __future__ import annotations

import importlib.util


class MissingExtra(ImportError):
    """A part of gaplib was imported whose packages the plain ``pip install gaplib`` does not bring."""


def need(extra: str, *modules: str) -> None:
    """Raise ``MissingExtra`` with the command that mends it unless all ``modules`` can be imported.

    extra: a name of ``[project.optional-dependencies]`` in pyproject.toml. modules: names as imported, top level only;
    nothing is imported here.

    >>> need("train", "json")
    >>> need("train", "json", "no_such_module")
    Traceback (most recent call last):
    ...
    gaplib._extras.MissingExtra: this part of gaplib needs no_such_module: pip install "gaplib[train]"
    """
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        message = f'this part of gaplib needs {", ".join(missing)}: pip install "gaplib[{extra}]"'
        raise MissingExtra(message, name=missing[0])
