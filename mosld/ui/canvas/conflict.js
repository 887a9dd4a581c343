// Gradient conflict at the linear chosen, or over all together: for every arm a matrix on A and one on B, tasks by tasks.
// data: { step, arms, tasks, done (tasks looked at so far), linears: [{ label, arms: [{ a, b } or null] }], chosen: { linear } }
((M) => {
  const HEAD = 24, TITLE = 18, MOST = 46, KEY = 40;
  const shown = (d) => d.linears[+d.chosen.linear] || d.linears[0];
  function plan(d, width) {
    const names = Math.max(...d.tasks.map((t) => t.length)), left = Math.min(92, 14 + names * 6.4), above = 12 + Math.min(80, names * 6.4) * 0.72;
    const tiles = M.tiles(2, width, 240, 1), T = d.tasks.length, cell = Math.max(10, Math.min(MOST, (tiles.boxes[0].w - left - above * 0.6) / T));
    const one = TITLE + above + T * cell + 14;
    return { tiles, left, above, cell, one, high: HEAD + tiles.rows * one };
  }
  const KINDS = [["a", "on A"], ["b", "on B"]];

  M.view("conflict", {
    empty: () => `This looks into a run of your own: press ${M.button("run")} in Watch.`,
    height: (d, width) => plan(d, width).high * d.arms.length + KEY,
    draw(g, d) {
      const p = plan(d, g.w), x = shown(d);
      d.arms.forEach((name, arm) => {
        const y0 = arm * p.high;
        M.armHead(g, arm, name, 0, y0 + 10, g.w);
        if (d.done < d.tasks.length && arm === 0) M.label(g, `${d.done} of ${d.tasks.length} tasks looked at …`, g.w - 4, y0 + 10, { colour: g.c.soft, align: "right" });
        if (!x.arms[arm]) return M.label(g, "No adapter here.", 26, y0 + HEAD + 20, { colour: g.c.soft });
        KINDS.forEach(([kind, title], k) => {
          const values = x.arms[arm][kind], left = p.tiles.boxes[k].x + p.left, top = y0 + HEAD + (p.tiles.rows > 1 ? k * p.one : 0);
          M.label(g, title, p.tiles.boxes[k].x, top + 8, { weight: 600 });
          M.matrix(g, left, top + TITLE + p.above, p.cell, {
            rows: d.tasks, columns: d.tasks, values, gap: (i, j) => (Math.max(i, j) < d.done ? "–" : "…"), framed: (i, j) => i === j,
            tell: (i, j) => [
              `cosine ${M.text(values[i][j])}`,
              i === j ? `${d.tasks[i]}: two halves of its own questions, ${title}` : `${d.tasks[i]} and ${d.tasks[j]}, ${title}`,
              `${name}, ${x.label}`,
              values[i][j] === null ? (Math.max(i, j) < d.done ? "No value: a gradient of zero, as that of A while B is still zero." : "Still to be looked at.") : i === j ? "Far below 1: this task's gradient is mostly chance." : "Below 0 a step for one task undoes the other.",
            ].join("\n"),
          });
        });
      });
      M.matrixKey(g, 2, p.high * d.arms.length + 8, "cosine between gradients");
    },
    say(d) {
      const x = shown(d), rows = d.arms.map((name, arm) => {
        if (!x.arms[arm]) return `${name}: no adapter here`;
        return `${name}: ${KINDS.map(([kind, title]) => words(d, x.arms[arm][kind], title)).join("; ")}`;
      });
      return `Gradients at step ${d.step}, ${x.label}${d.done < d.tasks.length ? `, ${d.done} of ${d.tasks.length} tasks so far` : ""}. ${rows.join(". ")}.${d.left ? ` Only the first ${d.tasks.length} tasks are compared.` : ""}`;
    },
  });

  function words(d, values, title) {
    const pairs = values.flatMap((row, i) => row.map((v, j) => [v, i, j]).filter(([v, , j]) => j > i && v !== null)), own = M.text(M.mean(values.map((row, i) => row[i])));
    if (!pairs.length) return `${title} no two tasks have a gradient yet`;
    const worst = pairs.reduce((a, b) => (b[0] < a[0] ? b : a));
    return `${title} ${pairs.filter(([v]) => v < 0).length} of ${pairs.length} pairs below 0, lowest ${d.tasks[worst[1]]} and ${d.tasks[worst[2]]} ${M.text(worst[0])}, a task's own halves ${own} on average`;
  }
})(window.MoSLD);
