// One text under the glass: a chip and a small bar chart a token, then the scores of the options and the accuracy of the task.
// data: { where, note, tokens [L], experts [E] (numbers from 0), of, gates, router, steered [L][E] or null, steering,
//         options: [{ text, score, steered, right }], accuracy: { task, rows, step, free, steered } or null while it is being counted }
((M) => {
  const CHIP = 36, BARS = 40, DIGITS = 14, BAND = CHIP + BARS + DIGITS + 18, OPTION = 40, TOP = 30;
  const pen = document.createElement("canvas").getContext("2d");
  const measure = (text, weight = 500) => { pen.font = M.font(12.5, weight); return pen.measureText(text).width; };
  const percent = (v) => M.percent(v, 1);
  const colour = (g, e) => g.c.experts[e % 8];
  const best = (row) => row.reduce((b, v, i) => (v > row[b] ? i : b), 0);

  function plan(d, width) {
    const E = d.experts.length, bar = E <= 4 ? 13 : E <= 8 ? 11 : E <= 16 ? 6 : 3, wide = width > 700;
    let x = 0, y = TOP + (d.note ? 22 : 0);
    const cells = d.tokens.map((t) => {
      const w = Math.min(width, Math.max(measure(t) + 14, E * bar + 8, 30));
      if (x + w > width) { x = 0; y += E ? BAND : CHIP + 8; }
      const cell = { x, y, w };
      x += w + 6;
      return cell;
    });
    const below = y + (E ? BAND : CHIP + 18) + 6, row = OPTION + (d.steering ? 12 : 0), head = 30 + (d.steering ? 18 : 0);
    const options = { x: 0, y: below, w: wide ? width * 0.58 : width, row, head };
    const accuracy = wide ? { x: width * 0.64, y: below, w: width * 0.36 - 4, head } : { x: 0, y: below + head + d.options.length * row + 14, w: width, head: 30 };
    // Of many experts each has a small gate: their bars then reach up to the largest one.
    const full = E <= 16 ? 1 : Math.max(1e-6, ...d.gates.flat(), ...(d.steered || []).flat());
    return { E, bar, full, cells, options, accuracy, height: Math.max(below + head + d.options.length * row, accuracy.y + accuracy.head + row) + 6 };
  }

  // A bar on its track; the steered one is hollow and hatched, so that the two are told apart without colour.
  function bar(g, x, y, w, v, steered) {
    const { ctx, c } = g, h = 9, fill = c.arms[steered ? 1 : 0];
    ctx.fillStyle = c.grid;
    ctx.fillRect(x, y, w, h);
    if (!steered) { ctx.fillStyle = fill; ctx.fillRect(x, y, w * v, h); return; }
    Object.assign(ctx, { strokeStyle: fill, lineWidth: 1.5 });
    ctx.save();
    ctx.beginPath();
    ctx.rect(x, y, w * v, h);
    ctx.clip();
    ctx.beginPath();
    for (let k = -h; k < w * v + h; k += 5) { ctx.moveTo(x + k, y + h); ctx.lineTo(x + k + h, y); }
    ctx.stroke();
    ctx.restore();
    if (v > 0.005) ctx.strokeRect(x + 0.75, y + 0.75, Math.max(0.5, w * v - 1.5), h - 1.5);
  }
  // One or two bars with their numbers at the right.
  function pair(g, x, y, w, free, steered) {
    const room = w - 62;
    bar(g, x, y, room, free, false);
    M.label(g, percent(free), x + w, y + 5, { align: "right", size: 12, weight: 600 });
    if (steered === null) return;
    bar(g, x, y + 13, room, steered, true);
    M.label(g, percent(steered), x + w, y + 18, { align: "right", size: 12, weight: 600 });
  }

  function token(g, d, p, i) {
    const { ctx, c } = g, cell = p.cells[i], now = p.E ? (d.steered || d.gates)[i] : null, top = now && best(now), total = now && now.reduce((a, b) => a + b, 0);
    ctx.setLineDash([]);
    ctx.fillStyle = now && total > 0 ? colour(g, d.experts[top]) : c.grid;
    ctx.beginPath();
    ctx.roundRect(cell.x, cell.y, cell.w, CHIP, 6);
    ctx.fill();
    const on = now && total > 0 ? c.card : c.ink;
    M.label(g, d.tokens[i], cell.x + cell.w / 2, cell.y + (now ? 11 : CHIP / 2), { align: "center", size: 12.5, weight: 500, colour: on, max: cell.w - 8 });
    if (now) {
      M.label(g, total > 0 ? d.experts[top] + 1 : "none", cell.x + cell.w / 2, cell.y + 27, { align: "center", size: 12, weight: 700, colour: on });
      const base = cell.y + CHIP + 6 + BARS, left = cell.x + (cell.w - p.E * p.bar) / 2, size = p.bar - (p.bar > 4 ? 2 : 1), high = BARS / p.full;
      ctx.fillStyle = c.grid;
      ctx.fillRect(left - 2, base, p.E * p.bar + 2, 1);
      now.forEach((v, e) => {
        const x = left + e * p.bar, before = d.steered && d.gates[i][e];
        ctx.fillStyle = colour(g, d.experts[e]);
        ctx.fillRect(x, base - high * v, size, high * v);
        if (before) { Object.assign(ctx, { strokeStyle: c.ink, lineWidth: 1 }); ctx.strokeRect(x + 0.5, base - high * before + 0.5, size - 1, Math.max(1, high * before - 1)); }
        if (p.bar >= 11) M.label(g, d.experts[e] + 1, x + size / 2, base + 9, { align: "center", size: 10.5, colour: c.soft });
      });
    }
    g.hit(cell.x, cell.y, cell.w, p.E ? CHIP + BARS + DIGITS + 6 : CHIP, () => {
      if (!now) return `“${d.tokens[i]}”\nno gate: ${d.note}`;
      const rows = d.experts.map((e, k) => [e, k]).filter(([, k]) => d.experts.length <= 8 || d.gates[i][k] > 0 || now[k] > 0).slice(0, 12);
      return [`“${d.tokens[i]}” — ${d.where}`, ...rows.map(([e, k]) =>
        `expert ${e + 1}: gate ${M.text(d.gates[i][k])}, router ${M.text(d.router[i][k])}${d.steered ? `; steered ${M.text(d.steered[i][k])}` : ""}`)].join("\n");
    });
  }

  // The sentence that the run on the page was sampled with, where nobody has asked yet.
  const sample = () => {
    const p = M.header && M.frames.length ? M.probeOf(M.pick.arm) : null;
    if (!p || !p.words.length) return null;
    const [layer, target, E] = M.header.linears[M.pick.arm][M.linear()], gates = p.words.map((w) => { const row = Array(E).fill(0); for (const [e, g] of w) row[e] = g; return row; });
    const where = `${M.header.arms[M.pick.arm]}, step ${M.shown().step}, layer ${layer + 1}, ${target}: a sentence of its batch`;
    return { where, note: "", tokens: p.sentence[0], experts: Array.from({ length: E }, (_, e) => e), of: E, gates, router: gates, steered: null, steering: "", options: [], accuracy: null, sample: true };
  };

  M.view("inspect", {
    sample,
    asks: "#inspect-ask, #inspect-another",
    picks: true,
    press: () => (document.querySelector("#inspect-text textarea").value.trim() ? "#inspect-ask" : "#inspect-another"),
    empty: () => `Words are asked of a run of your own: press ${M.button("run")}.`,
    height: (d, width) => plan(d, width).height,
    draw(g, d) {
      const p = plan(d, g.w), { c } = g;
      let x = 0;
      M.label(g, d.where, 0, 9, { weight: 600, size: 12.5, max: g.w - (g.w > 500 ? (p.E <= 16 ? p.E * 24 + 80 : 190) : 0) });
      if (g.w > 500 && p.E > 16) M.label(g, `full height: gate ${M.text(p.full)}`, g.w, 9, { align: "right", size: 11.5, colour: c.soft });
      if (g.w > 500 && p.E && p.E <= 16) {
        x = g.w - p.E * 24;
        M.label(g, "experts", x - 8, 9, { align: "right", size: 11.5, colour: c.soft });
        d.experts.forEach((e, k) => {
          g.ctx.fillStyle = colour(g, e);
          g.ctx.fillRect(x + k * 24, 1, 19, 16);
          M.label(g, e + 1, x + k * 24 + 9.5, 9.5, { align: "center", size: 11, weight: 700, colour: c.card });
        });
      }
      if (d.note) M.label(g, d.note, 0, 32, { size: 12.5, colour: c.soft, max: g.w });
      d.tokens.forEach((_, i) => token(g, d, p, i));
      if (d.sample) return M.label(g, `Texts of your own are asked of a run of your own: press ${M.button("run")}, then ${M.button("inspect-ask")}.`, 0, p.options.y + 8, { size: 12.5, colour: c.soft, max: g.w });
      scores(g, d, p.options);
      accuracy(g, d, p.accuracy, p.options.row);
    },
    say(d) {
      const E = d.experts.length, now = d.steered || d.gates;
      const words = E ? "Largest gate: " + d.tokens.slice(0, 40).map((t, i) => `${t} ${d.experts[best(now[i])] + 1}`).join(", ") + ". " : d.note + " ";
      if (d.sample) return `${d.where}. ${words}`;
      const scores = d.options.map((o) => `${o.text}${o.right ? " (right)" : ""} ${percent(o.score)}${o.steered === null ? "" : ` to ${percent(o.steered)}`}`).join("; ");
      const a = d.accuracy, share = a ? ` Accuracy on ${a.task}: ${percent(a.free)}${a.steered === null ? "" : ` to ${percent(a.steered)}`}.` : "";
      return `${d.where}${d.steering ? ", " + d.steering : ""}. ${words}Scores: ${scores}.${share}`;
    },
  });

  function scores(g, d, box) {
    const { c } = g, most = (k) => Math.max(...d.options.map((o) => o[k]));
    M.label(g, "Scores of the options", box.x, box.y + 8, { weight: 600, size: 12.5 });
    if (d.steering) {
      bar(g, box.x, box.y + 22, 16, 1, true);
      M.label(g, d.steering, box.x + 22, box.y + 27, { size: 11.5, colour: c.soft, max: box.w - 26 });
    }
    d.options.forEach((o, i) => {
      const y = box.y + box.head + i * box.row, chosen = o.score === most("score");
      const marks = [o.right && "✓ right", chosen && "answer", o.steered !== null && o.steered === most("steered") && "steered answer"].filter(Boolean).join(" · ");
      M.label(g, o.text, box.x, y + 2, { size: 12.5, weight: chosen ? 650 : 400, max: box.w - (marks ? measure(marks) + 14 : 0) });
      if (marks) M.label(g, marks, box.x + box.w, y + 2, { size: 11.5, align: "right", colour: o.right ? c.good : c.soft, weight: o.right ? 650 : 400 });
      pair(g, box.x, y + 12, box.w, o.score, o.steered);
      g.hit(box.x, y - 8, box.w, box.row - 4, () => [o.text, `score ${percent(o.score)}`, o.steered === null ? "" : `${d.steering}: ${percent(o.steered)}`,
        o.right ? "This is the right answer." : "", "Softmax over the options."].filter(Boolean).join("\n"));
    });
  }
  function accuracy(g, d, box, row) {
    const a = d.accuracy;
    M.label(g, "Accuracy", box.x, box.y + 8, { weight: 600, size: 12.5 });
    if (!a) { M.label(g, "counting …", box.x, box.y + box.head + 2, { size: 12.5, colour: g.c.soft }); return; }
    const text = `${a.task}, ${a.rows} validation rows, step ${a.step}`;
    M.label(g, text, box.x, box.y + box.head + 2, { size: 12.5, max: box.w });
    pair(g, box.x, box.y + box.head + 12, box.w, a.free, a.steered);
    g.hit(box.x, box.y + box.head - 8, box.w, row - 4, () => [text, `right: ${percent(a.free)}`, a.steered === null ? "" : `${d.steering}: ${percent(a.steered)}`].filter(Boolean).join("\n"));
  }
})(window.MoSLD);
