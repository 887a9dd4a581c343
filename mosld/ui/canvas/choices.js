// The small menus over a picture (layer, target, smoothing ...): what they offer, and that all views share a choice.
((M) => {
  const OFFERS = {
    layer: () => [...new Set(M.header.linears.flat().map((x) => x[0]))].sort((a, b) => a - b).map((l) => [String(l), String(l + 1)]),
    target: () => [...new Set(M.header.linears.flat().map((x) => x[1]))].map((p) => [p, p]),
  };
  M.menus = (element) => {
    for (const menu of element.querySelectorAll("select[data-choose]")) {
      const name = menu.dataset.choose;
      menu.addEventListener("change", () => M.choose(name, menu.value));
      const fill = () => {
        if (OFFERS[name] && M.header) {
          const offered = [["all", "all"], ...OFFERS[name]()];
          menu.replaceChildren(...offered.map(([value, text]) => new Option(text, value)));
          if (!offered.some(([value]) => value === String(M[name]))) M[name] = "all";
        }
        menu.value = String(M[name]);
      };
      M.on((what) => { if (what === "run" || what === "choice") fill(); });
      fill();
    }
  };
})(window.MoSLD);
