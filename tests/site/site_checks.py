"""Checks of a built page in a real browser: used by test_site.py, and tried there on a page with planted faults."""

import contextlib
import functools
import http.server
import threading

CHROMIUM_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
NARROW = 390  # pixels: a telephone

# Everything that one look at the page can tell. Hidden means: takes no space.
LOOK = r"""
() => {
  const article = document.querySelector("article, main") || document.body;
  const visible = e => e.getClientRects().length > 0 && getComputedStyle(e).visibility !== "hidden";
  const images = [...document.images].map(e => ({
    src: e.getAttribute("src"), alt: e.getAttribute("alt") || "", broken: e.naturalWidth === 0,
    content: article.contains(e), visible: visible(e),
    pair: e.closest(".only-light") ? "light" : e.closest(".only-dark") ? "dark" : "",
  }));
  const walker = document.createTreeWalker(article, NodeFilter.SHOW_TEXT);
  const raw = [];
  while (walker.nextNode()) {
    const node = walker.currentNode, text = node.nodeValue;
    if (node.parentElement.closest("code, pre, script, style, mjx-container")) continue;
    if (/\\\(|\\\[|\$\$|\\[a-zA-Z]{2}/.test(text)) raw.push(text.trim().slice(0, 60));
  }
  return {
    images, raw,
    formulas: article.querySelectorAll(".math").length,
    rendered: article.querySelectorAll("mjx-container").length,
    mathErrors: article.querySelectorAll("mjx-merror, [data-mjx-error]").length,
    traceback: article.innerText.includes("Traceback (most recent call last)"),
    theme: document.documentElement.dataset.theme || "",
    lang: document.documentElement.lang,
    colab: [...document.querySelectorAll("a[href*='colab.research.google.com']")].map(e => e.href),
  };
}
"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files without a line for each."""

    def log_message(self, format, *args):
        pass


@contextlib.contextmanager
def serve(folder):
    """Serve ``folder`` on loopback; gives the base address, ending in a slash."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


def open_page(context, url, base):
    """Open ``url``, wait until formulas are set; returns the page and what went wrong on the way."""
    problems = []
    page = context.new_page()
    page.on("console", lambda m: problems.append(f"console: {m.text}") if m.type == "error" else None)
    page.on("pageerror", lambda e: problems.append(f"script error: {e}"))
    page.on("requestfailed", lambda r: problems.append(f"request failed: {r.url}"))
    page.on("response", lambda r: problems.append(f"status {r.status}: {r.url}") if r.status >= 400 else None)

    def loopback_only(route):
        if route.request.url.startswith((base, "data:", "blob:")):
            route.continue_()
        else:
            problems.append(f"request to another host: {route.request.url}")
            route.abort()

    page.route("**/*", loopback_only)
    page.goto(url, wait_until="load")
    page.add_style_tag(content="* { transition: none !important; animation: none !important; }")
    page.evaluate("() => window.MathJax?.startup?.promise?.then(() => null)")
    return page, problems


def faults(seen, mode):
    """Problems, as sentences, in what LOOK saw on a page that was opened in ``mode`` ("light" or "dark")."""
    found = []
    for image in seen["images"]:
        if image["broken"]:
            found.append(f"broken image: {image['src']}")
        if image["content"] and (len(image["alt"]) < 20 or image["alt"].startswith("_images")):
            found.append(f"image without a description: {image['src']} ({image['alt']!r})")
        if image["pair"] and image["visible"] != (image["pair"] == mode):
            found.append(f"the {image['pair']} picture is {'shown' if image['visible'] else 'hidden'} in {mode}")
    found += [f"raw formula: {text}" for text in seen["raw"]]
    if seen["rendered"] < seen["formulas"]:
        found.append(f"{seen['formulas']} formulas, {seen['rendered']} rendered")
    if seen["mathErrors"]:
        found.append(f"{seen['mathErrors']} formulas with an error")
    if seen["traceback"]:
        found.append("a traceback on the page")
    if seen["theme"] != mode:
        found.append(f"asked for {mode}, the page is {seen['theme'] or 'without a theme'}")
    if seen["lang"] != "en":
        found.append(f"the page's language is {seen['lang']!r}")
    return found


def overflow(page):
    """How many pixels the page is wider than a narrow screen."""
    size = page.viewport_size
    page.set_viewport_size({"width": NARROW, "height": 800})
    page.wait_for_timeout(50)
    wide = page.evaluate("() => document.documentElement.scrollWidth - document.documentElement.clientWidth")
    page.set_viewport_size(size)
    return wide


def serious(page, axe):
    """Serious and critical violations that axe-core finds, one sentence each."""
    found = []
    for violation in axe.run(page, options={"resultTypes": ["violations"], "preload": False}).response["violations"]:
        if violation["impact"] in ("serious", "critical"):
            where = violation["nodes"][0]
            found.append(
                f"axe {violation['id']} ({len(violation['nodes'])}x): {where['target'][0]} {where['html'][:160]} "
                + (where["failureSummary"] or "").replace("\n", " ")[:200]
            )
    return found
