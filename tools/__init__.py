"""The commands that build the book; each is run from the project's root as ``python -m tools.<name>``."""
