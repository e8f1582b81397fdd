"""The pages in a browser: offline and served, on a phone, in the dark, without eyes."""

import os
import re
import threading
import zlib
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from math import log
from pathlib import Path
from urllib.parse import urlsplit

import axe_playwright_python
import pdf
import pytest
from bs4 import BeautifulSoup
from pages import CHAPTERS, PAGES, ROOT
from playwright.sync_api import sync_playwright

from blogcore import interactive, sphere

AXE = Path(axe_playwright_python.__file__).with_name("axe.min.js")
EARNEST = ("serious", "critical")
# Rules that axe does not count as serious: names, landmarks, heads of tables.
NAMED = ["label-content-name-mismatch", "region", "empty-table-header"]
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
ZOOMED = {"width": 640, "height": 450}  # what a desktop at 200 % has room for
# Formulas that were passed over, and code of formulas that a reader would see.
UNTYPESET = r"""() => {
  const article = document.querySelector("article");
  const all = (selector) => [...article.querySelectorAll(selector)];
  const missing = all(".math, .tex").filter((m) => !m.querySelector(".katex"));
  const copy = article.cloneNode(true);
  copy.querySelectorAll("pre, code, .katex, script").forEach((e) => e.remove());
  const raw = copy.textContent.match(/\$|\\\(|\\\[|\\begin\{/g) ?? [];
  return {missing: missing.map((m) => m.textContent), raw};
}"""
# What axe would judge again and again: the boxes of formulas, and the words of each
# colour in thousands of code tokens. One token of each colour is left.
PRUNE = """() => {
  document.querySelectorAll(".katex-html").forEach((m) => m.remove());
  const seen = new Set();
  for (const token of document.querySelectorAll("pre span[class]")) {
    if (seen.has(token.className)) token.replaceWith(token.textContent);
    seen.add(token.className);
  }
}"""
# Whether a reader sees an element's first character.
ON_TOP = """e => {
  const {left, top, height} = e.getClientRects()[0];
  return e.contains(document.elementFromPoint(left + 2, top + height / 2));
}"""
SEEN = f"(e) => e.getClientRects().length && ({ON_TOP})(e)"
# Chapters with a calculator; and what the calculator of our test computes, the number
# of dimensions at which random vectors have lost 2 log N of entropy, in two terms.
CALCULATING = [
    name
    for name in CHAPTERS
    if "interactive.calculator(" in (ROOT / f"{name}.ipynb").read_text("utf-8")
]
THRESHOLD = {
    "N": "10**x",
    "x_shown": "N",
    "beta": "2**y",
    "y_shown": "beta",
    "c": "2*beta/(1+Math.sqrt(1+4*beta*beta))",
    "slope": "Math.log(1+beta*c)/2",
    "offset": "-Math.log(1-c**4)/2-2*c**4/(1+c*c)**2",
    "needed": "Math.max(1,(2*Math.log(N)+offset)/slope)",
}
# Bytes of a page with all that it loads: of the index, of others. A chapter is held to
# it once it has its audit.
LIGHT, LARGEST = 1_500_000, 2_500_000
LOADED = "performance.getEntriesByType('resource').map((e) => e.name)"
NUMBER = re.compile(r"−?[\d,]+(\.\d+)?")
HAN = re.compile(r"[\u4e00-\u9fff]{2,}")

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")  # playwright's event loop must not outlive this file
def browser():
    """A headless Chromium; without one the tests are skipped, in CI they fail."""
    path = pdf.chromium()
    if path is None:
        missing = f"no Chromium on the PATH (looked for {', '.join(pdf.BROWSERS)})"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(missing)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=pdf.FLAGS)
        yield chromium
        chromium.close()


class Quiet(SimpleHTTPRequestHandler):
    """A file server for the tests."""

    def log_message(self, *_) -> None:
        """Keep the log to itself."""


@pytest.fixture(scope="session")
def places(site: Path):
    """Where the pages can be read: from the disk, and from a server."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=site))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield {"file": site.as_uri(), "http": f"http://127.0.0.1:{server.server_port}"}
    server.shutdown()
    server.server_close()


@pytest.fixture
def visit(browser, places):
    """Open a page; whatever goes wrong on it until the test ends fails the test."""
    faults, contexts = [], []

    def _visit(name: str, place: str = "file", query: str = "", **options):
        options = {"viewport": DESKTOP, "color_scheme": "light"} | options
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        watch(page, places[place], faults, options.get("java_script_enabled", True))
        page.goto(f"{places[place]}/{name}.html{query}")
        return page

    yield _visit
    for context in contexts:
        context.close()
    assert faults == []


def watch(page, home: str, faults: list[str], scripts: bool = True) -> None:
    """Note console errors, exceptions, failed requests and requests to other hosts."""

    def seen(response) -> None:
        if response.status >= 400:
            faults.append(f"{response.status} {response.url}")

    def asked(request) -> None:
        if not request.url.startswith((home, "data:", "blob:")):
            faults.append(f"asked another host: {request.url}")

    def said(message) -> None:
        if message.type == "error":
            faults.append(f"console: {message.text}")

    def failed(request) -> None:
        # A browser that runs no scripts gives up those that a page asked for early.
        if scripts or request.resource_type != "script":
            faults.append(f"failed: {request.url}")

    page.on("request", asked)
    page.on("response", seen)
    page.on("console", said)
    page.on("requestfailed", failed)
    page.on("pageerror", lambda error: faults.append(f"exception: {error}"))


@pytest.mark.parametrize("name", PAGES)
def test_page_opens_with_its_formulas(visit, name):
    page = visit(name)
    assert page.title().strip()
    assert page.locator("h1:visible").count() == 1
    assert page.evaluate(UNTYPESET) == {"missing": [], "raw": []}


def loaded(page, site: Path) -> list[Path]:
    """The files that a page from the server has loaded so far, itself among them."""
    paths = [urlsplit(address).path for address in [page.url, *page.evaluate(LOADED)]]
    return [site / path.lstrip("/") for path in dict.fromkeys(paths)]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_light_with_all_that_it_loads(visit, site, name):
    page = visit(name, "http")
    page.wait_for_load_state("networkidle")
    weight = sum(path.stat().st_size for path in loaded(page, site))
    whole = not name.startswith("chapters/") or f"{name}_audit" in PAGES
    assert weight <= (LIGHT if name == "index" else LARGEST) or not whole


def test_frames_are_loaded_once_somebody_reaches_for_the_slider(visit, site):
    page = visit(CHAPTERS[0], "http")
    slider = page.locator(".slider").first
    frames = {Path(i.get_attribute("src")).name for i in slider.locator("img").all()}

    def arrived() -> set[str]:
        return frames & {path.name for path in loaded(page, site)}

    slider.scroll_into_view_if_needed()
    page.wait_for_function(
        "[...document.querySelector('.slider').querySelectorAll('img:not([hidden])')]"
        ".every((i) => i.complete && i.naturalWidth)"
    )
    assert len(arrived()) == 1
    high = slider.evaluate("e => e.offsetHeight")
    slider.hover()
    page.wait_for_function(
        "[...document.querySelector('.slider').querySelectorAll('img')]"
        ".every((i) => i.complete && i.naturalWidth)"
    )
    assert arrived() == frames
    slider.locator("input").press("End")
    assert slider.evaluate("e => e.offsetHeight") == pytest.approx(high, rel=0.2)


def test_sliders_move(visit):
    moved = 0
    for name in CHAPTERS:
        page = visit(name)
        for slider in page.locator(".slider").all():
            shown = set()
            control = slider.locator("input[type=range]")
            control.focus()
            control.press("Home")
            for _ in range(int(control.get_attribute("max")) + 1):
                image = slider.locator("img:visible")
                assert image.count() == 1
                value, alt = slider.locator("output").inner_text(), image.get_attribute
                shown.add((value, alt("alt"), alt("src")))
                control.press("ArrowRight")
            moved += 1
            frames = slider.locator("img").count()
            values, alts, pictures = map(set, zip(*shown, strict=True))
            assert len(values) == len(alts) == frames
            assert len(pictures) > frames / 2  # two settings may look the same
    assert moved >= 2


def written(box) -> list[str]:
    """What a calculator's outputs say: its settings, then its results."""
    return box.locator("output").all_inner_texts()


@pytest.mark.parametrize("name", CALCULATING)
def test_calculators_of_the_chapters_recompute(visit, name):
    boxes = visit(name).locator(".calculator").all()
    assert boxes
    for box in boxes:
        start = written(box)
        box.dispatch_event("input")
        assert written(box) == start, "not what the page itself computes at the start"
        knobs = box.locator("input[type=range]").all()
        for place, knob in enumerate(knobs):
            knob.press("Home")
            low = written(box)
            knob.press("End")
            high = written(box)
            assert knob.get_attribute("aria-valuetext") == high[place] != low[place]
            assert high[len(knobs) :] != low[len(knobs) :]
            assert all(NUMBER.fullmatch(text) for text in [*low, *high]), (low, high)


def test_a_calculator_agrees_with_python(browser, shown):
    inputs = [("x", "N", (2, 8, 0.5, 5), 1e5), ("y", "β", (-2, 2, 1, 0), 1)]
    at_start = 2 * log(1e5) + sphere.offset()
    results = [("dimensions:", "needed", at_start / sphere.slope())]
    interactive.calculator(inputs, THRESHOLD, results)
    page, faults = browser.new_page(), []
    watch(page, "about:", faults)
    page.set_content(shown[0][0])
    box = page.locator(".calculator")
    first = written(box)
    box.dispatch_event("input")
    assert written(box) == first == ["100,000", "1", "95.4"]
    for x, y in [(2, 0), (8, 0), (5, -2), (3.5, -1), (6, 1), (2, 2), (8, 2)]:
        box.locator("[name=x]").fill(str(x))
        box.locator("[name=y]").fill(str(y))
        *_, needed = (float(text.replace(",", "")) for text in written(box))
        entropy, beta = 2 * log(10**x), 2.0**y
        two_terms = (entropy + sphere.offset(beta)) / sphere.slope(beta)
        assert needed == pytest.approx(max(1, two_terms), rel=0.005)
        assert needed == pytest.approx(sphere.needed_dimension(entropy, beta), rel=0.03)
    assert written(box)[:2] == ["100,000,000", "4"]
    spoken = [
        knob.get_attribute("aria-valuetext") for knob in box.locator("input").all()
    ]
    assert spoken == ["100,000,000", "4"]
    page.close()
    assert faults == []


@pytest.mark.parametrize("place", ["file", "http"])
@pytest.mark.parametrize(
    ("query", "target"),
    [
        ("苏剑林", "chapters/flooding"),
        ("flooding", "chapters/flooding"),
        ("梯度惩罚", "chapters/flooding"),
        ("gradient penalty", "chapters/flooding"),
        ("gradients penalties", "chapters/flooding"),
        ("梯度惩罚 penalty", "chapters/flooding"),
        ("posterior collapse", "chapters/nvae"),
        ("8.33", "chapters/word_dimension"),
        ("权重衰减", "glossary"),
    ],
)
def test_search_finds_the_section_and_shows_the_hit(visit, query, target, place):
    page = visit("search", place, f"?q={query}")
    page.wait_for_selector("#search-results p.search-summary:not(:empty)")
    links = page.locator("#search-results li > a")
    found = [urlsplit(link.get_attribute("href")) for link in links.all()]
    assert any(link.path == f"{target}.html" for link in found[:5]), found
    for mark in page.locator("#search-results li:first-child mark").all_inner_texts():
        assert any(mark.lower()[:4] in word for word in query.split())
    links.first.click()
    page.wait_for_url(f"**/{found[0].path}*")
    section = page.locator(f'[id="{found[0].fragment}"]')
    page.wait_for_function("!location.search")
    marks = section.locator("mark:visible")
    page.wait_for_function(f"[...document.querySelectorAll('mark')].some({SEEN})")
    seen = marks.evaluate_all(f"all => all.filter({SEEN}).map((e) => e.innerText)")
    assert seen
    assert all(mark.lower()[:4] in query for mark in seen)
    # All words in a row come first.
    assert query in seen or query not in marks.all_inner_texts()
    assert section.evaluate("e => e.getBoundingClientRect().top") < 900


def test_a_hit_that_is_folded_away_is_opened(visit):
    page = visit(CHAPTERS[0])
    anchor, word = page.evaluate(
        """() => {
          const folded = "details.hide:not([open]) pre";
          for (const code of document.querySelectorAll(folded)) {
            const section = code.closest("section");
            const seen = section.innerText.toLowerCase();
            for (const word of code.textContent.match(/[a-z]{5,}/g) ?? [])
              if (!seen.includes(word.slice(0, 4))) return [section.id, word];
          }
        }"""
    )
    page = visit(CHAPTERS[0], query=f"?found={word}#{anchor}")
    page.wait_for_function("!location.search")
    hit = page.locator("mark:visible").first
    assert hit.inner_text().startswith(word[:4])
    assert hit.evaluate(ON_TOP)


def test_search_finds_only_what_is_there(visit):
    for query in ("罚惩度梯", "18.33", "loodin"):
        page = visit("search", query=f"?q={query}")
        page.wait_for_selector("#search-results p.search-summary:not(:empty)")
        assert page.locator("#search-results li").count() == 0, query


def test_search_finds_the_chapter_before_a_page_that_mentions_its_term(visit):
    page = visit("search", query="?q=梯度惩罚")
    first = page.locator("#search-results li > a").first
    assert first.get_attribute("href").startswith(("chapters/flooding", "glossary"))


def test_search_knows_every_chinese_term(visit, soups):
    texts = [soups[name].article.get_text(" ") for name in PAGES]
    terms = sorted({term for text in texts for term in HAN.findall(text)})
    page = visit("search")
    unknown = page.evaluate("all => all.filter((t) => !findSections(t).length)", terms)
    assert len(terms) > 20
    assert unknown == []


def test_dark_mode_toggles_and_is_kept(visit, places):
    page = visit("how_to_read", "http")
    theme = "document.documentElement.dataset.theme"
    assert page.evaluate(theme) == "light"
    for _ in range(3):
        if page.evaluate(theme) != "dark":
            page.locator("button.theme-switch-button:visible").first.click()
    assert page.evaluate(theme) == "dark"
    page.goto(f"{places['http']}/ledger.html")
    assert page.evaluate(theme) == "dark"


def test_figures_follow_dark_mode(visit):
    for name in CHAPTERS:
        page = visit(name, color_scheme="dark")
        styles = page.locator("article img").evaluate_all(
            "images => images.map((i) => { const s = getComputedStyle(i);"
            " return [!i.closest('.tag_picture'), s.filter.includes('invert'),"
            " s.backgroundColor === 'rgba(0, 0, 0, 0)']; })"
        )
        assert styles
        for figure, *inverted_on_no_ground in styles:
            assert inverted_on_no_ground == [figure, figure]


@pytest.mark.parametrize("name", [*PAGES, "search"])
def test_nothing_scrolls_sideways_on_a_phone_or_zoomed(visit, name):
    page = visit(name, viewport=PHONE)
    page.evaluate(
        "document.querySelectorAll('details').forEach((d) => { d.open = true; })"
    )
    for button in page.locator("button.toggle-button:visible").all():
        button.click()
    for viewport in (PHONE, ZOOMED):
        page.set_viewport_size(viewport)
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= viewport["width"]


@pytest.mark.parametrize("name", [*PAGES, "search"])
def test_page_is_accessible(visit, name):
    page = visit(name)
    page.evaluate(AXE.read_text(encoding="utf-8"))
    page.evaluate(PRUNE)
    assert serious(page, {}) == []
    # axe does not read the MathML by which a head that is a formula has its words.
    math = "all => all.forEach((m) => m.replaceWith(m.textContent))"
    page.locator("th .katex-mathml").evaluate_all(math)
    assert found(page, {"runOnly": NAMED}) == []
    # Colours must have arrived, not be on their way.
    page.add_style_tag(content="* { transition: none !important; }")
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    assert serious(page, {"runOnly": ["color-contrast"]}) == []


def serious(page, options: dict) -> list[tuple]:
    """The rules that axe finds broken in earnest, with the elements that break them."""
    return [
        (rule, where) for rule, how, where in found(page, options) if how in EARNEST
    ]


def found(page, options: dict) -> list[tuple]:
    """The broken rules, how bad that is, and the elements that break them."""
    # All that passes is not listed: that takes longer than to find it.
    options = {"preload": False, "resultTypes": ["violations"]} | options
    result = page.evaluate("o => axe.run(o)", options)
    return [
        (v["id"], v["impact"], [node["target"] for node in v["nodes"]])
        for v in result["violations"]
    ]


def test_the_ledger_is_filtered_without_a_script(visit):
    page = visit("ledger", java_script_enabled=False)
    rows = page.locator("table.ledger tbody tr:visible")
    everything = rows.count()
    page.get_by_label("ours", exact=True).check()
    ours = rows.count()
    page.get_by_label("posts' and papers'").check()
    theirs = rows.count()
    assert 0 < ours < everything
    assert ours + theirs == everything
    page.get_by_label("everybody's").check()
    found = 0
    for verdict in ("holds", "contradicted", "undecided"):
        page.get_by_label(verdict, exact=True).check()
        assert {
            t.split()[-1]
            for t in page.locator(
                "table.ledger tbody tr:visible .badge"
            ).all_inner_texts()
        } <= {verdict}
        found += rows.count()
    assert found == everything


def test_formulas_need_no_script(visit):
    page = visit(CHAPTERS[0], java_script_enabled=False)
    assert page.evaluate(UNTYPESET) == {"missing": [], "raw": []}
    assert page.locator(".katex").count() > 50
    family = "e => getComputedStyle(e).fontFamily"
    assert "KaTeX" in page.locator(".katex").first.evaluate(family)
    assert page.locator(".solution p:not(.admonition-title)").first.is_visible()


def test_links_have_their_colour_without_a_script(visit):
    colours = [
        visit("index", java_script_enabled=scripts)
        .locator(".bd-article p a")
        .first.evaluate(
            "e => [e, e.parentElement].map((x) => getComputedStyle(x).color)"
        )
        for scripts in (True, False)
    ]
    assert colours[0] == colours[1]
    assert len({*colours[1]}) == 2


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_equations_and_their_numbers_do_not_lie_on_each_other(visit, scheme):
    for viewport in (DESKTOP, PHONE):
        page = visit(CHAPTERS[0], viewport=viewport, color_scheme=scheme)
        overlap = page.locator("div.math:has(.eqno)").evaluate_all(
            """all => all.map((m) => {
              const number = m.querySelector(".eqno").getBoundingClientRect();
              const formula = m.querySelector(".katex-display").getBoundingClientRect();
              return Math.min(number.right, formula.right) - 1 >
                Math.max(number.left, formula.left) &&
                Math.min(number.bottom, formula.bottom) - 1 >
                Math.max(number.top, formula.top); })"""
        )
        assert overlap
        assert not any(overlap)


def test_what_a_link_leads_to_is_shown_where_the_mouse_rests(visit):
    page = visit(CHAPTERS[0])
    box, text = page.locator("#preview"), page.locator(".bd-article")
    for address, said in (
        ("^='#equation-'", "="),
        ("*='glossary.html#term-'", "flood"),
        ("*='references.html#'", "2020"),
        ("^='#c'", "C"),
        ("^='#fig-'", "Figure"),
    ):
        link = text.locator(f"a:not(.headerlink)[href{address}]:visible").first
        link.scroll_into_view_if_needed()
        link.hover()
        box.wait_for(state="visible")
        assert said in box.inner_text()
        assert box.locator("[id], .headerlink").count() == 0
        assert box.bounding_box()["width"] <= DESKTOP["width"]
        page.keyboard.press("Escape")
        assert not box.is_visible()
        page.mouse.move(0, 0)


def test_the_keyboard_shows_what_a_link_leads_to_and_escape_closes_it(visit):
    page = visit(CHAPTERS[0])
    box, text = page.locator("#preview"), page.locator(".bd-article")
    for address in ("^='#equation-'", "*='glossary.html#term-'"):
        link = text.locator(f"a:not(.headerlink)[href{address}]:visible").first
        link.focus()
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("Tab")
        box.wait_for(state="visible")
        assert link.evaluate("e => e === document.activeElement")
        assert link.get_attribute("aria-describedby") == "preview"
        page.keyboard.press("Escape")
        assert not box.is_visible()
        assert link.get_attribute("aria-describedby") is None
        assert link.evaluate("e => e === document.activeElement")
        page.keyboard.press("Tab")


def test_a_term_with_two_names_has_one_meaning(visit):
    page = visit("glossary")
    page.locator(".alphabet a[href='#term-VAE']").hover()
    page.locator("#preview").wait_for(state="visible")
    assert "encoder" in page.locator("#preview").inner_text()


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE])
def test_no_claim_covers_another_in_the_picture(visit, viewport):
    page = visit("lessons", viewport=viewport)
    strips = page.locator(".panorama .strip").all()
    assert len(strips) > 3
    for strip in strips:
        inside = strip.bounding_box()
        boxes = [mark.bounding_box() for mark in strip.locator("a").all()]
        for place, b in enumerate(boxes):
            assert inside["x"] <= b["x"]
            assert b["x"] + b["width"] <= inside["x"] + inside["width"]
            for other in boxes[:place]:
                apart = abs(b["x"] - other["x"]) >= min(b["width"], other["width"])
                assert apart or abs(b["y"] - other["y"]) >= b["height"] - 1


def test_code_that_is_too_wide_shows_that_it_scrolls(visit):
    page = visit(CHAPTERS[0], viewport=PHONE)
    wide = page.locator("div.highlight pre:visible").evaluate_all(
        "all => all.filter((e) => e.scrollWidth > e.clientWidth).map((e) => {"
        " const style = getComputedStyle(e);"
        " return [style.overflowX, style.backgroundAttachment]; })"
    )
    assert wide
    for overflow, shades in wide:
        assert overflow == "auto"
        assert shades.split(", ")[:4] == ["local", "local", "scroll", "scroll"]


def test_on_a_phone_each_value_says_what_it_is(visit):
    page = visit("chapters/flooding_audit", viewport=PHONE)
    cells = page.locator("table.claims:not(.seeds, :has(td b)) td:visible")
    names = cells.evaluate_all(
        "all => all.map((e) => [e.dataset.label, e.textContent,"
        " getComputedStyle(e, '::before').content])"
    )
    assert len(names) > 10
    assert all(shown == f'"{label}: "' and value for label, value, shown in names)


def test_a_work_hangs_from_its_label(visit):
    for viewport in (DESKTOP, PHONE):
        page = visit("references", viewport=viewport)
        works = page.locator("div.citation > p:first-of-type").evaluate_all(
            "all => all.map((p) => [p.previousElementSibling, p].map("
            "(e) => [...e.getClientRects()].map((r) => [r.left, r.top])))"
        )
        longer = 0
        for ((label, _),), ((first, top), *others) in works:
            below = [left for left, other in others if other > top + 9]
            assert not below or label < min(below) < first
            longer += bool(below)
        assert longer > len(works) / 2


def test_a_tap_on_a_link_follows_it(visit):
    page = visit(CHAPTERS[0], viewport=PHONE, has_touch=True, is_mobile=True)
    link = page.locator(".bd-article a[href*='glossary.html#term-']").first
    link.tap()
    page.wait_for_url("**/glossary.html#term-*")
    assert page.locator("dt:target").count() == 1


def test_wide_figures_scroll_on_a_phone(visit):
    checked = 0
    for name in CHAPTERS:
        page = visit(name, viewport=PHONE)
        figures = page.locator("img:is(.wide, .wider):visible").evaluate_all(
            "all => all.map((i) => { const box = i.closest('figure, .slider, .output');"
            " return [i.width / i.naturalWidth, box.clientWidth < i.width,"
            " getComputedStyle(box).overflowX]; })"
        )
        for scale, wider, overflow in figures:
            assert scale > 0.55  # letters of 16 pixels stay above eight
            assert wider
            assert overflow == "auto"
        checked += len(figures)
    assert checked > 5


def test_print_shows_solutions_and_figures_but_no_controls(visit):
    page = visit(CHAPTERS[0])
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")  # opens the solutions
    assert page.get_by_text("Show code").locator("visible=true").count() == 0
    assert page.locator("#jb-print-toc:visible, .toggle-button:visible").count() == 0
    solutions = page.locator(".solution.admonition").all()
    assert solutions
    for solution in solutions:
        assert solution.locator("p:not(.admonition-title)").first.is_visible()
    heights = page.locator(".cell_output img:visible").evaluate_all(
        "all => all.map((image) => image.getBoundingClientRect().height)"
    )
    assert heights
    assert max(heights) < 310  # pixels; a page is 1,060
    # Rows stay whole, tables do not: a long one would leave its page half empty.
    kept = "all => all.map((e) => getComputedStyle(e).breakInside)"
    assert {*page.locator(".bd-article table").evaluate_all(kept)} == {"auto"}
    assert {*page.locator(".bd-article tr").evaluate_all(kept)} == {"avoid"}


def streams(content: bytes) -> bytes:
    """What a PDF holds, unpacked."""
    parts = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", content, re.DOTALL)
    found = []
    for part in parts:
        try:
            found.append(zlib.decompress(part))
        except zlib.error:  # a picture, say
            continue
    return b"\n".join([content, *found])


def test_pages_are_bound_into_one_for_print(site):
    names = ["how_to_read", "glossary"]
    soup = BeautifulSoup(pdf.bound(site, names), "html.parser")
    ids = [tag["id"] for tag in soup.select("[id]")]
    assert len({*ids}) == len(ids)
    links = [a["href"] for a in soup.select("a[href]")]
    inner = {link.removeprefix("#") for link in links if link.startswith("#")}
    assert inner <= {*ids}
    assert "page--glossary--term-seed" in inner  # from the other page
    assert all(link.startswith(("#", "https://")) for link in links)
    assert [h.get_text() for h in soup.select("h1")][1:] == ["Glossary"]
    assert not soup.select("script, .headerlink")
    assert pdf.pages(site) == PAGES


def test_a_pdf_has_bookmarks_links_and_chinese(browser, site, tmp_path):
    path = tmp_path / "small.pdf"
    pdf.printed(browser, site, ["how_to_read", "glossary"], path)
    content = streams(path.read_bytes())
    assert content.startswith(b"%PDF")
    assert b"/Outlines" in content
    assert b"page--glossary--term-seed" in content  # where a link leads
    assert b"<68AF>" in content.upper()  # 梯 can be searched and copied
    assert not (site / "bound.html").exists()
