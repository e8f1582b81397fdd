"""The rendered pages: links, images, sizes, ledger; and that they render the same."""

import json
import re
import shutil
from collections import Counter
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from bs4 import BeautifulSoup
from pages import CHAPTERS, ROOT, finish, render, rendered

from blogcore import runner
from blogcore.freshness import seal

EXTERNAL = re.compile(r"(https?:)?//")
HAN = re.compile(r"[\u4e00-\u9fff]")
LARGEST = 2_500_000
# Another day for a Python process that imports this as sitecustomize.
ANOTHER_DAY = """
import time
now, local, utc, text = time.time, time.localtime, time.gmtime, time.strftime
time.time = lambda: now() + 400 * 86400
time.localtime = lambda s=None: local(time.time() if s is None else s)
time.gmtime = lambda s=None: utc(time.time() if s is None else s)
time.strftime = lambda form, t=None: text(form, t or time.localtime())
"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def executed(site, profile) -> list[dict]:
    """The claims and checks that the runs recorded, with their addresses."""
    found = []
    for page in runner.chapters(ROOT):
        path = runner.executed_path(page, profile, root=ROOT)
        text = path.read_text(encoding="utf-8")
        found += [
            record | {"link": f"chapters/{page}.html#{record['slug']}"}
            for record in runner.ledger(json.loads(text))
            if record["kind"] in ("verdict", "check")
        ]
    return found


def resources(soup: BeautifulSoup) -> list[str]:
    """The addresses that a browser would load to show the page."""
    links = [
        tag["href"] for tag in soup.select("link[href]:not([rel=next]):not([rel=prev])")
    ]
    return links + [tag["src"] for tag in soup.select("[src]")]


def test_chapters_have_numbered_equations_with_links(soups):
    for name in CHAPTERS:
        numbers = soups[name].select("div.math .eqno a.headerlink")
        assert numbers, f"{name}: no numbered equation"


def test_links_and_anchors_resolve(site, soups):
    @cache
    def anchors(path: Path) -> set[str]:
        soup = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
        return {tag["id"] for tag in soup.select("[id]")}

    broken, checked = [], 0
    for name, soup in soups.items():
        here = site / f"{name}.html"
        links = [tag["href"] for tag in soup.select("a[href]")]
        for link in [*links, *resources(soup)]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (here.parent / unquote(parts.path)) if parts.path else here
            anchor = unquote(parts.fragment)
            checked += 1
            if not target.exists() or (anchor and anchor not in anchors(target)):
                broken.append((name, link))
    assert broken == []
    assert checked > 100


def test_nothing_is_loaded_from_another_host(site, soups):
    asked = [
        (n, r) for n, s in soups.items() for r in resources(s) if EXTERNAL.match(r)
    ]
    for sheet in site.rglob("*.css"):
        text = sheet.read_text(encoding="utf-8")
        asked += re.findall(r"url\(\s*[\"']?(?:https?:)?//[^)]*|@import[^;]*//", text)
    assert asked == []


def test_images_have_alternative_texts(soups):
    images = [(n, i) for n, s in soups.items() for i in s.select("img, [role=img]")]
    bad = [
        (name, image.get("src", "")[:80])
        for name, image in images
        if not re.search(r"\w+ \w+", image.get("alt") or image.get("aria-label") or "")
    ]
    assert bad == []
    assert any(name.startswith("chapters/") for name, _ in images)


def test_chinese_says_that_it_is_chinese(soups):
    found = 0
    for name, soup in soups.items():
        for text in (t for a in soup("article") for t in a.find_all(string=HAN)):
            above = [tag for tag in text.parents if tag.name != "[document]"]
            spared = any(tag.name in ("pre", "code", "svg", "script") for tag in above)
            marked = any(tag.get("lang") == "zh" for tag in above)
            formula = any("katex" in tag.get("class", []) for tag in above)
            assert marked or spared or formula, f"{name}: {text}"
            found += marked
    assert found > 100


def test_pages_say_what_they_are_about(soups):
    said = {
        name: soup.select_one("meta[name=description]")["content"]
        for name, soup in soups.items()
        if name not in ("search", "references")
    }
    assert all(60 <= len(text) <= 310 for text in said.values()), said
    assert not [n for n, text in said.items() if re.search(r"[\\${}]|\[[A-Z]", text)]
    assert len({*said.values()}) == len(said)


def test_pages_are_small(site, soups):
    sizes = {}
    for name, soup in soups.items():
        here = site / f"{name}.html"
        own = {here} | {
            here.parent / unquote(i["src"])
            for i in soup.select("img[src]")
            if not i["src"].startswith("data:")
        }
        sizes[name] = sum(path.stat().st_size for path in own)
    assert {n: size for n, size in sizes.items() if size > LARGEST} == {}


def test_ledger_lists_every_claim_of_others_first_and_checks_apart(soups, executed):
    ledger = soups["ledger"]
    claims = {r["link"]: r for r in executed if r["kind"] == "verdict"}
    found = ledger.select("table.ledger tbody tr")
    rows = {row.a["href"]: " ".join(row.get_text(" ").split()) for row in found}
    assert sorted(rows) == sorted(claims)
    for link, claim in claims.items():
        for part in ("id", "author", "verdict", "unit"):
            assert claim[part] in rows[link]
        count = f"over {claim['n']} {claim['of']}" if claim["of"] else "n ="
        assert count in rows[link]
    checks = [link["href"] for link in ledger.select("p.checks a")]
    expected = [r["link"] for r in executed if r["kind"] == "check"]
    assert sorted(checks) == sorted(expected)
    for table in ledger.select("table.ledger"):
        whose = [row.select("td")[1].get_text(strip=True) for row in table("tr")[1:]]
        assert whose == sorted(whose, key=lambda author: author == "ours")


def test_ledger_names_the_claims_that_await_a_large_run(soups, executed):
    judged = {record["link"] for record in executed}
    links = [link["href"] for link in soups["ledger"].select("p.not-run a")]
    boxes = [
        f"{name}.html#{box['id']}"
        for name in CHAPTERS
        for box in soups[name].select(".verdict-not-run")
    ]
    assert sorted(links) == sorted(boxes)
    assert not judged & {*links}


def test_ledger_has_a_section_for_each_finished_post(soups):
    titles = [h.get_text().strip("#") for h in soups["ledger"].article.select("h2")]
    posts = [name for name in CHAPTERS if not name.endswith("_audit")]
    assert len(titles) == len(posts)
    links = soups["ledger"].select(".toc-h2")  # beside the page, and on a phone
    contents = dict.fromkeys(link.get_text(strip=True) for link in links)
    assert list(contents) == titles


def test_index_counts_the_claims_of_posts_and_papers_first(soups, executed):
    claims = [r for r in executed if r["kind"] == "verdict"]
    theirs = [claim for claim in claims if claim["author"] != "ours"]
    said = soups["index"].select_one("p.tally").get_text()
    assert said.startswith(f"Of {len(theirs)} claims of the posts and papers ")
    assert f"Of {len(claims) - len(theirs)} claims of our own " in said
    # A smoke run judges nothing: then all of them stand under one head.
    heads = {"holds": " hold", "not judged": " were not judged"}
    found = Counter(claim["verdict"] for claim in theirs)
    counted = [f" {found[verdict]}{head}" for verdict, head in heads.items()]
    assert sum(words in said for words in counted) == 1, said
    links = soups["index"].select("ul.posts a")
    posts = [name for name in CHAPTERS if not name.endswith("_audit")]
    assert [link["href"].removesuffix(".html") for link in links] == posts
    assert len(soups["index"].select("ul.posts > li > svg")) == 8


def test_the_ledger_draws_every_interval(soups):
    for row in soups["ledger"].select("table.ledger tbody tr"):
        assert row.select_one("td:last-child svg.bar circle"), row.get_text(" ")


def test_every_term_is_listed_by_its_letter_and_has_its_chinese(soups):
    page = soups["glossary"].article
    terms = {dt["id"]: dt.find(string=True) for dt in page.select("dl.glossary dt")}
    listed = [a["href"].removeprefix("#") for a in page.select(".alphabet a")]
    assert sorted(listed) == sorted(terms)
    names = [a.get_text() for a in page.select(".alphabet a")]
    assert names == sorted(names, key=str.casefold)
    assert {"T-TA", "ELBO", "VAE", "SAM", "PMI"} <= {*names}
    for meaning in page.select("dl.glossary dd"):
        assert re.match(rf"\([^)]*{HAN.pattern}", meaning.get_text()), meaning


def test_works_stand_in_order_and_lead_back_to_where_they_are_cited(site, soups):
    page = soups["references"].article
    works = page.select("div.citation")
    labels = [work.select_one(".label").get_text() for work in works]
    assert labels == sorted(labels, key=str.casefold)
    letters = [rubric.get_text() for rubric in page.select("p.rubric")]
    assert letters == sorted({label[1].upper() for label in labels})
    for work in works:
        links = [urlsplit(a["href"]) for a in work.select("p.cited-in a")]
        assert links, work.get_text()
        for link in links:
            citing = soups[link.path.removesuffix(".html")].find(id=link.fragment)
            targets = [a["href"].rpartition("#")[2] for a in citing.select("a[href]")]
            assert work["id"] in targets, (work.get_text(), link)


def test_the_picture_of_all_claims_has_a_mark_for_each_claim_of_others(soups, executed):
    theirs = [r for r in executed if r["kind"] == "verdict" and r["author"] != "ours"]
    marks = soups["lessons"].select(".panorama .strip a")
    found = {m["href"]: (m.get_text().split()[0], m["class"][0]) for m in marks}
    kinds = {r["link"]: "is-" + r["verdict"].replace(" ", "-") for r in theirs}
    assert found == {r["link"]: (r["id"], kinds[r["link"]]) for r in theirs}
    assert len(marks) == len(theirs) > 20
    assert all(re.search(r": .+, .*\d", mark["title"]) for mark in marks)


@pytest.fixture(scope="module")
def copies(site, profile, tmp_path_factory) -> list[Path]:
    """The book rendered in two other folders, on other days, in other places."""
    folder = tmp_path_factory.mktemp("copies")
    (folder / "later").mkdir()
    (folder / "later" / "sitecustomize.py").write_text(ANOTHER_DAY, encoding="utf-8")
    roots = [folder / "one", folder / "another" / "place"]
    skip = shutil.ignore_patterns(".*", "_build", "tests", "__pycache__", "*.egg-info")
    for root in roots:
        shutil.copytree(ROOT, root, ignore=skip)
        runs = Path("_build") / "executed" / f"{profile}-0"
        shutil.copytree(ROOT / runs, root / runs)
    builds = [
        render(roots[0], profile, TZ="Pacific/Kiritimati", LC_ALL="C"),
        render(
            roots[1],
            profile,
            TZ="America/St_Johns",
            LC_ALL="C.UTF-8",
            LANG="zh_CN.UTF-8",
            SOURCE_DATE_EPOCH="86400",
            PYTHONHASHSEED="7",
            PYTHONPATH=str(folder / "later"),
        ),
    ]
    for build in builds:
        finish(build)
    return roots


def test_builds_are_identical_byte_for_byte(copies):
    pages = [rendered(root) for root in copies]
    files = [{p.relative_to(r): p for p in r.rglob("*") if p.is_file()} for r in pages]
    assert files[0].keys() == files[1].keys()
    differing = [
        n for n in files[0] if files[0][n].read_bytes() != files[1][n].read_bytes()
    ]
    assert differing == []
    assert len(files[0]) > 50


def test_new_runs_reach_chapter_and_ledger(copies, profile):
    root = copies[0]
    slug = runner.chapters(root)[0]
    path = runner.executed_path(slug, profile, root=root)
    notebook = json.loads(path.read_text(encoding="utf-8"))
    for output in (o for cell in notebook["cells"] for o in cell.get("outputs", [])):
        details = output.get("metadata", {}).get("blogcore", {})
        if details.get("kind") == "verdict":
            details["statement"] += " NEWS"
        if "text/html" in output.get("data", {}):
            output["data"]["text/html"] = "<p>NEWS</p>"
    notebook["metadata"]["blogcore"]["seal"] = seal(notebook)
    path.write_text(json.dumps(notebook), encoding="utf-8")
    finish(render(root, profile))
    for name in ("ledger", f"chapters/{slug}"):
        page = rendered(root) / f"{name}.html"
        assert "NEWS" in page.read_text(encoding="utf-8")
