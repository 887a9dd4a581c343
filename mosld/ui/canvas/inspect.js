// One text under the glass: a chip and its gates a token, then the scores of the options and the accuracy of the task.
// data: { where, note, tokens [L], experts [E] (numbers from 0), of, gates, router, steered [L][E] or null, steering,
//         options: [{ text, score, steered, right }], accuracy: { task, rows, step, free, steered } or null while it is being counted }
((M) => {
  const percent = (v) => M.percent(v, 1), best = (row) => row.reduce((b, v, i) => (v > row[b] ? i : b), 0);

  function token(d, i, full) {
    const E = d.experts.length, now = E ? (d.steered || d.gates)[i] : null, top = now && now.some((v) => v > 0) ? d.experts[best(now)] : null;
    const kept = d.experts.map((e, k) => [e, k]).filter(([, k]) => E <= 8 || d.gates[i][k] > 0 || now[k] > 0).slice(0, 12);
    const told = kept.map(([e, k]) => `expert ${e + 1}: gate ${M.text(d.gates[i][k])}, router ${M.text(d.router[i][k])}${d.steered ? `; steered ${M.text(d.steered[i][k])}` : ""}`);
    const chip = M.make("span", { class: "lab-word" }, d.tokens[i], now ? M.make("b", {}, top === null ? "none" : String(top + 1)) : "");
    if (top !== null) M.style(chip, { background: M.expertColour(top), color: "var(--lab-card)" });
    const bars = (now || []).map((v, k) => {
      const height = (u) => ({ height: `${(100 * u) / full}%` }), bar = M.style(M.make("i", {}), { ...height(v), background: M.expertColour(d.experts[k]) });
      return M.make("span", {}, bar, ...(d.steered && d.gates[i][k] ? [M.style(M.make("u", {}), height(d.gates[i][k]))] : []));
    });
    return M.make("li", { "data-help": [`“${d.tokens[i]}” — ${d.where}`, ...(now ? told : [`no gate: ${d.note}`])].join("\n") }, chip, M.make("span", { class: `lab-gates ${E > 16 ? "many" : ""}` }, ...bars));
  }

  // The sentence that the run on the page was sampled with, where nobody has asked yet.
  const sample = () => {
    const p = M.header && M.frames.length ? M.probeOf(M.pick.arm) : null;
    if (!p || !p.words.length) return null;
    const [layer, target, E] = M.header.linears[M.pick.arm][M.linear()], gates = p.words.map((w) => { const row = Array(E).fill(0); for (const [e, g] of w) row[e] = g; return row; });
    const where = `${M.header.arms[M.pick.arm]}, step ${M.shown().step}, layer ${layer + 1}, ${target}: a sentence of its batch`;
    return { where, note: "", tokens: p.sentence[0], experts: Array.from({ length: E }, (_, e) => e), of: E, gates, router: gates, steered: null, steering: "", options: [], accuracy: null, sample: true };
  };
  // One or two bars with their numbers at the right; the steered one is hatched, so that the two are told apart without colour.
  const pair = (free, steered) => [[free, ""], ...(steered === null ? [] : [[steered, "steered"]])].map(([v, kind]) =>
    M.make("span", { class: "lab-score" }, M.make("span", { class: `lab-bar ${kind}` }, M.style(M.make("i", {}), { width: `${100 * v}%` })), M.make("b", {}, percent(v))));
  const part = (title, ...rows) => M.make("div", {}, M.make("h3", {}, title), ...rows);

  function scores(d) {
    const most = (k) => Math.max(...d.options.map((o) => o[k]));
    return part("Scores of the options", ...(d.steering ? [M.make("p", { class: "soft" }, `Hatched: ${d.steering}`)] : []), M.make("ul", { class: "lab-scored" }, ...d.options.map((o) => {
      const marks = [o.right && "✓ right", o.score === most("score") && "answer", o.steered !== null && o.steered === most("steered") && "steered answer"].filter(Boolean).join(" · ");
      return M.make("li", { class: o.right && "right", "data-help": "Softmax over the options." }, M.make("span", {}, o.text), M.make("small", {}, marks), ...pair(o.score, o.steered));
    })));
  }
  function accuracy(d) {
    const a = d.accuracy;
    return part("Accuracy", ...(a ? [M.make("p", { class: "soft" }, `${a.task}, ${a.rows} validation rows, step ${a.step}`), ...pair(a.free, a.steered)] : [M.make("p", { class: "soft" }, "counting …")]));
  }

  M.view("inspect", {
    sample,
    asks: "#inspect-ask, #inspect-another",
    picks: true,
    press: () => (document.querySelector("#inspect-text textarea").value.trim() ? "#inspect-ask" : "#inspect-another"),
    empty: () => `Words are asked of a run of your own: press ${M.button("run")}.`,
    render(d) {
      const E = d.experts.length, full = E <= 16 ? 1 : Math.max(1e-6, ...d.gates.flat(), ...(d.steered || []).flat()); // of many experts each has a small gate
      const key = E && E <= 16 ? d.experts.map((e) => M.chip(e)) : E ? [`full height: gate ${M.text(full)}`] : [];
      const words = M.make("ul", { class: "lab-words" }, ...d.tokens.map((_, i) => token(d, i, full)));
      const rest = d.sample ? [M.make("p", { class: "soft" }, `Texts of your own are asked of a run of your own: press ${M.button("run")}, then ${M.button("inspect-ask")}.`)] : [M.make("div", { class: "lab-grid wide" }, scores(d), accuracy(d))];
      return [M.make("h3", {}, d.where, M.make("span", { class: "lab-key" }, E ? "experts " : "", ...key)), ...(d.note ? [M.make("p", { class: "soft" }, d.note)] : []), words, ...rest];
    },
    say(d) {
      const E = d.experts.length, now = d.steered || d.gates;
      const words = E ? "Largest gate: " + d.tokens.slice(0, 40).map((t, i) => `${t} ${d.experts[best(now[i])] + 1}`).join(", ") + ". " : d.note + " ";
      if (d.sample) return `${d.where}. ${words}`;
      const scores = d.options.map((o) => `${o.text}${o.right ? " (right)" : ""} ${percent(o.score)}${o.steered === null ? "" : ` to ${percent(o.steered)}`}`).join("; ");
      const a = d.accuracy, share = a ? ` Accuracy on ${a.task}: ${percent(a.free)}${a.steered === null ? "" : ` to ${percent(a.steered)}`}.` : "";
      return `${d.where}${d.steering ? ", " + d.steering : ""}. ${words}Scores: ${scores}.${share}`;
    },
  });
})(window.MoSLD);
