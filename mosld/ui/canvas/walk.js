// Slow motion: the stages of one adapted linear, drawn from what mosld/training/walk.py gives as `Walk.shown`, with data.hints [6].
// A vector is { values: its first numbers, norm }; each stage is a list of rows a token, or a matrix.
((M) => {
  const LINE = 27, HEAD = 24, SECONDS = 4;
  const narrow = (width) => width < 620;
  const pen = document.createElement("canvas").getContext("2d");
  const wide = (text) => { pen.font = M.font(12, 600); return pen.measureText(text).width + 12; };
  const stage = (d) => d.chosen.stage || 0;
  const colour = (g, e) => g.c.experts[e % 8];
  const number = (v, most) => {
    if (v === 0) return "0";
    const a = Math.abs(v), text = most < 0.001 ? v.toExponential(0) : v.toFixed(most < 0.095 ? 3 : most < 9.5 ? 2 : most < 95 ? 1 : 0);
    const bare = a < 1 && most >= 0.001 ? text.replace("0.", ".") : text;
    return /[1-9]/.test(bare) ? bare.replace("-", "−") : bare.replace("-", ""); // no sign on what rounds to 0
  };
  const largest = (vectors) => Math.max(1e-12, ...vectors.flatMap((v) => v.values.map(Math.abs)));

  // Rows of each token at the stages that show vectors: [{ label, expert, vector, of (dimensions), tell }]
  function rows(d, at) {
    const one = (list, label, of, tell) => d.tokens.map((_, i) => [{ label, vector: list[i], of, tell }]);
    const each = (list, of, tell, own) => list.map((experts) => (own ? experts : experts.slice(0, 1))
      .map((v) => ({ label: own ? "" : d.hidden.name, expert: own && d.gate ? v.expert : null, vector: v, of, tell: own && d.gate ? `${tell}, gate ${M.text(v.weight)}` : tell })));
    if (at === 0) return one(d.x, "x", d.d_in, "what comes into the linear");
    if (at === 3) return each(d.hidden.of, d.rank, d.hidden.name, d.hidden.own);
    if (at === 4) return each(d.experts, d.d_out, `${d.factors[1]} times ${d.hidden.name}`, true).map((list) => list.map((r) => ({ ...r, label: r.expert === null ? d.factors[1] : "" })));
    return d.tokens.map((_, i) => [
      { label: "W x + b", vector: d.base[i], of: d.d_out, tell: "the frozen linear" },
      { label: "+ update", vector: d.update[i], of: d.d_out, tell: `${M.text(d.scale)} times the sum of gate times expert` },
      { label: "= y", vector: d.y[i], of: d.d_out, tell: "what the module gives", strong: true },
    ]);
  }

  const lines = (widths, width) => { let count = 1, x = 0; widths.forEach((w) => { if (x && x + w > width) { count += 1; x = 0; } x += w; }); return count; };
  // Experts abreast at the gate stage, and the pixels of each.
  const fit = (d, width) => {
    const room = width - (narrow(width) ? 0 : 100), across = Math.max(1, Math.min(d.gate.experts.length, Math.floor(room / 112)));
    return [across, Math.min(210, Math.floor(room / across))];
  };

  function stageHeight(d, width, at) {
    const head = narrow(width) ? HEAD : 0;
    if (at === 1) return !d.gate ? 60 : d.tokens.length * (head + Math.ceil(d.gate.experts.length / fit(d, width)[0]) * 40 + 8) + 22;
    if (at === 2) return d.dropout.values.length * cellHeight(d) + 60 + 3 * LINE + 8;
    return rows(d, at).reduce((sum, r) => sum + head + r.length * LINE + 8, 0) + (at === 0 ? lines(d.sentence.map(wide), width) * 22 + 14 : 0) + 8;
  }
  // Where there is room, all stages are as high as the highest: what is below does not jump.
  const height = (d, width) => Math.max(...[0, 1, 2, 3, 4, 5].filter((at) => !narrow(width) || at === stage(d)).map((at) => stageHeight(d, width, at)));
  const cellHeight = (d) => (d.dropout.values.length > 8 ? 12 : 18);

  // One vector: its label or its expert's chip, its first numbers in cells, how many more there are, and its length.
  function strip(g, x, y, w, r, most, token) {
    const { ctx, c } = g, name = r.expert === null || r.expert === undefined ? r.label : "", left = x + (narrow(g.w) ? 66 : 76);
    if (name) M.label(g, name, x, y + 11, { size: 12, weight: r.strong ? 650 : 500, max: left - x - 4 });
    else if (r.expert !== null && r.expert !== undefined) {
      ctx.fillStyle = colour(g, r.expert);
      ctx.beginPath();
      ctx.roundRect(x, y + 2, 18, 18, 4);
      ctx.fill();
      M.label(g, r.expert + 1, x + 9, y + 11.5, { size: 11.5, weight: 700, align: "center", colour: c.card });
      if (r.vector.weight !== undefined) M.label(g, "g " + number(r.vector.weight, 1), x + 22, y + 11, { size: 11, colour: c.soft });
    }
    const small = narrow(g.w), tail = small ? 40 : 170, values = r.vector.values.slice(0, small ? 6 : 8), cell = Math.min(80, (x + w - left - tail) / values.length);
    values.forEach((v, i) => {
      ctx.fillStyle = M.diverging((0.5 * v) / most);
      ctx.fillRect(left + i * cell, y, cell - 1, 22);
      if (cell >= 25) M.label(g, number(v, most), left + (i + 0.5) * cell - 0.5, y + 11.5, { size: cell < 42 ? 10 : 11.5, align: "center", weight: r.strong ? 600 : 400 });
      g.hit(left + i * cell, y, cell, 22, () => `“${token}”${r.expert >= 0 && r.expert !== null ? `, expert ${r.expert + 1}` : ""} — number ${i + 1} of ${r.of}: ${v}\n${r.tell}`);
    });
    const more = r.of - values.length, length = number(r.vector.norm, r.vector.norm);
    if (small) M.label(g, length, x + w, y + 11.5, { size: 11, align: "right", colour: c.soft, weight: 600 });
    else M.label(g, `${more > 0 ? `… ${more} more, ` : ""}length ${length}`, left + values.length * cell + 8, y + 11.5, { size: 11.5, colour: c.soft });
    if (small) g.hit(x + w - tail, y, tail, 22, () => `length (root of the sum of squares) of all ${r.of} numbers: ${r.vector.norm}`);
  }

  function blocks(g, d, at, y) {
    const list = rows(d, at), most = largest(list.flat().map((r) => r.vector)), small = narrow(g.w);
    list.forEach((own, i) => {
      word(g, d, i, y);
      const top = y + (small ? HEAD : 0), left = small ? 0 : 100;
      if (!own.length) M.label(g, "no expert took this token", left, top + 11, { size: 12, colour: g.c.soft });
      own.forEach((r, k) => strip(g, left, top + k * LINE, g.w - left, r, at === 5 ? largest([r.vector, d.base[i]]) : most, d.tokens[i].text));
      y = top + own.length * LINE + 8;
    });
  }
  function word(g, d, i, y) { M.label(g, d.tokens[i].text, 0, y + 11, { size: 13, weight: 650, max: narrow(g.w) ? g.w : 92 }); }

  function sentence(g, d) {
    const { ctx, c } = g, shown = new Set(d.tokens.map((t) => t.place));
    let x = 0, y = 0;
    d.sentence.forEach((t, i) => {
      const w = wide(t);
      if (x && x + w > g.w) { x = 0; y += 22; }
      if (shown.has(i)) { ctx.fillStyle = c.arms[0]; ctx.beginPath(); ctx.roundRect(x, y, w - 3, 19, 4); ctx.fill(); }
      M.label(g, t, x + (w - 3) / 2, y + 10, { size: 12, align: "center", colour: shown.has(i) ? c.card : c.soft, weight: shown.has(i) ? 600 : 400, max: w - 4 });
      x += w;
    });
    return y + 34;
  }

  function gates(g, d) {
    const { ctx, c } = g, small = narrow(g.w), left = small ? 0 : 100;
    if (!d.gate) { M.label(g, "one expert, weight 1", 0, 20, { size: 14, weight: 600 }); return; }
    const [across, span] = fit(d, g.w);
    let y = 0;
    d.tokens.forEach((t, i) => {
      word(g, d, i, y + (small ? 0 : 4));
      const top = y + (small ? HEAD : 0);
      d.gate.experts.forEach((e, k) => {
        const x = left + (k % across) * span, cy = top + Math.floor(k / across) * 40, p = d.gate.probabilities[i][k], v = d.gate.weights[i][k], room = span - 34;
        ctx.fillStyle = colour(g, e);
        ctx.beginPath();
        ctx.roundRect(x, cy + 3, 18, 18, 4);
        ctx.fill();
        M.label(g, e + 1, x + 9, cy + 12.5, { size: 11.5, weight: 700, align: "center", colour: c.card });
        Object.assign(ctx, { strokeStyle: c.faint, lineWidth: 1 });
        ctx.strokeRect(x + 23.5, cy + 3.5, Math.max(1, room * Math.min(1, p) - 1), 6);
        ctx.fillStyle = c.grid;
        ctx.fillRect(x + 23, cy + 13, room, 8);
        ctx.fillStyle = colour(g, e);
        ctx.fillRect(x + 23, cy + 13, room * Math.min(1, Math.abs(v)), 8);
        M.label(g, `${number(p, 1)} → ${number(v, 1)}`, x + 23, cy + 30, { size: 11, colour: v ? c.ink : c.soft, weight: v ? 600 : 400 });
        g.hit(x, cy, span - 6, 38, () => `“${t.text}”, expert ${e + 1} of ${d.gate.of}\nrouter probability ${p}\ngate ${v}${v ? "" : ": not chosen"}`);
      });
      y = top + Math.ceil(d.gate.experts.length / across) * 40 + 8;
    });
    M.label(g, "hollow: router probability · solid: gate", 0, y + 8, { size: 11.5, colour: c.soft });
  }

  function mask(g, d) {
    const { ctx, c } = g, { values, mask: draw, on, shape, dropped, entries, rate } = d.dropout, high = cellHeight(d);
    const columns = Math.min(values[0].length, Math.floor(g.w / 5)), span = Math.min(26, g.w / columns), most = largest(values.map((v) => ({ values: v })));
    const name = on === "activations" ? "x of the words shown" : on;
    M.label(g, `${name}: ${values.length < shape[0] ? `${values.length} of ` : ""}${shape[0]} rows, ${columns < shape[1] ? `${columns} of ` : ""}${shape[1]} columns`, 0, 9, { size: 12.5, weight: 600, max: g.w });
    values.forEach((row, i) => row.slice(0, columns).forEach((v, j) => {
      const x = j * span, y = 24 + i * high, gone = draw && draw[i][j] === 0, w = Math.max(1, span - 1);
      ctx.fillStyle = gone ? c.card : M.diverging((0.9 * v) / most);
      ctx.fillRect(x, y, w, high - 1);
      if (gone) { // a cross, so that it is not taken for a small number
        Object.assign(ctx, { strokeStyle: c.ink, lineWidth: 1 });
        ctx.setLineDash([]);
        ctx.beginPath();
        ctx.moveTo(x + 0.5, y + 2); ctx.lineTo(x + w - 0.5, y + high - 3);
        ctx.moveTo(x + w - 0.5, y + 2); ctx.lineTo(x + 0.5, y + high - 3);
        ctx.stroke();
      }
      g.hit(x, y, span, high, () => `row ${i + 1}, column ${j + 1}: ${v}${draw ? (gone ? "\ndropped: 0 in this step" : `\nkept: ${M.text(v * draw[i][j], 3)} after dividing by ${M.text(1 - rate)}`) : "\nnothing is dropped"}`);
    }));
    let y = 24 + values.length * high + 14;
    const text = draw ? `× dropped: ${dropped.toLocaleString("en")} of ${entries.toLocaleString("en")} (${((100 * dropped) / entries).toFixed(1)} %); p is ${M.text(rate)}` : "nothing is dropped";
    M.label(g, text, 0, y, { size: 12.5, max: g.w });
    y += 18;
    const first = values[0].slice(0, 8), kept = draw ? draw[0].slice(0, 8) : first.map(() => 1), of = shape[1];
    const strips = [[on === "activations" ? "x" : on, first], ["× mask", kept], ["= product", first.map((v, i) => v * kept[i])]];
    strips.forEach(([label, list], k) => strip(g, 0, y + k * LINE, g.w, { label, of, tell: "its first numbers; the length is theirs", vector: { values: list.map((v) => +v.toPrecision(4)), norm: Math.hypot(...list) }, strong: k === 2 }, k === 1 ? 2 : most, "first row"));
  }

  M.view("walk", {
    asks: "#slow-take",
    picks: true,
    empty: () => `A batch walks through a run of your own: press ${M.button("run")}.`,
    height,
    draw(g, d) {
      const at = stage(d);
      if (at === 1) gates(g, d);
      else if (at === 2) mask(g, d);
      else blocks(g, d, at, at === 0 ? sentence(g, d) : 0);
    },
    say(d) {
      const at = stage(d);
      if (at === 1 || at === 2) return d.hints[at];
      const list = rows(d, at).map((own, i) => `${d.tokens[i].text}: ${own.map((r) => `${r.expert === null || r.expert === undefined ? r.label : `expert ${r.expert + 1}`} of length ${M.text(r.vector.norm)}`).join(", ")}`);
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
