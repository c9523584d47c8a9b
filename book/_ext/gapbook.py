"""The book's own small Sphinx extension: an offline site, no broken buttons, accessible markup.

* Copies MathJax from the package ``sphinx-mathjax-offline`` into the site (``_static/mathjax``), so that no page asks
  another host for anything; copies plotly's script into ``_static/plotly`` when a page uses it.
* Adds a style for the reference lists, one list a chapter.
* Drops launch buttons while the repository's address in ``_config.yml`` is empty.
* Repairs what the stock theme gets wrong for screen readers (checked by axe-core in ``tests/test_site.py``).
"""

import re
import shutil
from importlib.metadata import distribution
from pathlib import Path

from pybtex.plugin import register_plugin
from pybtex.style.formatting.unsrt import Style as UnsrtStyle
from pybtex.style.labels import BaseLabelStyle


class KeyLabels(BaseLabelStyle):
    """Labels an entry by its key: the same work has the same label in every chapter's list, another work never has.

    Pages cite by author and year; the style sheet hides the labels.
    """

    def format_labels(self, sorted_entries):
        return (entry.key for entry in sorted_entries)


class GapbookStyle(UnsrtStyle):
    """Reference lists sorted by author, year and title, labelled by key."""

    default_label_style = KeyLabels
    default_sorting_style = "author_year_title"


MATHJAX_PACKAGE = "sphinx-mathjax-offline"
# tex-chtml.js holds the TeX parser, the HTML output and assistive MathML; fonts and extensions are loaded on demand.
MATHJAX_PARTS = ("tex-chtml.js", "output/chtml/fonts/woff-v2", "input/tex/extensions")
PLOTLY = "_static/plotly/plotly.min.js"


def mathjax_folder():
    """Folder of the installed MathJax. Raises FileNotFoundError when the package is not installed or holds none."""
    for file in distribution(MATHJAX_PACKAGE).files or ():
        if file.name == "tex-chtml.js":
            return Path(file.locate()).parent
    raise FileNotFoundError(f"{MATHJAX_PACKAGE} holds no tex-chtml.js")


def copy_mathjax(app):
    """Copy the parts of MathJax that the pages load (its licence lies in ``book/_static/licences``)."""
    if app.builder.format != "html":
        return
    source, target = mathjax_folder(), Path(app.outdir) / "_static" / "mathjax"
    for part in MATHJAX_PARTS:
        (target / part).parent.mkdir(parents=True, exist_ok=True)
        if (source / part).is_dir():
            shutil.copytree(source / part, target / part, dirs_exist_ok=True)
        else:
            shutil.copyfile(source / part, target / part)


def drop_buttons_without_address(app, config):
    """Remove launch buttons while there is no repository that they could open."""
    options = config.html_theme_options
    if not options.get("repository_url"):
        for key in ("repository_url", "launch_buttons", "repository_branch", "path_to_docs"):
            options.pop(key, None)


def mend_markup(app, pagename, templatename, context, doctree):
    """Give bibliographies a role that may stand outside an e-book, and note whether the page needs plotly."""
    body = context.get("body")
    if not body:
        return
    # The list around the entries has the role list, whose children must be list items.
    body = body.replace('role="doc-biblioentry"', 'role="listitem"')
    context["body"] = body
    if re.search(r"""src=["'][^"']*plotly\.min\.js""", body):
        app.env.gapbook_plotly = True


def copy_plotly(app, exception):
    """Copy plotly's script from its own package when a page refers to it."""
    if exception or not getattr(app.env, "gapbook_plotly", False):
        return
    import plotly

    target = Path(app.outdir) / PLOTLY
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(Path(plotly.__file__).parent / "package_data" / "plotly.min.js", target)


def setup(app):
    register_plugin("pybtex.style.formatting", "gapbook", GapbookStyle)
    app.connect("builder-inited", copy_mathjax)
    app.connect("config-inited", drop_buttons_without_address, priority=100)
    # After the theme (500) has filled the page's context.
    app.connect("html-page-context", mend_markup, priority=900)
    app.connect("build-finished", copy_plotly)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
