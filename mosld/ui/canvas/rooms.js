// The five rooms: which one is open stands in the address, Back goes back to the one before.
((M) => {
  M.rooms = ["learn", "watch", "look", "compare", "take"];
  M.room = () => { const asked = M.asked("room"); return M.rooms.includes(asked) ? asked : M.asked("lesson") ? "learn" : "watch"; };
  M.title = (room) => document.querySelector(`.lab-head [data-room="${room}"]`).textContent;
  const show = (room) => {
    const body = document.body, tab = document.querySelector(`#room-${room}-button`);
    body.dataset.room = room;
    document.querySelectorAll(".lab-head nav button").forEach((b) => (b.dataset.room === room ? b.setAttribute("aria-current", "page") : b.removeAttribute("aria-current")));
    if (tab && tab.getAttribute("aria-selected") !== "true") tab.click();
    const named = () => { const place = document.getElementById(`room-${room}`); if (place) place.setAttribute("aria-label", M.title(room)); else setTimeout(named, 50); };
    named();
    const again = room === "compare" && document.querySelector("#compare-again"); // runs may have been made since it was last open
    if (again) again.click();
    M.changed("room");
  };
  // Open a room; `view` is the name of a picture in it to bring into sight.
  M.goto = (room, view, quiet) => {
    const parts = { room: room === "watch" ? null : room };
    if (room !== "learn") parts.lesson = null;
    if (!quiet) M.address(parts, room !== document.body.dataset.room);
    if (room !== document.body.dataset.room) [M.note, M.kind] = M.rest; // what was answered in the room left behind
    show(room);
    if (view) setTimeout(() => { const f = document.getElementById(`figure-${view}`); if (f) f.scrollIntoView({ block: "start" }); }, 250);
    else if (!quiet) window.scrollTo(0, 0);
  };
  // To a claim's row in Compare. Gradio puts a tab that has no room into a menu.
  M.toClaim = (id) => {
    M.goto("compare");
    let tries = 0;
    const go = () => {
      const row = document.querySelector(`#claim-${id}`);
      const tab = [...document.querySelectorAll("#room-compare :is([role=tab], .overflow-dropdown button)")].find((b) => b.textContent.trim() === "Claims");
      if (row && row.checkVisibility()) return row.scrollIntoView({ block: "center" });
      if (tab && tab.getAttribute("aria-selected") !== "true") tab.click();
      if (tries++ < 60) setTimeout(go, 100);
    };
    go();
  };
  // In a frame as high as its page, such as a Space's, nothing sticks, for the page outside scrolls: strips down this page tell what is in sight.
  const HIGH = 24;
  const framed = () => {
    if (window === window.top) return;
    const strips = M.make("div", { class: "lab-strips" }), seen = new Map();
    const eyes = new IntersectionObserver((entries) => {
      for (const e of entries) e.isIntersecting ? seen.set(e.target, e.intersectionRect.top) : seen.delete(e.target);
      if (seen.size) document.documentElement.style.setProperty("--lab-top", `${Math.max(0, Math.min(...seen.values()))}px`);
    }, { threshold: [0, 0.25, 0.5, 0.75, 1] });
    document.body.append(strips);
    new ResizeObserver(() => {
      const count = Math.floor(document.body.clientHeight / HIGH);
      while (strips.childElementCount < count) eyes.observe(strips.appendChild(M.make("i")));
      while (strips.childElementCount > count) { eyes.unobserve(strips.lastChild); seen.delete(strips.lastChild); strips.lastChild.remove(); }
    }).observe(document.body);
  };
  M.head = (element) => {
    framed();
    element.querySelectorAll("nav button").forEach((b) => b.addEventListener("click", () => M.goto(b.dataset.room)));
    element.querySelector(".lab-jump").addEventListener("click", () => document.querySelector("#run").focus()); // past the rooms and all settings
    window.addEventListener("popstate", () => show(M.room()));
    let tries = 0;
    const first = () => { // gradio mounts the rooms a little later than the head
      if (!M.rooms.every((room) => document.querySelector(`#room-${room}-button`)) && tries++ < 400) return setTimeout(first, 25);
      show(M.room());
    };
    first();
  };

  // One selection for all: tabs that ask the server for an arm and a linear take those selected, and what is chosen there is selected.
  M.fromPick = () => [M.pick.arm, M.header && M.header.linears[M.pick.arm].length ? M.linear() : 0];
  M.toPick = (arm, linear) => {
    const info = M.header && M.header.linears[arm] && M.header.linears[arm][linear];
    if (info) M.select({ arm, layer: info[0], target: info[1] });
  };
  // Press a button once its picture is in sight and one's own run is another, has come to rest, or (picks) another arm or linear is selected.
  M.follow = (element, button, picks) => {
    let last = "";
    const look = () => {
      if (M.replay || !M.frames.length || M.run < 0) return;
      const now = [M.run, M.state === "running" ? "" : M.frames[M.frames.length - 1].step, picks && M.fromPick()].join();
      if (now === last || !element.checkVisibility()) return;
      const b = document.querySelector(button());
      if (!b || b.disabled) return;
      last = now;
      b.click();
    };
    M.on(look);
    new IntersectionObserver(look).observe(element);
  };

  M.full = () => {
    const card = document.querySelector("#figure-machine");
    if (document.fullscreenElement) document.exitFullscreen();
    else if (card && card.requestFullscreen) { M.goto("watch", null, true); card.requestFullscreen().catch(() => {}); }
  };
  M.projector = () => { document.body.classList.toggle("projector"); M.changed("theme"); };
})(window.MoSLD);
