// Who is updated more, A or the B of its experts? Four definitions, each as log2 of A over the mean of B, all arms in each chart.
((M) => {
  const NAMES = ["updates", "gradients", "steps", "relative steps"];
  const MEANING = [
    "log2 of tokens that reach A over tokens that reach one B, mean over experts.",
    "log2 of gradient size of A over that of B (root mean square per entry).",
    "log2 of the size of the optimiser's step on A over that on B (root mean square per entry).",
    "log2 of step over weight size of A, over the same of B.",
  ];
  const HEIGHT = 168;
  const plan = (S, width) => M.tiles(4, width, 150, HEIGHT, M.keyHeight(S, width) + 8);
  const read = (S, arm, k) => (a) => a.fresh && a.probe ? S.mean(S.linears(arm).map(([, i]) => a.probe[i] && a.probe[i].imbalance[k])) : null;

  M.view("imbalance", {
    depends: "probed",
    curves: true,
    height: (S, width) => plan(S, width).rows * HEIGHT + M.keyHeight(S, width) + 8,
    draw(g, S) {
      M.key(g, S, 2, 9, g.w);
      plan(S, g.w).boxes.forEach((box, k) => {
        const series = S.header.arms.map((name, arm) => ({ arm, name, points: S.curve("imbalance" + k, arm, read(S, arm, k)) }));
        const now = values(S, k), all = series.flatMap((s) => s.points.map((p) => Math.abs(p[1])));
        const reach = Math.max(1, all.reduce((a, b) => Math.max(a, b), 0) * 1.1);
        M.chart(g, S, box, {
          title: `${k + 1}. ${NAMES[k]}`,
          value: difference(S, now),
          series,
          range: [-reach, reach],
          refs: [{ v: 0, dash: [] }],
          format: (v) => `${S.text(v)} (A ${S.text(2 ** v)} times B)`,
          define: MEANING[k],
        });
      });
    },
    say(S) {
      const parts = NAMES.map((name, k) => `${name}: ${S.header.arms.map((arm, i) => `${arm} ${S.text(values(S, k)[i])}`).join(", ")}`);
      return `Update imbalance at step ${S.shown().step}, log2 of A over B, mean over linears. ${parts.join("; ")}. 0 is even.`;
    },
  });
  const values = (S, k) => S.header.arms.map((_, arm) => {
    const probe = S.shown().arms[arm].probe;
    return probe ? S.mean(S.linears(arm).map(([, i]) => probe[i] && probe[i].imbalance[k])) : null;
  });
  const difference = (S, now) => (now.length === 2 && now[0] !== null && now[1] !== null ? `Δ ${S.text(now[1] - now[0])}` : "");
})(window.MoSLD);
