// The room Learn: a lesson's text and question, its picture beside it with the guess marked, the answer, and one thing to try.
((M) => {
  M.learn = (element, lessons, events, trigger, props, watch) => {
    const [BEGIN, TRY] = events, guesses = new Map(), found = new Map(), notes = new Map();
    let at = 1;
    const card = M.make("section", { class: "lab-card lab-lesson", "aria-labelledby": "lesson-title" }), side = M.make("div", { class: "lab-beside" });
    element.replaceChildren(card, side);
    const lesson = () => lessons[at - 1], mine = () => M.name === `lesson-${at}` || (M.header && !M.replay && M.header.mark === lesson().mark);

    const known = () => { const n = M.asked("lesson"); return /^\d$/.test(n || "") && lessons[n - 1] ? +n : 0; }; // the lesson of the address, if it is there
    let before = "dropout"; // the question whose run was shown before the lesson's: shown again where one leaves without having guessed
    const turn = (to, quiet) => {
      if (M.replay && M.name && !M.name.startsWith("lesson-")) before = M.name;
      at = Math.max(1, Math.min(lessons.length, to));
      if (!quiet) M.address({ lesson: at, room: "learn" });
      show();
      const done = () => M.changed("choice");
      const n = at, here = () => at === n && document.body.dataset.room === "learn"; // who has left meanwhile keeps what is shown there
      if (here() || quiet) M.fetchRun(`lesson-${n}`).catch(() => {}).then(() => here() && M.recorded(`lesson-${n}`, false, M.replay || M.name !== "", quiet)).then(() => {
        if (mine() && !found.has(at)) M.seek(0); // the end would tell the answer
        const task = M.header && mine() ? M.header.tasks.indexOf(lesson().beside) : -1;
        if (mine()) M.select({ task: task < 0 ? null : task });
        done();
      });
    };
    const guess = (i) => { guesses.set(at, i); show(); mark(); };
    const play = async () => {
      if (!guesses.has(at)) return note("Choose an answer first: a prediction is worth most before the run.", "ask");
      const n = at, run = await M.recorded(`lesson-${at}`, true, true);
      if (!run || !run.told) return;
      found.set(n, { ...run.told, recorded: true });
      const wait = setInterval(() => { if (!M.playing) { clearInterval(wait); show(); mark(); } }, 200);
    };
    const note = (text, kind = "") => { notes.set(at, [text, kind]); show(); };

    function show() {
      const l = lesson(), chosen = guesses.get(at), answer = M.playing ? null : found.get(at), [text, kind] = notes.get(at) || ["", ""];
      const steps = lessons.map((other, i) => M.make("li", {}, M.make("button", { type: "button", title: other.title, "aria-label": `Lesson ${i + 1}: ${other.title}`, "aria-current": i + 1 === at ? "step" : null, class: found.has(i + 1) ? "done" : "", on: { click: () => turn(i + 1) } }, String(i + 1))));
      const say = (tag, cls, words) => { const el = M.make(tag, cls ? { class: cls } : {}); M.words(el, words); return el; };
      const parts = [M.make("ol", { class: "lab-steps" }, ...steps), M.make("h2", { id: "lesson-title" }, `${at}. ${l.title}`), ...l.text.map((p) => say("p", "", p)), M.make("p", { class: "lab-lesson-run" }, l.run), M.make("p", { class: "lab-lesson-ask", id: "lesson-ask" }, l.question)];
      parts.push(M.make("div", { class: "lab-guesses", role: "group", "aria-labelledby": "lesson-ask" }, ...l.answers.map((words, i) => M.make("button", { type: "button", "aria-pressed": String(chosen === i), class: answer && answer.answer === i ? "right" : "", on: { click: () => guess(i) } }, words))));
      parts.push(M.make("div", { class: "lab-act" },
        M.make("button", { type: "button", class: "lab-go", id: "lesson-play", on: { click: play } }, "Show the recorded run"),
        M.make("button", { type: "button", id: "lesson-run", on: { click: () => { M.shelved = false; M.asking = null; trigger(BEGIN, { lesson: at, guess: guesses.get(at) ?? null }); } } }, found.get(at) && !found.get(at).recorded ? "Run it again, another seed" : "Run it yourself")));
      if (text) parts.push(M.make("p", { class: "lab-told", role: "status", "data-kind": kind }, text));
      if (answer) {
        const of = M.make("div", { class: "lab-answer", role: "status", id: "lesson-answer" });
        const same = chosen === answer.answer;
        of.append(say("p", "", `${chosen === undefined ? "" : `You predicted: ${l.answers[chosen]}. `}${answer.recorded ? "The recorded run shows" : "Your run shows"}: ${l.answers[answer.answer]}${same ? ", as you predicted" : ""}.`), say("p", "", answer.sentence));
        if (answer.tally) of.append(M.make("p", { class: "soft" }, answer.tally));
        of.append(...M.claims(l.claims));
        parts.push(of);
        const select = M.make("select", { "aria-label": l.tries.label, id: "lesson-value" }, ...l.tries.values.map((v) => new Option(v, v)));
        parts.push(M.make("div", { class: "lab-try" }, M.make("b", {}, "Now try: "), M.make("label", {}, `${l.tries.label} `, select), M.make("button", { type: "button", id: "lesson-try", on: { click: () => { M.shelved = false; trigger(TRY, { lesson: at, value: select.value }); } } }, "Run with it")));
      }
      parts.push(M.make("div", { class: "lab-turn" }, M.make("button", { type: "button", id: "lesson-back", disabled: at === 1, on: { click: () => turn(at - 1) } }, "Back"), M.make("button", { type: "button", id: "lesson-next", disabled: at === lessons.length, on: { click: () => turn(at + 1) } }, "Next")));
      const focused = document.activeElement && card.contains(document.activeElement) ? document.activeElement.id || document.activeElement.textContent : null;
      card.replaceChildren(...parts);
      if (focused) { const again = [...card.querySelectorAll("button, select")].find((e) => e.id === focused || e.textContent === focused); if (again) again.focus({ preventScroll: true }); }
      picture();
    }
    // The guess as the pictures read it; what was found before stands beside.
    function mark() {
      const g = guesses.get(at), answer = found.get(at);
      M.guessMark = document.body.dataset.room === "learn" && g !== undefined ? lesson().marks[g] : null;
      M.beside = document.body.dataset.room === "learn" && mine() ? (answer && answer.beside) || M.besideOf || null : null;
      M.changed("choice");
    }
    let drawn = "";
    function picture() {
      const l = lesson();
      if (drawn !== l.seen + at) {
        drawn = l.seen + at;
        const head = M.make("p", { class: "lab-which" }), place = M.make("div", { class: "lab-place" });
        side.replaceChildren(M.make("section", { class: "lab-card", id: "figure-lesson" }, head, ...(l.seen === "scale" ? [] : [M.make("h3", {}, M.smallViews[l.seen].title)]), place, l.seen === "answers" ? M.make("div", { class: "lab-under" }, M.armKey()) : M.under(l.seen === "scale")), ...(l.seen === "answers" ? [] : [M.smallCard("answers")]));
        const draw = l.seen === "scale" ? drawScale : (pen, W) => M.smallViews[l.seen].draw(pen, W, 250);
        const seen = M.picture(place, l.title, draw, () => { const f = M.shown() || {}; return [M.run, M.name, M.at === null, M.frames.length, f.step, f.probed, M.pick.arm, M.layer, M.target, M.each, JSON.stringify(M.guessMark), JSON.stringify(M.beside)].join(); });
        side.of = head;
        side.say = () => { const f = M.shown(); seen.say(!f ? l.title : l.seen === "scale" ? `Who is updated more? ${f.says[1]}` : `${M.smallViews[l.seen].title}: ${M.smallViews[l.seen].say()}`); };
      }
      which();
    }
    function which() {
      if (side.say) side.say();
      if (side.of) side.of.textContent = mine() ? (M.replay ? "A recorded run of this lesson" : "Your run of this lesson") : M.header ? (M.replay ? "This lesson's run is being fetched …" : "Another run: press a button to see this lesson's") : M.waiting();
    }
    const drawScale = (pen, W) => {
      pen.begin(W, 290);
      if (M.header && M.frames.length) {
        M.patterns();
        M.scale(pen, { x: 8, y: 4, w: W - 16 });
        if (M.guessMark && "side" in M.guessMark) pen.text("guess", W / 2 + M.guessMark.side * W * 0.3, 258, M.guessMark.side ? `your guess: ${M.guessMark.side > 0 ? "A →" : "← B"}` : "your guess: even", { class: "accent", fill: "currentColor", "font-size": 13, "font-weight": 600, "text-anchor": "middle" });
      }
      pen.end();
      return 290;
    };
    watch("value", () => {
      const v = props.value;
      if (!v || typeof v.lesson !== "number") return;
      if (v.answer !== undefined) { found.set(v.lesson, v); notes.delete(v.lesson); } else if (v.note) notes.set(v.lesson, [v.note, v.kind || ""]);
      show();
      mark();
    });
    M.on((what) => { if (what === "run" || what === "frames" || what === "room") which(); if (what === "room") { const n = known(); if (document.body.dataset.room === "learn" && n && n !== at) turn(n, true); else if (document.body.dataset.room === "learn" && !mine()) turn(at, true); else mark(); if (document.body.dataset.room !== "learn" && M.replay && mine() && !found.has(at)) M.recorded(before, false, true, true); } });
    const asked = M.asked("lesson");
    if (asked !== null && !known()) { Object.assign(M, { note: `lesson: '${asked.slice(0, 20)}' is not there; give a number from 1 to ${lessons.length}.`, kind: "error" }); M.changed("frames"); }
    show();
    turn(known() || 1, true);
  };
})(window.MoSLD);
