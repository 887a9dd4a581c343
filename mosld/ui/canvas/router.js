// What the routers do over the steps: evenness, effective and idle experts, entropy a token, what the choice tells of the task.
((M) => {
  const STATS = [
    ["evenness of the gates", "Entropy of the mean gate over log E: 1 is an even use of all experts, 0 is one expert."],
    ["effective experts", "exp(entropy of the mean gate): as many equally used experts would give the same entropy."],
    ["idle experts", "Experts that get less than 1 / (10 E) of the tokens."],
    ["entropy a token", "Mean over tokens of the entropy of their gate, in nats: 0 is a router that is sure."],
    ["task information", "Mutual information of expert choice and task, in bits: 0 where routing ignores the task."],
  ];
  const HEIGHT = 160;
  const plan = (S, width) => M.tiles(5, width, 170, HEIGHT, M.keyHeight(S, width) + 8);
  const routed = (S) => S.header.arms.map((name, arm) => ({ name, arm })).filter(({ arm }) => S.header.drawn[arm].router);
  const mean = (S, arm, probe, k) => S.mean(S.linears(arm).map(([, i]) => probe[i] && probe[i].stats[k]));

  M.view("router", {
    depends: "probed",
    curves: true,
    height: (S, width) => plan(S, width).rows * HEIGHT + M.keyHeight(S, width) + 8,
    draw(g, S) {
      M.key(g, S, 2, 9, g.w);
      if (!routed(S).length) return M.label(g, `${S.header.methods[0]} has no router.`, 2, M.keyHeight(S, g.w) + 30, { colour: g.c.soft });
      plan(S, g.w).boxes.forEach((box, k) => {
        const top = Math.max(...S.header.linears.flat().map((x) => x[2]));
        M.chart(g, S, box, {
          title: STATS[k][0],
          series: routed(S).map(({ name, arm }) => ({ arm, name, points: S.curve("router" + k, arm, (a) => (a.fresh && a.probe ? mean(S, arm, a.probe, k) : null)) })),
          range: k === 0 ? [0, 1.02] : k === 1 ? [0, top * 1.02] : undefined,
          floor: k === 2 || k === 4 ? 0 : undefined,
          least: k === 2 ? 1 : 0.05,
          define: STATS[k][1] + " Mean over the linears chosen.",
        });
      });
    },
    say(S) {
      const rows = S.header.arms.map((name, arm) => {
        const probe = S.shown().arms[arm].probe;
        return !S.header.drawn[arm].router ? `${name}: no router` : probe ? `${name}: ${STATS.map(([title], k) => `${title} ${S.text(mean(S, arm, probe, k))}`).join(", ")}` : `${name}: no probe yet`;
      });
      return `Routers at step ${S.shown().step}. ${rows.join(". ")}.`;
    },
  });
})(window.MoSLD);
