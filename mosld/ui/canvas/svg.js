// Pictures made of elements: drawn anew by key, so that focus, pointer and tooltip stay where they are.
// - pen(svg): { begin(width, height), put(key, tag, attributes, more), end() }; more: { text, tip, name, act, far }.
//   `name` is read aloud, `tip` shown on hover, focus and tap (a text or a function), `act` done on click, Enter and space; one that
//   leads away (`far`) on the second tap of a finger, since the first shows the tip.
// - The whole picture is one tab stop; arrow keys go from mark to mark.
((M) => {
  const NS = "http://www.w3.org/2000/svg", LEAST = 110; // milliseconds between two drawings while frames stream
  const ruler = document.createElement("canvas").getContext("2d"), widths = new Map();
  M.measure = (text, size = 12, weight = 400) => {
    const key = `${size} ${weight} ${text}`;
    if (!widths.has(key)) {
      if (widths.size > 2000) widths.clear();
      ruler.font = M.font(size, weight);
      widths.set(key, ruler.measureText(text).width);
    }
    return widths.get(key);
  };
  M.wrap = (text, width, size, weight) => {
    const out = [""];
    for (const word of String(text || "").split(" ")) {
      const next = out[out.length - 1] ? `${out[out.length - 1]} ${word}` : word;
      if (out[out.length - 1] && M.measure(next, size, weight) > width) out.push(word); else out[out.length - 1] = next;
    }
    return out;
  };
  M.fit = (text, room, size = 12, weight = 400) => {
    if (M.measure(text, size, weight) <= room) return text;
    while (text.length > 1 && M.measure(text + "…", size, weight) > room) text = text.slice(0, -1);
    return text + "…";
  };

  M.makeSvg = (tag, attributes, parent) => {
    const el = document.createElementNS(NS, tag);
    for (const [name, value] of Object.entries(attributes)) el.setAttribute(name, value);
    if (parent) parent.appendChild(el);
    return el;
  };

  M.pen = (root) => {
    const kept = new Map();
    let used = new Set(), cursor = null, tipped = null, size = "";
    const said = (el) => (typeof el.tip === "function" ? el.tip() : el.tip) || "";
    const P = {
      root,
      begin(width, height) {
        if (size !== (size = `0 0 ${width} ${height}`)) { // set anew it would lay out every text anew
          root.setAttribute("viewBox", size);
          root.setAttribute("height", height);
        }
        used = new Set();
        cursor = root.firstChild;
      },
      put(key, tag, attributes = {}, more = {}) {
        let el = kept.get(key);
        if (!el || el.tagName !== tag) {
          if (el) el.remove();
          el = document.createElementNS(NS, tag);
          el.was = {};
          kept.set(key, el);
        }
        used.add(key);
        const was = el.was, now = more.act || more.name ? { ...attributes, "data-mark": key, tabindex: "-1", role: more.act ? "button" : "img", "aria-label": more.name || said({ tip: more.tip }) } : attributes;
        for (const name in now) if (was[name] !== now[name]) el.setAttribute(name, now[name]);
        for (const name in was) if (!(name in now)) el.removeAttribute(name);
        el.was = now;
        if (more.text !== undefined && el.told !== more.text) el.textContent = el.told = more.text;
        el.tip = more.tip;
        el.act = more.act;
        el.far = more.far;
        if (el === cursor) cursor = el.nextSibling;
        else root.insertBefore(el, cursor);
        return el;
      },
      end() {
        for (const [key, el] of kept) if (!used.has(key)) { el.remove(); kept.delete(key); if (tipped === el) { tipped = null; M.tip.hide(); } }
        if (tipped) M.tip.again(said(tipped));
      },
      // Shorthands. Sizes in pixels; classes carry the colours.
      rect: (key, x, y, w, h, attributes, more) => P.put(key, "rect", { x: r(x), y: r(y), width: r(Math.max(0, w)), height: r(Math.max(0, h)), ...attributes }, more),
      text: (key, x, y, text, attributes, more) => P.put(key, "text", { x: r(x), y: r(y), ...attributes }, { ...more, text }),
      line: (key, x, y, u, v, attributes) => P.put(key, "path", { d: `M${r(x)} ${r(y)}L${r(u)} ${r(v)}`, fill: "none", ...attributes }),
      path: (key, d, attributes, more) => P.put(key, "path", { d, fill: "none", ...attributes }, more),
    };
    const r = (v) => Math.round(v * 10) / 10;
    const at = (target) => target.closest && target.closest("svg") === root ? [target, target.parentNode].find((e) => e && (e.tip || e.act)) : null;
    const show = (el, x, y, aloud) => {
      const text = said(el);
      tipped = text ? el : null;
      if (text) M.tip.show(text, x, y, aloud); else M.tip.hide();
    };
    root.addEventListener("pointermove", (e) => { const el = at(e.target); if (el && el.tip) show(el, e.clientX, e.clientY); else if (tipped) { tipped = null; M.tip.hide(); } });
    root.addEventListener("pointerleave", (e) => { if (e.pointerType !== "touch") { tipped = null; M.tip.hide(); } });
    let finger = false, known = null; // what the last touch was of, and what was told before it
    root.addEventListener("pointerdown", (e) => { finger = e.pointerType === "touch"; known = tipped; });
    root.addEventListener("click", (e) => {
      const el = at(e.target);
      if (!el) return;
      if (el.tip) show(el, e.clientX, e.clientY); // a tap does what hovering does
      if (el.act && !(el.far && finger && known !== el)) el.act();
    });
    root.addEventListener("focusout", () => { tipped = null; M.tip.hide(); });
    root.addEventListener("keydown", (e) => {
      const now = document.activeElement;
      if ((e.key === "Enter" || e.key === " ") && now.act) { e.preventDefault(); now.act(); }
    });
    M.rove(root, "[data-mark]", (el, b) => show(el, b.x + b.w / 2, b.y + b.h / 2));
    return P;
  };

  // An svg in a place of the page: draw(pen, width) returns its height; it is drawn when the store or the width changes, and only while in sight;
  // while frames stream at most once in `least` milliseconds.
  M.picture = (place, label, draw, stamp, least = LEAST) => {
    const svg = M.makeSvg("svg", { role: "group", tabindex: "0", width: "100%", class: "lab-svg", "aria-label": label }, place), pen = M.pen(svg);
    let asked = false, visible = true, last = "", painted = 0, timer = 0, width = place.clientWidth; // asked for anew at each drawing it would cost a layout
    function paint() {
      asked = false;
      painted = Date.now();
      if (!width || !visible) return;
      const now = stamp ? [width, stamp()].join() : "";
      if (stamp && now === last) return;
      last = now;
      pen.height = draw(pen, width);
      svg.drawn = (svg.drawn || 0) + 1;
    }
    // What is due is painted with the frame that has just come, all pictures at once; a timer is for what comes after the last frame.
    const mark = (force) => {
      if (force) last = "";
      const rest = least - 30 - (Date.now() - painted);
      if (rest > 0 && !force && (M.state === "running" || M.playing)) { timer = timer || setTimeout(() => { timer = 0; mark(); }, rest + 160); return; }
      clearTimeout(timer);
      timer = 0;
      if (!asked) { asked = true; requestAnimationFrame(paint); }
    };
    M.on((what) => mark(what === "theme" || what === "choice"));
    new ResizeObserver(([e]) => { width = Math.round(e.contentRect.width); mark(); }).observe(place);
    new IntersectionObserver((e) => { visible = e[e.length - 1].isIntersecting; if (visible) mark(); }, { rootMargin: "200px" }).observe(place);
    paint();
    return { svg, mark, say: (text) => { if (svg.getAttribute("aria-label") !== text) svg.setAttribute("aria-label", text); } };
  };

  // Texts of a run or a visitor reach the page here and nowhere else: as text, with the lab's own words explained.
  M.words = (place, text) => {
    if (place.told === text) return;
    place.told = text;
    const seen = new Set(), parts = String(text).split(M.termsPattern);
    place.replaceChildren(...parts.map((part, i) => {
      const term = i % 2 ? M.term(part) : null;
      if (!term || seen.has(term)) return document.createTextNode(part);
      seen.add(term);
      const span = document.createElement("span");
      Object.assign(span, { className: "lab-term", textContent: part, tabIndex: 0 });
      span.dataset.term = term;
      return span;
    }));
  };
  M.make = (tag, attributes = {}, ...children) => {
    const el = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) if (name === "on") for (const [event, fn] of Object.entries(value)) el.addEventListener(event, fn); else if ((value ?? false) !== false) el.setAttribute(name, value === true ? "" : value);
    el.append(...children);
    return el;
  };
  M.style = (el, style) => (Object.assign(el.style, style), el);
  M.expertColour = (e) => `var(--lab-expert-${e % 8})`;
  M.chip = (e) => M.style(M.make("span", { class: "lab-expert" }, String(e + 1)), { background: M.expertColour(e) });
})(window.MoSLD);
