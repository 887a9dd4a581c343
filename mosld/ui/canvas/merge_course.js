// How one merge came about, as small charts: entropy, mask density, coefficients a linear, accuracy against the jammer's power.
((M) => {
  const HEIGHT = 168, PHASES = { mask: "entropy, mask (nats)", coefficients: "entropy, λ (nats)", realign: "loss, labelled steps (nats)" };
  const percent = (v) => M.percent(v, 1);
  const span = (list) => Math.max(1, ...list.map((s) => s.points[s.points.length - 1][0]));
  const still = (steps, names = []) => ({ header: { steps, arms: names }, frames: [], at: null, shown: () => null, text: M.text });
  const series = (lines) => Object.entries(lines).map(([name, points], arm) => ({ name, points, arm }));

  // Each part: its key (names of its lines), charts, and how wide and high they are.
  function parts(d) {
    const out = [];
    if (d.curve) out.push(jammed(d));
    else if (d.jam.length) out.push({ names: [], charts: [], text: "The curve over the jammer's power follows." });
    const ways = Object.entries(d.coefficients);
    if (ways.length) {
      const all = ways.map(([title, lines]) => ({ title: `λ, ${title}`, series: series(lines) }));
      const top = Math.max(...all.flatMap((c) => c.series.flatMap((s) => s.points.map((p) => p[1]))));
      all.forEach((c) => Object.assign(c, { range: [0, Math.max(0.6, Math.ceil(top * 10) / 10)], define: "Coefficient of the task's update in this linear." }));
      out.push({ names: all[0].series.map((s) => s.name), charts: all, least: all.length > 1 ? 150 : 400 });
    }
    const masks = Object.entries(d.densities);
    if (masks.length) {
      const lines = series(d.densities);
      out.push({ names: lines.map((s) => s.name), charts: [{ title: "mask density", series: lines, format: (v) => M.text(v, 4), gutter: 46, define: "Mean probability that an entry is kept." }], least: 400 });
    }
    const losses = Object.entries(d.losses).map(([phase, points]) => ({ title: PHASES[phase], series: [{ name: "mean of the tasks", points, arm: 0 }], format: (v) => M.text(v, 3), gutter: 42 }));
    if (losses.length && !d.curve) out.push({ names: [], charts: losses, least: 300 });
    return out;
  }
  function jammed(d) {
    const c = d.curve, line = (values) => values.map((v, i) => [i, v]);
    const names = ["no defence", "defended", "labelled steps alone"];
    return {
      names,
      least: 400,
      charts: [{
        title: "Accuracy by the jammer's power",
        series: [c.plain, c.defended, c.power.map(() => c.control)].map((values, arm) => ({ name: names[arm], points: line(values), arm })),
        range: [0, 1],
        gutter: 44,
        format: percent,
        tick: (v) => M.percent(v),
        across: { name: "jammer's power", ticks: c.power.map((_, i) => i), text: (i) => (c.power[i] ? M.text(c.power[i], c.power[i] < 10 ? 1 : 0) : "0") },
        steps: Math.max(1, c.of - 1),
        define: d.jam.map((u) => `${u.task}: power ${M.text(u.power, 1)}, jammed with ${M.text(u.jam, 1)}`).join("\n"),
      }],
    };
  }
  const tiles = (part, width) => M.tiles(part.charts.length, width, part.least, part.charts.length > 4 ? HEIGHT : HEIGHT + 40);
  const keyed = (part, width) => (part.names.length ? M.keyHeight(still(1, part.names), width) + 8 : 0);
  const high = (part, width) => (part.charts.length ? keyed(part, width) + tiles(part, width).rows * (part.charts.length > 4 ? HEIGHT : HEIGHT + 40) : 40);

  M.view("merge_course", {
    empty: () => "A merge that learns or is jammed shows its course here.",
    height: (d, width) => parts(d).reduce((sum, part) => sum + high(part, width), 8),
    draw(g, d) {
      let top = 8;
      for (const part of parts(d)) {
        if (part.text) M.label(g, part.text, 2, top + 14, { colour: g.c.soft });
        if (part.names.length) M.key(g, still(1, part.names), 2, top + 4, g.w);
        tiles(part, g.w).boxes.slice(0, part.charts.length).forEach((box, i) => {
          const chart = part.charts[i];
          M.chart(g, still(chart.steps || span(chart.series)), { ...box, y: box.y + top + keyed(part, g.w) }, chart);
        });
        top += high(part, g.w);
      }
    },
    say(d) {
      const words = [];
      for (const part of parts(d)) for (const c of part.charts) {
        words.push(`${c.title}: ${c.series.map((s) => { const a = s.points[0][1], b = s.points[s.points.length - 1][1], f = c.format || M.text; return `${s.name} from ${f(a)} to ${f(b)}`; }).join(", ")}`);
      }
      return `${d.label}${d.curve ? ` (${d.curve.case}, up to power ${M.text(d.curve.power[d.curve.power.length - 1], 0)})` : ""}. ${words.join(". ")}.`;
    },
  });
})(window.MoSLD);
