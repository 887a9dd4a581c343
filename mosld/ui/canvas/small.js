// The three small pictures under the machine: right answers, what the router reads, every router at once. All share the selection.
((M) => {
  // Whether a question waits for the reader's guess: what would tell its answer is not drawn till then.
  M.open = () => !!(M.asking && M.asking.answer === null && M.replay);
  const quiet = { "pointer-events": "none" };
  const average = (list, tasks) => M.mean(list.slice(0, tasks));
  // Mean accuracy, or that of one task, of an arm: validation points of the curve, and the test value apart (other questions).
  const curve = (arm, task) => M.curve(`right ${task}`, arm, (a) => a.scores && (task === null ? average(a.scores, M.header.tasks.length) : a.scores[task]));
  const split = (points) => {
    const last = M.frames[M.frames.length - 1], ended = last && last.event === "end" && points.length && points[points.length - 1][0] === last.step;
    return ended ? [points.slice(0, -1), points[points.length - 1][1]] : [points, null];
  };
  const names = () => [...M.header.tasks, ...M.header.held];
  M.markedLine = (pen, key, d, arm) => pen.path(key, d, { class: "ink", stroke: "currentColor", "stroke-width": arm % 6 > 3 ? 3 : 2, "stroke-dasharray": ["", "6 3", "2 3", "8 3 2 3", "", "6 3"][arm % 6] });

  function chart(pen, key, box, task, small) {
    const right = box.x + box.w - (small ? 14 : 70), X = (s) => box.x + (small ? 2 : 38) + (s / M.header.steps) * (right - box.x - (small ? 2 : 38)), now = M.shown().step;
    const chance = task === null ? average(M.header.chance, M.header.tasks.length) : M.header.chance[task];
    // Nothing that comes after the step shown: the reader may be guessing.
    const late = M.at === null, all = M.header.arms.map((_, arm) => split(curve(arm, task))).map(([p, t]) => [p.filter(([s]) => s <= now), late ? t : null]), values = all.flatMap(([p, t]) => [...p.map((x) => x[1]), ...(t === null ? [] : [t])]).concat(small || document.body.dataset.room !== "learn" ? [] : (M.beside || []).filter((b) => task === null || names()[task] === b.task).map((b) => b.value), small ? [] : guessedRange(all));
    const low = Math.max(0, Math.floor(Math.min(chance ?? 1, ...values) * 10 - 0.5) / 10), high = Math.min(1, Math.ceil(Math.max(chance ?? 0, ...values) * 10 + 0.2) / 10), span = Math.max(0.1, high - low);
    const Y = (v) => box.y + box.h - ((v - low) / span) * box.h;
    if (!small) for (const v of [low, high]) pen.text(`${key} y${v}`, box.x + 34, Y(v) + 4, M.number(v), { class: "soft num", "font-size": 10.5, "text-anchor": "end", ...quiet });
    if (chance !== null && chance !== undefined) {
      pen.line(`${key} c`, X(0), Y(chance), right, Y(chance), { class: "faint", stroke: "currentColor", "stroke-dasharray": "1 3", "stroke-width": 1.5 });
      if (!small) pen.text(`${key} ct`, right - 2, Y(chance) - 4, "guessing", { class: "soft", "font-size": 10.5, "text-anchor": "end", ...quiet });
    }
    pen.line(`${key} at`, X(now), box.y, X(now), box.y + box.h, { class: "faint", stroke: "currentColor" });
    const labels = [];
    all.forEach(([points, test], arm) => {
      M.markedLine(pen, `${key} l${arm}`, points.length ? "M" + points.map(([s, v]) => `${X(s).toFixed(1)} ${Y(v).toFixed(1)}`).join("L") : "M0 0", arm);
      const end = points[points.length - 1];
      if (end) M.armDot(pen, `${key} d${arm}`, X(end[0]), Y(end[1]), arm, small ? 2.5 : 4);
      if (test !== null) pen.put(`${key} t${arm}`, "path", { d: diamond(right + 10 + (small ? 0 : arm * 3), Y(test), small ? 3.5 : 5), fill: "none", stroke: "currentColor", "stroke-width": 1.6, class: "ink" });
      if (!small) labels.push([Y(test ?? (end ? end[1] : low)), test ?? (end && end[1]), arm]);
    });
    if (!small) {
      if (all.some(([, t]) => t !== null)) pen.text(`${key} tt`, right + 10, box.y - 3, "test", { class: "soft", "font-size": 10.5, "text-anchor": "middle", ...quiet });
      labels.sort((a, b) => a[0] - b[0]).reduce((y, [at, v, arm]) => { const to = Math.max(at, y + 13); M.armDot(pen, `${key} m${arm}`, box.x + box.w - 34, to, arm, 4); pen.text(`${key} v${arm}`, box.x + box.w, to + 4, M.number(v), { class: "ink num", "font-size": 12, "text-anchor": "end", "font-weight": arm === M.pick.arm ? 700 : 400, ...quiet }); return to; }, -99);
      if (document.body.dataset.room === "learn") guessed(pen, key, { right, X, Y, low, high, box, task, all });
    }
  }
  // Shares of right answers that the reader's guess speaks of, where it speaks of some.
  const guessedRange = (all) => {
    const g = document.body.dataset.room === "learn" && M.guessMark, start = all[0] && all[0][0].length ? all[0][0][0][1] : null;
    return g && g.cut && start !== null ? g.cut.map((c) => 1 - (1 - start) * (1 - c)).filter((v) => v <= 1) : [];
  };
  // In a lesson: results of other runs beside this one's, and the reader's guess.
  function guessed(pen, key, { right, X, Y, low, high, box, task, all }) {
    const inside = (v) => Math.max(low, Math.min(high, v)), words = { class: "accent", fill: "currentColor", "font-size": 12, "font-weight": 600 };
    (M.beside || []).filter((b) => task === null || names()[task] === b.task).forEach((b, i) => {
      pen.line(`${key} b${i}`, X(0), Y(inside(b.value)), right, Y(inside(b.value)), { class: "ink", stroke: "currentColor", "stroke-dasharray": "1 4", "stroke-width": 2 });
      pen.text(`${key} bt${i}`, X(0) + 6, Y(inside(b.value)) + 14 + i * 16, `${b.task} alone: ${M.percent(b.value)} (test)`, { class: "ink", "font-size": 12 });
    });
    const g = M.guessMark;
    if (!g) return;
    const start = all[0][0].length ? all[0][0][0][1] : null;
    if (g.cut && start !== null) {
      const of = (c) => inside(1 - (1 - start) * (1 - c)), [from, to] = g.cut.map(of);
      pen.rect(`${key} g`, right - 8, Y(Math.max(from, to)), 16, Math.max(3, Math.abs(Y(from) - Y(to))), { class: "accent", fill: "currentColor", opacity: 0.35 });
      pen.text(`${key} gt`, right - 14, Y((from + to) / 2) + 4, "your guess", { ...words, "text-anchor": "end" });
    }
    if (g.arm !== undefined) { const [points, test] = all[g.arm] || [[], null], end = test ?? (points.length ? points[points.length - 1][1] : null); if (end !== null) pen.text(`${key} gt`, right - 12, Math.max(box.y + 10, Y(end) - 10), `your guess: ${M.header.arms[g.arm]} highest`, { ...words, "text-anchor": "end" }); }
    if (g.beside !== undefined) pen.text(`${key} gt`, right - 12, box.y + box.h - 34, g.beside ? `your guess: ${g.beside > 0 ? "the other one ends above this" : "this ends above the other"}` : "your guess: as good as equal", { ...words, "text-anchor": "end" });
  }
  const diamond = (x, y, s) => `M${x} ${y - s}L${x + s} ${y}L${x} ${y + s}L${x - s} ${y}Z`;
  const told = (task) => () => {
    const name = task === null ? "mean over the tasks of the mixture" : names()[task];
    const asked = task !== null && (M.examples || {})[name];
    return [asked ? `${name}: ${asked}` : name, ...M.header.arms.map((arm, i) => { const s = M.scores(i), [, test] = split(curve(i, task)); const v = s && (task === null ? average(s, M.header.tasks.length) : s[task]); return `${arm}: ${M.percent(v)} at step ${M.shown().step}${test === null || M.at !== null ? "" : `; ${M.percent(test)} on the test questions`}`; }),
      "Line: validation questions. Hollow diamond: test questions, other ones, at the end."].join("\n");
  };

  // The largest and the smallest share in a probe, in words.
  const extremes = (probe) => {
    const all = probe.flatMap((p, l) => (p ? p.use.flatMap((row, t) => (row || []).map((v, e) => [v, l, t, e])) : [])).sort((a, b) => a[0] - b[0]);
    const told = ([v, l, t, e]) => { const [layer, target] = M.header.linears[M.pick.arm][l]; return `${M.percent(v)} of ${M.header.tasks[t]} to expert ${e + 1} of layer ${layer + 1}, ${target}`; };
    return all.length ? `From ${told(all[0])}, to ${told(all[all.length - 1])}.` : "";
  };
  M.smallViews = {
    answers: {
      title: "Right answers",
      stamp: (f) => [M.at === null, M.frames.length, f.step], // what its drawing depends on, beside run, question and selection
      say: () => told(M.pick.task)().replace(/\n/g, ". ") + " Enter shows each task.",
      draw(pen, W, H = 116) {
        const each = M.each, tasks = M.header ? names() : [];
        pen.begin(W, H);
        if (M.open()) pen.text("wait", 4, 40, "After your guess.", { class: "soft", "font-size": 12.5 });
        else if (M.header && M.frames.length) {
          if (each) {
            const columns = Math.min(tasks.length, Math.max(2, Math.floor(W / 96))), rows = Math.ceil(tasks.length / columns), w = W / columns, h = H / rows;
            tasks.forEach((name, t) => {
              const x = (t % columns) * w, y = Math.floor(t / columns) * h;
              pen.rect(`h${t}`, x, y, w - 3, h - 2, { class: `hit ${M.pick.task === t ? "chosen" : ""}`, rx: 4 }, { name, tip: told(t), act: () => { M.each = false; M.select({ task: t < M.header.tasks.length ? t : null }); } });
              pen.text(`n${t}`, x + 3, y + 12, M.fit(name, w - 34, 11, 500), { class: "ink", "font-size": 11, "font-weight": 500, ...quiet });
              const s = M.scores(M.pick.arm);
              pen.text(`p${t}`, x + w - 6, y + 12, s ? M.number(s[t]) : "", { class: "ink num", "font-size": 11, "text-anchor": "end", ...quiet });
              chart(pen, `c${t}`, { x: x + 2, y: y + 17, w: w - 6, h: h - 24 }, t, true);
            });
          } else {
            const task = M.pick.task !== null && M.pick.task < M.header.tasks.length ? M.pick.task : null;
            pen.rect("hit", 0, 0, W, H, { class: "hit" }, { name: "right answers; press for each task", tip: told(task), act: () => { if (task !== null) return M.select({ task: null }); M.each = true; M.changed("choice"); } });
            chart(pen, "m", { x: 2, y: 12, w: W - 4, h: H - 34 }, task, false);
            pen.text("foot", 40, H - 5, M.fit(task === null ? M.shown().says[2] : `${names()[task]}; press for the mean`, W - 34, 11), { class: "soft", "font-size": 11, ...quiet });
          }
        }
        pen.end();
        return H;
      },
    },
    reads: {
      title: "What does the router read?",
      stamp: () => (M.header && M.frames.length ? JSON.stringify(rows().map((r) => r.arms)) : ""),
      say: () => rows().map((r) => `${r.name}: ${r.arms.map((a) => `${M.header.arms[a.arm]} ${M.number(a.v)}${a.none === null ? "" : `, untrained ${M.number(a.none)}`}`).join("; ")}`).join(". ") || "No router has been read yet.",
      draw(pen, W, H = 116) {
        pen.begin(W, H);
        const list = M.header && M.frames.length && !M.open() ? rows() : [], left = 12 + Math.max(...READS.map(([name]) => M.measure(name))), arms = list.length ? list[0].arms : [], most = Math.max(0, ...arms.map((a) => a.most || 0));
        if (!arms.length) {
          const routed = M.header && M.header.drawn.some((d) => d.router);
          pen.text("none", 4, 40, !M.header ? "" : M.open() ? "After your guess." : routed ? "Measured at the next scoring." : `${M.header.methods[0]} has no router.`, { class: "soft", "font-size": 12.5 });
        } else {
          const pitch = (H - 35) / 3, X = (v) => left + Math.max(0, Math.min(1, v / most)) * (W - left - 46), h = Math.min(18, ((arms.length > 2 ? 4 : arms.length > 1 ? 7 : 13) * (H - 35)) / 81);
          pen.line("most", X(most), 4, X(most), 3 * pitch + 8, { class: "faint", stroke: "currentColor", "stroke-dasharray": "2 3" });
          pen.text("most t", X(most) + 4, 14, `of ${+most.toPrecision(2)} bit${+most.toPrecision(2) === 1 ? "" : "s"}`, { class: "soft num", "font-size": 10.5 });
          list.forEach((r, k) => {
            const y = 8 + k * pitch;
            pen.text(`n${k}`, 2, y + 12, r.name, { class: "ink", "font-size": 12, ...quiet });
            r.arms.forEach((a, i) => {
              M.markedBar(pen, `b${k} ${i}`, left, y + i * (h + 1), X(a.v) - left, h, a.arm, "ink");
              if (a.none !== null) pen.line(`u${k} ${i}`, X(a.none), y + i * (h + 1) - 2, X(a.none), y + i * (h + 1) + h + 2, { class: "accent", stroke: "currentColor", "stroke-width": 2.5 });
            });
            const own = r.arms.find((a) => a.arm === M.pick.arm) || r.arms[0], end = Math.max(X(own.v), own.none === null ? 0 : X(own.none));
            pen.text(`v${k}`, end + 6, y + 12, M.number(own.v), { class: "ink num halo", "font-size": 12, "font-weight": 600, ...quiet });
            pen.rect(`h${k}`, 0, y - 4, W, pitch, { class: "hit" }, { name: r.name, tip: () => `${r.meaning}\n${r.arms.map((a) => `${M.header.arms[a.arm]}: ${M.text(a.v, 3)} bits of at most ${M.text(a.most)}${a.none === null ? "" : `; the untrained router ${M.text(a.none, 3)}`}`).join("\n")}` });
          });
          if (arms.some((a) => a.none !== null)) { pen.line("key", 4, H - 14, 4, H - 4, { class: "accent", stroke: "currentColor", "stroke-width": 2.5 }); pen.text("key t", 10, H - 5, "untrained router", { class: "soft", "font-size": 11 }); }
          const g = document.body.dataset.room === "learn" && M.guessMark;
          if (g && g.bits) { pen.rect("guess", X(g.bits[0] * most), 8 + 2 * pitch - 3, Math.max(3, X(g.bits[1] * most) - X(g.bits[0] * most)), h * arms.length + 6, { class: "accent", fill: "currentColor", opacity: 0.3 }); pen.text("guess t", X(g.bits[1] * most) + 70, 8 + 2 * pitch + 12, "your guess", { class: "accent", fill: "currentColor", "font-size": 12, "font-weight": 600 }); }
          if (g && g.reads) pen.text("guess t", W - 4, 8 + (g.reads === "task" ? 2 : 0) * pitch + 12, "your guess", { class: "accent", fill: "currentColor", "font-size": 12, "font-weight": 600, "text-anchor": "end" });
          pen.text("bits", W - 2, H - 5, "bits told by", { class: "soft", "font-size": 11, "text-anchor": "end" });
        }
        pen.end();
        return H;
      },
    },
    routers: {
      title: "Every router at once",
      stamp: (f) => [M.header && M.frames.length > 0, f.probed],
      say: () => { const p = M.header && M.frames.length && M.shown().arms[M.pick.arm].probe; return p ? `Shares of each task's words by linear and expert, arm ${M.header.arms[M.pick.arm]}. ${extremes(p)}` : "No router has been probed yet."; },
      draw(pen, W, H = 116) {
        const arm = M.pick.arm, infos = M.header ? M.header.linears[arm] : [], f = M.header && M.shown(), probe = f && f.arms[arm].probe, E = Math.max(1, ...infos.map((x) => x[2]));
        pen.begin(W, H);
        if (!M.header || E < 2) pen.text("none", 4, 40, M.header ? `${M.header.methods[arm]} has no router.` : "", { class: "soft", "font-size": 12.5 });
        else {
          const T = M.header.tasks.length, left = 28, n = infos.length, span = (W - left) / T, cell = (span - 5) / E, high = Math.min(14, (H - 44) / n), dense = M.header.drawn[arm].top === 0, even = (dense ? 1 : M.header.drawn[arm].top) / E;
          const every = Math.max(1, Math.ceil(10 / high));
          infos.forEach(([layer, target, own], l) => {
            const y = 15 + (n - 1 - l) * high, p = probe && probe[l], on = l === M.linear(arm);
            if (on || (l % every === 0 && Math.abs(l - M.linear(arm)) >= every)) pen.text(`r${l}`, left - 4, y + high / 2 + 3.5, `${layer + 1} ${target}`, { class: on ? "ink" : "soft", "font-size": Math.min(10.5, high + 2), "text-anchor": "end", "font-weight": on ? 700 : 400, ...quiet });
            M.header.tasks.forEach((task, t) => {
              for (let e = 0; e < own; e++) {
                const row = p && p.use[t], v = row ? row[e] : null, shade = v === null ? null : (v - even) / even;
                const mine = on && M.pick.expert === e && (M.pick.task === null || M.pick.task === t), ring = M.ring && M.ring.until > Date.now() && M.ring.expert === e && on;
                pen.rect(`c${l} ${t} ${e}`, left + t * span + e * cell, y, cell - 0.7, high - 0.7, { fill: shade === null ? "var(--lab-grid)" : M.diverging(shade), class: mine || ring ? "chosen" : "" }, {
                  name: `${task}, layer ${layer + 1} ${target}, expert ${e + 1}: ${M.percent(v)}`, act: () => M.select({ layer, target, expert: e, task: t }),
                  tip: () => `${task} — layer ${layer + 1}, ${target}, expert ${e + 1} of ${own}\n${v === null ? "no word of this task in the batch" : `${M.percent(v)} ${dense ? "mean gate" : "of its words"}; even would be ${M.percent(even)}`}`,
                });
              }
            });
          });
          M.header.tasks.forEach((task, t) => {
            pen.text(`t${t}`, left + t * span, 10, M.fit(task, span - 5, 11), { class: "ink", "font-size": 11, ...quiet });
            const step = Math.max(1, Math.ceil(8 / cell));
            for (let e = 0; e < E; e += step) pen.text(`e${t} ${e}`, left + t * span + (e + 0.5) * cell, 15 + n * high + 10, e + 1, { class: "soft num", "font-size": 9.5, "text-anchor": "middle" });
          });
          pen.text("key", 2, H - 5, M.fit("pale: even · blue: more · orange: less", W - 4, 11), { class: "soft", "font-size": 11 });
        }
        pen.end();
        return H;
      },
    },
  };
  const READS = [["word", 0, "Bits that the chosen expert tells of which word it is."], ["place in text", 1, "Bits that the expert tells of where in the text the word stands."], ["task", 2, "Bits that the expert tells of which task the text is of."]];
  // Means over the linears that layer and target let through, of every arm with a router.
  function rows() {
    const routed = M.header.arms.map((_, arm) => arm).filter((arm) => M.header.drawn[arm].router);
    const own = (arm, k, name) => { const p = M.shown().arms[arm].probe; return p ? M.mean(M.linears(arm).map(([, i]) => p[i] && p[i][name] && p[i][name][k])) : null; };
    const there = routed.filter((arm) => own(arm, 0, "reads") !== null);
    return there.length ? READS.map(([name, k, meaning]) => ({ name, meaning, arms: there.map((arm) => ({ arm, v: own(arm, k, "reads"), none: own(arm, k, "none"), most: M.mean(M.linears(arm).map(([, i]) => M.shown().arms[arm].probe[i] && M.shown().arms[arm].probe[i].most)) })) })) : [];
  }
})(window.MoSLD);
