// What a query looks for; and on a page that a search opened (?found=…#section), the hits
// of that section are marked and the first one is brought into view.
"use strict";
{
  const HAN = /[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]/u;
  const literal = (text) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");

  // Chinese is found anywhere, other words where a word begins, whatever their ending.
  const pattern = (word) => {
    if (HAN.test(word) || !/^[\p{L}\p{N}]/u.test(word)) return literal(word);
    const stem = word.replace(/^(\p{L}{4,}?)(ies|ing|ed|es|s|y)$/iu, "$1");
    return `(?<![\\p{L}\\p{N}.])${literal(stem)}\\p{L}*`;
  };
  const any = (patterns) => new RegExp(patterns.join("|"), "giu");

  // Of each word, of all in a row, and of either.
  globalThis.patternsOf = (query) => {
    const patterns = query.normalize("NFKC").split(/\s+/).filter(Boolean).map(pattern);
    const row = patterns.join("[\\s\\p{P}]+");
    return {each: patterns.map((p) => any([p])), row: any([row]), any: any([row, ...patterns])};
  };

  // A text in pieces, its hits as <mark>.
  globalThis.marked = (text, hits) => {
    const pieces = [];
    let end = 0;
    for (const hit of text.matchAll(hits)) {
      const mark = document.createElement("mark");
      mark.textContent = hit[0];
      pieces.push(text.slice(end, hit.index), mark);
      end = hit.index + hit[0].length;
    }
    return [...pieces, text.slice(end)];
  };

  const UNSEEN = ".katex-mathml, .headerlink, script, style, svg, button";
  const markBelow = (home, hits) => {
    const walker = document.createTreeWalker(home, NodeFilter.SHOW_TEXT);
    const texts = [];
    while (walker.nextNode()) texts.push(walker.currentNode);
    for (const text of texts) {
      if (text.data.search(hits) < 0 || text.parentElement.closest(UNSEEN)) continue;
      text.replaceWith(...marked(text.data, hits));
    }
    return [...home.querySelectorAll("mark")];
  };

  // All words in a row first, then what can be seen; what is folded away is opened.
  const bring = (home, marks, row) => {
    const whole = marks.filter((mark) => mark.textContent.search(row) >= 0);
    const seen = (mark) => mark.getClientRects().length > 0;
    const hit = whole.find(seen) ?? marks.find(seen) ?? marks[0] ?? home;
    for (let fold = hit; fold; fold = fold.parentElement?.closest("details")) fold.open = true;
    hit.closest(".toggle-hidden")?.querySelector("button.toggle-button")?.click();
    hit.scrollIntoView({block: hit === home ? "start" : "center", behavior: "instant"});
  };

  const url = new URL(location);
  const query = url.searchParams.get("found");
  if (query) addEventListener("load", async () => {
    const home = document.getElementById(decodeURIComponent(url.hash.slice(1)));
    if (!home) return;
    const {any, row} = patternsOf(query);
    const marks = markBelow(home, any);
    await document.fonts.ready;
    bring(home, marks, row);
    // Whoever comes back to this page, or passes its address on, wants to read on.
    url.searchParams.delete("found");
    history.replaceState(null, "", url);
  });
}
