// What a link leads to, shown where the mouse rests or the keyboard's focus stands on it.
// A tap is a click as ever. Terms and references lie in TIPS (tips.js), which is loaded
// when it is first asked for: a page from a folder may not fetch another page.
"use strict";
{
  const home = document.currentScript.src.replace(/previews\.js.*/, "");
  const SHOWN = "div.math, figure, .verdict, p.check, .admonition, tr, dt, .citation";
  const box = document.createElement("div");
  Object.assign(box, {className: "preview", id: "preview", popover: "manual"});
  box.setAttribute("role", "tooltip");
  let waiting, shown;

  const tips = () => new Promise((done) => {
    if (globalThis.TIPS) return done(TIPS);
    const script = document.createElement("script");
    Object.assign(script, {src: `${home}tips.js`, onload: () => done(TIPS)});
    document.head.append(script);
  });

  // A copy without what may stand on a page only once.
  const copy = (element) => {
    // Dark mode inverts figures in what cells displayed, pictures excepted.
    const div = (kind) => {
      const made = document.createElement("div");
      if (element.closest(`.${kind}`)) made.className = kind;
      return made;
    };
    const made = document.createElement("div");
    const outer = made.appendChild(div("tag_picture"));
    const inner = outer.appendChild(div("cell_output"));
    inner.append(element.cloneNode(true));
    if (element.matches("dt")) {
      let said = element;  // a meaning may have two names
      while (!said.matches("dd")) said = said.nextElementSibling;
      inner.append(said.cloneNode(true));
    }
    made.querySelectorAll(".headerlink, button, script").forEach((e) => e.remove());
    made.querySelectorAll("[id]").forEach((e) => e.removeAttribute("id"));
    return made.innerHTML;
  };

  const content = async (link) => {
    const name = decodeURIComponent(link.hash.slice(1));
    if (link.pathname === location.pathname) {
      const there = document.getElementById(name)?.closest(SHOWN);
      return there && copy(there);
    }
    const page = link.pathname.split("/").pop();
    const known = page === "glossary.html" || page === "references.html";
    return known ? (await tips())[`${page}#${name}`] : undefined;
  };

  const hide = () => {
    clearTimeout(waiting);
    waiting = undefined;
    shown?.removeAttribute("aria-describedby");
    shown = undefined;
    if (box.matches(":popover-open")) box.hidePopover();
  };

  const show = async (link) => {
    const asked = waiting;
    const html = await content(link);
    if (!html || asked !== waiting) return;
    box.innerHTML = html;
    link.setAttribute("aria-describedby", box.id);
    link.removeAttribute("title");
    shown = link;
    box.showPopover();
    const at = link.getBoundingClientRect(), wide = box.offsetWidth, high = box.offsetHeight;
    box.style.left = `${Math.max(8, Math.min(at.left, innerWidth - wide - 8))}px`;
    const below = at.bottom + high + 8 < innerHeight;
    box.style.top = `${below ? at.bottom + 6 : Math.max(8, at.top - high - 6)}px`;
  };

  const after = (milliseconds) => ({target}) => {
    const link = target.closest?.(".bd-article a[href*='#']:not(.headerlink)");
    if (link === shown) return;
    hide();
    if (link) waiting = setTimeout(() => show(link), milliseconds);
  };

  if ("popover" in HTMLElement.prototype) {
    (document.querySelector(".bd-article") ?? document.body).append(box);
    if (matchMedia("(hover: hover)").matches) {
      document.addEventListener("mouseover", after(250));
    }
    document.addEventListener("focusin", (event) => {
      if (event.target.matches(":focus-visible")) after(250)(event);
    });
    document.addEventListener("focusout", hide);
    document.addEventListener("scroll", () => { if (shown) hide(); }, {passive: true});
    document.addEventListener("keydown", ({key}) => { if (key === "Escape") hide(); });
  }
}
