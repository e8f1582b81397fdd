// Search by section, from a folder or a server alike: all text lies in SECTIONS, a list of
// [address, anchor, title, title of the page, text] in the book's order, and every query
// reads all of it.
"use strict";
{
  const count = (text, found) => (text.match(found) ?? []).length;

  // Words in a row weigh most, then words of the title. A chapter stands before any list
  // that names a word, however often.
  const score = ([address, , title, page, text], {each, row}) => {
    let sum = 0;
    for (const word of each) {
      const above = count(title, word), inside = count(text, word);
      if (above + inside === 0) return 0;
      sum += 10 * Math.min(above, 1) + 2 * Math.min(count(page, word), 1);
      sum += Math.min(Math.log2(1 + inside), 3);
    }
    const inRow = each.length > 1 && count(`${title}\n${text}`, row) > 0;
    return (address.startsWith("chapters/") ? 3 : 0) + (inRow ? 10 : 0) + sum / each.length;
  };

  // Equals stay in the book's order: sort is stable.
  globalThis.findSections = (query) => {
    const patterns = patternsOf(query);
    if (!patterns.each.length) return [];
    const all = SECTIONS.map((section) => [score(section, patterns), section]);
    const found = all.filter(([points]) => points > 0).sort((a, b) => b[0] - a[0]);
    return found.map(([, section]) => section);
  };

  const element = (name, kind, text = "") => {
    const made = document.createElement(name);
    made.className = kind;
    made.textContent = text;
    return made;
  };

  // 200 characters around the first hit, with every hit in them marked.
  const excerpt = (text, {each, any, row}) => {
    const hits = [row, each[0]].map((pattern) => text.search(pattern));
    const first = hits.find((place) => place >= 0) ?? 0;
    const start = Math.max(0, text.lastIndexOf(" ", first - 60));
    const made = element("p", "context", start > 0 ? "…" : "");
    made.append(...marked(text.slice(start, start + 200), any), "…");
    return made;
  };

  const item = ([address, anchor, title, page, text], query) => {
    const made = element("li", "");
    const link = element("a", "", title);
    link.href = `${address}?found=${encodeURIComponent(query)}#${anchor}`;
    made.append(link);
    if (title !== page) made.append(" ", element("span", "page", page));
    made.append(excerpt(text, patternsOf(query)));
    return made;
  };

  const show = (query) => {
    const found = findSections(query);
    const list = element("ul", "search");
    list.append(...found.slice(0, 60).map((section) => item(section, query)));
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
