// Curves of two arms over one another, a small chart a quantity.
// data: { names [2], steps, charts: [{ title, kind, define, chance, series: [points, points] }] }; points are [step, value].
((M) => {
  const HEIGHT = 160;
  const KINDS = {
    nats: { format: (v) => M.text(v, 3) },
    share: { range: [0, 1.02], format: (v) => M.text(v, 3) },
    percent: { range: [0, 1], format: (v) => M.percent(v, 1), tick: (v) => M.percent(v) },
    log2: { refs: [{ v: 0, dash: [] }], format: M.ratio },
  };
  const still = (d) => ({ header: { arms: d.names, steps: d.steps }, frames: [], at: null, shown: () => null, text: M.text });
  const top = (d, width) => M.keyHeight(still(d), width) + 10;
  const plan = (d, width) => M.tiles(d.charts.length, width, 150, HEIGHT, top(d, width));
  const last = (points) => (points.length ? points[points.length - 1][1] : null);

  M.view("overlay", {
    empty: () => "Two runs, or two arms of one, can be compared here: make a run in Watch.",
    height: (d, width) => plan(d, width).rows * HEIGHT + top(d, width),
    draw(g, d) {
      const S = still(d);
      M.key(g, S, 2, 9, g.w);
      plan(d, g.w).boxes.forEach((box, i) => {
        const chart = d.charts[i], kind = KINDS[chart.kind], far = Math.max(1, ...chart.series.flat().map(([, v]) => Math.abs(v))) * 1.1;
        M.chart(g, S, box, {
          range: chart.kind === "log2" ? [-far, far] : undefined,
          ...kind,
          gutter: 44,
          refs: chart.chance === null ? kind.refs : [{ v: chart.chance, name: "chance", dash: [2, 3] }],
          title: chart.title,
          series: chart.series.map((points, arm) => ({ arm, name: d.names[arm], points })).filter((s) => s.points.length),
          define: chart.define,
        });
      });
    },
    say(d) {
      const rows = d.charts.map((c) => `${c.title}: ${d.names.map((name, arm) => `${name} ${c.series[arm].length ? KINDS[c.kind].format(last(c.series[arm])) : "none"}`).join(", ")}`);
      return `Last values. ${rows.join("; ")}.`;
    },
  });
})(window.MoSLD);
