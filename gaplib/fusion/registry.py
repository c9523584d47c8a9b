"""The three tasks by name, and what each can ask and answer: below the vocabulary, which is made of these words."""

from __future__ import annotations

from gaplib._validate import check_choice
from gaplib.fusion import entailment, nlvr, vqa

TASKS = {"vqa": vqa, "nlvr": nlvr, "entailment": entailment}


def answers(name: str) -> tuple[str, ...]:
    """The answers of a task, in the order of ``TaskBatch.answer``."""
    return TASKS[check_choice(name, "name", TASKS)].ANSWERS


def kinds(name: str) -> tuple[str, ...]:
    """The sub-questions of a task, in the order of ``TaskBatch.kind``."""
    return TASKS[check_choice(name, "name", TASKS)].KINDS


def sentences(name: str) -> tuple[str, ...]:
    """Every question or statement that a task can ask."""
    return TASKS[check_choice(name, "name", TASKS)].SENTENCES
