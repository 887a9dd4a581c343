// Slow motion: the stages of one adapted linear, from what mosld/training/walk.py gives as `Walk.shown`, with data.hints [6].
// A vector is { values: its first numbers, norm }; each stage is a table of vectors a token, the gates, or a matrix with its mask.
((M) => {
  const SECONDS = 4, stage = (d) => d.chosen.stage || 0, none = (e) => e === null || e === undefined;
  const number = (v, most) => {
    if (v === 0) return "0";
    const a = Math.abs(v), text = most < 0.001 ? v.toExponential(0) : v.toFixed(most < 0.095 ? 3 : most < 9.5 ? 2 : most < 95 ? 1 : 0);
    const bare = a < 1 && most >= 0.001 ? text.replace("0.", ".") : text;
    return /[1-9]/.test(bare) ? bare.replace("-", "−") : bare.replace("-", ""); // no sign on what rounds to 0
  };
  const largest = (vectors) => Math.max(1e-12, ...vectors.flatMap((v) => v.values.map(Math.abs)));

  // Rows of each token at the stages that show vectors: [{ label, expert, vector, of (dimensions), tell }]
  function rows(d, at) {
    const each = (list, of, tell, own) => list.map((experts) => (own ? experts : experts.slice(0, 1))
      .map((v) => ({ label: own ? "" : d.hidden.name, expert: own && d.gate ? v.expert : null, vector: v, of, tell: own && d.gate ? `${tell}, gate ${M.text(v.weight)}` : tell })));
    if (at === 0) return d.tokens.map((_, i) => [{ label: "x", vector: d.x[i], of: d.d_in, tell: "what comes into the linear" }]);
    if (at === 3) return each(d.hidden.of, d.rank, d.hidden.name, d.hidden.own);
    if (at === 4) return each(d.experts, d.d_out, `${d.factors[1]} times ${d.hidden.name}`, true).map((list) => list.map((r) => ({ ...r, label: r.expert === null ? d.factors[1] : "" })));
    return d.tokens.map((_, i) => [
      { label: "W x + b", vector: d.base[i], of: d.d_out, tell: "the frozen linear" },
      { label: "+ update", vector: d.update[i], of: d.d_out, tell: `${M.text(d.scale)} times the sum of gate times expert` },
      { label: "= y", vector: d.y[i], of: d.d_out, tell: "what the module gives", strong: true },
    ]);
  }

  // One vector: its label or its expert's chip, its first numbers in cells, how many more there are, and its length.
  function strip(r, most, token) {
    const who = none(r.expert) ? [r.label] : [M.chip(r.expert), r.vector.weight === undefined ? "" : ` g ${number(r.vector.weight, 1)}`], values = r.vector.values.slice(0, 8);
    const cells = values.map((v, i) => M.shade(M.make("td", { "data-help": `“${token}”${none(r.expert) ? "" : `, expert ${r.expert + 1}`} — number ${i + 1} of ${r.of}: ${v}\n${r.tell}` }, number(v, most)), (0.5 * v) / most));
    const length = `length ${number(r.vector.norm, r.vector.norm)}`;
    return M.make("tr", { class: r.strong && "strong" }, M.make("th", { scope: "row" }, ...who), ...cells, M.make("td", { class: "more" }, r.of > values.length ? `… ${r.of - values.length} more, ${length}` : length));
  }
  const table = (title, trs) => M.make("table", { class: "lab-strips-of" }, M.make("caption", {}, title), M.make("tbody", {}, ...trs));
  function blocks(d, at) {
    const list = rows(d, at), most = largest(list.flat().map((r) => r.vector));
    return list.map((own, i) => table(d.tokens[i].text, own.length ? own.map((r) => strip(r, at === 5 ? largest([r.vector, d.base[i]]) : most, d.tokens[i].text)) : [M.make("tr", {}, M.make("td", { class: "more" }, "no expert took this token"))]));
  }
  function sentence(d) {
    const places = new Set(d.tokens.map((t) => t.place));
    return M.make("p", { class: "lab-sentence" }, ...d.sentence.flatMap((t, i) => [M.make(places.has(i) ? "mark" : "span", {}, t), " "]));
  }
  function gates(d) {
    if (!d.gate) return [M.make("p", {}, "one expert, weight 1")];
    const one = (t, i) => d.gate.experts.map((e, k) => {
      const p = d.gate.probabilities[i][k], v = d.gate.weights[i][k], wide = (u) => ({ width: `${100 * Math.min(1, Math.abs(u))}%` });
      const bar = M.make("span", { class: "lab-bar" }, M.style(M.make("i", {}), { ...wide(v), background: M.expertColour(e) }), M.style(M.make("u", {}), wide(p)));
      return M.make("li", { "data-help": `“${t.text}”, expert ${e + 1} of ${d.gate.of}\nrouter probability ${p}\ngate ${v}${v ? "" : ": not chosen"}` }, M.chip(e), bar, ` ${number(p, 1)} → ${number(v, 1)}`);
    });
    return [...d.tokens.flatMap((t, i) => [M.make("h3", {}, t.text), M.make("ul", { class: "lab-gated" }, ...one(t, i))]), M.make("p", { class: "soft" }, "hollow: router probability · solid: gate")];
  }
  function mask(d) {
    const { values, mask: draw, on, shape, dropped, entries, rate } = d.dropout, most = largest(values.map((v) => ({ values: v }))), name = on === "activations" ? "x of the words shown" : on;
    const cell = (v, i, j) => {
      const gone = draw && draw[i][j] === 0, told = draw ? (gone ? "dropped: 0 in this step" : `kept: ${M.text(v * draw[i][j], 3)} after dividing by ${M.text(1 - rate)}`) : "nothing is dropped";
      const el = M.make("i", { class: gone && "gone", "data-help": `row ${i + 1}, column ${j + 1}: ${v}\n${told}` });
      return gone ? el : M.style(el, { background: M.diverging((0.9 * v) / most) });
    };
    const grid = M.style(M.make("div", { class: "lab-mask" }, ...values.flatMap((row, i) => row.map((v, j) => cell(v, i, j)))), { gridTemplateColumns: `repeat(${values[0].length}, minmax(0, 26px))` });
    const first = values[0].slice(0, 8), kept = draw ? draw[0].slice(0, 8) : first.map(() => 1), part = (n, of) => (n < of ? `${n} of ${of}` : of);
    const strips = [[on === "activations" ? "x" : on, first], ["× mask", kept], ["= product", first.map((v, i) => v * kept[i])]].map(([label, list], k) => strip(
      { label, of: shape[1], tell: "its first numbers; the length is theirs", vector: { values: list.map((v) => +v.toPrecision(4)), norm: Math.hypot(...list) }, strong: k === 2 }, k === 1 ? 2 : most, "first row"));
    const text = draw ? `× dropped: ${dropped.toLocaleString("en")} of ${entries.toLocaleString("en")} (${((100 * dropped) / entries).toFixed(1)} %); p is ${M.text(rate)}` : "nothing is dropped";
    return [M.make("h3", {}, `${name}: ${part(values.length, shape[0])} rows, ${part(values[0].length, shape[1])} columns`), grid, M.make("p", {}, text), table("first row", strips)];
  }

  M.view("walk", {
    asks: "#slow-take",
    picks: true,
    empty: () => `A batch walks through a run of your own: press ${M.button("run")}.`,
    render: (d) => [() => [sentence(d), ...blocks(d, 0)], () => gates(d), () => mask(d), () => blocks(d, 3), () => blocks(d, 4), () => blocks(d, 5)][stage(d)](),
    say(d) {
      const at = stage(d);
      if (at === 1 || at === 2) return d.hints[at];
      const list = rows(d, at).map((own, i) => `${d.tokens[i].text}: ${own.map((r) => `${none(r.expert) ? r.label : `expert ${r.expert + 1}`} of length ${M.text(r.vector.norm)}`).join(", ")}`);
      return `${d.hints[at]} ${list.join("; ")}.`;
    },
    tell(element, d) {
      if (d && d.told !== true) { d.told = true; if (d.arm !== M.pick.arm) M.toPick(d.arm, d.of); }
      const hint = element.querySelector(".walk-hint"), text = d ? `${stage(d) + 1}. ${d.hints[stage(d)]}` : "";
      element.querySelector(".walk-bar").hidden = !d;
      M.write(hint, text);
    },
    // Back, Next, Play and the numbers choose the stage, which lights up on the machine itself.
    wire(element, chosen, again) {
      const LIT = ["x", "gate", "A", "A", "B", "sum"], machine = element.querySelector(".walk-machine");
      const picture = M.picture(machine, "The machine, with the stage shown lit up", (pen, W) => M.drawMachine(pen, W, LIT[chosen.stage || 0]), () => { const f = M.shown() || {}; return [chosen.stage, M.run, M.name, f.probed, M.pick.arm, M.layer, M.target, M.pick.word].join(); });
      const numbers = [...element.querySelectorAll("[data-stage]")], last = numbers.length - 1, play = element.querySelector(".walk-play");
      let timer = 0;
      const to = (at) => {
        chosen.stage = Math.max(0, Math.min(last, at));
        numbers.forEach((b, i) => (i === chosen.stage ? b.setAttribute("aria-current", "step") : b.removeAttribute("aria-current")));
        element.querySelector(".walk-back").disabled = chosen.stage === 0;
        element.querySelector(".walk-next").disabled = chosen.stage === last;
        again();
        picture.mark(true);
      };
      const stop = () => { clearInterval(timer); timer = 0; play.textContent = "Play"; };
      numbers.forEach((b, i) => b.addEventListener("click", () => { stop(); to(i); }));
      element.querySelector(".walk-back").addEventListener("click", () => { stop(); to(chosen.stage - 1); });
      element.querySelector(".walk-next").addEventListener("click", () => { stop(); to(chosen.stage + 1); });
      play.addEventListener("click", () => {
        if (timer) return stop();
        play.textContent = "Stop";
        if (chosen.stage === last) to(0);
        timer = setInterval(() => { if (!element.isConnected || chosen.stage === last) stop(); else to(chosen.stage + 1); }, SECONDS * 1000);
      });
      to(0);
    },
  });
})(window.MoSLD);
