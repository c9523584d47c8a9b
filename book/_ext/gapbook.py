"""The book's own small Sphinx extension: an offline site, no broken buttons, accessible markup.

* Copies MathJax from the package ``sphinx-mathjax-offline`` into the site (``_static/mathjax``), so that no page asks
  another host for anything; copies plotly's script into ``_static/plotly`` when a page uses it.
* Drops launch buttons while the repository's address in ``_config.yml`` is empty.
* Repairs what the stock theme gets wrong for screen readers (checked by axe-core in ``tests/test_site.py``).
"""

import re
import shutil
from importlib.metadata import distribution
from pathlib import Path

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
    # DPUB-ARIA's doc-biblioentry is deprecated and must not be a child of a plain division.
    body = body.replace('role="doc-biblioentry"', 'role="listitem"')
    body = re.sub(r'(<div class="citation-list")|(<div class="docutils container" id="bibtex[^"]*")', add_list_role, body)
    context["body"] = body
    if "plotly.min.js" in body:
        app.env.gapbook_plotly = True


def add_list_role(match):
    return match.group(0) + ' role="list"'


def copy_plotly(app, exception):
    """Copy plotly's script from its own package when a page refers to it."""
    if exception or not getattr(app.env, "gapbook_plotly", False):
        return
    import plotly

    target = Path(app.outdir) / PLOTLY
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(Path(plotly.__file__).parent / "package_data" / "plotly.min.js", target)


def setup(app):
    app.connect("builder-inited", copy_mathjax)
    app.connect("config-inited", drop_buttons_without_address, priority=100)
    # After the theme (500) has filled the page's context.
    app.connect("html-page-context", mend_markup, priority=900)
    app.connect("build-finished", copy_plotly)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
