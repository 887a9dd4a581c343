// The machine as a whole: the sentence, the flows between the boxes (as wide as the gates), the sum, and the scale of A against B.
((M) => {
  const r = (v) => Math.round(v * 10) / 10, expert = (e) => `e${e % 8}`;
  const curve = (x, y, u, v) => `M${r(x)} ${r(y)}C${r((x + u) / 2)} ${r(y)} ${r((x + u) / 2)} ${r(v)} ${r(u)} ${r(v)}`;

  function sentence(pen, plan, model) {
    const { words, first, word } = model, chips = M.chips(words, plan.words.w), high = plan.wide ? Math.min(25, plan.words.h / ((chips.length ? chips[chips.length - 1][1] : 0) + 1)) : 27;
    chips.forEach(([x, y, w], i) => {
      const e = first[i], cls = e === null ? "plain" : expert(e), on = i === word;
      pen.rect(`w${i}`, plan.words.x + x, plan.words.y + y * high, w, Math.min(22, high - 3), { class: `chip ${cls} ${on ? "chosen" : ""}`, rx: 4, fill: "currentColor" }, {
        name: `word ${words[i]}${e === null ? "" : `, first expert ${e + 1}`}`, act: () => M.select({ word: i }),
        tip: () => `“${words[i]}”\n` + (model.spoken.words[i] || []).map(([k, g]) => `expert ${k + 1}: gate ${M.text(g)}`).join("\n"),
      });
      pen.text(`wt${i}`, plan.words.x + x + w / 2, plan.words.y + y * high + Math.min(22, high - 3) / 2 + 4.5, M.fit(words[i], w - 8, 12.5, 500), { class: "on-colour", "font-size": Math.min(12.5, high - 6), "font-weight": 500, "text-anchor": "middle", "pointer-events": "none" });
    });
    const place = plan.wide ? { x: 2, y: plan.height - 20 } : null;
    if (place && words.length) {
      pen.text("wn", 2, place.y, "a sentence of the batch;", { class: "soft", "font-size": 11 });
      pen.text("wm", 2, place.y + 14, "colour: its first expert", { class: "soft", "font-size": 11 });
    }
  }

  function flows(pen, key, at, g, model) {
    const { node } = at, wide = !at.down, grey = { class: "faint", stroke: "currentColor", "stroke-width": 2 }, gate = (e) => (g.gates ? g.gates[e] : g.share ? g.share[e] * 2 : 1 / g.E);
    const strong = (e) => ({ class: g.E > 1 ? expert(e) : "ink", stroke: "currentColor", "stroke-width": r(g.E > 1 ? Math.max(1.5, 13 * Math.min(1, gate(e))) : 5), opacity: g.E > 1 && gate(e) < 0.02 ? 0.35 : 1 });
    const right = (b) => [b.x + b.w, b.y + b.h / 2], left = (b) => [b.x, b.y + b.h / 2];
    if (wide) {
      const fork = Math.min(node.x + 40, at.W.x - 12);
      pen.line(`${key} x`, node.x + 15, node.y, fork, node.y, { ...grey, class: "ink" });
      for (const [name, box] of [["W", at.W], ["R", at.router], ["A", at.A]]) if (box) pen.path(`${key} x${name}`, curve(fork, node.y, ...left(box)), grey);
      const [ax, ay] = at.A ? right(at.A) : [at.W.x + at.W.w, at.W.y + 290 - 30];
      if (!at.A) pen.path(`${key} xs`, `${curve(fork, node.y, at.W.x, ay)}L${ax} ${ay}`, grey);
      const into = at.tasks ? at.tasks[model.task ?? 0] : null;
      if (into) { pen.path(`${key} at`, curve(ax, ay, ...left(into)), { ...grey, class: "ink", "stroke-width": 5 }); at.tasks.forEach((b, t) => t !== (model.task ?? 0) && pen.path(`${key} at${t}`, curve(ax, ay, ...left(b)), { ...grey, opacity: 0.4 })); }
      const from = into ? right(into) : [ax, ay], to = at.B ? left(at.B) : [at.sum.x - at.sum.r, at.sum.y];
      at.boxes.forEach((b, e) => {
        pen.path(`${key} f${e}`, curve(...from, ...left(b)), strong(e));
        if (gate(e) >= 0.02 || g.E === 1) pen.path(`${key} o${e}`, curve(...right(b), ...to), strong(e));
      });
      if (at.B) pen.path(`${key} Bo`, curve(...right(at.B), at.sum.x - at.sum.r, at.sum.y), { ...grey, class: "ink", "stroke-width": 5 });
      const w = right(at.W);
      pen.path(`${key} Wo`, `M${w[0]} ${w[1]}C${w[0] + 30} ${w[1] - 30} ${w[0] + 40} 0 ${w[0] + 90} 1H${at.sum.x - 40}C${at.sum.x - 8} 1 ${at.sum.x} 60 ${at.sum.x} ${at.sum.y - at.sum.r}`, grey);
    } else {
      const rail = node.x, last = at.boxes[at.boxes.length - 1];
      pen.path(`${key} x`, `M${rail} ${node.y + 14}V${last.y + last.h / 2}`, grey);
      for (const [name, box] of [["W", at.W], ["R", at.router], ["A", at.A]]) if (box) pen.line(`${key} x${name}`, rail, box.y + box.h / 2, box.x, box.y + box.h / 2, grey);
      const edge = at.W.x + at.W.w, bend = (b, out) => `M${edge} ${b.y + b.h / 2}h${out - 14}C${edge + out} ${b.y + b.h / 2} ${edge + out} ${at.sum.y} ${at.sum.x + at.sum.r} ${at.sum.y}`;
      pen.path(`${key} Wo`, `M${edge} ${at.W.y + at.W.h / 2}h18Q${edge + 28} ${at.W.y + at.W.h / 2} ${edge + 28} ${at.W.y + at.W.h / 2 + 12}V${at.sum.y - 12}Q${edge + 28} ${at.sum.y} ${edge + 16} ${at.sum.y}H${at.sum.x + at.sum.r}`, grey);
      at.boxes.forEach((b, e) => {
        pen.line(`${key} f${e}`, rail, b.y + b.h / 2, b.x, b.y + b.h / 2, strong(e));
        pen.path(`${key} o${e}`, bend(b, 22), { ...strong(e), opacity: gate(e) < 0.02 && g.E > 1 ? 0 : 0.8 });
      });
    }
  }
  function ends(pen, key, at, g, model, i) {
    const { node, sum } = at, word = model.word === null ? "x" : model.words[model.word];
    // The word that comes in: as wide as it needs, to the left of the flows or, where they go down, to the right.
    const wide = i ? 28 : Math.min(at.down ? 120 : 76, Math.max(28, M.measure(word, 11) + 14)), left = at.down ? node.x - 14 : node.x + 14 - wide;
    pen.rect(`${key} n`, left, node.y - 14, wide, 28, { rx: 14, class: "box node" + (M.stage && M.stage.includes("x") ? " lit" : "") }, { name: `x, the word ${word}`, tip: `x: what comes into the linear for the word “${word}”, made of it by the layers below.` });
    pen.text(`${key} nt`, left + wide / 2, node.y + 4, M.fit(word, wide - 4, 11), { class: "ink", "font-size": 11, "text-anchor": "middle", "pointer-events": "none" });
    if (!at.down && i === 0 && word !== "x") pen.text(`${key} nx`, left - 13, node.y + 5, "x", { class: "ink", "font-size": 14, "font-weight": 600 });
    pen.put(`${key} s`, "circle", { cx: sum.x, cy: sum.y, r: sum.r, class: "box node" + (M.stage && M.stage.includes("sum") ? " lit" : ""), "stroke-width": 2 }, { name: "sum", tip: "Sum: W x plus the experts' vectors times their gates, times alpha over rank." });
    pen.text(`${key} st`, sum.x, sum.y + 5, "Σ", { class: "ink", "font-size": 15, "text-anchor": "middle", "pointer-events": "none" });
    pen.line(`${key} so`, sum.x + (at.down ? -sum.r : sum.r), sum.y, at.out.x + (at.down ? 8 : -8), sum.y, { class: "ink", stroke: "currentColor", "stroke-width": 2 });
    pen.text(`${key} sh`, at.out.x - 4, sum.y + 5, "h", { class: "ink", "font-size": 14, "font-weight": 600 });
  }

  // Four definitions on one log2 axis, a mark an arm. 0 is even.
  const NAMES = ["tokens that reach it", "gradient", "step", "step for its size"];
  const MEANING = ["tokens that reach A over tokens that reach one B", "size of A's gradient over that of a B", "size of the optimiser's step on A over that on a B", "step over weight size of A, over the same of a B"];
  const PITCH = 47, UNDER = 48 + 4 * PITCH, LINE = 15; // pixels between two definitions, above the sentence, and of a line of it
  const sentences = (width) => M.wrap(M.open() ? "" : M.shown().says[1], width, 11.5, 600);
  M.scaleHeight = (width) => UNDER + sentences(width).length * LINE + 2;
  M.scale = (pen, box) => {
    const arms = M.header.arms.map((_, arm) => ({ arm, p: M.probeOf(arm) })), all = arms.flatMap((a) => (a.p ? a.p.imbalance.filter((v) => v !== null).map(Math.abs) : []));
    const reach = Math.max(1, Math.ceil(Math.max(0, ...all))), mid = box.x + box.w / 2, X = (v) => mid + (v / reach) * (box.w / 2 - 8);
    pen.text("s1", box.x, box.y + 12, "Who is updated more?", { class: "ink", "font-size": 13, "font-weight": 600 });
    pen.text("s2", mid, box.y + 29, "B ← even → A", { class: "soft", "font-size": 11, "text-anchor": "middle" });
    pen.line("s0", mid, box.y + 36, mid, box.y + 44 + 3.4 * PITCH, { class: "ink", stroke: "currentColor", "stroke-dasharray": "3 3" });
    for (const v of [-reach, reach]) pen.text(`sv${v}`, X(v), box.y + 29, `${v > 0 ? "+" : "−"}${reach}`, { class: "soft num", "font-size": 10.5, "text-anchor": v > 0 ? "end" : "start" });
    NAMES.forEach((name, k) => {
      const y = box.y + 46 + k * PITCH;
      const told = () => `log2 of ${MEANING[k]} (mean over experts); 0 is even.\n` + arms.map((a) => `${M.header.arms[a.arm]}: ${a.p ? M.text(a.p.imbalance[k]) : "not probed yet"}`).join("\n");
      pen.line(`sl${k}`, box.x, y, box.x + box.w, y, { class: "faint", stroke: "currentColor" });
      pen.rect(`sh${k}`, box.x, y - 12, box.w, 34, { fill: "transparent", class: "hit" }, { name: `${name}: ${arms.map((a) => `${M.header.arms[a.arm]} ${a.p ? M.text(a.p.imbalance[k]) : "none"}`).join(", ")}`, tip: told });
      arms.forEach((a) => { const v = a.p && a.p.imbalance[k]; if (v !== null && v !== undefined) M.armDot(pen, `sd${k} ${a.arm}`, X(v), y, a.arm); });
      pen.text(`st${k}`, box.x, y + 19, name, { class: "ink halo", "font-size": 11.5, "pointer-events": "none" });
    });
    sentences(box.w).forEach((line, i) => pen.text(`sw${i}`, box.x, box.y + UNDER + i * LINE, line, { class: "ink", "font-size": 11.5, "font-weight": 600 }));
  };
  // The dot of an arm in its mark.
  M.armDot = (pen, key, x, y, arm, size = 6, colour = "ink") => {
    if (arm % 6 === 4) return pen.rect(key, x - size + 1, y - size + 1, 2 * size - 2, 2 * size - 2, { class: colour, fill: "currentColor", "pointer-events": "none" });
    pen.put(key, "circle", { cx: r(x), cy: r(y), r: size, class: colour, fill: M.armFill(arm, colour), stroke: "currentColor", "stroke-width": M.armMarks[arm % 6] === "solid" ? 0 : 1.8, "pointer-events": "none" });
  };

  M.drawMachine = (pen, width, stage) => {
    M.stage = stage || null;
    const model = M.machine();
    if (!model) { pen.begin(width, 318); pen.text("none", width / 2, 150, M.waiting(), { class: "soft", "font-size": 15, "text-anchor": "middle" }); pen.end(); return 318; }
    const plan = M.machinePlan(model, width);
    pen.begin(width, plan.height);
    M.patterns();
    model.groups.forEach((g, i) => flows(pen, `m${i}`, plan.machines[i], g, model));
    sentence(pen, plan, model);
    model.groups.forEach((g, i) => {
      const at = plan.machines[i], key = `m${i}`;
      if (at.title) pen.text(`${key} title`, at.title.x, at.title.y, M.fit(g.arms.map((s) => M.header.arms[s.arm]).join(", "), at.title.w, 12, 600), { class: "ink", "font-size": 12, "font-weight": 600 });
      M.drawW(pen, key, at.W, g);
      if (at.router) M.drawRouter(pen, key, at.router, g, model);
      if (at.A) M.drawA(pen, key, at.A, g, model);
      if (at.tasks) M.drawTasks(pen, key, at.tasks, g, model);
      at.boxes.forEach((b, e) => M.drawExpert(pen, key, b, g, e, model));
      if (at.B) M.drawShared(pen, key, at.B, g);
      ends(pen, key, at, g, model, i);
    });
    M.scale(pen, plan.scale);
    if (M.busy() && M.state !== "running") veil(pen, width, plan.height);
    pen.end();
    return plan.height;
  };
  // What is being done while there is nothing to draw, or nothing new.
  M.waiting = () => M.note || (M.state === "loading" ? "Loading …" : `No run yet: choose a question${M.orRun()}.`);
  function veil(pen, width, height) {
    const w = Math.min(width - 16, 480), y = Math.min(130, height / 2 - 30);
    pen.rect("veil", (width - w) / 2, y, w, 52, { class: "veil", rx: 10 });
    pen.text("veil t", width / 2, y + 31, M.fit(M.waiting(), w - 24, 14), { class: "ink", "font-size": 14, "text-anchor": "middle" });
  }
  M.sayMachine = () => {
    const f = M.shown(), model = M.machine();
    if (!model || !model.own.info) return M.waiting();
    const [layer, target] = model.own.info;
    return `The machine at step ${f.step}: layer ${layer + 1}, ${target}. ${f.says[0]} ${f.says[1]} Arrow keys go from box to box.`;
  };
})(window.MoSLD);
