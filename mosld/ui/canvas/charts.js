// Drawing of text, frames and line charts for the views. g is the surface of paint.js: { ctx, c, w, h, hit }.
((M) => {
  M.font = (size = 12, weight = 400) => `${weight} ${size}px system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif`;

  M.label = (g, text, x, y, { size = 12, weight = 400, colour = g.c.ink, align = "left", base = "middle", max } = {}) => {
    const { ctx } = g;
    ctx.font = M.font(size, weight);
    ctx.fillStyle = colour;
    ctx.textAlign = align;
    ctx.textBaseline = base;
    if (max && ctx.measureText(text).width > max) {
      while (text.length > 1 && ctx.measureText(text + "…").width > max) text = text.slice(0, -1);
      text += "…";
    }
    ctx.fillText(text, x, y);
  };

  // The key to the arms: a short stroke in colour and dash, and the name. Returns the height used.
  M.key = (g, S, x, y, width) => {
    let at = x, row = 0;
    S.header.arms.forEach((name, i) => {
      g.ctx.font = M.font(12, 500);
      const need = 30 + g.ctx.measureText(name).width + 18;
      if (at > x && at + need > x + width) { at = x; row += 1; }
      M.stroke(g, i, 2.5);
      g.ctx.beginPath();
      g.ctx.moveTo(at, y + row * 18);
      g.ctx.lineTo(at + 22, y + row * 18);
      g.ctx.stroke();
      M.label(g, name, at + 28, y + row * 18, { weight: 500 });
      at += need;
    });
    g.ctx.setLineDash([]);
    return (row + 1) * 18;
  };
  M.keyHeight = (S, width) => {
    const need = S.header.arms.map((n) => 48 + n.length * 7);
    let rows = 1, at = 0;
    need.forEach((n) => { if (at && at + n > width) { rows += 1; at = 0; } at += n; });
    return rows * 18;
  };
  M.stroke = (g, arm, width = 2) => {
    Object.assign(g.ctx, { strokeStyle: g.c.arms[arm % 6], lineWidth: width, lineJoin: "round", lineCap: "butt" });
    g.ctx.setLineDash(M.dashes[(arm + Math.floor(arm / 6)) % 6]); // the seventh has the first's colour and another dash
  };

  // Round tick values over [low, high].
  M.ticks = (low, high, count = 4) => {
    const raw = (high - low) / count || 1, power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= raw) || raw;
    const out = [];
    for (let v = Math.ceil(low / step - 1e-9) * step; v <= high + step * 1e-6; v += step) out.push(Math.abs(v) < step * 1e-6 ? 0 : v);
    return out;
  };
  const plain = (v) => (Math.abs(v) >= 1000 ? v / 1000 + "k" : String(+v.toPrecision(3)).replace("-", "−"));

  // A log2 of A over B, with the ratio itself.
  M.ratio = (v) => `${M.text(v)} (A ${M.text(2 ** v)} times B)`;

  // Exponential smoothing with weight s in [0, 1) on the past, without the start's bias.
  M.smoothed = (points, s) => {
    if (!s) return points;
    let sum = 0, weight = 0;
    return points.map(([x, v]) => { sum = s * sum + (1 - s) * v; weight = s * weight + (1 - s); return [x, sum / weight]; });
  };

  // A small line chart in the box { x, y, w, h }.
  // o: { title, value, series: [{ arm, points, name, faint }], range, floor (lowest value shown), least (height at least),
//      refs: [{ v, name, dash }], log, gutter, format, tick, define, across: { name, ticks, text } where the axis is no step }
  M.chart = (g, S, box, o) => {
    const { ctx, c } = g;
    const left = box.x + (o.gutter ?? 34), top = box.y + (o.title ? 25 : 6), right = box.x + box.w - 8, bottom = box.y + box.h - 18;
    const steps = Math.max(S.header.steps, S.frames.length ? S.frames[S.frames.length - 1].step : 1), format = o.format || ((v) => S.text(v));
    let [low, high] = o.range || [Infinity, -Infinity];
    if (!o.range) {
      for (const s of o.series) for (const [, v] of s.points) if (!o.log || v > 0) { low = Math.min(low, v); high = Math.max(high, v); }
      if (low > high) [low, high] = o.log ? [0.1, 1] : [0, 1];
      if (low === high) [low, high] = o.log ? [low / 2, high * 2] : [low - 0.5, high + 0.5];
      if (o.floor !== undefined && !o.log) { low = o.floor; high = Math.max(high, low + (o.least || 0)) * 1.06; } else if (!o.log) { const pad = (high - low) * 0.06; low -= pad; high += pad; }
    }
    const scale = o.log ? Math.log10 : (v) => v, a = scale(low), b = scale(high);
    const X = (s) => left + (s / steps) * (right - left), Y = (v) => bottom - ((scale(v) - a) / (b - a)) * (bottom - top);
    if (o.title) M.label(g, o.title, box.x + 2, box.y + 8, { weight: 600, size: 12.5, max: box.w - (o.value && box.w > 190 ? 100 : 10) });
    if (o.value && box.w > 190) M.label(g, o.value, right, box.y + 8, { size: 11.5, colour: c.soft, align: "right" });

    ctx.setLineDash([]);
    ctx.lineWidth = 1;
    const ticks = o.log ? logTicks(low, high) : M.ticks(low, high, box.h > 150 ? 4 : 3);
    for (const v of ticks) {
      const y = Math.round(Y(v)) + 0.5;
      ctx.strokeStyle = c.grid;
      line(ctx, left, y, right, y);
      M.label(g, (o.tick || plain)(v), left - 5, y, { size: 11, colour: c.soft, align: "right" });
    }
    for (const v of o.across ? o.across.ticks : M.ticks(0, steps, box.w > 300 ? 5 : 2)) M.label(g, o.across ? o.across.text(v) : plain(v), X(v), bottom + 10, { size: 11, colour: c.soft, align: "center" });
    for (const f of S.frames) if (f.event === "change") { ctx.strokeStyle = c.soft; ctx.setLineDash([1, 3]); line(ctx, X(f.step), top, X(f.step), bottom); }
    for (const r of o.refs || []) {
      if (r.v === null || r.v === undefined || r.v < low || r.v > high) continue;
      ctx.strokeStyle = c.faint;
      ctx.lineWidth = 1.4;
      ctx.setLineDash(r.dash || [4, 4]);
      line(ctx, left, Y(r.v), right, Y(r.v));
    }
    ctx.save();
    ctx.beginPath();
    ctx.rect(left - 1, top - 3, right - left + 3, bottom - top + 6);
    ctx.clip();
    for (const s of o.series) {
      M.stroke(g, s.arm, s.faint ? 1 : 2);
      ctx.globalAlpha = s.faint ? 0.3 : 1;
      path(ctx, s.points, X, Y, o.log);
      ctx.globalAlpha = 1;
      const last = s.points[s.points.length - 1];
      if (last && !s.faint && (!o.log || last[1] > 0)) dot(ctx, X(last[0]), Y(last[1]), c.arms[s.arm % 6], s.arm);
    }
    ctx.restore();
    ctx.setLineDash([]);
    const f = S.shown();
    if (f && S.at !== null) { ctx.strokeStyle = c.ink; ctx.lineWidth = 1; line(ctx, X(f.step), top, X(f.step), bottom); }
    g.hit(left, top, right - left, bottom - top, (dx) => {
      const step = (dx / (right - left)) * steps, lines = [`${o.title || ""} — ${o.across ? `${o.across.name} ${o.across.text(nearest(o.series[0].points, step)[0])}` : `step ${Math.round(step)}`}`];
      for (const s of o.series) if (!s.faint) { const p = nearest(s.points, step); if (p) lines.push(`${s.name}: ${format(p[1])}${!o.across && p[0] !== Math.round(step) ? ` (step ${p[0]})` : ""}`); }
      for (const r of o.refs || []) if (r.name) lines.push(`${r.name}: ${format(r.v)}`);
      for (const f of S.frames) if (f.event === "change" && Math.abs(f.step - step) < steps / 60) lines.push(f.note);
      if (o.define) lines.push(o.define);
      return lines.join("\n");
    });
  };

  const logTicks = (low, high) => {
    const out = [];
    for (let p = Math.floor(Math.log10(low)); p <= Math.log10(high); p++) for (const m of [1, 2, 5]) { const v = m * 10 ** p; if (v >= low && v <= high) out.push(v); }
    return out.length > 6 ? out.filter((v) => Math.abs(Math.log10(v) % 1) < 1e-9) : out;
  };
  const line = (ctx, x, y, u, v) => { ctx.beginPath(); ctx.moveTo(x, y); ctx.lineTo(u, v); ctx.stroke(); };
  const nearest = (points, step) => points.reduce((best, p) => (!best || Math.abs(p[0] - step) < Math.abs(best[0] - step) ? p : best), null);
  function path(ctx, points, X, Y, log) {
    const stride = Math.max(1, Math.floor(points.length / 1500)); // a screen has no more columns than that
    ctx.beginPath();
    let pen = false;
    points.forEach(([s, v], i) => {
      if (i % stride && i !== points.length - 1) return;
      if (log && v <= 0) { pen = false; return; }
      if (pen) ctx.lineTo(X(s), Y(v)); else ctx.moveTo(X(s), Y(v));
      pen = true;
    });
    ctx.stroke();
  }
  function dot(ctx, x, y, colour, arm) {
    ctx.setLineDash([]);
    ctx.fillStyle = colour;
    ctx.beginPath();
    if (arm % 3 === 0) ctx.arc(x, y, 3.2, 0, 7);
    else if (arm % 3 === 1) ctx.rect(x - 3, y - 3, 6, 6);
    else { ctx.moveTo(x, y - 4); ctx.lineTo(x + 4, y + 3); ctx.lineTo(x - 4, y + 3); ctx.closePath(); }
    ctx.fill();
  }

  // Boxes of `count` small charts of at least `least` pixels' width (a third more where there is room), `height` high, in a place `width` wide.
  M.tiles = (count, width, least, height, top = 0) => {
    least = width > 700 ? least * 1.35 : least;
    const fit = Math.max(1, Math.min(count, Math.floor(width / least))), columns = Math.ceil(count / Math.ceil(count / fit)), w = width / columns;
    return {
      rows: Math.ceil(count / columns),
      boxes: Array.from({ length: count }, (_, i) => ({ x: (i % columns) * w, y: top + Math.floor(i / columns) * height, w: w - 10, h: height - 8 })),
    };
  };
})(window.MoSLD);
