// Router gates at the step shown: one block an arm, in it one grid a task, rows are layers (first at the bottom), columns experts.
((M) => {
  const ROW = 19, GAP = 14, TITLE = 20, HEAD = 26, AXIS = 18;

  const projections = (S) => [...new Set(S.header.linears.flat().map((x) => x[1]))].filter((p) => S.projection === "all" || p === S.projection);
  const layers = (S) => [...new Set(S.header.linears.flat().map((x) => x[0]))].filter((l) => S.layer === "all" || l === +S.layer).sort((a, b) => a - b);

  function plan(S, width) {
    const arms = S.header.arms.length, abreast = width > 560 ? Math.min(arms, 2) : 1, block = width / abreast;
    const rows = layers(S).length, tasks = S.header.tasks.length;
    const columns = Math.max(1, Math.min(tasks, Math.floor((block - 30) / (projections(S).length * 58 + 12))));
    const grid = TITLE + rows * ROW + GAP, high = HEAD + Math.ceil(tasks / columns) * grid + AXIS;
    return { abreast, block, rows, columns, grid, high, blocks: Math.ceil(arms / abreast) };
  }

  M.view("gates", {
    depends: "probed",
    height: (S, width) => { const p = plan(S, width); return p.blocks * p.high + 38; },
    draw(g, S) {
      const p = plan(S, g.w), frame = S.shown(), which = projections(S), rows = layers(S);
      S.header.arms.forEach((name, arm) => {
        const x0 = (arm % p.abreast) * p.block, y0 = Math.floor(arm / p.abreast) * p.high;
        M.stroke(g, arm, 3);
        g.ctx.beginPath(); g.ctx.moveTo(x0, y0 + 9); g.ctx.lineTo(x0 + 20, y0 + 9); g.ctx.stroke(); g.ctx.setLineDash([]);
        M.label(g, name, x0 + 26, y0 + 9, { weight: 600, size: 13, max: p.block - 40 });
        const probe = frame.arms[arm].probe, width = (p.block - 30) / p.columns;
        S.header.tasks.forEach((task, t) => {
          const x = x0 + 22 + (t % p.columns) * width, y = y0 + HEAD + Math.floor(t / p.columns) * p.grid;
          M.label(g, task, x, y + 8, { size: 12, weight: 500, max: width - 14 });
          const span = (width - 14 - (which.length - 1) * 6) / which.length;
          rows.forEach((layer, r) => {
            const cy = y + TITLE + (rows.length - 1 - r) * ROW;
            if (t % p.columns === 0) M.label(g, layer + 1, x - 5, cy + ROW / 2, { size: 10.5, colour: g.c.soft, align: "right" });
            which.forEach((projection, j) => {
              const index = S.header.linears[arm].findIndex((l) => l[0] === layer && l[1] === projection);
              if (index >= 0) cells(g, S, probe && probe[index], { arm: name, task, t, layer, projection, E: S.header.linears[arm][index][2] }, x + j * (span + 6), cy, span);
            });
          });
          if (t >= S.header.tasks.length - p.columns) which.forEach((projection, j) =>
            M.label(g, projection, x + j * (span + 6) + span / 2, y + TITLE + rows.length * ROW + 8, { size: 11, colour: g.c.soft, align: "center" }));
        });
      });
      legend(g, S, p.blocks * p.high + 10);
    },
    say(S) {
      const frame = S.shown();
      const rows = S.header.arms.map((name, arm) => {
        const probe = frame.arms[arm].probe;
        if (!probe) return `${name}: no probe yet`;
        const stat = (k) => S.mean(probe.map((x) => x && x.stats[k]));
        return `${name}: evenness ${S.text(stat(0))} of 1, ${S.text(stat(1), 1)} effective experts, ${S.text(stat(2), 1)} idle a linear, ${S.text(stat(4))} bits of the task in the expert choice`;
      });
      return `Router at step ${frame.step}, means over linears. ${rows.join(". ")}.`;
    },
  });

  function cells(g, S, probe, at, x, y, span) {
    const values = probe && probe[S.measure][at.t], w = span / at.E;
    for (let e = 0; e < at.E; e++) {
      const v = values ? values[e] : null;
      g.ctx.fillStyle = v === null ? g.c.grid : M.heat(v);
      g.ctx.fillRect(x + e * w, y + 1, Math.max(1, w - 1), ROW - 2);
      g.hit(x + e * w, y, w, ROW, () => [
        `${at.arm} — task ${at.task}`,
        `layer ${at.layer + 1}, ${at.projection}, expert ${e + 1} of ${at.E}`,
        v === null ? "no token of this task in the batch" : `load ${percent(probe.load[at.t][e])}, mean gate ${S.text(probe.gate[at.t][e])}`,
        "Load: share of the task's tokens sent to this expert. Mean gate: its mean weight over them.",
      ].join("\n"));
    }
  }
  function legend(g, S, y) {
    const w = Math.min(200, g.w / 2.5);
    for (let i = 0; i < w; i++) { g.ctx.fillStyle = M.heat(i / w); g.ctx.fillRect(2 + i, y, 1.5, 9); }
    [0, 0.25, 0.5, 1].forEach((v) => M.label(g, v === 0 ? "0" : v * 100 + "%", 2 + v * w, y + 18, { size: 10.5, colour: g.c.soft, align: v ? (v === 1 ? "right" : "center") : "left" }));
    M.label(g, S.measure === "load" ? "of the task's tokens" : "mean gate weight", w + 10, y + 5, { size: 11.5, colour: g.c.soft, max: g.w - w - 12 });
  }
  const percent = (v) => (v * 100).toFixed(1) + "%";
})(window.MoSLD);
