// The line to the server. Frames are fetched, not sent: nothing hangs on one long answer, and what a page has missed comes in pieces.
// - window.MoSLD.feed(props, watch, trigger): handlers answer into the feed's value; a message with a key starts the fetching.
// - While a run is on its way the server holds a request until there is something new; at rest the page asks now and then.
// - The key is the run's: the tab keeps it over a reload, the browser for the next visit. Events: `attach` (the server does not know the key
//   any more), `rest` (a run that was on its way has come to rest).
((M) => {
  const CALM = 15000, DOWN = "The line to the lab is down. Trying again …";

  const at = { key: "", run: -1, at: 0, mark: "" };
  let tell = () => {}, asking = false, again = false, timer = null, wait = 500, down = false, lost = false, busy = false;

  function keep(key) {
    for (const store of ["sessionStorage", "localStorage"]) try { window[store].setItem("mosld-run", key); } catch { /* it is not allowed here */ }
  }
  function take(text) {
    const m = JSON.parse(text);
    if (m.key && m.key !== at.key) { Object.assign(at, { key: m.key, run: -1, at: 0, mark: "" }); keep(m.key); }
    if (m.k === "run" && !m.replay) Object.assign(at, { run: m.run, at: m.frames.length });
    if (m.k === "add") at.at = m.from + m.frames.length;
    if (m.k === "clear") Object.assign(at, { run: -1, at: 0 });
    if (m.mark) at.mark = m.mark;
    if (M.receive(text) === false) Object.assign(at, { run: -1, at: 0 }); // the page shows something else: from the start
    const now = M.busy();
    if (busy && !now) tell("rest");
    busy = now;
  }
  async function ask() {
    clearTimeout(timer);
    if (asking) { again = true; return; }
    if (!at.key || lost) return;
    asking = true;
    let next = 0;
    try {
      const answer = await fetch(M.url("lab/news"), { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(at) });
      if (!answer.ok) throw new Error(answer.status);
      const texts = await answer.json();
      if (!texts) {
        [lost, at.mark] = [true, ""];
        if (down) { down = false; M.receive(JSON.stringify({ k: "say", note: "The lab is back: the run is looked for …" })); }
        tell("attach");
      }
      else {
        if (down) { down = false; M.receive(JSON.stringify({ k: "say", note: "" })); at.mark = ""; texts.length || (again = true); }
        texts.forEach(take);
        wait = 500;
        next = texts.length || busy ? 0 : CALM;
      }
    } catch {
      if (!down) { down = true; M.receive(JSON.stringify({ k: "say", note: DOWN, kind: "error" })); }
      next = wait = Math.min(2 * wait, 8000);
    }
    asking = false;
    if (again || !next) { again = false; if (!lost) ask(); } else timer = setTimeout(ask, next);
  }
  // Wishes go to the server one after another, so that the last one counts, and none before the settings of the page's address, or of a question
  // just chosen, stand in the controls. `M.answered` is called by the page's events once they are (`lab.py`).
  let line = new Promise((done) => { M.answered = done; setTimeout(done, 60000); });
  Promise.all([line, M.opened]).then(() => { M.ready = true; }); // what is typed into controls before that is overwritten
  M.wishes = 0; // on their way
  M.wish = (send) => {
    M.wishes += 1;
    const asked = Date.now();
    M.slow = () => M.wishes > 0 && Date.now() - asked > 280; // said where an answer is not there at once
    setTimeout(() => M.changed("choice"), 300);
    line = line.then(() => new Promise((done) => { M.answered = done; setTimeout(done, 20000); send(); })).then(() => { M.wishes -= 1; M.changed("choice"); });
  };
  M.feed = (props, watch, trigger) => {
    tell = trigger;
    const told = () => {
      if (!props.value) return;
      lost = false;
      take(props.value);
      ask();
    };
    watch("value", told);
    told();
    for (const event of ["visibilitychange", "pageshow", "focus", "online"]) window.addEventListener(event, () => { if (!document.hidden) ask(); });
  };
})(window.MoSLD);
