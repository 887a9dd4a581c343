// The time line: a slider over the frames that moves every view, marks for events, replay, and the sentence on the state.
((M) => {
  M.timeline = (element) => {
    const $ = (name) => element.querySelector("." + name);
    const slider = element.querySelector("input"), play = $("lab-play"), live = $("lab-live"), step = $("lab-step"), note = $("lab-note"), marks = $("lab-marks"), aloud = $("lab-aloud");
    let timer = null, said = "";

    const calm = () => window.matchMedia("(prefers-reduced-motion: reduce)").matches;
    function stop() { clearInterval(timer); timer = null; paint(); }
    function start() {
      const length = M.frames.length;
      if (length < 2) return;
      if (M.at === null) M.at = 0;
      const stride = Math.max(1, Math.round(length / 150));
      timer = setInterval(() => {
        const at = (M.at === null ? M.frames.length : M.at) + stride;
        if (at >= M.frames.length - 1) { M.seek(null); return stop(); }
        M.seek(at);
      }, 80);
      paint();
    }
    play.addEventListener("click", () => (timer ? stop() : start()));
    live.addEventListener("click", () => { stop(); M.seek(null); });
    slider.addEventListener("input", () => { if (timer) stop(); M.seek(+slider.value); });

    function paint() {
      const f = M.shown(), last = M.frames.length - 1, ready = last > 0;
      slider.max = Math.max(1, last);
      slider.value = M.index();
      slider.disabled = play.disabled = !ready;
      const text = f ? `Step ${f.step} of ${M.header.steps}` : "No run yet";
      if (step.textContent !== text) step.textContent = text;
      slider.setAttribute("aria-valuetext", text);
      play.textContent = timer ? "Stop replay" : "Replay";
      live.disabled = M.at === null;
      element.dataset.state = M.state;
      element.dataset.frames = M.frames.length;
      note.textContent = sentence();
      note.dataset.kind = M.kind;
      const spoken = M.kind === "error" || M.state !== "running" ? sentence() : "Training.";
      if (spoken !== said) { said = spoken; aloud.textContent = spoken; }
    }
    function sentence() {
      const last = M.frames[M.frames.length - 1];
      if (M.note) return M.note;
      if (M.state === "running" && last) {
        const first = M.frames[0], rate = (last.step - first.step) / Math.max(0.1, last.seconds - first.seconds);
        return `Training: ${rate.toFixed(1)} steps a second.`;
      }
      return "";
    }
    function events() {
      marks.replaceChildren(...M.frames.flatMap((f, i) => {
        if (!["change", "stopped", "diverged"].includes(f.event)) return [];
        const mark = document.createElement("span");
        mark.style.left = (100 * i) / Math.max(1, M.frames.length - 1) + "%";
        mark.title = `Step ${f.step}: ${f.note || f.event}`;
        return [mark];
      }));
    }
    let waiting = false;
    M.on((what) => {
      if (what === "run" && timer) { clearInterval(timer); timer = null; }
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(() => { waiting = false; paint(); if (what !== "seek") events(); });
    });
    paint();

    // Play the shipped run once, at first sight, unless the visitor asked for less motion.
    let played = false;
    const first = () => { if (!played && M.replay && M.frames.length > 1) { played = true; if (!calm()) { M.seek(0); start(); } } };
    M.on((what) => { if (what === "run") first(); });
    first();
  };

  // Keys anywhere outside of a field: space pauses and goes on, s makes a step, r runs, left and right move the time line.
  window.addEventListener("keydown", (e) => {
    if (e.ctrlKey || e.metaKey || e.altKey || /^(INPUT|TEXTAREA|SELECT|BUTTON|CANVAS|SUMMARY|A)$/.test(e.target.tagName) || e.target.isContentEditable) return;
    const press = (id) => { const b = document.getElementById(id); const button = b && (b.matches("button") ? b : b.querySelector("button")); if (button && !button.disabled) button.click(); return !!b; };
    const act = { " ": () => press("pause"), s: () => press("step1"), r: () => press("run"), ArrowLeft: () => M.seek(M.index() - 1), ArrowRight: () => M.seek(M.index() + 1) }[e.key];
    if (act && !e.target.closest("[role=tab],[role=option],[role=listbox]") && act() !== false) e.preventDefault(); // a key whose button is not here keeps its own meaning
  });
})(window.MoSLD);
