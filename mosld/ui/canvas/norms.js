// Norms of the low-rank matrices at the step shown: a table an arm; A, B, BA and each expert's share of A side by side; rows are layers and
// linears, a bar an expert, in its colour (what all share in ink). All arms share the scale of a quantity.
((M) => {
  const KINDS = [
    ["A", "‖A‖", "Frobenius norm of A: each expert's own, or the one A that all share."],
    ["B", "‖B‖", "Frobenius norm of each expert's B."],
    ["BA", "‖BA‖", "Frobenius norm of each expert's update B A, the scale alpha / rank left out."],
    ["ask", "share of A", "Norm of what each expert adds to the gradient of the shared A: what the expert asks of A."],
  ];
  function bars(values, most, where, [, title, define], E) {
    const kept = (values || []).map((v, e) => [v, e]).filter(([v]) => v !== null), lone = E === 1 || kept.length === 1;
    return M.make("td", {}, M.make("div", { class: "lab-bars" }, ...kept.map(([v, e]) => M.make("span", { "data-help": `${where}, ${E > 1 && lone ? "shared by all experts" : `expert ${e + 1} of ${E}`}\n${title} ${M.text(v, 3)}\n${define}` },
      M.style(M.make("i", {}), { height: `${(100 * v) / most}%`, background: lone ? "var(--lab-ink)" : M.expertColour(e) })))));
  }
  M.view("norms", {
    depends: "probed",
    render(S) {
      const frame = S.shown(), most = KINDS.map(([kind]) => Math.max(1e-9, ...frame.arms.flatMap((a) => (a.probe || []).flatMap((x) => (x ? x[kind].map((v) => v || 0) : [])))));
      const head = () => M.make("tr", {}, M.make("td", {}), ...KINDS.map(([, title], k) => M.make("th", { scope: "col" }, `${title} to ${M.number(most[k])}`)));
      return [M.make("div", { class: "lab-grid wide" }, ...S.header.arms.map((name, arm) => {
        const probe = frame.arms[arm].probe, rows = S.linears(arm).reverse().map(([[layer, target, E], i]) => M.make("tr", {}, M.make("th", { scope: "row" }, `${layer + 1} ${target}`),
          ...KINDS.map((kind, k) => bars(probe && probe[i] && probe[i][kind[0]], most[k], `${name}, layer ${layer + 1}, ${target}`, kind, E))));
        return M.make("div", {}, M.make("h3", {}, M.armMark(arm), ` ${name}`), M.make("table", { class: "lab-norms" }, M.make("thead", {}, head()), M.make("tbody", {}, ...rows)));
      }))];
    },
    say(S) {
      const rows = S.header.arms.map((name, arm) => {
        const probe = S.shown().arms[arm].probe;
        if (!probe) return `${name}: no probe yet`;
        return `${name}: ${KINDS.map(([kind, title]) => `${title} ${S.text(S.mean(S.linears(arm).flatMap(([, i]) => (probe[i] ? probe[i][kind] : []))))}`).join(", ")}`;
      });
      return `Mean norms at step ${S.shown().step}. ${rows.join(". ")}.`;
    },
  });
})(window.MoSLD);
