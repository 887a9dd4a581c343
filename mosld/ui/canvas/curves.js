// Curves of what the server answered, a small chart a quantity: two arms over one another, and how a merge came about.
// data: { title, parts: [{ names, charts: [{ title, kind, define, chance, range, steps, across, ticks, series, apart }] }] }, or { looks: [such data] }
// to choose from; names: of the lines; a line is points [step, value].
((M) => {
  const KINDS = {
    plain: {},
    fine: { format: (v) => M.text(v, 4) },
    nats: { format: (v) => M.text(v, 3) },
    share: { range: [0, 1.02], format: (v) => M.text(v, 3) },
    percent: { range: [0, 1], format: (v) => M.percent(v, 1), tick: (v) => M.percent(v) },
    log2: { refs: [{ v: 0, dash: "none" }], format: M.ratio },
  };
  const chosen = (d) => (d.looks ? d.looks[+d.chosen.into] || d.looks[0] : d);
  function options(part, c) {
    const kind = KINDS[c.kind], far = Math.max(1, ...c.series.flat().map(([, v]) => Math.abs(v))) * 1.1;
    return {
      ...kind,
      ...(c.kind === "log2" ? { range: [-far, far] } : c.range ? { range: c.range } : {}),
      refs: (c.chance ?? null) === null ? kind.refs : [{ v: c.chance, name: "chance", dash: "2 3" }],
      title: c.title,
      steps: c.steps || Math.max(1, ...c.series.flat().map(([s]) => s)),
      series: c.series.map((points, arm) => ({ arm, name: part.names[arm], points, apart: c.apart && c.apart[arm] })).filter((s) => s.points.length),
      define: c.define,
      across: c.ticks && { name: c.across, ticks: c.ticks.map((_, k) => k), text: (k) => c.ticks[k] },
    };
  }
  const curves = (empty) => ({
    empty,
    render: (d, width) => chosen(d).parts.flatMap((part) => [...(part.names.length > 1 ? [M.key(part.names)] : []), M.charts(width, part.charts.length > 1 ? 150 : 400, 160, part.charts.map((c) => options(part, c)))]),
    say(d) {
      const told = (c, names) => `${c.title}: ${names.map((name, k) => { const p = c.series[k], f = KINDS[c.kind].format || M.text; return `${name} ${p.length ? `from ${f(p[0][1])} to ${f(p[p.length - 1][1])}` : "none"}${c.apart && c.apart[k] !== null ? `, ${f(c.apart[k])} on test questions` : ""}`; }).join(", ")}`;
      return `${chosen(d).title}. ${chosen(d).parts.flatMap((part) => part.charts.map((c) => told(c, part.names))).join("; ")}.`;
    },
  });
  M.view("overlay", curves(() => "Two runs, or two arms of one, can be compared here: make a run in Watch."));
  M.view("merge_course", curves(() => "A merge that learns or is jammed shows its course here."));
})(window.MoSLD);
