// The small menus over a picture (layer, target, smoothing ...): what they offer, and that all views share a choice.
((M) => {
  const there = (at) => [...new Set(M.header.linears.flat().map((x) => x[at]))].sort((a, b) => (a > b ? 1 : -1));
  const OFFERS = {
    layer: () => [["all", "all layers"], ...there(0).map((l) => [String(l), `layer ${l + 1}`])],
    target: () => { const p = there(1); return [["all", p.length === 2 ? p.join(" and ") : "all"], ...p.map((v) => [v, v])]; },
  };
  M.menu = (menu, name) => {
    menu.addEventListener("change", () => M.choose(name, menu.value));
    let offered = "";
    const fill = () => {
      const offers = OFFERS[name] && M.header ? OFFERS[name]() : [], key = offers.join();
      if (key && key !== offered) menu.replaceChildren(...offers.map(([value, text]) => new Option(text, value)));
      offered = key;
      menu.value = String(M[name]);
    };
    M.on((what) => { if (what === "run" || what === "choice") fill(); });
    fill();
    return menu;
  };
})(window.MoSLD);
