// The first picture, before Gradio has built the page: drawn by the page's own code where the page will have it, then handed over as it is.
// - M.drawn: kept once it is painted, or where there is none to wait for; the other scripts and Gradio are loaded after it.
// - M.opened: kept once the page stands. M.adopt(element): gives the picture to its place on the page; false where there is none.
((M) => {
  const first = document.getElementById("first"), own = "mosld-run";
  let drawn, opened;
  M.drawn = new Promise((done) => { drawn = done; });
  M.opened = new Promise((done) => { opened = done; });
  const kept = () => { try { return window.sessionStorage.getItem(own) || window.localStorage.getItem(own); } catch { return ""; } };
  const next = (act) => (document.hidden ? setTimeout(act, 30) : requestAnimationFrame(act));
  const end = () => { // also where Gradio was here first, on a slow line
    for (const part of [first, document.getElementById("first-style")]) if (part) part.remove();
    document.body.classList.remove("opening");
    M.adopt = null;
    drawn();
    opened();
    return false;
  };
  // Whoever comes with settings, to another room or back to a run would see a picture that is taken away again.
  if (["c", "room", "lesson"].some(M.asked) || kept()) return void end();

  const run = first.dataset.run, bar = first.querySelector("#bar"), place = first.querySelector(".lab-watch"), theme = M.asked("__theme");
  document.body.classList.add("opening");
  document.body.classList.toggle("dark", theme ? theme === "dark" : window.matchMedia("(prefers-color-scheme: dark)").matches);
  document.body.dataset.room = "watch";
  first.hidden = false;
  setTimeout(drawn, 3000);
  M.adopt = end;
  M.recorded(run, false).then(() => {
    if (M.bar || !first.isConnected) return void end();
    M.adopt = null;
    if (M.replay && !M.calm()) M.seek(1); // before the first step no router was asked
    M.timeline(bar); // its slider and Replay work; the buttons that ask the lab are off
    M.watch(place);
    M.adopt = take;
    next(() => { first.classList.add("drawn"); next(drawn); });
  });
  function take(element) {
    M.adopt = null;
    let tries = 0;
    const alike = () => { const a = place.getBoundingClientRect(), b = element.getBoundingClientRect(); return ["x", "y", "width"].every((side) => Math.abs(a[side] - b[side]) < 1); };
    const move = (node, to) => { if (to.moveBefore && node.isConnected) to.moveBefore(node, null); else to.append(node); };
    const look = () => { // once the page stands as it will stay: nothing jumps then
      if ((M.bar === bar || !alike()) && tries++ < 300) return next(look);
      const had = document.activeElement, patterns = document.getElementById("lab-patterns");
      for (const part of [...place.childNodes]) move(part, element);
      if (patterns) move(patterns, document.querySelector(".gradio-container"));
      if (element.contains(had)) had.focus({ preventScroll: true });
      end();
      if (M.replay && M.name === run && M.at === 1 && !M.playing && !M.calm()) M.play();
    };
    look();
    return true;
  }
})(window.MoSLD);
