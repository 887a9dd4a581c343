// The machine: one adapted linear drawn as what it is, with the run's numbers at the step shown. This file says what is drawn (model) and
// where (plan); machine_parts.js draws the boxes, machine_flow.js words, flows and the scale of A against B.
((M) => {
  const HOLD = 2600; // milliseconds that a sentence stays while frames stream: each probe has another one
  const held = { run: -1, at: 0, probe: null };

  const real = (list) => (list || []).filter((v) => v !== null);
  // The probe of a linear of an arm at the frame shown.
  M.probeOf = (arm) => { const f = M.shown(), p = f && f.arms[arm].probe; return p ? p[M.linear(arm)] : null; };

  // Arms that one drawing can hold: as many experts, the same boxes.
  function shape(arm) {
    const d = M.header.drawn[arm], info = M.header.linears[arm][M.linear(arm)], p = M.probeOf(arm), E = info ? info[2] : 1;
    const first = p ? null : M.frames.find((f) => f.arms[arm].probe), seen = first ? first.arms[arm].probe[M.linear(arm)] : p; // a run that has begun is drawn as it goes on
    const single = (name) => (seen ? real(seen[name]).length === 1 : d.shared === name), [A, B] = [E > 1 && single("A"), E > 1 && single("B")];
    return { arm, d, info, p, E, sharedA: A, sharedB: B, key: [E, d.router, d.down, d.middle, A, B].join() };
  }
  function groups() {
    const out = [];
    M.header.arms.forEach((_, arm) => {
      const s = shape(arm), mine = out.find((g) => g[0].key === s.key);
      if (mine) mine.push(s); else out.push([s]);
    });
    out.sort((a, b) => b.some((s) => s.arm === M.pick.arm) - a.some((s) => s.arm === M.pick.arm));
    return out.slice(0, 2).sort((a, b) => a[0].arm - b[0].arm);
  }

  // Everything that the drawing needs, of the store at the frame shown.
  M.machine = () => {
    if (!M.header || !M.frames.length) return null;
    const all = groups(), main = all.find((g) => g.some((s) => s.arm === M.pick.arm)) || all[0];
    const own = main.find((s) => s.arm === M.pick.arm) || main[0], now = Date.now();
    const teller = own.E > 1 ? own : all.map((g) => g[0]).find((s) => s.E > 1) || own, p = teller.p; // whose router colours the words
    const streams = M.playing || (M.state === "running" && M.at === null), key = [M.run, M.name, teller.arm, M.linear(teller.arm)].join();
    if (!p || !streams || held.run !== key || now - held.at > HOLD || !held.probe) Object.assign(held, { run: key, at: now, probe: p });
    const spoken = held.probe && held.probe.words.length ? held.probe : null;
    const words = spoken ? spoken.sentence[0] : [], count = words.length;
    const word = M.pick.word !== null && M.pick.word < count ? M.pick.word : count ? Math.min(count - 1, Math.floor(count / 2)) : null;
    const gates = (E) => { const out = Array(E).fill(0); if (word !== null) for (const [e, g] of spoken.words[word]) if (e < E) out[e] = g; return word === null ? null : out; };
    return {
      groups: all.map((arms) => {
        const first = arms.find((s) => s.arm === M.pick.arm) || arms[0];
        return { arms, first, E: first.E, d: first.d, gates: first.arm === teller.arm ? gates(first.E) : other(first, word, spoken), share: share(first) };
      }),
      own, words, word, spoken, task: spoken ? spoken.sentence[1] : null,
      first: spoken ? spoken.words.map((w) => (w.length ? w[0][0] : null)) : [],
      flickers: M.state === "running" || M.playing,
    };
  };
  // The gates of the same word in another machine, where its probe is of the same sentence.
  const other = (s, word, spoken) => {
    if (word === null || !s.p || s.p.sentence !== spoken.sentence || !s.p.words[word]) return null;
    const out = Array(s.E).fill(0);
    for (const [e, g] of s.p.words[word]) if (e < s.E) out[e] = g;
    return out;
  };
  // Shares of all words, that sum to 1.
  const share = (s) => {
    const list = s.p ? real(s.p.share) : [], sum = list.reduce((a, b) => a + b, 0);
    return list.length === s.E && sum ? list.map((v) => v / sum) : null;
  };

  // Where everything stands. Wide: from left to right; narrow: stages below one another.
  M.machinePlan = (model, width) => (width < 780 ? narrow(model, width) : wide(model, width));
  function wide(model, W) {
    const high = 318, rows = wordRows(model, 138), n = model.groups.length, nodeY = Math.min(246, Math.max(168, rows * Math.min(25, 208 / rows) + 26)), scale = { x: W - 194, y: 6, w: 190 }, start = 152, end = scale.x - 52, span = (end - start) / n;
    return {
      wide: true, width: W, height: high, words: { x: 2, y: 2, w: start - 14, h: 208 }, scale,
      machines: model.groups.map((g, i) => {
        const x0 = start + i * span, tight = n > 1, w1 = Math.min(150, Math.max(92, span * 0.28)), w2 = Math.min(176, Math.max(106, span * 0.31));
        const c1 = x0 + (tight ? 38 : 54), own = !g.first.sharedA && g.E > 1, top = tight ? 22 : 6;
        const sum = { x: x0 + span - 24, y: 156, r: 14 }, last = g.first.sharedB ? 86 : 0, c2 = sum.x - (tight ? 30 : 42) - w2 - (last ? last + 30 : 0);
        const pitch = Math.min(72, (high - top) / g.E), boxes = Array.from({ length: g.E }, (_, e) => ({ x: c2, y: top + e * pitch + (high - top - g.E * pitch) / 2, w: w2, h: Math.max(3, pitch - (pitch > 30 ? 12 : 3)) }));
        const at = { x0, node: { x: i ? x0 : 92, y: nodeY }, W: { x: c1, y: top, w: w1, h: 46 }, router: g.d.router ? { x: c1, y: top + 66, w: w1, h: 90 } : null, A: own ? null : { x: c1, y: high - 128, w: w1, h: 122 }, boxes, sum, out: { x: sum.x + 38, y: sum.y } };
        if (g.d.middle && g.d.middle[1] === "task") at.tasks = M.header.tasks.map((_, t) => { const h = Math.min(34, 240 / M.header.tasks.length); return { x: (c1 + w1 + c2) / 2 - 34, y: 40 + t * h, w: 68, h: h - 5 }; });
        if (g.first.sharedB) at.B = { x: sum.x - 42 - last, y: 110, w: last, h: 92 };
        if (tight) at.title = { x: c1, y: 12, w: span - 40 };
        return at;
      }),
    };
  }
  function narrow(model, W) {
    let y = 0;
    const rows = wordRows(model, W - 4), left = 34, w = W - left - 34;
    const words = { x: 2, y: 2, w: W - 4, h: rows * 27 };
    y = words.h + 42;
    const machines = model.groups.map((g, i) => {
      const own = !g.first.sharedA && g.E > 1, at = { node: { x: 16, y: y - 22 }, down: true };
      if (model.groups.length > 1) { at.title = { x: left, y: y + 10, w }; y += 22; }
      at.W = { x: left, y, w, h: 34 };
      y += 46;
      at.router = g.d.router ? { x: left, y, w, h: 84 } : null;
      if (at.router) y += 98;
      at.A = own ? null : { x: left, y, w, h: 112 };
      if (at.A) y += 128;
      if (g.d.middle && g.d.middle[1] === "task") { at.tasks = M.header.tasks.map((_, t) => ({ x: left, y: y + t * 24, w, h: 20 })); y += M.header.tasks.length * 24 + 12; }
      const h = g.E > 8 ? 16 : g.E > 4 ? 34 : 58;
      at.boxes = Array.from({ length: g.E }, (_, e) => ({ x: left, y: y + e * (h + 6), w, h }));
      y += g.E * (h + 6) + 6;
      if (g.first.sharedB) { at.B = { x: left, y, w, h: 72 }; y += 84; }
      at.sum = { x: W / 2, y: y + 18, r: 14 };
      at.out = { x: W / 2 - 44, y: y + 18 };
      y += 56;
      return at;
    });
    const scale = { x: 8, y, w: W - 16 };
    return { wide: false, width: W, height: y + M.scaleHeight(scale.w), words, machines, scale };
  }
  // Chips of a sentence in rows: [x, y, width] each, rows 27 high.
  M.chips = (words, W) => {
    let x = 0, y = 0;
    return words.map((word) => {
      const w = Math.min(W, M.measure(word, 12.5, 500) + 13);
      if (x && x + w > W) { x = 0; y += 1; }
      const chip = [x, y, w];
      x += w + 4;
      return chip;
    });
  };
  const wordRows = (model, W) => { const c = M.chips(model.words, W); return c.length ? c[c.length - 1][1] + 1 : 1; };
})(window.MoSLD);
