// Accuracy of the merge of the sliders, a row a task: a bar for the merge, marks for the bare backbone and the task's own adapter.
((M) => {
  const ROW = 46, TOP = 46, AXIS = 26, LEFT = 8, RIGHT = 14;
  const mean = (d, k) => d.tasks.reduce((sum, t) => sum + t[k], 0) / d.tasks.length;
  const rows = (d) => [{ name: "mean", lam: null, chance: mean(d, "chance"), bare: mean(d, "bare"), own: mean(d, "own"), merged: d.mean }, ...d.tasks];

  const ring = (g, x, y) => { g.ctx.fillStyle = g.c.card; g.ctx.strokeStyle = g.c.ink; g.ctx.lineWidth = 2; g.ctx.beginPath(); g.ctx.arc(x, y, 5, 0, 7); g.ctx.fill(); g.ctx.stroke(); };
  const diamond = (g, x, y) => {
    g.ctx.beginPath();
    [[0, -7], [6, 0], [0, 7], [-6, 0]].forEach(([dx, dy]) => g.ctx.lineTo(x + dx, y + dy));
    g.ctx.closePath();
    Object.assign(g.ctx, { fillStyle: g.c.ink, strokeStyle: g.c.card, lineWidth: 1.5 });
    g.ctx.fill(); g.ctx.stroke();
  };
  const dotted = (g, x, y, h) => {
    const line = (colour, width, dash) => { Object.assign(g.ctx, { strokeStyle: colour, lineWidth: width }); g.ctx.setLineDash(dash); g.ctx.beginPath(); g.ctx.moveTo(x, y); g.ctx.lineTo(x, y + h); g.ctx.stroke(); };
    line(g.c.card, 4, []);
    line(g.c.ink, 2, [2, 2]);
    g.ctx.setLineDash([]);
  };
  const bar = (g, x, y, w, h) => { g.ctx.fillStyle = g.c.arms[0]; g.ctx.fillRect(x, y, Math.max(0, w), h); };

  function key(g) {
    const marks = [
      ["merged now", (x, y) => bar(g, x - 9, y - 5, 18, 10)],
      ["own adapter", (x, y) => diamond(g, x, y)],
      ["untrained", (x, y) => ring(g, x, y)],
      ["chance", (x, y) => dotted(g, x, y - 8, 16)],
    ];
    let x = LEFT, y = 9;
    for (const [words, draw] of marks) {
      g.ctx.font = M.font(12, 500);
      const need = 24 + g.ctx.measureText(words).width + 18;
      if (x > LEFT && x + need > g.w) { x = LEFT; y += 20; }
      draw(x + 9, y);
      M.label(g, words, x + 24, y, { weight: 500 });
      x += need;
    }
  }

  M.view("merge_now", {
    empty: () => `Press ${M.button("merge-train")}: this shows their merge.`,
    height: (d) => TOP + rows(d).length * ROW + AXIS,
    draw(g, d) {
      key(g);
      const X = (v) => LEFT + v * (g.w - LEFT - RIGHT), bottom = TOP + rows(d).length * ROW;
      g.ctx.lineWidth = 1;
      for (const v of [0, 0.25, 0.5, 0.75, 1]) {
        g.ctx.strokeStyle = g.c.grid;
        g.ctx.beginPath(); g.ctx.moveTo(Math.round(X(v)) + 0.5, TOP); g.ctx.lineTo(Math.round(X(v)) + 0.5, bottom); g.ctx.stroke();
        M.label(g, M.percent(v), X(v), bottom + 12, { size: 11, colour: g.c.soft, align: v === 0 ? "left" : v === 1 ? "right" : "center" });
      }
      rows(d).forEach((t, i) => {
        const y = TOP + i * ROW, mid = y + 30, all = t.lam === null;
        M.label(g, t.name, LEFT, y + 10, { weight: all ? 650 : 500, size: 12.5, max: g.w / 2 });
        if (!all) { g.ctx.font = M.font(12.5, 500); M.label(g, `λ ${M.text(t.lam)}`, LEFT + Math.min(g.w / 2, g.ctx.measureText(t.name).width) + 10, y + 10, { size: 12, colour: g.c.soft }); }
        M.label(g, M.percent(t.merged), X(1), y + 10, { weight: 650, align: "right", size: 12.5 });
        g.ctx.fillStyle = g.c.grid;
        g.ctx.fillRect(X(0), mid - 6, X(1) - X(0), 12);
        bar(g, X(0), mid - 6, X(t.merged) - X(0), 12);
        dotted(g, X(t.chance), mid - 9, 18);
        ring(g, X(t.bare), mid);
        diamond(g, X(t.own), mid);
        g.hit(0, y, g.w, ROW, [
          all ? "mean of the tasks" : `${t.name}, λ ${M.text(t.lam)}`,
          `merged now ${M.percent(t.merged)}, own adapter ${M.percent(t.own)}, untrained ${M.percent(t.bare)}, chance ${M.percent(t.chance)}`,
          "Share of validation questions answered right.",
        ].join("\n"));
      });
    },
    say(d) {
      const each = rows(d).map((t) => `${t.name}${t.lam === null ? "" : ` with λ ${M.text(t.lam)}`} ${M.percent(t.merged)} (own adapter ${M.percent(t.own)}, untrained ${M.percent(t.bare)})`);
      return `Merge of ${d.tasks.length} adapters on validation questions: ${each.join(", ")}. Merged and scored in ${M.text(d.seconds)} s.`;
    },
  });
})(window.MoSLD);
