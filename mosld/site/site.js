// What stands in for the server: recorded runs come as scripts, and what would train opens the lab, where one is known.
((M) => {
  const waiting = new Map();
  M.file = (name) => new Promise((done, fail) => {
    const code = document.createElement("script");
    waiting.set(name, { done, fail });
    code.src = name.replace(/\.json$/, ".js");
    code.onerror = () => { waiting.delete(name); fail(new Error(name)); };
    code.onload = () => code.remove();
    document.head.appendChild(code);
  });
  M.take = async (name, packed) => {
    const { done, fail } = waiting.get(name) || {};
    waiting.delete(name);
    if (!done) return;
    try {
      const bytes = Uint8Array.from(atob(packed), (c) => c.charCodeAt(0));
      done(JSON.parse(await new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text()));
    } catch (problem) { fail(problem); }
  };
  // From disk a page may not change its address.
  const address = M.address;
  M.address = (parts, push) => { try { address(parts, push); } catch { /* the selection is then not in it */ } };
  const dark = window.matchMedia("(prefers-color-scheme: dark)"), theme = () => { document.body.classList.toggle("dark", dark.matches); M.changed("theme"); };
  dark.addEventListener("change", theme);
  theme();

  const room = document.body.dataset.room, data = JSON.parse(document.getElementById("data").textContent), $ = (id) => document.getElementById(id);
  const elsewhere = (query) => { if (M.lab) window.location.href = `${M.lab}${M.lab.includes("?") ? "&" : "?"}${query}`; };
  M.goto = () => {}; // the rooms are pages of their own
  M.there = true;
  if (room === "watch") {
    M.timeline($("timeline"));
    M.watch($("watch"));
    M.questions($("questions"), data, () => {});
    const asked = [...$("questions").querySelectorAll(".lab-question")].find((b) => b.dataset.name === new URLSearchParams(window.location.search).get("question"));
    if (asked) asked.click();
  }
  if (room === "learn") M.learn($("learn"), data, ["begin", "attempt"], (name, what) => elsewhere(`lesson=${what.lesson}`), {}, () => {});
  document.body.classList.toggle("no-lab", !M.lab);
})(window.MoSLD);
