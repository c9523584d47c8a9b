"""What the pages say of the book's own address, where it is known; without one the site is whole, and asks no host.

GitHub's workflows name the repository (GITHUB_REPOSITORY); its pages then lie at https://OWNER.github.io/NAME/. A build
that knows both gets links to the repository, to a new issue and to each page's source, a sitemap, addresses of its own
in each head, and a picture for those who share a page. Every build has descriptions and a page for what is not found.
"""

import os
import re
from urllib.parse import urlsplit

# The logo (cards take no SVG), and a font that matplotlib brings with its bold.
CARDS = {"image": "book/_static/card.png", "image_mini": "book/_static/card.png", "font": "DejaVu Sans"}
NOT_FOUND = {
    "title": "Not found",
    "body": "<h1>There is no such page</h1><p>It may have moved. The list of chapters and the search know what there "
    "is.</p>",
}
BUTTONS = ("use_repository_button", "use_issues_button", "use_edit_page_button")


def repository(environment=os.environ):
    """The address of the repository that the build says it is of; empty where it says nothing, or no owner and name."""
    name = environment.get("GITHUB_REPOSITORY", "")
    return f"https://github.com/{name}" if re.fullmatch(r"[\w.-]+/[\w.-]+", name) else ""


def pages(address):
    """Where GitHub publishes the pages of a repository, ending in a slash; empty for one that lies elsewhere."""
    found = re.fullmatch(r"https://github\.com/([\w.-]+)/([\w.-]+?)(?:\.git)?", address)
    if not found:
        return ""
    host = f"{found[1].lower()}.github.io"
    return f"https://{host}/" if found[2].lower() == host else f"https://{host}/{found[2]}/"


def set_address(app, config):
    """Fill in what follows from the address, in the settings of the theme and of the other extensions."""
    options = config.html_theme_options
    address = options.get("repository_url") or repository()
    if address:
        options["repository_url"] = address
        options.setdefault("repository_branch", "main")
        options.setdefault("path_to_docs", "")
        options.update(dict.fromkeys(BUTTONS, True))
    site = pages(address)
    config.html_baseurl = config.ogp_site_url = site
    config.ogp_site_name = config.html_title
    config.ogp_social_cards = CARDS if site else {"enable": False}
    config.notfound_context = NOT_FOUND
    config.notfound_urls_prefix = urlsplit(site).path or "/"
    config.sitemap_url_scheme = "{link}"
    config.sitemap_locales = [None]
    config.sitemap_excludes = ["404.html", "genindex.html", "search.html"]
    if site:
        app.setup_extension("sphinx_sitemap")


def setup(app):
    app.setup_extension("sphinxext.opengraph")
    app.setup_extension("notfound.extension")
    # After gapbook has dropped the launch buttons of a book whose _config.yml names no address.
    app.connect("config-inited", set_address, priority=200)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
