// A block an arm, a row a task: accuracy alone and in the mixture on one axis, joined by a line.
// data: { run, by, arms, tasks, chance [T], steps [T], mixture [arm][T], alone [arm][T] } with null for what is not there (yet).
((M) => {
  const HEAD = 24, ROW = 26, AXIS = 26, KEY = 24;
  const plan = (d, width) => {
    const tiles = M.tiles(d.arms.length, width, 250, 1);
    return { tiles, abreast: Math.ceil(d.arms.length / tiles.rows), block: HEAD + d.tasks.length * ROW + AXIS };
  };
  const percent = (v) => M.percent(v, 1);
  const signed = (v) => (v > 0 ? "+" : v < 0 ? "−" : "±") + Math.abs(v * 100).toFixed(1);

  M.view("alone", {
    empty: () => `Choose a run that has ended and press ${M.button("alone-start")}.`,
    height: (d, width) => { const p = plan(d, width); return p.tiles.rows * p.block + KEY; },
    draw(g, d) {
      const p = plan(d, g.w), { ctx, c } = g;
      d.arms.forEach((name, arm) => {
        const box = p.tiles.boxes[arm], y0 = Math.floor(arm / p.abreast) * p.block, left = box.x + 92, right = box.x + box.w - 52, X = (v) => left + v * (right - left);
        M.armHead(g, arm, name, box.x, y0 + 10, box.w);
        const floor = y0 + HEAD + d.tasks.length * ROW;
        for (const v of [0, 0.25, 0.5, 0.75, 1]) {
          ctx.strokeStyle = c.grid; ctx.lineWidth = 1;
          ctx.beginPath(); ctx.moveTo(X(v), y0 + HEAD); ctx.lineTo(X(v), floor); ctx.stroke();
          M.label(g, M.percent(v), X(v), floor + 10, { size: 11, colour: c.soft, align: "center" });
        }
        d.tasks.forEach((task, t) => row(g, d, arm, t, y0 + HEAD + t * ROW, box, X));
      });
      key(g, p.tiles.rows * p.block + 8);
    },
    say(d) {
      const rows = d.arms.map((name, arm) => `${name}: ${d.tasks.map((task, t) => `${task} ${percent(d.mixture[arm][t])} in the mixture, ${percent(d.alone[arm][t])} alone`).join("; ")}`);
      return `${d.run}; each task alone got ${d.by}. ${rows.join(". ")}.`;
    },
  });

  function row(g, d, arm, t, y, box, X) {
    const { ctx, c } = g, mid = y + ROW / 2, mixed = d.mixture[arm][t], alone = d.alone[arm][t], colour = c.arms[arm % 6];
    M.label(g, d.tasks[t], box.x + 84, mid, { colour: c.soft, align: "right", max: 82 });
    ctx.strokeStyle = c.soft; ctx.lineWidth = 1.5; ctx.setLineDash([2, 2]);
    if (d.chance[t] !== null) { ctx.beginPath(); ctx.moveTo(X(d.chance[t]), y + 5); ctx.lineTo(X(d.chance[t]), y + ROW - 5); ctx.stroke(); }
    ctx.setLineDash([]);
    if (mixed !== null && alone !== null) {
      ctx.strokeStyle = colour; ctx.lineWidth = 2;
      ctx.beginPath(); ctx.moveTo(X(alone), mid); ctx.lineTo(X(mixed), mid); ctx.stroke();
      M.label(g, signed(mixed - alone), box.x + box.w - 2, mid, { size: 12, align: "right" });
    }
    if (alone !== null) square(g, X(alone), mid, colour);
    if (mixed !== null) { ctx.fillStyle = colour; ctx.beginPath(); ctx.arc(X(mixed), mid, 5, 0, 7); ctx.fill(); }
    g.hit(box.x, y, box.w, ROW, () => [
      `${d.tasks[t]}: ${percent(mixed)} in the mixture, ${alone === null ? "not trained alone yet" : percent(alone) + " alone"}`,
      `${d.arms[arm]}, ${d.run}; alone: ${d.steps[t]} steps`,
      `chance: ${percent(d.chance[t])}. Accuracy on test rows.`,
    ].join("\n"));
  }
  function square(g, x, y, colour) {
    Object.assign(g.ctx, { fillStyle: g.c.card, strokeStyle: colour, lineWidth: 2 });
    g.ctx.fillRect(x - 5, y - 5, 10, 10);
    g.ctx.strokeRect(x - 5, y - 5, 10, 10);
  }
  function key(g, y) {
    g.ctx.fillStyle = g.c.soft;
    g.ctx.beginPath(); g.ctx.arc(8, y + 6, 5, 0, 7); g.ctx.fill();
    M.label(g, "in the mixture", 18, y + 6, { size: 11.5, colour: g.c.soft });
    square(g, 118, y + 6, g.c.soft);
    M.label(g, "alone", 128, y + 6, { size: 11.5, colour: g.c.soft });
    g.ctx.strokeStyle = g.c.soft; g.ctx.lineWidth = 1.5; g.ctx.setLineDash([2, 2]);
    g.ctx.beginPath(); g.ctx.moveTo(178, y - 1); g.ctx.lineTo(178, y + 13); g.ctx.stroke(); g.ctx.setLineDash([]);
    M.label(g, "chance", 186, y + 6, { size: 11.5, colour: g.c.soft });
  }
})(window.MoSLD);
