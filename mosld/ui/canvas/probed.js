// Curves of what a probe finds, a small chart a quantity with all arms in it: what the routers do, and who is updated more, A or the B of its
// experts. Each is the mean over the linears chosen.
((M) => {
  const STATS = [
    ["evenness of the gates", "Entropy of the mean gate over log E: 1 is an even use of all experts, 0 is one expert."],
    ["effective experts", "exp(entropy of the mean gate): as many equally used experts would give the same entropy."],
    ["idle experts", "Experts that get less than 1 / (10 E) of the tokens."],
    ["entropy a token", "Mean over tokens of the entropy of their gate, in nats: 0 is a router that is sure."],
    ["task information", "Mutual information of expert choice and task, in bits: 0 where routing ignores the task."],
  ];
  const IMBALANCE = [
    ["updates", "log2 of tokens that reach A over tokens that reach one B, mean over experts."],
    ["gradients", "log2 of gradient size of A over that of B (root mean square per entry)."],
    ["steps", "log2 of the size of the optimiser's step on A over that on B (root mean square per entry)."],
    ["relative steps", "log2 of step over weight size of A, over the same of B."],
  ];

  // field: of a probe, one number a chart. o: { arms(S), none(S): words where there are no arms, chart(S, k, series): more of a chart's options }
  function view(name, charts, field, o) {
    const mean = (S, arm, probe, k) => (probe ? S.mean(S.linears(arm).map(([, i]) => probe[i] && probe[i][field][k])) : null);
    M.view(name, {
      depends: "probed",
      curves: true,
      render(S, width) {
        const arms = o.arms(S), now = (k) => arms.map((arm) => mean(S, arm, S.shown().arms[arm].probe, k));
        if (!arms.length) return [M.make("p", { class: "soft" }, o.none(S))];
        return [M.key(S.header.arms), M.charts(width, 160, 156, charts.map(([title, define], k) => {
          const series = arms.map((arm) => ({ arm, name: S.header.arms[arm], points: S.curve(name + k, arm, (a) => (a.fresh ? mean(S, arm, a.probe, k) : null)) }));
          return { title, define, series, ...M.course(S), ...o.chart(S, k, series, now(k)) };
        }))];
      },
      say(S) {
        const arms = o.arms(S), each = arms.map((arm) => `${S.header.arms[arm]}: ${charts.map(([title], k) => `${title} ${S.text(mean(S, arm, S.shown().arms[arm].probe, k))}`).join(", ")}`);
        return `Step ${S.shown().step}, mean over linears. ${arms.length ? each.join(". ") : o.none(S)}.`;
      },
    });
  }
  view("router", STATS, "stats", {
    arms: (S) => S.header.drawn.map((_, arm) => arm).filter((arm) => S.header.drawn[arm].router),
    none: (S) => `${S.header.methods[0]} has no router.`,
    chart: (S, k) => ({
      range: k === 0 ? [0, 1.02] : k === 1 ? [0, 1.02 * Math.max(...S.header.linears.flat().map((x) => x[2]))] : undefined,
      floor: k === 2 || k === 4 ? 0 : undefined,
      least: k === 2 ? 1 : 0.05,
    }),
  });
  view("imbalance", IMBALANCE, "imbalance", {
    arms: (S) => S.header.arms.map((_, arm) => arm),
    chart(S, k, series, [a, b, more]) {
      const reach = series.flatMap((s) => s.points).reduce((most, [, v]) => Math.max(most, 1.1 * Math.abs(v)), 1);
      return {
        title: `${k + 1}. ${IMBALANCE[k][0]}`, range: [-reach, reach], refs: [{ v: 0, dash: "none" }], format: M.ratio,
        value: more === undefined && Number.isFinite(a) && Number.isFinite(b) ? `Δ ${S.text(b - a)}` : "",
      };
    },
  });
})(window.MoSLD);
