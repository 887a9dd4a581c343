// The bar: buttons as the run's state has them, a slider over the planned steps that moves every picture, moments as chips, replay, the state.
((M) => {
  M.playing = false;
  M.timeline = (element, trigger, buttons = []) => {
    const $ = (name) => element.querySelector(name), slider = $("input"), play = $(".lab-play"), live = $(".lab-live"), step = $(".lab-step"), note = $(".lab-note"), marks = $(".lab-marks"), chips = $(".lab-chips"), aloud = $(".lab-aloud");
    let timer = null, said = "";
    const goes = M.playing; // in the bar that this one takes the place of
    if (M.stop) M.stop();
    M.bar = element;
    const press = (name) => { if (trigger) { stop(); M.shelved = false; M.asking = null; M.wish(() => trigger(name)); } };
    for (const name of buttons) { const b = $("#" + name); if (b) b.addEventListener("click", () => press(name)); }

    const stop = () => { clearInterval(timer); timer = null; M.playing = false; paint(); };
    M.stop = stop;
    M.play = () => {
      const length = M.frames.length;
      if (length < 2) return;
      clearInterval(timer);
      if (M.at === null) M.at = 0;
      const stride = Math.max(1, Math.round(length / 96));
      M.playing = true;
      timer = setInterval(() => {
        const at = (M.at === null ? M.frames.length : M.at) + stride;
        if (at >= M.frames.length - 1) { stop(); return M.seek(null); }
        M.seek(at);
      }, 125);
      paint();
    };
    play.addEventListener("click", () => (timer ? stop() : M.play()));
    live.addEventListener("click", () => { stop(); M.seek(null); });
    slider.addEventListener("input", () => { if (timer) stop(); const i = M.frameAt(+slider.value); M.seek(i); });

    // Keys that move the slider move from frame to frame.
    slider.addEventListener("keydown", (e) => {
      const to = { ArrowLeft: -1, ArrowRight: 1, ArrowDown: -1, ArrowUp: 1 }[e.key];
      if (to) { e.preventDefault(); stop(); M.seek(Math.max(0, M.index() + to)); }
      if (e.key === "Home") { e.preventDefault(); M.seek(0); }
      if (e.key === "End") { e.preventDefault(); M.seek(null); }
    });

    function paint() {
      const f = M.shown(), last = M.frames.length - 1, ready = last > 0, steps = M.header ? M.header.steps : 1, busy = M.busy();
      slider.max = steps;
      slider.value = f ? f.step : 0;
      slider.disabled = play.disabled = !ready;
      M.write(step, f ? `step ${f.step} / ${steps}` : "no run yet");
      slider.setAttribute("aria-valuetext", f ? `Step ${f.step} of ${steps}` : "No run yet");
      M.write(play, timer ? "Stop" : "Replay");
      live.hidden = M.at === null || timer !== null;
      const set = (name, on, words) => { const b = buttons.includes(name) && $("#" + name); if (b) { if (b.disabled === on) b.disabled = !on; if (words) M.write(b, words); } };
      set("pause", busy || M.state === "paused", $("#pause") && $("#pause").dataset[M.state === "paused" ? "resume" : "pause"]);
      set("step1", !busy);
      set("step10", !busy);
      set("reset", M.state !== "idle");
      const words = sentence();
      M.write(note, words);
      note.dataset.kind = M.kind;
      const spoken = M.kind === "error" || M.state !== "running" ? words : "Training.";
      if (spoken !== said) { said = spoken; aloud.textContent = spoken; }
    }
    function sentence() {
      const last = M.frames[M.frames.length - 1];
      if (M.slow && M.slow()) return "Asking the lab …";
      if (M.note) return M.note;
      if (M.state === "running" && last) {
        const first = M.frames[0], rate = (last.step - first.step) / Math.max(0.1, last.seconds - first.seconds);
        return rate < 1.5 ? "Training." : `Training: ${rate.toFixed(0)} steps a second.`;
      }
      return "";
    }
    // Ticks of changes on the track; moments as chips under it. A click goes there and rings the boxes.
    let drawn = [], changes = [], seen = 0;
    function events() {
      if (!M.header) return;
      for (; seen < M.frames.length; seen++) if (["change", "stopped", "diverged"].includes(M.frames[seen].event)) changes.push(M.frames[seen]);
      const now = [M.open(), M.moments, M.header, M.name, changes.length];
      if (now.every((v, i) => v === drawn[i])) return;
      drawn = now;
      const steps = M.header.steps;
      marks.replaceChildren(...[...changes.map((f) => [f.step, "change", `Step ${f.step}: ${f.note || f.event}`]), ...(M.open() ? [] : M.moments).map((m) => [m.step, "moment", `Step ${m.step}: ${m.text}`])].map(([at, kind, title]) => {
        const mark = M.make("span", { class: kind, title });
        mark.style.left = (100 * at) / Math.max(1, steps) + "%";
        return mark;
      }));
      chips.hidden = M.open();
      chips.replaceChildren(...M.moments.map((m) => M.make("button", { type: "button", class: "lab-chip", "aria-label": `Moment at step ${m.step}: ${m.text}`, on: { click: () => M.moment(m) } }, M.make("b", {}, String(m.step)), ` ${m.text}`)));
    }
    M.moment = (m) => {
      stop();
      M.ring = { until: Date.now() + 4000, expert: m.expert, arm: m.arm };
      const parts = {};
      for (const name of ["arm", "layer", "target", "expert", "task"]) if (m[name] !== null && m[name] !== undefined) parts[name] = m[name];
      M.seek(M.frameAt(m.step));
      M.select(parts);
      if (m.kind === "turn") document.querySelectorAll(".lab-machine").forEach((e) => { e.classList.add("ring-scale"); setTimeout(() => e.classList.remove("ring-scale"), 4000); });
      setTimeout(() => M.changed("choice"), 4050);
    };
    let waiting = false;
    const off = M.on((what) => {
      if (M.bar !== element) return off();
      if (what === "run") [changes, seen] = [[], 0];
      if (what === "run" && timer) { clearInterval(timer); timer = null; M.playing = false; }
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(() => { waiting = false; paint(); if (what !== "seek") events(); });
    });
    if (goes) M.play();
    paint();
    events();
  };
  M.calm = () => window.matchMedia("(prefers-reduced-motion: reduce)").matches;

  // Keys anywhere outside of a field: space pauses and goes on, r runs, s makes a step, left and right move the time line, f fills the screen,
  // p is for projectors.
  window.addEventListener("keydown", (e) => {
    if (e.ctrlKey || e.metaKey || e.altKey || /^(INPUT|TEXTAREA|SELECT|BUTTON|CANVAS|SUMMARY|A|svg)$/.test(e.target.tagName) || e.target.isContentEditable || e.target.closest("svg, [role=tab], [role=option], [role=listbox]")) return;
    const press = (id) => { const b = document.getElementById(id); if (b && !b.disabled) b.click(); return !!b; };
    const space = () => (M.play && M.replay && M.frames.length > 1 && !["running", "paused"].includes(M.state) ? (M.playing ? M.stop() : M.play(), true) : press("pause"));
    const act = { " ": space, s: () => press("step1"), r: () => press("run"), ArrowLeft: () => M.seek(M.index() - 1), ArrowRight: () => M.seek(M.index() + 1), f: () => M.full && M.full(), p: () => M.projector && M.projector() }[e.key];
    if (act && act() !== false) e.preventDefault(); // a key whose button is not here keeps its own meaning
  });
})(window.MoSLD);
