// What every picture shares: colours from the page's theme, a sharp canvas, marks that answer to the pointer and to the
// arrow keys, one tooltip, and mount() and still(), which give a live or an answered view its place on the page.
((M) => {
  M.root = () => document.querySelector("#first, .gradio-container") || document.body;
  let colours = null;
  M.colours = () => {
    if (colours) return colours;
    const css = getComputedStyle(M.root()), get = (name) => css.getPropertyValue("--lab-" + name).trim();
    colours = {
      ink: get("ink"), soft: get("soft"), faint: get("faint"), grid: get("grid"), card: get("card"),
      arms: [0, 1, 2, 3, 4, 5].map((i) => get("arm-" + i)), experts: [0, 1, 2, 3, 4, 5, 6, 7].map((i) => get("expert-" + i)),
      good: get("good"),
      diverging: get("diverging").split(/\s*\|\s*/),
    };
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
  // Arms differ in colour and in dash, so that a picture reads in grey too.
  M.dashes = [[], [6, 3], [2, 3], [8, 3, 2, 3], [1, 2], [10, 4]];

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
  function elements(element, view, source) {
    const place = element.querySelector(".lab-canvas"), words = element.querySelector(".lab-say");
    for (const [name, value] of [["role", "group"], ["tabindex", "0"], ["aria-label", element.querySelector("h2").textContent]]) place.setAttribute(name, value);
    const marks = () => [...place.querySelectorAll("[data-help]")];
    let stamp = "", visible = true;
    const mark = () => {
      const data = source.data(), now = [source.stamp(), M.colours().ink].join();
      if (!visible || now === stamp) return;
      stamp = now;
      // The mark that is looked at stays so, and what is told of it follows the run.
      const before = marks(), held = before.findIndex((el) => el === document.activeElement || el.matches(":hover")), focused = before[held] === document.activeElement;
      M.hushed = true;
      place.replaceChildren(...(data ? view.render(data) : [M.make("p", { class: "lab-empty" }, waits(view, source))]));
      const after = held < 0 ? null : marks()[held];
      if (after && focused) { after.tabIndex = -1; after.focus({ preventScroll: true }); }
      M.hushed = false;
      if (after) M.tip.again(after.dataset.help); else if (held >= 0) hide();
      M.write(words, data ? view.say(data) : "");
    };
    M.rove(place, "[data-help]");
    M.on((what) => { if (what === "theme") mark(); });
    new IntersectionObserver((e) => { visible = e[e.length - 1].isIntersecting; mark(); }, { rootMargin: "200px" }).observe(element);
    mark();
    return { mark, frame: mark };
  }

  // A figure: its canvas, its marks with tooltip and keys, its words. view: { height(data, width), draw(g, data), say(data), empty }.
  // source: data() or null while there is none; coming(): what the height is taken from till then, so that nothing jumps, or null;
  // stamp(): the picture is drawn anew only where it changed; busy(): words may wait.
  function figure(element, view, source) {
    const canvas = element.querySelector("canvas"), words = element.querySelector(".lab-say"), ctx = canvas.getContext("2d");
    let hits = [], width = canvas.parentElement.clientWidth, dirty = true, ring = null, spoken = 0, later = 0, visible = true, stamp = "", asked = false, over = null;
    const g = { ctx, hit: (x, y, w, h, text) => hits.push({ x, y, w, h, text }) };

    function draw() {
      dirty = false;
      const data = source.data(), room = data || source.coming(), height = room ? view.height(room, width) : 220, ratio = window.devicePixelRatio || 1;
      canvas.parentElement.style.height = height + "px";
      if (!width || !visible) { dirty = true; return; }
      if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
        canvas.width = Math.round(width * ratio);
        canvas.height = Math.round(height * ratio);
        canvas.style.height = height + "px";
      }
      const now = [source.stamp(), ring && ring.i, width, height, ratio, M.colours().ink].join();
      if (now === stamp) return;
      stamp = now;
      ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
      ctx.clearRect(0, 0, width, height);
      hits = [];
      Object.assign(g, { w: width, h: height, c: M.colours() });
      if (data) {
        view.draw(g, data);
        if (ring && hits[ring.i]) outline(hits[ring.i]);
        const under = over ? find(...over) : ring ? ring.i : -1;
        if (under >= 0 && hits[under]) M.tip.again(words_of(hits[under], over ? over[0] : hits[under].x + hits[under].w - 1));
        speak();
      } else M.wrap(waits(view, source), width - 8).forEach((line, i, all) => M.label(g, line, width / 2, height / 2 + (i - (all.length - 1) / 2) * 17, { align: "center", colour: g.c.soft }));
    }
    function speak() {
      const now = Date.now(), data = source.data();
      clearTimeout(later);
      if (now - spoken < (source.busy() ? 10000 : 1000)) { later = setTimeout(speak, 1100); return; }
      spoken = now;
      if (!data) return;
      const text = view.say(data);
      M.write(words, text);
      canvas.setAttribute("aria-label", text);
    }
    function outline(b) {
      ctx.strokeStyle = g.c.ink;
      ctx.lineWidth = 2;
      ctx.setLineDash([]);
      ctx.strokeRect(b.x + 1, b.y + 1, b.w - 2, b.h - 2);
    }
    const mark = () => { dirty = true; if (!asked) { asked = true; requestAnimationFrame(() => { asked = false; draw(); }); } };
    M.on((what) => { if (what === "theme") mark(); });
    new ResizeObserver(([e]) => { if (Math.round(e.contentRect.width) !== width) { width = Math.round(e.contentRect.width); mark(); } }).observe(canvas.parentElement);
    new IntersectionObserver((e) => { visible = e[e.length - 1].isIntersecting; if (visible && dirty) draw(); }, { rootMargin: "200px" }).observe(canvas);

    const find = (x, y) => {
      for (let i = hits.length - 1; i >= 0; i--) { const b = hits[i]; if (x >= b.x && x < b.x + b.w && y >= b.y && y < b.y + b.h) return i; }
      return -1;
    };
    const words_of = (b, x) => (typeof b.text === "function" ? b.text(x - b.x) : b.text);
    const point = (e) => {
      const box = canvas.getBoundingClientRect(), x = e.clientX - box.left, y = e.clientY - box.top, i = find(x, y);
      over = i < 0 ? null : [x, y];
      if (i < 0) return hide();
      show(words_of(hits[i], x), e.clientX, e.clientY, false);
    };
    canvas.addEventListener("pointermove", point);
    canvas.addEventListener("click", point); // a tap does what hovering does
    canvas.addEventListener("pointerleave", (e) => { if (e.pointerType !== "touch") { over = null; hide(); } });
    canvas.addEventListener("blur", () => { ring = null; hide(); mark(); });
    canvas.addEventListener("keydown", (e) => {
      const move = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] }[e.key];
      if (e.key === "Escape") { ring = null; hide(); return mark(); }
      if (!move || !hits.length) return;
      e.preventDefault();
      const i = ring === null ? 0 : M.nearest(hits, Math.min(ring.i, hits.length - 1), move), b = hits[i], box = canvas.getBoundingClientRect();
      ring = { i };
      show(words_of(b, b.w - 1), box.left + b.x + b.w / 2, box.top + b.y + b.h / 2, true);
      mark();
    });
    mark();
    draw();
    return { mark, frame: () => (visible ? mark() : (dirty = true)) };
  }

  // A live view of the run: what it depends on is "probed", "scored" or every frame, the place of the scrubber and the choices.
  M.mount = (name, element) => {
    const view = M.views[name];
    element.querySelectorAll("select[data-choose]").forEach((menu) => M.menu(menu, menu.dataset.choose));
    const stamp = () => {
      const last = M.frames[M.frames.length - 1] || {}, f = M.shown() || {};
      return [M.run, !M.frames.length && [M.state, M.note], M.frames.length ? last[view.depends] ?? last.step : -1, f[view.depends] ?? f.step, view.curves && M.at, M.layer, M.target, M.smooth, M.log].join();
    };
    const of = (view.render ? elements : figure)(element, view, { data: () => (M.header && M.frames.length ? M : null), coming: () => M.header && M, stamp, busy: () => M.state === "running" });
    M.on((what) => (what === "frames" ? of.frame() : of.mark()));
  };

  // A still view of what the server answered: a JSON text in read(), which watch() tells of; "" or null clears it.
  // Its menus offer what the answer has in `offers`, { name: [[value, text]] }; what is chosen is in `data.chosen`.
  // view.wire(element, chosen, again), where there is one, adds controls of its own: they write into `chosen` and call again();
  // view.tell(element, data) is called whenever answer or choice changed, for words outside the canvas.
  // view.asks: the buttons that ask the run; M.follow presses view.press() (else the first) once the picture is in sight and not of the run as it is.
  M.still = (name, element, read, watch) => {
    let data = null, count = 0, asked = false;
    const view = M.views[name], chosen = {}, menus = [...element.querySelectorAll("select[data-choose]")];
    // Until there is an answer, a view may show what the run on the page holds: view.sample() or null.
    const sample = () => (view.sample ? view.sample() : null);
    const of = (view.render ? elements : figure)(element, view, { data: () => data || sample(), coming: () => null, asked: () => asked, stamp: () => [count, asked, !data && [M.state, M.note], !data && view.sample ? [M.run, M.name, M.index(), M.pick.arm, M.layer, M.target].join() : ""].join(), busy: () => M.playing });
    const wait = (now) => { if (asked !== now) { asked = now; element.setAttribute("aria-busy", String(now)); of.mark(); } };
    M.on((what) => { if (asked && what === "frames" && M.kind === "error") wait(false); if (!data) of.frame(); });
    if (view.asks) {
      document.addEventListener("click", (e) => { if (e.target.closest && e.target.closest(view.asks)) wait(true); });
      if (M.follow) M.follow(element, () => (view.press ? view.press() : view.asks), view.picks);
    }
    const again = () => {
      for (const menu of menus) chosen[menu.dataset.choose] = menu.value;
      if (view.tell) view.tell(element, data);
      count += 1;
      of.mark();
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
