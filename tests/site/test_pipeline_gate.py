"""The gate, judged by notebooks whose verdicts are known."""

from pathlib import Path

import nbformat
import pytest

from tools import gate

FIXTURES = Path(__file__).parents[1] / "fixtures" / "notebooks"

VERDICTS = {
    "error": ["cell 2: error ZeroDivisionError", "papermill met an exception"],
    "partial": ["cell 2: not executed", "cell 3: not executed"],
    "out_of_order": ["cell 1: out of order", "cell 2: out of order"],
    "wrong_parameter": ["unknown parameter 'PROFIL'"],
    "no_parameters": ["no cell is tagged `parameters`"],
    "stderr_warning": ["cell 1: warning on stderr: /tmp/x.py:1: FutureWarning"],
    "stderr_text": ["cell 1: text on stderr"],
    "no_alt": ["cell 1: a figure without alt text"],
    "short_alt": ["cell 1: a figure without alt text"],
    "no_figure": ["the notebook shows no figure at all"],
    "vanished_figure": ["cell 2: calls plots.show, yet no figure came out"],
    "two_figures": ["cell 1: more than one figure: fig-a, fig-b"],
    "unshowable": ["cell 2: an output the site cannot show: application/vnd.plotly.v1+json"],
    "widget": ["cell 2: an output the site cannot show: application/vnd.jupyter.widget-view+json"],
}


def read(name):
    return nbformat.read(FIXTURES / f"{name}.ipynb", as_version=4)


@pytest.mark.parametrize("name", VERDICTS)
def test_refuses(name):
    problems = gate.judge(read(name))
    assert len(problems) == len(VERDICTS[name]), problems
    for problem, beginning in zip(problems, VERDICTS[name], strict=True):
        assert problem.startswith(beginning)


def test_lets_a_good_notebook_pass():
    assert gate.judge(read("good")) == []


def test_every_fixture_has_a_verdict():
    names = {path.stem for path in FIXTURES.glob("*.ipynb") if not path.stem.startswith("source_")}
    assert names == {*VERDICTS, "good"}


def test_a_page_without_figures_may_be_allowed():
    assert gate.judge(read("no_figure"), figures=False) == []


def test_a_warning_past_the_cells_is_seen():
    log = "[IPKernelApp] WARNING | Kernel is running over TCP\nsite.py:3: PendingDeprecationWarning: soon gone\n"
    problems = gate.judge(read("good"), log=log)
    assert problems == ["the kernel warned: site.py:3: PendingDeprecationWarning: soon gone"]


def test_a_function_that_would_draw_is_not_a_figure_that_vanished():
    notebook = read("no_figure")
    notebook.cells[1].source = "def later():\n    plots.show(draw, alt=alt)"
    assert gate.judge(notebook, figures=False) == []


def test_annotated_parameters_count():
    notebook = read("good")
    notebook.cells[0].source = 'PROFILE: str = "quick"'
    assert gate.parameter_names(notebook) == ["PROFILE"]


def test_command_line_names_file_and_reason(capsys, tmp_path):
    chapter = tmp_path / "07_bad.ipynb"
    chapter.write_text((FIXTURES / "no_figure.ipynb").read_text())
    assert gate.main([str(chapter)]) == 1
    assert capsys.readouterr().out == f"{chapter}: the notebook shows no figure at all\n"
    assert gate.main([str(FIXTURES / "good.ipynb")]) == 0


def test_what_was_not_run_after_an_error_is_one_line():
    notebook = read("error")
    notebook.cells += [nbformat.v4.new_code_cell("x = 1") for _ in range(27)]
    problems = gate.judge(notebook)
    assert problems[0].startswith("cell 2: error ZeroDivisionError")
    assert problems[1:] == ["papermill met an exception", "cells not executed after the error: 27"]
