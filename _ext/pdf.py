"""Prints the built pages as one PDF, by the Chromium that is there: make pdf.

The articles of all pages are bound into one page, whose links lead within it; the
browser makes bookmarks of its headings and embeds the fonts, Chinese ones included.
"""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from posixpath import dirname, join, normpath
from urllib.parse import unquote, urlsplit

from bs4 import BeautifulSoup, Tag
from playwright.sync_api import Browser, sync_playwright

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic"]
FLAGS += ["--disable-background-networking"]
# What paper has no use for.
UNPRINTED = "script, button, .headerlink, .ledger-filters, details.hide, input"
SHEET = """
.bd-article-container { max-width: none !important; }
article + article { break-before: page; }
.bd-article h1 { display: block !important; break-before: avoid; }
nav.listing li { margin: 0.2rem 0; }
"""
FOOTER = (
    '<div style="width: 100%; font-size: 8px; text-align: center">'
    '<span class="pageNumber"></span></div>'
)


def chromium() -> str | None:
    """The path of a Chromium, or None."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def pages(site: Path) -> list[str]:
    """The names of the built pages, in the order of the book."""
    soup = read(site, "index")
    links = [a["href"] for a in soup.select("nav.bd-links a.internal[href*='.html']")]
    return [
        "index",
        *dict.fromkeys(urlsplit(a).path.removesuffix(".html") for a in links),
    ]


def bound(site: Path, names: Sequence[str]) -> str:
    """One page of HTML, to lie in the folder ``site``, that holds all these pages."""
    articles = [article(site, name, names) for name in names]
    whole = read(site, names[0])
    for tag in whole.select("script, link[rel=preload], link[as=script]"):
        tag.decompose()
    whole.html["data-theme"] = "light"
    style = whole.new_tag("style")
    style.string = SHEET
    whole.head.append(style)
    first, *others = map(str, articles)
    text = "".join([first, contents(articles), *others])
    wrapped = f'<div class="bd-main"><div class="bd-content">{box(text)}</div></div>'
    whole.body.replace_with(BeautifulSoup(f"<body>{wrapped}</body>", "html.parser"))
    return str(whole)


def box(text: str) -> str:
    """What the style sheet of the pages expects around an article."""
    return f'<div class="bd-article-container">{text}</div>'


def article(site: Path, name: str, names: Sequence[str]) -> Tag:
    """A page's article, whose ids carry the page's name and whose links follow them."""
    found = read(site, name).article
    for tag in found.select(UNPRINTED):
        tag.decompose()
    for tag in found.select("[id]"):
        tag["id"] = anchor(name, tag["id"])
    for tag in found.select("a[href]"):
        if not (target := address(name, tag["href"], names)):
            tag.unwrap()
        else:
            tag["href"] = target
    for tag in found.select("img[src]:not([src^='data:'])"):
        tag["src"] = normpath(join(dirname(name), tag["src"]))
    found["id"] = anchor(name)
    return found


def anchor(page: str, name: str = "") -> str:
    """The id of a page, or of what has the id ``name`` on it."""
    return "--".join(filter(None, ["page", page.replace("/", "-"), name]))


def address(here: str, link: str, names: Sequence[str]) -> str:
    """Where a link of the page ``here`` leads; nothing if that is not printed."""
    parts = urlsplit(link)
    if parts.scheme:
        return link
    path = normpath(join(dirname(here), unquote(parts.path))) if parts.path else here
    page = path.removesuffix(".html")
    return f"#{anchor(page, unquote(parts.fragment))}" if page in names else ""


def contents(articles: Sequence[Tag]) -> str:
    """A list of the pages."""
    items = "".join(
        f'<li><a href="#{found["id"]}">{found.h1.get_text()}</a></li>'
        for found in articles
    )
    listed = f'<nav class="listing"><h2>Contents</h2><ul>{items}</ul></nav>'
    return f'<article class="bd-article">{listed}</article>'


def read(site: Path, name: str) -> BeautifulSoup:
    """A built page."""
    text = (site / f"{name}.html").read_text(encoding="utf-8")
    return BeautifulSoup(text, "html.parser")


def printed(browser: Browser, site: Path, names: Sequence[str], target: Path) -> None:
    """Print these pages of ``site`` into the PDF ``target``."""
    page = site / "bound.html"
    sheet = browser.new_page()
    try:
        page.write_text(bound(site, names), encoding="utf-8")
        sheet.goto(page.resolve().as_uri(), timeout=0)
        sheet.pdf(
            path=target,
            format="A4",
            margin=dict.fromkeys(["left", "right", "top", "bottom"], "16mm"),
            display_header_footer=True,
            header_template="<span></span>",
            footer_template=FOOTER,
            tagged=True,
            outline=True,
        )
    finally:
        sheet.close()
        page.unlink(missing_ok=True)


def main(argv: Sequence[str]) -> int:
    """``pdf.py SITE TARGET``; returns the exit status."""
    site, target = map(Path, argv)
    path = chromium()
    if path is None:
        print(f"pdf: no Chromium on the PATH ({', '.join(BROWSERS)})", file=sys.stderr)
        return 1
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        printed(browser, site, pages(site), target)
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
