// What every picture shares: colours from the page's theme, marks that answer to the pointer and to the arrow keys, one tooltip, and mount()
// and still(), which give a live or an answered view its place on the page.
((M) => {
  M.root = () => document.querySelector("#first, .gradio-container") || document.body;
  let colours = null;
  M.colours = () => {
    if (colours) return colours;
    const css = getComputedStyle(M.root()), get = (name) => css.getPropertyValue("--lab-" + name).trim();
    colours = { ink: get("ink"), diverging: get("diverging").split(/\s*\|\s*/) };
    return colours;
  };
  new MutationObserver(() => { colours = null; M.changed("theme"); })
    .observe(document.body, { attributes: true, attributeFilter: ["class"] });

  const rgb = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
  // A colour of the two-hue scale, v in [-1, 1]; 0 is its pale middle.
  M.diverging = (v) => between(M.colours().diverging, (Math.max(-1, Math.min(1, v)) + 1) / 2);
  // An element on the colour of v, with black or white ink on it, whichever has the higher contrast.
  M.shade = (el, v) => {
    const colour = M.diverging(v), [r, g, b] = colour.match(/\d+/g).map((c) => (c / 255 <= 0.04045 ? c / 3294.6 : ((c / 255 + 0.055) / 1.055) ** 2.4));
    return M.style(el, { background: colour, color: 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 ? "#000000" : "#ffffff" });
  };
  function between(stops, share) {
    const x = share * (stops.length - 1), i = Math.min(stops.length - 2, Math.floor(x)), a = rgb(stops[i]), b = rgb(stops[i + 1]);
    return `rgb(${a.map((c, k) => Math.round(c + (b[k] - c) * (x - i))).join(",")})`;
  }
  const tip = document.createElement("div");
  tip.id = "lab-tip";
  tip.setAttribute("aria-hidden", "true");
  document.body.appendChild(tip);
  const told = document.createElement("div");
  told.className = "lab-sr";
  told.setAttribute("aria-live", "polite");
  document.body.appendChild(told);

  function show(text, x, y, aloud) {
    tip.textContent = text;
    tip.style.display = "block";
    const w = tip.offsetWidth, h = tip.offsetHeight;
    tip.style.left = Math.max(6, Math.min(window.innerWidth - w - 6, x + 14)) + "px";
    tip.style.top = (y + 18 + h > window.innerHeight ? y - h - 12 : y + 18) + "px";
    if (aloud) told.textContent = text;
  }
  const hide = () => { tip.style.display = "none"; };
  // What stands in the tooltip follows the picture under it.
  M.tip = { show, hide, again: (text) => { if (tip.style.display === "block" && tip.textContent !== text) tip.textContent = text; } };
  window.addEventListener("scroll", hide, { passive: true });

  // What an empty picture says: what is being done, or what is to be done.
  const waits = (view, source) => (source.asked && source.asked() ? "The run is asked …" : M.busy() || !view.empty ? M.waiting() : view.empty());
  // A figure made of elements, view: { render(data), say(data), empty }; source as below. Arrow keys go from mark to mark.
  function figure(element, view, source) {
    const place = element.querySelector(".lab-drawing"), words = element.querySelector(".lab-say");
    for (const [name, value] of [["role", "group"], ["tabindex", "0"], ["aria-label", element.querySelector("h2").textContent]]) place.setAttribute(name, value);
    const marks = () => [...place.querySelectorAll("[data-help]")];
    let stamp = "", visible = true, due = false, width = place.clientWidth;
    const paint = () => {
      const data = source.data(), now = [source.stamp(), M.colours().ink, width].join();
      due = false;
      if (!visible || !width || now === stamp) return;
      stamp = now;
      // The mark that is looked at stays so, and what is told of it follows the run.
      const before = marks(), held = before.findIndex((el) => el === document.activeElement || el.matches(":hover")), focused = before[held] === document.activeElement;
      M.hushed = true;
      place.replaceChildren(...(data ? view.render(data, width) : [M.make("p", { class: "lab-empty" }, waits(view, source))]));
      const after = held < 0 ? null : marks()[held];
      if (after && focused) { after.tabIndex = -1; after.focus({ preventScroll: true }); }
      M.hushed = false;
      if (after) M.tip.again(after.tell ? after.tell((after.at = before[held].at)) : after.dataset.help); else if (held >= 0) hide();
      M.write(words, data ? view.say(data) : "");
    };
    const mark = () => { if (!due) { due = true; requestAnimationFrame(paint); } };
    M.rove(place, "[data-help]");
    new ResizeObserver(([e]) => { width = Math.round(e.contentRect.width); mark(); }).observe(place);
    new IntersectionObserver((e) => { visible = e[e.length - 1].isIntersecting; mark(); }, { rootMargin: "200px" }).observe(element);
    M.on(mark);
    paint();
    return mark;
  }

  // A live view of the run: what it depends on is "probed", "scored" or every frame, the place of the scrubber and the choices.
  M.mount = (name, element) => {
    const view = M.views[name];
    element.querySelectorAll("select[data-choose]").forEach((menu) => M.menu(menu, menu.dataset.choose));
    const stamp = () => {
      const last = M.frames[M.frames.length - 1] || {}, f = M.shown() || {};
      return [M.run, !M.frames.length && [M.state, M.note], M.frames.length ? last[view.depends] ?? last.step : -1, f[view.depends] ?? f.step, view.curves && M.at, M.layer, M.target, M.smooth, M.log].join();
    };
    figure(element, view, { data: () => (M.header && M.frames.length ? M : null), stamp });
  };

  // A still view of what the server answered: a JSON text in read(), which watch() tells of; "" or null clears it.
  // Its menus offer what the answer has in `offers`, { name: [[value, text]] }; what is chosen is in `data.chosen`.
  // view.wire(element, chosen, again), where there is one, adds controls of its own: they write into `chosen` and call again();
  // view.tell(element, data) is called whenever answer or choice changed, for words outside the picture.
  // view.asks: the buttons that ask the run; M.follow presses view.press() (else the first) once the picture is in sight and not of the run as it is.
  M.still = (name, element, read, watch) => {
    let data = null, count = 0, asked = false;
    const view = M.views[name], chosen = {}, menus = [...element.querySelectorAll("select[data-choose]")];
    // Until there is an answer, a view may show what the run on the page holds: view.sample() or null.
    const sample = () => (view.sample ? view.sample() : null);
    const mark = figure(element, view, { data: () => data || sample(), asked: () => asked, stamp: () => [count, asked, !data && [M.state, M.note], !data && view.sample ? [M.run, M.name, M.index(), M.pick.arm, M.layer, M.target].join() : ""].join()});
    const wait = (now) => { if (asked !== now) { asked = now; element.setAttribute("aria-busy", String(now)); mark(); } };
    M.on((what) => { if (asked && what === "frames" && M.kind === "error") wait(false); });
    if (view.asks) {
      document.addEventListener("click", (e) => { if (e.target.closest && e.target.closest(view.asks)) wait(true); });
      if (M.follow) M.follow(element, () => (view.press ? view.press() : view.asks), view.picks);
    }
    const again = () => {
      for (const menu of menus) chosen[menu.dataset.choose] = menu.value;
      if (view.tell) view.tell(element, data);
      count += 1;
      mark();
    };
    for (const menu of menus) menu.addEventListener("change", again);
    const take = () => {
      const text = read();
      data = text ? { ...JSON.parse(text), chosen } : null;
      wait(false);
      for (const menu of menus) {
        const offered = data && data.offers && data.offers[menu.dataset.choose], before = menu.value;
        if (!offered) continue;
        menu.replaceChildren(...offered.map(([value, label]) => new Option(label, value)));
        if (offered.some(([value]) => value === before)) menu.value = before;
      }
      again();
    };
    watch("value", take);
    take();
    if (view.wire) view.wire(element, chosen, again);
  };

  // Arrow keys go from mark to mark in a place that is one tab stop; show(mark, its box), where there is one, tells of it.
  M.rove = (place, selector, show) => place.addEventListener("keydown", (e) => {
    const move = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] }[e.key], all = move ? [...place.querySelectorAll(selector)] : [];
    if (e.key === "Escape") { place.focus(); return hide(); }
    if (!all.length) return;
    e.preventDefault();
    const boxes = all.map((el) => { const b = el.getBoundingClientRect(); return { x: b.x, y: b.y, w: b.width, h: b.height }; });
    const from = all.indexOf(document.activeElement), to = from < 0 ? 0 : M.nearest(boxes, from, move);
    all[to].tabIndex = -1;
    all[to].focus({ preventScroll: true });
    if (show) show(all[to], boxes[to]);
  });
  // The mark that lies nearest in a direction.
  M.nearest = (hits, from, [dx, dy]) => {
    const cx = (b) => b.x + b.w / 2, cy = (b) => b.y + b.h / 2, a = hits[from];
    let best = from, least = Infinity;
    hits.forEach((b, i) => {
      const x = cx(b) - cx(a), y = cy(b) - cy(a), along = x * dx + y * dy, off = Math.abs(x * dy) + Math.abs(y * dx);
      if (i !== from && along > 1 && along + 3 * off < least) { least = along + 3 * off; best = i; }
    });
    return best;
  };
})(window.MoSLD);
