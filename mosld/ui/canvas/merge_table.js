// A table of accuracies: rows are the bare backbone, single-task adapters and merges; columns the mean and the tasks.
((M) => {
  const HEAD = 24, WIDE = 46, NARROW = 78, BASE = 2;
  const percent = (v) => M.percent(v, 1);
  const plan = (d, width) => {
    const stacked = width < 620, left = stacked ? 0 : Math.min(360, width * 0.4);
    return { stacked, left, row: stacked ? NARROW : WIDE, column: (width - left) / (d.tasks.length + 1) };
  };
  const saw = (r) => (r.sees === "-" ? "looked at nothing but adapters" : `looked at ${r.sees}`);
  const under = (r, i) => (i === 0 ? "no adapter" : i === 1 ? "a model a task; looked at " + r.sees : [saw(r), r.note, r.seconds < 0.1 ? "under 0.1 s" : `${M.text(r.seconds, 1)} s`].filter(Boolean).join(" · "));

  M.view("merge_table", {
    empty: () => `Press ${M.button("merge-merge")}: every merge adds a row.`,
    height: (d, width) => HEAD + d.rows.length * plan(d, width).row + 4,
    draw(g, d) {
      const p = plan(d, g.w), own = d.rows[1].accuracy;
      ["mean", ...d.tasks].forEach((name, c) => M.label(g, name, p.left + c * p.column + 4, 9, { size: 12, colour: g.c.soft, weight: c ? 400 : 600, max: p.column - 6 }));
      const best = Math.max(...d.rows.slice(BASE).map((r) => r.mean));
      d.rows.forEach((r, i) => {
        const y = HEAD + i * p.row, cells = p.stacked ? y + 38 : y + 6;
        g.ctx.setLineDash([]);
        Object.assign(g.ctx, { strokeStyle: i === BASE ? g.c.soft : g.c.grid, lineWidth: 1 });
        g.ctx.beginPath(); g.ctx.moveTo(0, Math.round(y) + 0.5); g.ctx.lineTo(g.w, Math.round(y) + 0.5); g.ctx.stroke();
        const room = p.stacked ? g.w : p.left - 14;
        M.label(g, r.label, 0, y + 14, { weight: 600, size: 12.5, max: room });
        M.label(g, under(r, i), 0, y + 31, { size: 11.5, colour: r.sees.startsWith("TEST") ? g.c.arms[1] : g.c.soft, weight: r.sees.startsWith("TEST") ? 600 : 400, max: room });
        g.hit(0, y, p.stacked ? g.w : p.left, p.stacked ? 38 : p.row, `${r.label}\n${under(r, i)}`);
        [r.mean, ...r.accuracy].forEach((v, c) => {
          const x = p.left + c * p.column + 4, w = p.column - 12, mine = c ? own[c - 1] : d.rows[1].mean;
          M.label(g, percent(v), x, cells + 10, { size: p.column < 50 ? 10.5 : 12.5, weight: !c ? 650 : 400 });
          g.ctx.fillStyle = g.c.grid;
          g.ctx.fillRect(x, cells + 22, w, 5);
          g.ctx.fillStyle = i < BASE ? g.c.faint : !c && v === best ? g.c.arms[2] : g.c.arms[0];
          g.ctx.fillRect(x, cells + 22, w * v, 5);
          if (i !== 1) { g.ctx.fillStyle = g.c.ink; g.ctx.fillRect(x + w * mine - 1, cells + 19, 2, 11); }
          g.hit(x - 4, cells - 4, p.column, p.stacked ? 38 : p.row - 4, `${r.label}\n${c ? d.tasks[c - 1] : "mean of the tasks"}: ${percent(v)}; own adapter ${percent(mine)}\nShare of test questions answered right. ${i < BASE ? "" : saw(r) + "."}`);
        });
      });
    },
    say(d) {
      const rows = d.rows.map((r, i) => `${r.label}${r.note ? ` (${r.note})` : ""}: mean ${percent(r.mean)}, ${d.tasks.map((t, k) => `${t} ${percent(r.accuracy[k])}`).join(", ")}${i < BASE ? "" : `; ${saw(r)}`}`);
      return `Accuracy on test questions. ${rows.join(". ")}.`;
    },
  });
})(window.MoSLD);
