// Experts' updates at the linear chosen: cosine matrices of every arm (and of one arm against the other), below them singular values.
// data: { step, arms, methods, linears: [{ label, arms: [{ experts, cosines, singular, stable } or null], across }], chosen: { linear } }
((M) => {
  const HEAD = 22, LEFT = 24, ABOVE = 20, ROW = 30, MOST = 44;
  const shown = (d) => d.linears[+d.chosen.linear] || d.linears[0];
  const matrices = (d) => {
    const x = shown(d), out = x.arms.map((a, arm) => ({ arm, title: d.arms[arm], a, values: a && a.experts > 1 ? a.cosines : null, rows: arm, columns: arm }));
    if (x.across && x.across.length * x.across[0].length > 1) out.push({ title: "between the arms", values: x.across, rows: 0, columns: 1 });
    return out;
  };
  function plan(d, width) {
    const all = matrices(d), most = Math.max(1, ...all.map((m) => (m.values ? Math.max(m.values.length, m.values[0].length) : 1)));
    const tiles = M.tiles(all.length, width, 150, 1), cell = Math.max(8, Math.min(MOST, (tiles.boxes[0].w - LEFT - 4) / most));
    const deep = Math.max(1, ...all.map((m) => (m.values ? m.values.length : 1)));
    const high = HEAD + ABOVE + Math.max(deep * cell, 44) + 16, bars = M.tiles(d.arms.length, width, 240, 1);
    const abreast = Math.ceil(d.arms.length / bars.rows), under = tiles.rows * high + (all.some((m) => m.values) ? 44 : 0), tops = [under];
    for (let row = 0; row < bars.rows; row++) {
      const most = Math.max(1, ...shown(d).arms.slice(row * abreast, (row + 1) * abreast).map((a) => (a ? a.singular.length : 1)));
      tops.push(tops[row] + HEAD + 22 + most * ROW + 10);
    }
    return { all, tiles, cell, high, bars, abreast, tops, under };
  }
  const numbers = (n) => Array.from({ length: n }, (_, i) => String(i + 1));

  M.view("updates", {
    asks: "#geometry-look",
    empty: () => `This looks into a run of your own: press ${M.button("run")} in Watch.`,
    height: (d, width) => { const p = plan(d, width); return p.tops[p.bars.rows]; },
    draw(g, d) {
      const p = plan(d, g.w), x = shown(d);
      p.all.forEach((m, i) => {
        const box = p.tiles.boxes[i], y = Math.floor(i / Math.ceil(p.all.length / p.tiles.rows)) * p.high;
        if (m.arm === undefined) M.label(g, m.title, box.x, y + 10, { weight: 600, size: 13, max: box.w });
        else M.armHead(g, m.arm, m.title, box.x, y + 10, box.w);
        const why = m.a ? [`${d.methods[m.arm]}: one expert,`, "nothing to compare."] : ["No adapter here."];
        if (!m.values) return why.forEach((text, k) => M.label(g, text, box.x, y + HEAD + 14 + k * 18, { colour: g.c.soft, max: box.w }));
        M.matrix(g, box.x + LEFT, y + HEAD + ABOVE, p.cell, {
          rows: numbers(m.values.length), columns: numbers(m.values[0].length), values: m.values,
          tell: (e, f) => [
            `cosine ${M.text(m.values[e][f])}`,
            `${x.label}: expert ${e + 1} of ${d.arms[m.rows]}, expert ${f + 1} of ${d.arms[m.columns]}`,
            m.values[e][f] === null ? "An update that is zero has no direction." : "Cosine of the updates B A as vectors: 1 is the same direction, 0 unrelated, −1 opposite.",
          ].join("\n"),
        });
      });
      if (p.all.some((m) => m.values)) M.matrixKey(g, 2, p.under - 38, "cosine between updates");
      const most = Math.max(1e-12, ...x.arms.flatMap((a) => (a ? a.singular.map((s) => s[0]) : [])));
      x.arms.forEach((a, arm) => {
        const box = p.bars.boxes[arm], y = p.tops[Math.floor(arm / p.abreast)];
        M.armHead(g, arm, d.arms[arm], box.x, y + 10, box.w);
        if (!a) return;
        M.label(g, "singular values by expert", box.x, y + HEAD + 10, { colour: g.c.soft, max: box.w - 90 });
        M.label(g, "stable rank", box.x + box.w - 4, y + HEAD + 10, { colour: g.c.soft, align: "right" });
        a.singular.forEach((values, e) => bars(g, d, x, a, arm, e, values, most, box.x, y + HEAD + 22 + e * ROW, box.w));
      });
    },
    say(d) {
      const x = shown(d), rows = x.arms.map((a, arm) => {
        if (!a) return `${d.arms[arm]}: no adapter here`;
        const off = a.cosines.flatMap((row, i) => row.filter((_, j) => j > i)), rank = M.text(M.mean(a.stable), 1);
        const like = a.experts > 1 ? `mean cosine between two experts ${M.text(M.mean(off))}` : "one expert";
        return `${d.arms[arm]}: ${like}, mean stable rank ${rank} of ${a.singular[0].length}`;
      });
      const across = x.across ? ` Mean cosine between an expert of one arm and one of the other: ${M.text(M.mean(x.across.flat()))}.` : "";
      const cut = x.arms.some((a) => a && a.experts > a.cosines.length) ? ` Only the first ${Math.max(...x.arms.map((a) => (a ? a.cosines.length : 0)))} experts are looked at.` : "";
      return `Experts' updates at step ${d.step}, ${x.label}. ${rows.join(". ")}.${across}${cut}`;
    },
  });

  function bars(g, d, x, a, arm, e, values, most, left, y, width) {
    const from = left + LEFT, w = Math.min(32, (width - LEFT - 62) / values.length), floor = y + ROW - 5;
    M.label(g, String(e + 1), from - 6, y + ROW / 2 + 2, { size: 11.5, colour: g.c.soft, align: "right" });
    g.ctx.fillStyle = g.c.grid;
    g.ctx.fillRect(from, floor, values.length * w, 1);
    g.ctx.fillStyle = a.experts > 1 ? g.c.experts[e % 8] : g.c.ink;
    values.forEach((v, i) => {
      const h = (v / most) * (ROW - 8);
      g.ctx.fillRect(from + i * w + 1, floor - h, Math.max(1, Math.min(w - 2, 26)), h);
    });
    values.forEach((v, i) => g.hit(from + i * w, y, w, ROW, () => [
      `singular value ${i + 1} of ${values.length}: ${M.text(v, 3)}`,
      `${d.arms[arm]}, ${x.label}, expert ${e + 1} of ${a.experts}`,
      `stable rank ${M.text(a.stable[e])}: sum of squares over the largest square.`,
    ].join("\n")));
    M.label(g, M.text(a.stable[e]), left + width - 4, y + ROW / 2 + 2, { size: 12, align: "right" });
  }
})(window.MoSLD);
