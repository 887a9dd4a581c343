// The room Watch: the sentence, the machine under it, three small pictures; a question's guess and outcome stand where the sentence does.
((M) => {
  M.asking = null; // { question, answer }: a question whose recorded run is shown; answer is null till guessed, -1 where skipped
  M.controls = null; // { mark, about, problem } of the settings beside the picture

  const menu = (name, label) => M.menu(M.make("select", { "aria-label": label }), name);
  // A small picture of an arm's mark.
  M.armMark = (arm) => {
    const svg = M.makeSvg("svg", { width: 18, height: 11, class: "lab-svg ink", "aria-hidden": "true" });
    M.makeSvg("rect", { x: 1, y: 1, width: 16, height: 9, stroke: "currentColor", fill: M.armFill(arm, "ink") }, svg);
    return svg;
  };
  M.armKey = () => {
    const place = M.make("span", { class: "lab-arms", role: "group", "aria-label": "Arms" });
    let drawn = "";
    const fill = () => {
      const key = M.header ? [M.header.arms, M.pick.arm].join("|") : "";
      if (key === drawn || !M.header) return;
      drawn = key;
      M.patterns();
      place.replaceChildren(...M.header.arms.map((name, i) => M.make("button", { type: "button", "aria-pressed": String(i === M.pick.arm), "data-help": M.terms.arm, on: { click: () => M.select({ arm: i }) } }, M.armMark(i), M.make("span", {}, name))));
    };
    M.on(fill);
    fill();
    return place;
  };
  // What the registered study says of a claim, in the report's words, and the way to its table, where there is one.
  M.claims = (list) => (list || []).map((c) => {
    const words = M.make("p", { class: "lab-claim", "data-claim": c.id }), text = M.make("span", {});
    M.words(text, c.text);
    words.append(text);
    if (M.rooms) words.append(" ", M.make("button", { type: "button", on: { click: () => M.toClaim(c.id) } }, "All claims"));
    return words;
  });
  M.under = (sized = true) => { // the line under the sentence: what is shown, by which marks
    const size = M.make("button", { type: "button", class: "lab-size", "aria-label": "Second bar: step or gradient", on: { click: () => { M.size = M.size === "step" ? "grad" : "step"; M.changed("choice"); paint(); } } });
    const paint = () => { size.textContent = M.size === "step" ? "bars: step" : "bars: gradient"; };
    paint();
    const where = M.make("span", { class: "lab-where" }), tell = () => { const info = M.header && M.frames.length && M.header.linears[M.pick.arm][M.linear()]; M.words(where, info ? `Layer ${info[0] + 1}, ${info[1]}` : ""); };
    M.on(tell);
    tell();
    return M.make("div", { class: "lab-under" }, where, menu("layer", "Layer"), menu("target", "Linear"), ...(sized ? [size] : []), M.armKey());
  };

  M.watch = (element) => {
    if (M.adopt && M.adopt(element)) return;
    const says = M.make("h2", { class: "lab-says" }), ask = M.make("div", { class: "lab-ask", hidden: true }), outcome = M.make("div", { class: "lab-outcome", role: "status", hidden: true }), differs = M.make("p", { class: "lab-differs", hidden: true });
    const place = M.make("div", { class: "lab-place" }), card = M.make("section", { class: "lab-card lab-machine", id: "figure-machine", "aria-label": "The machine" }, says, ask, outcome, differs, M.under(), place);
    element.replaceChildren(card, M.small());
    const stamp = () => { const f = M.shown() || {}; return [M.run, M.name, M.open(), f.probed, f.step, M.state, M.note, M.pick.arm, M.layer, M.target, M.size, M.playing, M.ring && M.ring.until > Date.now()].join(); };
    const picture = M.picture(place, "The machine", M.drawMachine, stamp);
    let spoken = 0;
    const paint = () => {
      const f = M.shown(), open = M.asking && M.asking.answer === null && M.replay;
      if (open) M.words(says, M.asking.question.title);
      else if (f) M.words(says, f.says[0]);
      else M.words(says, M.waiting());
      guess(open);
      const told = M.asking && M.replay && M.asking.answer !== null && M.told && M.told.name === M.asking.question.name ? M.told : null;
      outcome.hidden = !told;
      if (told && outcome.of !== told.name + M.asking.answer) {
        outcome.of = told.name + M.asking.answer;
        const first = M.make("p", {});
        M.words(first, (M.asking.answer < 0 ? "" : `You guessed: ${M.asking.question.answers[M.asking.answer]}. `) + `This run: ${M.asking.question.answers[told.answer]}${M.asking.answer === told.answer ? ", as you guessed" : ""}. ${told.sentence[0].toUpperCase()}${told.sentence.slice(1)}`);
        outcome.replaceChildren(first, ...M.claims(M.asking.question.claims));
      }
      const other = !M.wishes && M.header && M.controls && M.controls.mark && M.controls.mark !== M.header.mark;
      differs.hidden = !other;
      if (other) M.words(differs, `Not these settings: the picture is of another run. ${M.button("run")} takes ${M.controls.about}.`);
      const now = Date.now();
      if (now - spoken > (M.state === "running" || M.playing ? 8000 : 500)) { spoken = f ? now : 0; picture.say(M.sayMachine()); }
    };
    function guess(open) {
      ask.hidden = !open;
      if (!open || ask.of === M.asking.question.name) return;
      ask.of = M.asking.question.name;
      const answer = (i) => () => { M.asking.answer = i; ask.of = ""; M.changed("choice"); says.focus(); };
      ask.replaceChildren(M.make("span", {}, "Your guess first:"), ...M.asking.question.answers.map((text, i) => M.make("button", { type: "button", on: { click: answer(i) } }, text)), M.make("button", { type: "button", class: "lab-skip", on: { click: answer(-1) } }, "Skip"));
    }
    says.tabIndex = -1;
    let waiting = false;
    M.on(() => { if (!waiting) { waiting = true; requestAnimationFrame(() => { waiting = false; paint(); }); } });
    paint();
  };

  M.small = () => {
    const row = M.make("div", { class: "lab-row" });
    for (const [name, view] of Object.entries(M.smallViews)) row.appendChild(M.smallCard(name, view));
    return row;
  };
  M.smallCard = (name, view = M.smallViews[name]) => {
    const place = M.make("div", { class: "lab-place" }), card = M.make("section", { class: "lab-card lab-small", id: `figure-${name}` }, M.make("h3", {}, view.title), place);
    const stamp = () => [M.run, M.name, M.open(), view.stamp(M.shown() || {}), M.pick.arm, M.layer, M.target, M.each, M.ring && M.ring.until > Date.now(), JSON.stringify(M.guessMark)].join();
    const picture = M.picture(place, view.title, (pen, W) => view.draw(pen, W, W > 300 && window.innerHeight > 860 ? Math.min(230, window.innerHeight - 740) : 116), stamp, 330);
    let spoken = 0;
    M.on(() => { const now = Date.now(); if (now - spoken > 1500 && M.header && M.frames.length) { spoken = now; picture.say(`${view.title.replace(/[?]?$/, (end) => end || ".")} ${view.say()}`); } });
    return card;
  };

  // The questions to try. Choosing one plays its recorded run at once; the server fills the settings.
  M.questions = (element, list, trigger) => {
    const buttons = list.map((q) => M.make("button", { type: "button", class: "lab-question", "data-name": q.name, on: { click: () => choose(q) } }, M.make("b", {}, q.title), M.make("span", {}, q.about)));
    element.replaceChildren(M.make("h2", { class: "lab-panel-title" }, "Questions to try"), ...buttons);
    const paint = () => buttons.forEach((b) => b.setAttribute("aria-pressed", String(M.replay && M.name === b.dataset.name)));
    const choose = async (q) => {
      M.asking = { question: q, answer: null };
      M.recorded(q.name, true, true);
      if (M.wish) M.wish(() => trigger("choose", { name: q.name }));
      M.goto("watch", null, document.body.dataset.room === "watch");
    };
    M.on(paint);
    paint();
    // At first sight, without a run of one's own, the first question's recorded run plays; its settings are those beside it.
    if (!M.frames.length && !M.asked("c")) M.recorded(list[0].name);
    else if (!M.frames.length) M.recorded(list[0].name, false);
  };
  M.settings = (value) => { M.controls = value; M.changed("choice"); };
})(window.MoSLD);
