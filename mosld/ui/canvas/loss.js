// Training loss of every arm over the steps, with optional smoothing and a log axis.
((M) => {
  M.view("loss", {
    depends: "step",
    curves: true,
    height: (S, width) => 230 + M.keyHeight(S, width),
    draw(g, S) {
      const top = M.key(g, S, 2, 9, g.w) + 4;
      const curves = S.header.arms.map((name, arm) => ({ arm, name, points: S.curve("loss", arm, (a) => a.loss) }));
      const smooth = curves.map((s) => ({ ...s, points: M.smoothed(s.points, +S.smooth) }));
      M.chart(g, S, { x: 0, y: top, w: g.w, h: g.h - top }, {
        title: "Cross-entropy of the batch (nats)",
        series: +S.smooth ? [...curves.map((s) => ({ ...s, faint: true })), ...smooth] : curves,
        log: S.log === "log",
        gutter: 42,
        format: (v) => S.text(v, 3),
        define: "Mean of minus log p(right option) over the questions of the step's batch, extra losses left out.",
      });
    },
    say(S) {
      const now = S.header.arms.map((name, arm) => `${name} ${S.text(S.shown().arms[arm].loss, 3)}`);
      return `Training loss at step ${S.shown().step}: ${now.join(", ")}.`;
    },
  });
})(window.MoSLD);
