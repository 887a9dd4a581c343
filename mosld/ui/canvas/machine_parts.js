// The machine's boxes: W, router, A, the experts, and the stages between. Colours: an expert has a colour, an arm a mark (solid, hatched ...).
((M) => {
  const N = (v) => M.number(v), expert = (e) => `e${e % 8}`;
  const STEP = { step: ["stepA", "stepB", "step"], grad: ["gradA", "gradB", "grad."] };
  const quiet = { "pointer-events": "none" }; // the label of a mark: what is under it answers
  const named = (i) => (M.header.arms.length > 1 ? `${M.header.arms[i]}: ` : "");
  const real = (list) => (list || []).filter((v) => v !== null && Number.isFinite(v));
  M.ofExpert = (list, e) => (real(list).length > 1 ? list[e] : list && list[0]);

  // Marks of arms: solid, hatched, hollow, dotted. Patterns are made once a drawing.
  M.armMarks = ["solid", "hatched", "hollow", "dotted", "solid", "hatched"];
  M.armFill = (arm, colour) => { const kind = M.armMarks[arm % 6]; return { solid: "currentColor", hollow: "none" }[kind] || `url(#${kind}-${colour})`; };
  M.patterns = () => {
    if (document.getElementById("lab-patterns")) return;
    const svg = M.makeSvg("svg", { id: "lab-patterns", width: 0, height: 0, "aria-hidden": "true", class: "lab-svg", style: "position:absolute" }, M.root());
    for (const name of ["ink", ...Array.from({ length: 8 }, (_, e) => "e" + e)])
      for (const [kind, d, size] of [["hatched", "M-1 1L1 -1M0 5L5 0M4 6L6 4", 5], ["dotted", "M1 1h1.6v1.6h-1.6z", 4]])
        M.makeSvg("path", { d, stroke: "currentColor", "stroke-width": 1.6, fill: kind === "dotted" ? "currentColor" : "none" }, M.makeSvg("pattern", { id: `${kind}-${name}`, width: size, height: size, patternUnits: "userSpaceOnUse", class: name }, svg));
  };
  // A bar in its arm's mark and a colour's class ("ink" or an expert's).
  M.markedBar = (pen, key, x, y, w, h, arm, colour) => {
    pen.rect(key, x, y, Math.max(w, 1), h, { ...quiet, class: colour, fill: M.armFill(arm, colour), stroke: M.armMarks[arm % 6] === "solid" ? "none" : "currentColor", "stroke-width": 1 });
  };
  // Rows of bars, one an arm: a label, bars to a common scale, the value of the arm chosen at the end.
  function bars(pen, key, label, x, y, w, arms, read, most, colour, thin) {
    const values = arms.map((s) => (s.p ? read(s.p) : null)), high = thin ? 4 : arms.length > 2 ? 4 : arms.length > 1 ? 5 : 8, told = label && w > 92, left = told ? 34 : 0;
    if (told) pen.text(`${key} t`, x, y + 8, label, { class: "soft", "font-size": 11, ...quiet });
    values.forEach((v, i) => v !== null && v !== undefined && M.markedBar(pen, `${key} ${i}`, x + left, y + i * (high + 1), (w - left - (thin ? 0 : 32)) * Math.min(1, v / most), high, arms[i].arm, colour));
    const own = arms.findIndex((s) => s.arm === M.pick.arm), v = values[own < 0 ? 0 : own];
    if (!thin && v !== null && v !== undefined) pen.text(`${key} v`, x + w, y + 9, N(v), { class: "soft num", "font-size": 11, "text-anchor": "end", ...quiet });
  }
  // One scale for all boxes of a kind, in every machine.
  const all = () => M.header.arms.map((_, arm) => ({ arm, p: M.probeOf(arm) }));
  const most = (name) => Math.max(1e-12, ...all().flatMap((s) => (s.p ? real(s.p[name]) : [])));
  const every = (arms, names, read, e) => arms.map((s) => s.p && `${named(s.arm)}${names.map(([n, word]) => `${word} ${M.text(read(s.p, n, e), 3)}`).join(", ")}`).filter(Boolean).join("\n");

  // W and the router.
  M.drawW = (pen, key, box, g) => {
    pen.rect(`${key} W`, box.x, box.y, box.w, box.h, { class: "box frozen", rx: 8 }, { name: "W, frozen", tip: M.terms.W });
    pen.text(`${key} W1`, box.x + box.w / 2, box.y + box.h / 2 + 5, "W, frozen", { class: "ink", "font-size": 13, "font-weight": 600, "text-anchor": "middle", ...quiet });
  };
  M.drawRouter = (pen, key, box, g, model) => {
    const { E, gates, share, d } = g, word = model.word === null ? null : model.words[model.word];
    const told = () => `${M.terms.router}\nIt reads: ${d.reads}.\n` + Array.from({ length: Math.min(E, 12) }, (_, e) => `expert ${e + 1}: ${gates ? `gate ${M.text(gates[e])}` : ""}${share ? `, ${M.percent(share[e])} of all words` : ""}`).join("\n");
    pen.rect(`${key} R`, box.x, box.y, box.w, box.h, { class: lit("gate", "box router"), rx: 8 }, { name: `router${word ? `, gates of ${word}` : ""}`, tip: told, far: true, act: () => open({ arm: g.first.arm }, "router") });
    pen.text(`${key} R1`, box.x + 9, box.y + 17, d.router === "router" ? "router" : d.router, { class: "ink", "font-size": 13, "font-weight": 600, ...quiet });
    const room = box.w - M.measure(d.router, 13, 600) - 26, whole = word && `gates of “${word}”`;
    if (word && room > 44) pen.text(`${key} R2`, box.x + box.w - 8, box.y + 17, M.measure(whole, 11) <= room ? whole : M.fit(`“${word}”`, room, 11), { class: "soft", "font-size": 11, "text-anchor": "end", ...quiet });
    const floor = box.y + box.h - 8, high = box.h - 34, span = (box.w - 46) / E, w = Math.max(1, Math.min(24, span - (E > 12 ? 1 : 5))), full = gates && Math.max(...gates) > 0.75 ? 1 : 0.75;
    for (let e = 0; e < E; e++) {
      const x = box.x + 12 + e * span + (span - w) / 2, v = gates ? gates[e] : share ? share[e] : 0;
      pen.rect(`${key} Rg${e}`, x, floor - high * Math.min(1, v / full), w, Math.max(1.5, high * Math.min(1, v / full)), { class: expert(e), fill: "currentColor" });
      if (share && gates) pen.line(`${key} Rs${e}`, x - 2, floor - high * Math.min(1, share[e] / full), x + w + 2, floor - high * Math.min(1, share[e] / full), { class: "ink", stroke: "currentColor", "stroke-width": 1.5 });
    }
    const even = floor - high / E / full;
    pen.line(`${key} Re`, box.x + 8, even, box.x + box.w - 32, even, { class: "ink", stroke: "currentColor", "stroke-dasharray": "3 3" });
    pen.text(`${key} Rt`, box.x + box.w - 30, even + 4, "even", { class: "soft", "font-size": 10.5, ...quiet });
  };

  // A (or the one matrix of LoRA): norm, step, what each expert asks of it, and the entries that dropout leaves out.
  M.drawA = (pen, key, box, g, model) => {
    const { arms, d } = g, [stepA, , word] = STEP[M.size], lone = g.E === 1, name = d.down, own = d.down === "A" ? ["A", stepA] : ["B", STEP[M.size][1]];
    const told = () => `${M.terms[name]}\n${every(arms, [[own[0], "norm"], [own[1], M.size === "step" ? "step" : "gradient"]], (p, n) => M.ofExpert(p[n], 0))}`;
    pen.rect(`${key} A`, box.x, box.y, box.w, box.h, { class: lit("A", "box"), rx: 8 }, { name: `${name}${lone ? "" : ", shared by all experts"}: ${told().split("\n").slice(1).join("; ")}`, tip: told, far: true, act: () => open({ arm: g.first.arm, expert: null }, "norms") });
    pen.text(`${key} A1`, box.x + 9, box.y + 18, lone ? name : `${name}, shared`, { class: "ink", "font-size": 13, "font-weight": 600, ...quiet });
    const x = box.x + 9, w = box.w - 18, gap = arms.length > 1 ? arms.length * 6 + 8 : 16;
    bars(pen, `${key} An`, "norm", x, box.y + 28, w, arms, (p) => M.ofExpert(p[own[0]], 0), most(own[0]), "ink");
    bars(pen, `${key} As`, word, x, box.y + 28 + gap, w, arms, (p) => M.ofExpert(p[own[1]], 0), top(own[1]), "ink");
    const y = box.y + 28 + 2 * gap, p = g.first.p, asks = p && !lone ? p.ask : null, sum = asks && asks.reduce((a, b) => a + (b || 0), 0);
    if (sum && y + 8 < box.y + box.h - 20) {
      pen.text(`${key} Aq`, x, y + 8, "asked", { class: "soft", "font-size": 11, ...quiet });
      let from = x + 34;
      asks.forEach((v, e) => { const part = ((w - (w > 100 ? 66 : 38)) * v) / sum; pen.rect(`${key} Aq${e}`, from, y, Math.max(0, part - 1), 8, { class: expert(e), fill: "currentColor" }, { tip: () => `What expert ${e + 1} asks of the shared A: ${M.percent(v / sum)} of the norms of all their shares of its gradient.` }); from += part; });
    }
    entries(pen, key, { x, y: box.y + box.h - 16, w, h: 10 }, g, model);
  };
  // Entries of A as small squares; in each step other ones flicker out where dropout acts. Which ones is drawn here by chance, how many is not.
  function entries(pen, key, box, g, model) {
    const rate = Math.max(0, ...g.arms.map((s) => (s.d.drops === "A" ? M.shown().arms[s.arm].dropout : 0)));
    if (!rate) return;
    const rows = 2, columns = Math.floor(box.w / 5), step = M.shown().step;
    let d = "", gone = "";
    for (let i = 0; i < rows * columns; i++) {
      const out = model.flickers && random(step * 977 + i) < rate, at = `M${box.x + (i % columns) * 5} ${box.y + Math.floor(i / columns) * 5}h4v4h-4z`;
      if (out) gone += at; else d += at;
    }
    pen.path(`${key} Ad`, d, { class: "ink", fill: "currentColor", opacity: 0.45 }, { tip: `Dropout: ${M.percent(rate)} of A's entries are set to zero in each step, other ones each time. How many go out here is to scale; which ones is by chance.` });
    pen.path(`${key} Ag`, gone || "M0 0", { class: "ink", stroke: "currentColor", "stroke-width": 0.7, opacity: 0.5 });
  }
  const random = (n) => { const x = Math.sin(n * 12.9898) * 43758.5453; return x - Math.floor(x); };
  // The scale of steps: the largest so far in the run, so that a bar that shrinks is a step that shrinks.
  const tops = new Map();
  function top(name) {
    const arms = all(), key = [M.run, M.name, arms.map((s) => M.linear(s.arm)), name].join();
    if (!tops.has(key)) { if (tops.size > 60) tops.clear(); tops.set(key, { seen: 0, most: 1e-12 }); }
    const kept = tops.get(key);
    for (; kept.seen < M.frames.length; kept.seen++) for (const s of arms) {
      const f = M.frames[kept.seen].arms[s.arm], p = f.fresh && f.probe[M.linear(s.arm)];
      if (p) kept.most = Math.max(kept.most, ...real(p[name]));
    }
    return kept.most;
  }

  // An expert's row: its own A (or P) where it has one, its B, its share of the words and the words it takes most.
  M.drawExpert = (pen, key, row, g, e, model) => {
    const { arms, d, first } = g, parts = [];
    const ownA = !first.sharedA && g.E > 1, middle = d.middle && d.middle[1] === "expert" ? d.middle[0] : null, up = d.up;
    if (ownA && first.sharedB) parts.push(d.down);
    else if (ownA || middle) parts.push(middle || d.down, up);
    else parts.push(up);
    const gap = parts.length > 1 ? 8 : 0, w = parts.length > 1 ? row.w * 0.36 : row.w;
    parts.forEach((name, i) => {
      const box = parts.length === 1 ? row : i === 0 ? { ...row, w } : { ...row, x: row.x + w + gap, w: row.w - w - gap };
      one(pen, `${key} ${name}${e}`, box, g, e, name, model, i === parts.length - 1);
    });
  };
  function one(pen, key, box, g, e, name, model, main) {
    const { arms, gates, share } = g, cls = g.E > 1 ? expert(e) : "ink", known = name === "A" || name === "B", p = g.first.p, chosen = M.pick.expert === e;
    const [sa, sb, word] = STEP[M.size], size = name === "A" ? sa : sb, on = gates ? gates[e] > 0 : true, takes = main && p && p.takes ? p.takes[e] : null;
    const told = () => [`${g.E > 1 ? `Expert ${e + 1}` : name}${share ? `: ${M.percent(share[e])} of all words` : ""}${gates ? `, gate ${M.text(gates[e])}` : ""}`,
      takes && takes.length ? `takes most: ${takes.join(", ")}` : "", known ? every(arms, [[name, `norm of ${name}`], [size, M.size === "step" ? "step" : "gradient"]], (q, n, k) => M.ofExpert(q[n], k), e) : `${name}: the stage before B`, "Click, or tap twice: look inside."].filter(Boolean).join("\n");
    const steps = known && p ? real(p[size]) : [], glow = steps.length > 1 && Math.max(...steps) > 0 ? M.ofExpert(p[size], e) / Math.max(...steps) : 0;
    if (model.flickers && glow) pen.rect(`${key} g`, box.x - 3, box.y - 3, box.w + 6, box.h + 6, { class: cls, rx: 11, fill: "none", stroke: "currentColor", "stroke-width": 5, opacity: Math.round(glow ** 4 * 35) / 100 });
    const classes = [lit("B", "box expert"), cls, on && gates ? "on" : "", chosen ? "chosen" : "", ringed(g, e) ? "ringed" : ""].join(" ");
    pen.rect(`${key} b`, box.x, box.y, box.w, box.h, { class: classes, rx: Math.min(8, box.h / 3), "data-expert": e }, { name: told().split("\n").slice(0, 3).join("; "), tip: told, far: true, act: () => open({ arm: g.first.arm, expert: e }) });
    const title = g.E > 1 ? `${name} ${e + 1}` : name, x = box.x + 9, w = box.w - 18, tall = box.h > 44;
    if (box.h >= 13) pen.text(`${key} t`, x, box.y + (tall ? 17 : box.h / 2 + 4.5), title, { class: cls, fill: "currentColor", "font-size": tall ? 13 : box.h > 20 ? 12 : 10.5, "font-weight": 600, ...quiet });
    const percent = share && main && g.E > 1 ? M.percent(share[e]) : "", from = M.measure(title, 13, 600) + 8;
    if (tall && main && w > 90) pen.text(`${key} s`, x + w, box.y + 17, M.fit([percent, takes && takes.length ? takes.join(", ") : e === 0 && percent ? "of words" : ""].filter(Boolean).join(" · "), w - from, 11), { class: "soft", "font-size": 11, "text-anchor": "end", ...quiet });
    if (!known) return;
    if (tall) {
      bars(pen, `${key} n`, w > 100 ? "norm" : "", x, box.y + 24, w, arms, (q) => M.ofExpert(q[name], e), most(name), cls, w < 90);
      const gap = arms.length > 1 ? Math.min(6 * arms.length + 3, (box.h - 30) / 2) : 16;
      bars(pen, `${key} z`, w > 100 ? word : "", x, box.y + 24 + gap, w, arms, (q) => M.ofExpert(q[size], e), top(size), cls, w < 90);
    } else if (box.h >= 13) {
      const left = box.h > 20 ? 74 : 34, y = box.y + box.h / 2 - 5;
      if (percent && box.h > 20) pen.text(`${key} s`, x + 36, box.y + box.h / 2 + 4, percent, { class: "soft", "font-size": 10.5, ...quiet });
      bars(pen, `${key} n`, "", x + left, y, w - left, arms, (q) => M.ofExpert(q[name], e), most(name), cls, true);
    }
  }
  M.drawShared = (pen, key, box, g) => { // one matrix next to the output for all experts
    const name = g.d.up, told = () => `${M.terms[name]}\nHere all experts share it.\n${every(g.arms, [[name, "norm"]], (p, n) => M.ofExpert(p[n], 0))}`;
    pen.rect(`${key} B`, box.x, box.y, box.w, box.h, { class: lit("B", "box"), rx: 8 }, { name: `${name}, shared`, tip: told, far: true, act: () => open({ arm: g.first.arm, expert: null }) });
    pen.text(`${key} B1`, box.x + 8, box.y + 18, `${name}, shared`, { class: "ink", "font-size": 12.5, "font-weight": 600, ...quiet });
    bars(pen, `${key} Bn`, "", box.x + 8, box.y + 28, box.w - 16, g.arms, (p) => M.ofExpert(p[name], 0), most(name), "ink", true);
  };
  M.drawTasks = (pen, key, boxes, g, model) => boxes.forEach((box, t) => {
    const on = model.task === t;
    pen.rect(`${key} T${t}`, box.x, box.y, box.w, box.h, { class: `box ${on ? "now" : ""}`, rx: 5 }, { name: `stage of task ${M.header.tasks[t]}`, tip: `Each task has a small matrix of its own between A and B. The sentence shown is of ${model.task === null ? "no task" : M.header.tasks[model.task]}.`, act: () => M.select({ task: t }) });
    pen.text(`${key} Tt${t}`, box.x + box.w / 2, box.y + box.h / 2 + 4, M.fit(M.header.tasks[t], box.w - 6, 11), { class: on ? "ink" : "soft", "font-size": 11, "text-anchor": "middle", "pointer-events": "none" });
  });

  const lit = (stage, cls) => (M.stage && M.stage.includes(stage) ? `${cls} lit` : cls);
  const ringed = (g, e) => M.ring && M.ring.until > Date.now() && M.ring.expert === e && (M.ring.arm === null || g.arms.some((s) => s.arm === M.ring.arm));
  // A click on a box opens it in "Look inside", with what is selected.
  const open = (parts, view) => { M.select(parts); if (M.goto) M.goto("look", view); };
})(window.MoSLD);
