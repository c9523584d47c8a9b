"""What pages say of their own address: nothing without one, and with one all that follows from it. Built for real."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from bs4 import BeautifulSoup

ROOT = Path(__file__).resolve().parents[2]
EXTENSION = ROOT / "book" / "_ext" / "address.py"
SITE = "https://some-one.github.io/gap-book/"
SETTINGS = {
    "extensions": ["address"],
    "project": "gap",
    "html_title": "The modality gap",
    "html_theme": "sphinx_book_theme",
    "html_theme_options": {},
    "exclude_patterns": ["out", "trees"],
}


def extension():
    spec = importlib.util.spec_from_file_location("address", EXTENSION)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["", "owner", "a/b/c", "a/b c", "a/<b>"])
def test_what_is_no_owner_and_name_gives_no_address(name):
    assert extension().repository({"GITHUB_REPOSITORY": name}) == ""
    assert extension().repository({}) == ""


@pytest.mark.parametrize(
    ("repository", "pages"),
    [
        ("https://github.com/Some-One/gap-book", SITE),
        ("https://github.com/Some-One/gap-book.git", SITE),
        ("https://github.com/Some-One/some-one.github.io", "https://some-one.github.io/"),
        ("https://example.org/Some-One/gap-book", ""),
        ("", ""),
    ],
)
def test_where_github_publishes(repository, pages):
    assert extension().pages(repository) == pages


@pytest.fixture(scope="module", params=["", "Some-One/gap-book"], ids=["no address", "address"])
def built(request, tmp_path_factory):
    """A site of two pages, whose warnings are errors: the repository that the build was told, and its folder."""
    source = tmp_path_factory.mktemp("site")
    (source / "conf.py").write_text("\n".join(f"{name} = {value!r}" for name, value in SETTINGS.items()))
    (source / "index.rst").write_text("Start\n=====\n\nImages lie here, texts there.\n\n.. toctree::\n\n   book/next\n")
    (source / "book" / "_static").mkdir(parents=True)
    (source / "book" / "_static" / "card.png").write_bytes((ROOT / "book" / "_static" / "card.png").read_bytes())
    (source / "book" / "next.rst").write_text("Next\n====\n\nThe gap.\n")
    environment = os.environ | {"GITHUB_REPOSITORY": request.param, "PYTHONPATH": str(EXTENSION.parent)}
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-W", "-n", "-q", "-d", str(source / "trees")]
    done = subprocess.run(
        [*command, str(source), str(source / "out")], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return request.param, source / "out"


def soup(site, page):
    return BeautifulSoup((site / page).read_text(encoding="utf-8"), "html.parser")


def meta(page, name):
    tag = page.find("meta", attrs={"name": name}) or page.find("meta", attrs={"property": name})
    return tag["content"] if tag else None


def test_a_page_describes_itself(built):
    for page, says in (("index.html", "Images lie here, texts there."), ("book/next.html", "The gap.")):
        assert meta(soup(built[1], page), "description").startswith(says)
        assert meta(soup(built[1], page), "og:description").startswith(says)
        assert meta(soup(built[1], page), "og:site_name") == "The modality gap"


def test_links_to_the_repository_its_issues_and_the_page_s_source(built):
    repository, site = built
    links = [a["href"] for a in soup(site, "book/next.html").find_all("a", href=True)]
    ours = [link for link in links if link.startswith("https://github.com/")]
    if not repository:
        assert not ours
    else:
        address = f"https://github.com/{repository}"
        assert address in ours
        assert f"{address}/edit/main/book/next.rst" in ours
        assert any(link.startswith(f"{address}/issues/new?") for link in ours)


def test_sitemap_canonical_address_and_card(built):
    repository, site = built
    page = soup(site, "book/next.html")
    canonical, card = page.find("link", rel="canonical"), meta(page, "og:image")
    if not repository:
        assert canonical is card is None
        assert not (site / "sitemap.xml").exists()
        assert not list(site.rglob("*summary*.png"))
    else:
        places = [place.text for place in ElementTree.parse(site / "sitemap.xml").iter() if place.tag.endswith("}loc")]
        assert sorted(places) == [f"{SITE}book/next.html", f"{SITE}index.html"]
        assert canonical["href"] == f"{SITE}book/next.html" == meta(page, "og:url")
        assert (site / card.removeprefix(SITE)).read_bytes().startswith(b"\x89PNG")


def test_no_page_asks_another_host(built):
    for path in built[1].glob("**/*.html"):
        page = soup(built[1], path.relative_to(built[1]).as_posix())
        asked = [tag["src"] for tag in page.find_all(src=True)]
        asked += [tag["href"] for tag in page.find_all("link", href=True) if tag["rel"] != ["canonical"]]
        assert asked
        assert not [address for address in asked if "//" in address]


def test_the_page_that_is_not_found_works_from_any_depth(built):
    """It is shown at the address that was asked for, so nothing on it may be relative."""
    repository, site = built
    page, prefix = soup(site, "404.html"), "/gap-book/" if repository else "/"
    assert page.find("article").find("h1").get_text() == "There is no such page"
    named = [tag.get("href") or tag.get("src") for tag in page.find_all(["a", "link", "script", "img"])]
    local = [one for one in named if one and not one.startswith(("https://", "#"))]
    assert len(local) > 5
    for one in local:
        assert one.startswith(prefix), one
        assert (site / one.removeprefix(prefix).partition("?")[0].partition("#")[0]).is_file(), one
