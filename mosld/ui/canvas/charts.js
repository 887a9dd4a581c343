// Small line charts made of elements, and what is measured for them.
((M) => {
  M.font = (size = 12, weight = 400) => `${weight} ${size}px system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif`;
  // Arms differ in shade, in dash and in the mark at their line's end, so that a picture reads in grey too; the seventh has the first's shade and another dash.
  const DASHES = ["", "6 3", "2 3", "8 3 2 3", "1 2", "10 4"];
  const stroke = (arm, width = 2) => ({ stroke: `var(--lab-arm-${arm % 6})`, "stroke-width": width, "stroke-dasharray": DASHES[(arm + Math.floor(arm / 6)) % 6], "stroke-linejoin": "round", fill: "none" });
  const end = (x, y, arm) => [`M${x - 3} ${y}a3 3 0 1 0 6 0a3 3 0 1 0 -6 0Z`, `M${x - 3} ${y - 3}h6v6h-6Z`, `M${x} ${y - 4}L${x + 4} ${y + 3}H${x - 4}Z`][arm % 3];

  // The key to lines: a short stroke in shade and dash, and the name.
  M.key = (names) => M.make("p", { class: "lab-lines" }, ...names.map((name, i) => {
    const svg = M.makeSvg("svg", { width: 22, height: 8, class: "lab-svg", "aria-hidden": "true" });
    M.makeSvg("path", { d: "M0 4H22", ...stroke(i, 2.5) }, svg);
    return M.make("span", {}, svg, name);
  }));

  // Round tick values over [low, high].
  const ticks = (low, high, count = 4) => {
    const raw = (high - low) / count || 1, power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= raw) || raw;
    const out = [];
    for (let v = Math.ceil(low / step - 1e-9) * step; v <= high + step * 1e-6; v += step) out.push(Math.abs(v) < step * 1e-6 ? 0 : v);
    return out;
  };
  const logTicks = (low, high) => {
    const out = [];
    for (let p = Math.floor(Math.log10(low)); p <= Math.log10(high); p++) for (const m of [1, 2, 5]) { const v = m * 10 ** p; if (v >= low && v <= high) out.push(v); }
    return out.length > 6 ? out.filter((v) => Math.abs(Math.log10(v) % 1) < 1e-9) : out;
  };
  const plain = (v) => (Math.abs(v) >= 1000 ? v / 1000 + "k" : String(+v.toPrecision(3)).replace("-", "−"));
  const nearest = (points, step) => points.reduce((best, p) => (!best || Math.abs(p[0] - step) < Math.abs(best[0] - step) ? p : best), null);

  // A log2 of A over B, with the ratio itself.
  M.ratio = (v) => `${M.text(v)} (A ${M.text(2 ** v)} times B)`;
  // Exponential smoothing with weight s in [0, 1) on the past, without the start's bias.
  M.smoothed = (points, s) => {
    if (!s) return points;
    let sum = 0, weight = 0;
    return points.map(([x, v]) => { sum = s * sum + (1 - s) * v; weight = s * weight + (1 - s); return [x, sum / weight]; });
  };
  // Of a run: its planned steps, its changes on the way, and the step shown where that is not the newest.
  M.course = (S) => ({ steps: Math.max(S.header.steps, S.shown().step), changes: S.frames.filter((f) => f.event === "change"), now: S.at === null ? null : S.shown().step });

  // A chart so many pixels wide and high. o: { title, value, steps, series: [{ arm, points, name, faint, apart: a value of other questions }], range, floor (lowest value shown),
  // least (height at least), refs: [{ v, name, dash }], changes, now, log, format, tick, define, across: { name, ticks, text } where the axis is no step }
  function chart(w, h, o) {
    const left = 44, top = o.title ? 25 : 6, right = w - 8, bottom = h - 18, steps = Math.max(1, o.steps), format = o.format || ((v) => M.text(v));
    const svg = M.makeSvg("svg", { width: w, height: h, viewBox: `0 0 ${w} ${h}`, class: "lab-svg lab-chart", role: "img" });
    const text = (x, y, words, more) => { M.makeSvg("text", { x, y, "font-size": 11, class: "soft", ...more }, svg).textContent = words; };
    const line = (x, y, u, v, more) => M.makeSvg("path", { d: `M${x} ${y}L${u} ${v}`, fill: "none", stroke: "var(--lab-grid)", ...more }, svg);
    let [low, high] = o.range || [Infinity, -Infinity];
    if (!o.range) {
      for (const s of o.series) for (const [, v] of s.points) if (!o.log || v > 0) { low = Math.min(low, v); high = Math.max(high, v); }
      if (low > high) [low, high] = o.log ? [0.1, 1] : [0, 1];
      if (low === high) [low, high] = o.log ? [low / 2, high * 2] : [low - 0.5, high + 0.5];
      if (o.floor !== undefined && !o.log) { low = o.floor; high = Math.max(high, low + (o.least || 0)) * 1.06; } else if (!o.log) { const pad = (high - low) * 0.06; low -= pad; high += pad; }
    }
    const scale = o.log ? Math.log10 : (v) => v, a = scale(low), b = scale(high), near = (v) => Math.round(v * 10) / 10;
    const X = (s) => near(left + (s / steps) * (right - left)), Y = (v) => near(bottom - ((scale(v) - a) / (b - a)) * (bottom - top)), inside = (v) => typeof v === "number" && v >= low && v <= high;
    if (o.title) text(2, 12, M.fit(o.title, w - (o.value && w > 190 ? 100 : 10), 12.5, 600), { class: "ink", "font-size": 12.5, "font-weight": 600 });
    if (o.value && w > 190) text(right, 12, o.value, { "text-anchor": "end", "font-size": 11.5 });
    for (const v of o.log ? logTicks(low, high) : ticks(low, high, h > 150 ? 4 : 3)) { line(left, Y(v), right, Y(v)); text(left - 5, Y(v) + 4, (o.tick || plain)(v), { "text-anchor": "end" }); }
    for (const v of o.across ? o.across.ticks : ticks(0, steps, w > 300 ? 5 : 2)) {
      const words = o.across ? o.across.text(v) : plain(v);
      text(Math.min(X(v), w - M.measure(words, 11) / 2 - 1), bottom + 14, words, { "text-anchor": "middle" });
    }
    for (const f of o.changes || []) line(X(f.step), top, X(f.step), bottom, { stroke: "var(--lab-soft)", "stroke-dasharray": "1 3" });
    for (const r of o.refs || []) if (inside(r.v)) line(left, Y(r.v), right, Y(r.v), { stroke: "var(--lab-faint)", "stroke-width": 1.4, "stroke-dasharray": r.dash || "4 4" });
    for (const s of o.series) {
      const stride = Math.max(1, Math.floor(s.points.length / 1500)), kept = s.points.filter(([, v], i) => (i % stride === 0 || i === s.points.length - 1) && (!o.log || v > 0)), last = kept[kept.length - 1];
      if (last) M.makeSvg("path", { d: "M" + kept.map(([x, v]) => `${X(x)} ${Y(Math.max(low, Math.min(high, v)))}`).join("L"), ...stroke(s.arm, s.faint ? 1 : 2), opacity: s.faint ? 0.3 : 1 }, svg);
      if (inside(s.apart)) M.makeSvg("path", { d: `M${right + 3} ${Y(s.apart) - 4}l4 4l-4 4l-4 -4Z`, fill: "none", stroke: `var(--lab-arm-${s.arm % 6})`, "stroke-width": 1.6 }, svg);
      if (last && !s.faint && inside(last[1])) M.makeSvg("path", { d: end(X(last[0]), Y(last[1]), s.arm), fill: `var(--lab-arm-${s.arm % 6})` }, svg);
    }
    if (o.now !== null && o.now !== undefined) line(X(o.now), top, X(o.now), bottom, { stroke: "var(--lab-ink)" });
    // What is told at so many pixels from the left, or at the last step.
    svg.tell = (x) => {
      const step = x === undefined ? Math.max(0, ...o.series.flatMap((s) => s.points.slice(-1).map(([at]) => at))) : Math.max(0, Math.min(1, (x - left) / (right - left))) * steps, lines = [`${o.title || ""} — ${o.across ? `${o.across.name} ${o.across.text((nearest(o.series[0].points, step) || [0])[0])}` : `step ${Math.round(step)}`}`];
      for (const s of o.series) if (!s.faint) { const p = nearest(s.points, step); if (p) lines.push(`${s.name}: ${format(p[1])}${!o.across && p[0] !== Math.round(step) ? ` (step ${p[0]})` : ""}`); }
      for (const s of o.series) if ((s.apart ?? null) !== null) lines.push(`${s.name}: ${format(s.apart)} on the test questions, the hollow mark`);
      for (const r of o.refs || []) if (r.name) lines.push(`${r.name}: ${format(r.v)}`);
      for (const f of o.changes || []) if (Math.abs(f.step - step) < steps / 60) lines.push(f.note);
      return [...lines, ...(o.define ? [o.define] : [])].join("\n");
    };
    svg.dataset.help = svg.tell();
    svg.setAttribute("aria-label", svg.dataset.help);
    const point = (e) => { svg.at = e.clientX - svg.getBoundingClientRect().left; M.tip.show(svg.tell(svg.at), e.clientX, e.clientY); };
    svg.addEventListener("pointermove", point);
    svg.addEventListener("click", (e) => { point(e); e.stopPropagation(); }); // a tap does what hovering does
    return svg;
  }
  // Charts side by side in a place so many pixels wide, each at least `least` (a third more where there is room).
  M.charts = (width, least, height, list) => {
    const fit = Math.max(1, Math.min(list.length, Math.floor(width / (width > 700 ? least * 1.35 : least)))), columns = Math.ceil(list.length / Math.ceil(list.length / fit));
    return M.make("div", { class: "lab-tiles" }, ...list.map((o) => chart(Math.floor(width / columns) - 10, height, o)));
  };
})(window.MoSLD);
