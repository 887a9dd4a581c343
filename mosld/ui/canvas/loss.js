// Training loss of every arm over the steps, with optional smoothing and a log axis.
((M) => {
  M.view("loss", {
    depends: "step",
    curves: true,
    render(S, width) {
      const curves = S.header.arms.map((name, arm) => ({ arm, name, points: S.curve("loss", arm, (a) => a.loss) })), smooth = curves.map((s) => ({ ...s, points: M.smoothed(s.points, +S.smooth) }));
      return [M.key(S.header.arms), M.charts(width, 300, 230, [{
        title: "Cross-entropy of the batch (nats)",
        series: +S.smooth ? [...curves.map((s) => ({ ...s, faint: true })), ...smooth] : curves,
        log: S.log === "log",
        format: (v) => S.text(v, 3),
        define: "Mean of minus log p(right option) over the questions of the step's batch, extra losses left out.",
        ...M.course(S),
      }])];
    },
    say(S) {
      const now = S.header.arms.map((name, arm) => `${name} ${S.text(S.shown().arms[arm].loss, 3)}`);
      return `Training loss at step ${S.shown().step}: ${now.join(", ")}.`;
    },
  });
})(window.MoSLD);
