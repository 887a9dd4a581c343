// The page's memory of one run. Nothing here draws.
// - receive(text): takes what mosld/ui/wire.py packed (a whole run, more frames, or a state with a sentence);
// - frames: { step, seconds, event, note, arms: [{ loss, extra, lr, dropout, scores, probe }] };
// - probe: per linear { load [T][E], gate [T][E], A, B, BA, ask [E], imbalance [4], stats [5] }; a gap is null;
// - at: index of the frame shown, or null to follow the newest; on(fn): called whenever something changed.
window.MoSLD = window.MoSLD || (() => {
  const S = {
    header: null, frames: [], at: null, run: -1, state: "idle", note: "", kind: "", replay: false,
    smooth: "0", log: "linear", layer: "all", projection: "all", measure: "load",
  };
  const listeners = new Set();
  S.on = (fn) => (listeners.add(fn), () => listeners.delete(fn));
  S.changed = (what) => listeners.forEach((fn) => fn(what));

  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const half = (view, i) => {
    const h = view.getUint16(2 * i, true), e = (h >> 10) & 31, f = h & 1023, s = h & 32768 ? -1 : 1;
    if (e === 31) return null; // not a number: a gap
    return s * (e ? 2 ** (e - 15) * (1 + f / 1024) : 2 ** -14 * (f / 1024));
  };

  function probe(packed, arm, last) {
    const [group, gates, halves] = packed;
    const { linears, tasks, groups } = S.header;
    const b = bytes(gates), view = new DataView(bytes(halves).buffer);
    const out = last ? last.slice() : linears[arm].map(() => null);
    let i = 0, j = 0;
    const rows = (experts) => tasks.map(() => {
      const row = Array.from(b.subarray(i, (i += experts)));
      return row[0] === 255 ? null : row.map((v) => v / 254);
    });
    const take = (n) => Array.from({ length: n }, () => half(view, j++));
    for (let l = group; l < linears[arm].length; l += groups) {
      const E = linears[arm][l][2];
      const p = { load: rows(E), gate: rows(E) };
      for (const name of ["A", "B", "BA", "ask"]) p[name] = take(E);
      p.imbalance = take(4);
      p.stats = take(5);
      out[l] = p;
    }
    return out;
  }

  function frame(packed) {
    const [step, seconds, event, note, arms] = packed;
    const before = S.frames[S.frames.length - 1];
    const index = S.frames.length, any = (k) => arms.some((a) => a[k]);
    return {
      step, seconds, event, note,
      probed: any(5) ? index : before ? before.probed : -1, // index of the newest frame with a probe, and of the newest scored one
      scored: any(4) ? index : before ? before.scored : -1,
      arms: arms.map(([loss, extra, lr, dropout, scores, p], arm) => {
        const last = before && before.arms[arm].probe;
        return { loss, extra, lr, dropout, scores: scores || null, probe: p ? probe(p, arm, last) : last, fresh: !!p };
      }),
    };
  }

  // Kinds of message: "run" (a header and its frames so far), "add" (frames from an index on), "say" (only a state).
  // Returns false where frames are missing between what is here and what came: the page then asks for the whole run.
  S.receive = (text) => {
    let m = JSON.parse(text);
    if (m.replay) S.shipped = m; // the run shown before the first Run, and again after Reset
    if (m.k === "clear" && S.shipped) m = { ...S.shipped, state: m.state, link: m.link };
    let whole = true;
    if (m.k === "run" || m.k === "clear") curves.clear();
    if (m.k === "run") {
      Object.assign(S, { header: m.header, frames: [], run: m.run, at: null, replay: !!m.replay });
      m.frames.forEach((f) => S.frames.push(frame(f)));
    } else if (m.k === "add" && m.run === S.run) {
      if (m.from > S.frames.length) whole = false;
      else m.frames.slice(S.frames.length - m.from).forEach((f) => S.frames.push(frame(f)));
    } else if (m.k === "add") whole = false;
    if (m.k === "clear") Object.assign(S, { header: null, frames: [], run: -1, at: null, replay: false });
    if (m.state) S.state = m.state;
    if ("note" in m) Object.assign(S, { note: m.note, kind: m.kind || "" });
    if (m.link !== undefined) address(m.link);
    S.changed(m.k === "run" || m.k === "clear" ? "run" : "frames");
    return whole;
  };

  // The page's address always holds the settings of its run.
  function address(link) {
    const url = new URL(window.location.href), kept = [...url.searchParams].filter(([name]) => name !== "c").map(([n, v]) => `&${n}=${encodeURIComponent(v)}`);
    window.history.replaceState(null, "", `${url.pathname}?c=${link}${kept.join("")}`);
  }

  S.index = () => (S.at === null ? S.frames.length - 1 : Math.min(S.at, S.frames.length - 1));
  S.shown = () => S.frames[S.index()] || null;
  S.seek = (index) => {
    S.at = index === null || index >= S.frames.length - 1 ? null : Math.max(0, index);
    S.changed("seek");
  };
  // The newest accuracies at or before the frame shown.
  S.scores = (arm) => {
    const f = S.shown();
    return f && f.scored >= 0 ? S.frames[f.scored].arms[arm].scores : null;
  };
  // The linears of an arm that the chosen layer and projection let through, as [info, index].
  S.linears = (arm) => S.header.linears[arm]
    .map((info, i) => [info, i])
    .filter(([[layer, projection]]) => (S.layer === "all" || layer === +S.layer) && (S.projection === "all" || projection === S.projection));
  // A curve: [step, value] of every frame at which read(arm frame) is a number; gaps are left out. Kept and only extended.
  const curves = new Map();
  S.curve = (name, arm, read) => {
    const key = `${name} ${arm}`;
    if (!curves.has(key)) curves.set(key, { seen: 0, points: [] });
    const kept = curves.get(key);
    for (; kept.seen < S.frames.length; kept.seen++) {
      const f = S.frames[kept.seen], v = read(f.arms[arm]);
      if (v !== null && v !== undefined && Number.isFinite(v)) kept.points.push([f.step, v]);
    }
    return kept.points;
  };
  S.choose = (name, value) => {
    S[name] = value;
    curves.clear();
    S.changed("choice");
  };
  S.mean = (values) => {
    const kept = values.filter((v) => v !== null && v !== undefined && Number.isFinite(v));
    return kept.length ? kept.reduce((a, b) => a + b, 0) / kept.length : null;
  };
  S.text = (v, digits = 2) => {
    if (v === null || v === undefined || !Number.isFinite(v)) return "no value";
    const a = Math.abs(v);
    return a !== 0 && (a < 0.01 || a >= 10000) ? v.toExponential(1) : v.toFixed(a >= 100 ? 0 : digits).replace("-", "−");
  };

  S.views = {};
  S.view = (name, view) => { S.views[name] = view; };
  return S;
})();
