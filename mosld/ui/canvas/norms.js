// Norms of the low-rank matrices at the step shown: one block an arm; A, B, BA and each expert's share of A side by side;
// rows are layers and linears, a bar an expert, in its colour (what all share in ink). All arms share the scale of a quantity.
((M) => {
  const KINDS = [
    ["A", "‖A‖", "Frobenius norm of A: each expert's own, or the one A that all share."],
    ["B", "‖B‖", "Frobenius norm of each expert's B."],
    ["BA", "‖BA‖", "Frobenius norm of each expert's update B A, the scale alpha / rank left out."],
    ["ask", "share of A", "Norm of what each expert adds to the gradient of the shared A: what the expert asks of A."],
  ];
  const ROW = 26, HEAD = 46, FOOT = 8;
  const rowsOf = (S) => Math.max(...S.header.arms.map((_, arm) => S.linears(arm).length));
  function plan(S, width) {
    const arms = S.header.arms.length, abreast = width > 700 ? Math.min(arms, 2) : 1;
    return { abreast, block: width / abreast, high: HEAD + rowsOf(S) * ROW + FOOT, blocks: Math.ceil(arms / abreast) };
  }

  M.view("norms", {
    depends: "probed",
    height: (S, width) => { const p = plan(S, width); return p.blocks * p.high; },
    draw(g, S) {
      const p = plan(S, g.w), frame = S.shown();
      const most = KINDS.map(([kind]) => Math.max(1e-9, ...frame.arms.flatMap((a) => (a.probe || []).flatMap((x) => (x ? x[kind].map((v) => v || 0) : [])))));
      S.header.arms.forEach((name, arm) => {
        const x0 = (arm % p.abreast) * p.block, y0 = Math.floor(arm / p.abreast) * p.high, wide = (p.block - 44) / KINDS.length;
        M.armHead(g, arm, name, x0, y0 + 9, p.block - 10);
        KINDS.forEach(([, title], k) => M.label(g, `${title} to ${M.number(most[k])}`, x0 + 36 + k * wide, y0 + 32, { size: 12, weight: 500, max: wide - 6 }));
        const linears = S.linears(arm), probe = frame.arms[arm].probe;
        linears.forEach(([[layer, target, E], index], r) => {
          const y = y0 + HEAD + (linears.length - 1 - r) * ROW;
          M.label(g, `${layer + 1} ${target}`, x0 + 28, y + ROW / 2, { size: 11, colour: g.c.soft, align: "right" });
          KINDS.forEach(([kind, title, define], k) => bars(g, S, probe && probe[index] && probe[index][kind], most[k],
            { arm, name, layer, target, E, title, define }, x0 + 36 + k * wide, y, wide - 12));
        });
      });
    },
    say(S) {
      const rows = S.header.arms.map((name, arm) => {
        const probe = S.shown().arms[arm].probe;
        if (!probe) return `${name}: no probe yet`;
        return `${name}: ${KINDS.map(([kind, title]) => `${title} ${S.text(S.mean(S.linears(arm).flatMap(([, i]) => (probe[i] ? probe[i][kind] : []))))}`).join(", ")}`;
      });
      return `Mean norms at step ${S.shown().step}. ${rows.join(". ")}.`;
    },
  });

  function bars(g, S, values, most, at, x, y, width) {
    g.ctx.fillStyle = g.c.grid;
    g.ctx.fillRect(x, y + ROW - 3, width, 1);
    if (!values) return;
    const kept = values.map((v, e) => [v, e]).filter(([v]) => v !== null), shared = kept.length === 1 && at.E > 1, w = width / Math.max(1, kept.length);
    kept.forEach(([v, e], i) => {
      const h = Math.max(1, (v / most) * (ROW - 7));
      g.ctx.fillStyle = shared || at.E === 1 ? g.c.ink : g.c.experts[e % 8];
      g.ctx.fillRect(x + i * w + 1, y + ROW - 3 - h, Math.max(1, w - 2), h);
      g.hit(x + i * w, y, w, ROW, () => [
        `${at.name} — ${at.title} ${S.text(v, 3)}`,
        `layer ${at.layer + 1}, ${at.target}, ${shared ? "shared by all experts" : `expert ${e + 1} of ${at.E}`}`,
        at.define,
      ].join("\n"));
    });
  }
})(window.MoSLD);
