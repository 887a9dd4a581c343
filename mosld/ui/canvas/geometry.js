// How alike the experts' updates are, and how the tasks' gradients lie to one another, at the linear chosen: tables in the colours of M.diverging.
// updates: { step, arms, methods, linears: [{ label, arms: [{ experts, cosines, singular, stable } or null], across }], chosen: { linear } }
// conflict: { step, arms, tasks, done, left, linears: [{ label, arms: [{ a, b } or null] }], chosen: { linear } }
((M) => {
  const shown = (d) => d.linears[+d.chosen.linear] || d.linears[0], block = (...parts) => M.make("div", {}, ...parts), note = (text) => M.make("p", {}, text);
  const head = (d, arm) => M.make("h3", {}, M.armMark(arm), ` ${d.arms[arm]}`), grid = (...blocks) => M.make("div", { class: "lab-grid" }, ...blocks);
  const numbered = (list) => list.map((_, i) => String(i + 1)), scale = (of) => M.make("p", { class: "lab-scale" }, "−1 ", M.make("i"), ` 1: cosine between ${of}`);
  const empty = () => `This looks into a run of your own: press ${M.button("run")} in Watch.`;

  // A matrix of cosines. o: { title, rows, columns, values [row][column], tell(i, j), framed(i, j), gap(i, j) }
  function matrix(o) {
    const cell = (v, i, j) => {
      const el = M.make("td", { "data-help": `cosine ${M.text(v)}\n${o.tell(i, j)}`, class: o.framed && o.framed(i, j) && "framed" }, v === null ? (o.gap ? o.gap(i, j) : "–") : v.toFixed(2).replace("-0.00", "0.00").replace("-", "−"));
      return v === null ? el : M.shade(el, v);
    };
    const top = M.make("tr", {}, M.make("td", {}), ...o.columns.map((name) => M.make("th", { scope: "col" }, M.make("span", {}, name))));
    const rows = o.values.map((row, i) => M.make("tr", {}, M.make("th", { scope: "row" }, o.rows[i]), ...row.map((v, j) => cell(v, i, j))));
    return M.make("table", { class: `lab-heat ${o.columns.length > 12 ? "dense" : ""}` }, M.make("caption", { class: o.title ? null : "lab-sr" }, o.title || "cosines"), M.make("thead", {}, top), M.make("tbody", {}, ...rows));
  }

  M.view("updates", {
    asks: "#geometry-look",
    empty,
    render(d) {
      const x = shown(d), most = Math.max(1e-12, ...x.arms.flatMap((a) => (a ? a.singular.map((s) => s[0]) : [])));
      const cosines = (values, one, other) => matrix({
        rows: numbered(values), columns: numbered(values[0]), values,
        tell: (e, f) => `${x.label}: expert ${e + 1} of ${d.arms[one]}, expert ${f + 1} of ${d.arms[other]}\n` +
          (values[e][f] === null ? "An update that is zero has no direction." : "Cosine of the updates B A as vectors: 1 is the same direction, 0 unrelated, −1 opposite."),
      });
      const alike = x.arms.map((a, arm) => block(head(d, arm), !a ? note("No adapter here.") : a.experts > 1 ? cosines(a.cosines, arm, arm) : note(`${d.methods[arm]}: one expert, nothing to compare.`)));
      if (x.across && x.across.length * x.across[0].length > 1) alike.push(block(M.make("h3", {}, "between the arms"), cosines(x.across, 0, 1)));
      const colour = (a, e) => (a.experts > 1 ? M.expertColour(e) : "var(--lab-ink)"), told = (a, e) => `singular values of expert ${e + 1}: ${a.singular[e].map((v) => M.text(v, 3)).join(", ")}`;
      const bars = (a, e) => M.make("div", { class: "lab-bars", "data-help": told(a, e) }, ...a.singular[e].map((v) => M.style(M.make("i", {}), { height: `${(100 * v) / most}%`, background: colour(a, e) })));
      const heads = () => ["expert", "singular values", "stable rank"].map((name) => M.make("th", { scope: "col" }, name));
      const sizes = x.arms.map((a, arm) => a && block(head(d, arm), M.make("table", { class: "lab-singular" }, M.make("thead", {}, M.make("tr", {}, ...heads())), M.make("tbody", {},
        ...a.singular.map((_, e) => M.make("tr", {}, M.make("th", { scope: "row" }, String(e + 1)), M.make("td", {}, bars(a, e)), M.make("td", {}, M.text(a.stable[e]))))))));
      return [grid(...alike), scale("updates"), grid(...sizes.filter(Boolean))];
    },
    say(d) {
      const x = shown(d), rows = x.arms.map((a, arm) => {
        if (!a) return `${d.arms[arm]}: no adapter here`;
        const off = a.cosines.flatMap((row, i) => row.filter((_, j) => j > i)), rank = M.text(M.mean(a.stable), 1);
        return `${d.arms[arm]}: ${a.experts > 1 ? `mean cosine between two experts ${M.text(M.mean(off))}` : "one expert"}, mean stable rank ${rank} of ${a.singular[0].length}`;
      });
      const across = x.across ? ` Mean cosine between an expert of one arm and one of the other: ${M.text(M.mean(x.across.flat()))}.` : "";
      const cut = x.arms.some((a) => a && a.experts > a.cosines.length) ? ` Only the first ${Math.max(...x.arms.map((a) => (a ? a.cosines.length : 0)))} experts are looked at.` : "";
      return `Experts' updates at step ${d.step}, ${x.label}. ${rows.join(". ")}.${across}${cut}`;
    },
  });

  const KINDS = [["a", "on A"], ["b", "on B"]];
  M.view("conflict", {
    empty,
    render(d) {
      const x = shown(d), there = (i, j) => Math.max(i, j) < d.done;
      const pulls = (arm, [kind, title]) => matrix({
        title, rows: d.tasks, columns: d.tasks, values: x.arms[arm][kind], gap: (i, j) => (there(i, j) ? "–" : "…"), framed: (i, j) => i === j,
        tell: (i, j) => `${i === j ? `${d.tasks[i]}: two halves of its own questions` : `${d.tasks[i]} and ${d.tasks[j]}`}, ${title}\n` +
          (x.arms[arm][kind][i][j] === null ? (there(i, j) ? "No value: a gradient of zero, as that of A while B is still zero." : "Still to be looked at.") : i === j ? "Far below 1: this task's gradient is mostly chance." : "Below 0 a step for one task undoes the other."),
      });
      const so = d.done < d.tasks.length ? [note(`${d.done} of ${d.tasks.length} tasks looked at …`)] : [];
      return [...so, ...d.arms.flatMap((_, arm) => [head(d, arm), x.arms[arm] ? grid(...KINDS.map((kind) => block(pulls(arm, kind)))) : note("No adapter here.")]), scale("gradients")];
    },
    say(d) {
      const x = shown(d), rows = d.arms.map((name, arm) => `${name}: ${x.arms[arm] ? KINDS.map(([kind, title]) => words(d, x.arms[arm][kind], title)).join("; ") : "no adapter here"}`);
      return `Gradients at step ${d.step}, ${x.label}${d.done < d.tasks.length ? `, ${d.done} of ${d.tasks.length} tasks so far` : ""}. ${rows.join(". ")}.${d.left ? ` Only the first ${d.tasks.length} tasks are compared.` : ""}`;
    },
  });
  function words(d, values, title) {
    const pairs = values.flatMap((row, i) => row.map((v, j) => [v, i, j]).filter(([v, , j]) => j > i && v !== null)), own = M.text(M.mean(values.map((row, i) => row[i])));
    if (!pairs.length) return `${title} no two tasks have a gradient yet`;
    const worst = pairs.reduce((a, b) => (b[0] < a[0] ? b : a));
    return `${title} ${pairs.filter(([v]) => v < 0).length} of ${pairs.length} pairs below 0, lowest ${d.tasks[worst[1]]} and ${d.tasks[worst[2]]} ${M.text(worst[0])}, a task's own halves ${own} on average`;
  }
})(window.MoSLD);
