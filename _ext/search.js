// Search by section, from a folder or a server alike: all text lies in SECTIONS, a list of
// [address, anchor, title, title of the page, text], and every query reads all of it.
"use strict";
{
  const HAN = /[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]/u;
  const plain = (text) => text.normalize("NFKC");
  const literal = (text) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");

  // Chinese is found anywhere, other words where a word begins, whatever their ending.
  const pattern = (word) => {
    if (HAN.test(word) || !/^[\p{L}\p{N}]/u.test(word)) return literal(word);
    const stem = word.replace(/^(\p{L}{4,}?)(ies|ing|ed|es|s|y)$/iu, "$1");
    return `(?<![\\p{L}\\p{N}.])${literal(stem)}\\p{L}*`;
  };
  const count = (text, found) => (text.match(found) ?? []).length;

  globalThis.findSections = (query) => {
    const words = plain(query).split(/\s+/).filter(Boolean);
    const patterns = words.map((word) => new RegExp(pattern(word), "giu"));
    const score = ([address, , title, page, text]) => {
      let sum = address.startsWith("chapters/") ? 1 : 0;
      for (const found of patterns) {
        const above = count(plain(title), found), inside = count(text, found);
        if (above + inside === 0) return 0;
        sum += 10 * Math.min(above, 1) + 2 * Math.min(count(plain(page), found), 1);
        sum += Math.log1p(inside) / Math.log10(100 + text.length);
      }
      return sum;
    };
    const all = words.length ? SECTIONS.map((section) => [score(section), section]) : [];
    const found = all.filter(([points]) => points > 0).sort((a, b) => b[0] - a[0]);
    return found.map(([, section]) => ({section, patterns, words}));
  };

  const element = (name, kind, text = "") => {
    const made = document.createElement(name);
    made.className = kind;
    made.textContent = text;
    return made;
  };

  // 200 characters around the first hit, with every hit in them marked.
  const excerpt = (text, patterns) => {
    const first = Math.max(0, text.search(patterns[0]));
    const start = Math.max(0, text.lastIndexOf(" ", first - 60));
    const shown = text.slice(start, start + 200);
    const made = element("p", "context", start > 0 ? "…" : "");
    const any = new RegExp(patterns.map((p) => p.source).join("|"), "giu");
    let end = 0;
    for (const hit of shown.matchAll(any)) {
      made.append(shown.slice(end, hit.index), element("mark", "", hit[0]));
      end = hit.index + hit[0].length;
    }
    made.append(shown.slice(end), "…");
    return made;
  };

  const row = ({section: [address, anchor, title, page, text], patterns, words}) => {
    const item = element("li", "");
    const link = element("a", "", title);
    link.href = `${address}?highlight=${encodeURIComponent(words.join(" "))}#${anchor}`;
    item.append(link);
    if (title !== page) item.append(" ", element("span", "page", page));
    item.append(excerpt(text, patterns));
    return item;
  };

  const show = (query) => {
    const found = findSections(query);
    const list = element("ul", "search");
    list.append(...found.slice(0, 60).map(row));
    const kinds = found.length === 1 ? "section" : "sections";
    const summary = `${found.length || "No"} ${kinds} found for “${query}”.`;
    document.getElementById("search-results")
      .replaceChildren(element("p", "search-summary", summary), list);
  };

  const query = new URLSearchParams(location.search).get("q")?.trim();
  const field = document.querySelector("#search-input, .bd-search-container input");
  if (query) {
    if (field) field.value = query;
    show(query);
  }
}
