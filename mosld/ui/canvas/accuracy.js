// Accuracy of each task over the steps: one small chart a task, one line an arm, chance and majority as reference lines.
((M) => {
  const LEAST = 150, HEIGHT = 148;
  const names = (S) => [...S.header.tasks, ...S.header.held];
  const plan = (S, width) => M.tiles(names(S).length, width, LEAST, HEIGHT, M.keyHeight(S, width) + 8);

  M.view("accuracy", {
    depends: "scored",
    curves: true,
    height: (S, width) => plan(S, width).rows * HEIGHT + M.keyHeight(S, width) + 8,
    draw(g, S) {
      M.key(g, S, 2, 9, g.w);
      plan(S, g.w).boxes.forEach((box, t) => {
        const held = t >= S.header.tasks.length, chance = S.header.chance[t], majority = S.header.majority[t];
        M.chart(g, S, box, {
          title: names(S)[t] + (held ? " (held out)" : ""),
          value: S.header.arms.map((_, arm) => { const s = S.scores(arm); return s ? percent(s[t]) : "–"; }).join("  ·  "),
          series: S.header.arms.map((name, arm) => ({ arm, name, points: S.curve("accuracy" + t, arm, (a) => a.scores && a.scores[t]) })),
          range: [0, 1],
          refs: [
            { v: chance, name: "chance", dash: [2, 3] },
            { v: majority, name: "always the commonest answer", dash: [7, 3] },
          ],
          format: percent,
          tick: (v) => Math.round(v * 100) + "%",
          define: "Share of held-out questions answered right.",
        });
      });
    },
    say(S) {
      const rows = S.header.arms.map((name, arm) => {
        const s = S.scores(arm);
        return s ? `${name}: ${names(S).map((t, i) => `${t} ${percent(s[i])} (chance ${percent(S.header.chance[i])})`).join(", ")}` : `${name}: not scored yet`;
      });
      return `Accuracy at step ${S.shown().step}. ${rows.join(". ")}.`;
    },
  });
  const percent = (v) => (v === null || v === undefined ? "–" : Math.round(v * 100) + "%");
})(window.MoSLD);
