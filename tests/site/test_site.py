"""Opens every page of the built book in headless Chromium. Run by `make book`; needs _build/html (or GAPLIB_SITE)."""

import os
import shutil
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

import pytest
import yaml
from bs4 import BeautifulSoup
from site_checks import CHROMIUM_FLAGS, LOOK, faults, open_page, overflow, serious, serve

pytestmark = pytest.mark.site

ROOT = Path(__file__).resolve().parents[2]
SITE = Path(os.environ.get("GAPLIB_SITE", ROOT / "_build" / "html"))
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))


def toc_pages():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    return [toc["root"]] + [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]


PAGES = toc_pages()


def need(condition, why):
    """On a reader's machine a missing browser skips the check, in CI it fails it."""
    if not condition:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(why)


@pytest.fixture(scope="module")
def browser():
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    chromium = chromium or shutil.which("chromium-browser") or shutil.which("google-chrome")
    need(chromium, "no Chromium on this machine (Debian: apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def base():
    need((SITE / "index.html").exists(), f"no built book in {SITE}: run `make book` first")
    with serve(SITE) as address:
        yield address


@pytest.fixture(scope="module")
def axe():
    from axe_playwright_python.sync_playwright import Axe

    return Axe()


@pytest.mark.parametrize("mode", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_page(name, mode, base, browser, axe):
    context = browser.new_context(color_scheme=mode, reduced_motion="reduce")
    try:
        page, problems = open_page(context, f"{base}{name}.html", base)
        seen = page.evaluate(LOOK)
        problems += faults(seen, mode)
        problems += serious(page, axe)
        wide = overflow(page)
        if wide > 0:
            problems.append(f"{wide} pixels wider than a narrow screen")
    finally:
        context.close()
    if problems:
        pytest.fail("\n".join([f"{name} ({mode})", *dict.fromkeys(problems)]), pytrace=False)


@pytest.mark.parametrize("name", PAGES)
def test_page_without_javascript(name, base, browser):
    """The text is there, and so is one picture of each pair at least."""
    context = browser.new_context(java_script_enabled=False)
    try:
        page = context.new_page()
        page.goto(f"{base}{name}.html", wait_until="load")
        soup = soup_of(SITE / f"{name}.html")
        heading = soup.find("h1").get_text().rstrip("#")
        text = page.locator("article").inner_text()
        assert heading in text
        source = len(" ".join(soup.find("article").get_text().split()))
        assert len(text) > 0.5 * source, "most of the page's text is hidden without JavaScript"
        lights = page.locator("article img.only-light")
        shown = [lights.nth(i).is_visible() for i in range(lights.count())]
        assert all(shown), "a figure is hidden without JavaScript"
    finally:
        context.close()


@cache
def soup_of(path):
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


@cache
def anchors(path):
    soup = soup_of(path)
    named = soup.find_all("a", attrs={"name": True})
    return {tag["id"] for tag in soup.find_all(id=True)} | {tag["name"] for tag in named}


def broken_links(path, root, prefix="/"):
    """Links and resources of an HTML file that lead nowhere inside the site; ``prefix``: its place on its host."""
    broken, here = [], f"/{path.relative_to(root).as_posix()}"
    for tag in soup_of(path).find_all(["a", "link", "script", "img", "source", "iframe"]):
        target = tag.get("href") or tag.get("src")
        if not target or urlsplit(target).scheme:
            continue
        target = f"/{target.removeprefix(prefix)}" if target.startswith(prefix) else target
        place, anchor = urldefrag(urljoin(here, target))
        file = root / unquote(urlsplit(place).path).lstrip("/")
        if file.is_dir():
            file = file / "index.html"
        if not file.is_file():
            broken.append(f"{here} -> {target}: no such file")
        elif anchor and file.suffix == ".html" and unquote(anchor) not in anchors(file):
            broken.append(f"{here} -> {target}: no such place on the page")
    return broken


def test_links_and_anchors(base):
    pages = sorted(SITE.rglob("*.html"))
    pages = [page for page in pages if "_static" not in page.parts]
    assert {SITE / f"{name}.html" for name in PAGES} <= set(pages)
    # Only the page that is not found names places by their whole path (book/_ext/address.py).
    canonical = soup_of(SITE / f"{PAGES[0]}.html").find("link", rel="canonical")
    prefix = urlsplit(canonical["href"]).path.removesuffix(f"{PAGES[0]}.html") if canonical else "/"
    broken = [line for page in pages for line in broken_links(page, SITE, prefix)]
    assert not broken, "\n".join(broken)


def test_every_page_describes_itself(base):
    """Search engines and those who share a page show it; the chapters' own line on how long they take is none."""
    texts = [soup_of(SITE / f"{name}.html").find("meta", attrs={"name": "description"})["content"] for name in PAGES]
    assert len(set(texts)) == len(texts)
    assert all(len(text) >= 20 and not text.startswith("Reading:") for text in texts)
    assert (SITE / "404.html").exists()


def test_descriptions_differ(base):
    """No two figures of a page share a description (a pair of light and dark counts once)."""
    for name in PAGES:
        images = soup_of(SITE / f"{name}.html").select("article img")
        light = [image.get("alt") for image in images if "only-dark" not in image.get("class", [])]
        assert len(light) == len(set(light)), name


def test_launch_buttons(base):
    """Without a repository address there is none; with one it opens the notebook's own path."""
    address = CONFIG["repository"]["url"]
    for name in PAGES:
        buttons = [a["href"] for a in soup_of(SITE / f"{name}.html").select("a[href*='colab.research.google.com']")]
        if not address or not name.startswith("notebooks/"):
            assert buttons == [], name
        else:
            path = address.removeprefix("https://github.com/")
            branch = CONFIG["repository"]["branch"]
            assert set(buttons) == {f"https://colab.research.google.com/github/{path}/blob/{branch}/{name}.ipynb"}
            assert (ROOT / f"{name}.ipynb").exists()


def test_search_finds_a_page(base, browser):
    context = browser.new_context()
    try:
        page, problems = open_page(context, f"{base}search.html?q=homoglyph", base)
        page.wait_for_selector("#search-results li a")
        assert any("glossary" in a.get_attribute("href") for a in page.query_selector_all("#search-results li a"))
        assert not problems
    finally:
        context.close()


def test_keyboard_reaches_the_text_first(base, browser):
    context = browser.new_context()
    try:
        page, _ = open_page(context, f"{base}{PAGES[0]}.html", base)
        page.keyboard.press("Tab")
        assert page.evaluate("() => document.activeElement.textContent.trim()") == "Skip to main content"
        page.keyboard.press("Enter")
        assert page.evaluate("() => location.hash") == "#main-content"
    finally:
        context.close()


def test_downloads_are_the_source_notebooks(base):
    """Executed ones would carry every figure a second time, in both themes."""
    for name in PAGES:
        if name.startswith("notebooks/"):
            assert (SITE / "_sources" / f"{name}.ipynb").read_bytes() == (ROOT / f"{name}.ipynb").read_bytes(), name


def test_size():
    need(SITE.exists(), "no built book")
    total = sum(file.stat().st_size for file in SITE.rglob("*") if file.is_file())
    assert total < 60 * 2**20


FAULTY = r"""<!doctype html><html><head><title>x</title></head><body><main>
<h1>Faulty</h1><p>A raw \(x\) formula and <span class="math">y</span>.</p>
<img src="gone.png" alt="A picture that is not there, described at length.">
<img src="dot.svg" alt="short">
<img src="dot.svg" class="only-dark" alt="A dark picture that shows in light mode too.">
<pre>Traceback (most recent call last)</pre>
<div style="width: 900px">wide</div>
<p style="color: #ddd; background: #fff">hardly readable</p>
<a href="nowhere.html">gone</a><a href="#nowhere">no place</a>
<script src="http://example.com/x.js"></script>
<script>throw new Error("planted")</script>
</main></body></html>"""


def test_the_checks_find_planted_faults(tmp_path, browser, axe):
    (tmp_path / "index.html").write_text(FAULTY, encoding="utf-8")
    dot = '<svg xmlns="http://www.w3.org/2000/svg" width="4" height="4"/>'
    (tmp_path / "dot.svg").write_text(dot, encoding="utf-8")
    context = browser.new_context(color_scheme="light")
    with serve(tmp_path) as address:
        page, problems = open_page(context, address + "index.html", address)
        problems += faults(page.evaluate(LOOK), "light") + serious(page, axe)
        assert overflow(page) > 0
        context.close()
    text = "\n".join(problems)
    for planted in (
        "status 404",
        "request to another host: http://example.com/x.js",
        "script error: planted",
        "broken image: gone.png",
        "image without a description: dot.svg ('short')",
        "the dark picture is shown in light",
        r"raw formula: A raw \(x\)",
        "1 formulas, 0 rendered",
        "a traceback",
        "without a theme",
        "language is ''",
        "axe color-contrast",
    ):
        assert planted in text, f"{planted!r} not found in:\n{text}"
    assert len(broken_links(tmp_path / "index.html", tmp_path)) == 3
