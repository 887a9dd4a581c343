// The page's memory of one run. Nothing here draws.
// - receive(text): takes what mosld/ui/wire.py packed (a whole run, more frames, or a state with a sentence);
// - frames: { step, seconds, event, note, says [3], sentence, arms: [{ loss, extra, lr, dropout, scores, probe }] };
// - probe: per linear { use [T][E], words [n] of [expert, gate], A, B, BA, ask, share, stepA, stepB, gradA, gradB [E], imbalance [4], stats [5],
//   sentence, most, reads [5], none [5], takes [E] }; a gap is null;
// - at: index of the frame shown, or null to follow the newest; on(fn): called whenever something changed;
// - pick: what is selected (arm, expert, task, word; layer and target stand beside it): one selection for all pictures, kept in the link.
window.MoSLD = window.MoSLD || (() => {
  const S = {
    header: null, frames: [], moments: [], at: null, run: -1, state: "idle", note: "", kind: "", rest: ["", ""], replay: false, name: "",
    smooth: "0", log: "linear", layer: "all", target: "all", size: "step",
    pick: { arm: 0, expert: null, task: null, word: null },
  };
  const listeners = new Set();
  S.on = (fn) => (listeners.add(fn), () => listeners.delete(fn));
  S.changed = (what) => listeners.forEach((fn) => fn(what));

  const bytes = (text) => { const out = new Uint8Array(text.length); for (let i = 0; i < text.length; i++) out[i] = text.charCodeAt(i); return out; };
  const half = (view, i) => {
    const h = view.getUint16(2 * i, true), e = (h >> 10) & 31, f = h & 1023, s = h & 32768 ? -1 : 1;
    if (e === 31) return null; // not a number: a gap
    return s * (e ? 2 ** (e - 15) * (1 + f / 1024) : 2 ** -14 * (f / 1024));
  };

  // Probes stay as they came, a tenth of their size as numbers, and are opened where something looks at them; those opened last are at hand.
  // before: the last ones of this arm, where these do not have all linears; more: of each linear what was told of its routers last.
  const AT_HAND = 48, opened = new Map();
  function keep([first, count, raw, halves, extras], arm, last, sentence) {
    const { linears, tasks } = S.header, n = linears[arm].length;
    let more = last ? last.more : {};
    if (extras) { more = { ...more }; extras.forEach((x, c) => { if (x) more[(first + c) % n] = x; }); }
    return { first, count, raw: atob(raw), halves: atob(halves), sizes: linears[arm], tasks: tasks.length, sentence, more, before: count < n ? last : null };
  }
  function open(kept) {
    let out = opened.get(kept);
    if (out) return out;
    out = kept.sizes.map(() => null);
    for (let k = kept; k && out.includes(null); k = k.before) unpack(k, out, kept.more);
    opened.set(kept, out);
    if (opened.size > AT_HAND) opened.delete(opened.keys().next().value);
    return out;
  }
  function unpack({ first, count, raw, halves, sizes, tasks, sentence }, out, more) {
    const b = bytes(raw), view = new DataView(bytes(halves).buffer);
    let i = 0, j = 0;
    const take = (k) => Array.from({ length: k }, () => half(view, j++));
    for (let c = 0; c < count; c++) {
      const l = (first + c) % sizes.length, E = sizes[l][2], told = more[l] || [null, null, null, null];
      const use = Array.from({ length: tasks }, () => {
        const row = Array.from(b.subarray(i, (i += E)));
        return row[0] === 255 ? null : row.map((v) => v / 254);
      });
      const k = b[i++], words = sentence ? sentence[0].map(() => {
        const who = b.subarray(i, (i += k)), much = b.subarray(i, (i += k));
        return Array.from(who, (e, at) => [e, much[at] / 254]).filter(([e]) => e !== 255);
      }) : [];
      const p = { use, words, sentence, most: told[0], reads: told[1], none: told[2], takes: told[3] };
      for (const name of ["A", "B", "BA", "ask", "share"]) p[name] = take(E);
      for (const name of ["stepA", "stepB", "gradA", "gradB"]) p[name] = take(E).map((v) => (v === null ? null : v / 1000));
      p.imbalance = take(4);
      p.stats = take(5);
      out[l] = out[l] || p;
    }
  }

  class Arm {
    constructor([loss, extra, lr, dropout, scores, p], arm, last, sentence) {
      Object.assign(this, { loss, extra, lr, dropout, scores: scores || null, fresh: !!p, kept: p ? keep(p, arm, last, sentence) : last });
    }
    get probe() { return this.kept && open(this.kept); }
  }

  function frame(packed) {
    const [step, seconds, event, note, arms, sentence, says, moments] = packed;
    const before = S.frames[S.frames.length - 1];
    const index = S.frames.length, any = (k) => arms.some((a) => a[k]);
    if (moments) S.moments = moments;
    return {
      step, seconds, event, note,
      says: says || (before ? before.says : ["", "", ""]),
      sentence: sentence || (before && before.sentence) || null,
      probed: any(5) ? index : before ? before.probed : -1, // index of the newest frame with a probe, and of the newest scored one
      scored: any(4) ? index : before ? before.scored : -1,
      arms: arms.map((a, arm) => new Arm(a, arm, before ? before.arms[arm].kept : null, sentence)),
    };
  }

  // Kinds of message: "run" (a header and its frames so far), "add" (frames from an index on), "say" (only a state).
  // Returns false where frames are missing between what is here and what came: the page then asks for the whole run.
  S.receive = (text) => {
    let m = typeof text === "string" ? JSON.parse(text) : text;
    if (m.replay) S.shipped = m; // the recorded run shown last, and again after Reset
    if (m.k === "clear" && S.shipped) m = { ...S.shipped, state: m.state, link: m.link };
    let whole = true;
    if (m.k === "run" || m.k === "clear") { curves.clear(); opened.clear(); S.moments = []; }
    if (m.k === "run") {
      Object.assign(S, { header: m.header, frames: [], run: m.run, at: null, replay: !!m.replay, name: m.name || "", told: m.told ? { name: m.name, ...m.told } : null, shelved: m.replay ? !!m.chosen : false });
      m.frames.forEach((f) => S.frames.push(frame(f)));
      settle();
    } else if (m.k === "add" && S.shelved) {
      // a recorded run was chosen while one's own went on: that one is shown again when it is resumed
    } else if (m.k === "add" && m.run === S.run) {
      if (m.from > S.frames.length) whole = false;
      else m.frames.slice(S.frames.length - m.from).forEach((f) => S.frames.push(frame(f)));
    } else if (m.k === "add") whole = false;
    if (m.k === "clear") Object.assign(S, { header: null, frames: [], run: -1, at: null, replay: false, name: "" });
    if (m.state) S.state = m.state;
    if ("note" in m) Object.assign(S, { note: m.note, kind: m.kind || "" });
    if ("note" in m && (m.mark || m.key || m.k !== "say")) S.rest = [S.note, S.kind]; // of the run; any other is an answer in its room
    if (m.link !== undefined) S.address({ c: m.link });
    S.changed(m.k === "run" || m.k === "clear" ? "run" : "frames");
    return whole;
  };

  // The page's address holds the settings of its run (c), the room and what is selected (see). `null` takes a part out.
  S.address = (parts, push) => {
    const url = new URL(window.location.href);
    const kept = [...url.searchParams].filter(([name]) => !(name in parts)).map(([n, v]) => [n, n === "c" ? v : encodeURIComponent(v)]);
    const all = [...kept, ...Object.entries(parts).filter(([, v]) => v !== null && v !== "")].map(([n, v]) => `${n}=${v}`).join("&");
    const to = url.pathname + (all ? "?" + all : "");
    if (to !== url.pathname + url.search) window.history[push ? "pushState" : "replaceState"](null, "", to);
  };
  S.asked = (name) => new URL(window.location.href).searchParams.get(name);

  // The selection. Layer and linear may be "all" for the curves; the machine then shows a linear in the middle.
  const numbers = ["arm", "layer", "target", "expert", "task", "word"];
  S.select = (parts) => {
    for (const [name, value] of Object.entries(parts)) if (name === "layer" || name === "target") S[name] = String(value); else S.pick[name] = value;
    curves.clear();
    settle();
    const now = { ...S.pick, layer: S.layer, target: S.target };
    S.address({ see: numbers.map((n) => (now[n] === null ? "" : now[n])).join(".") });
    S.changed("choice");
  };
  S.choose = (name, value) => {
    if (name === "layer" || name === "target") return S.select({ [name]: value });
    S[name] = value;
    curves.clear();
    S.changed("choice");
  };
  // What a link selects; and what the run shown does not have is let go.
  const seen = (S.asked("see") || "").split(".");
  if (seen.length === numbers.length) numbers.forEach((name, i) => {
    if (name === "target") S.target = seen[i] || "all";
    else if (name === "layer") S.layer = /^\d+$/.test(seen[i]) ? seen[i] : "all";
    else S.pick[name] = /^\d+$/.test(seen[i]) ? +seen[i] : name === "arm" ? 0 : null;
  });
  function settle() {
    const { header: h, pick } = S;
    if (!h) return;
    if (pick.arm >= h.arms.length) pick.arm = 0;
    if (pick.task !== null && pick.task >= h.tasks.length) pick.task = null;
    const infos = h.linears[pick.arm];
    if (!infos.some((x) => String(x[0]) === S.layer)) S.layer = "all";
    if (!infos.some((x) => x[1] === S.target)) S.target = "all";
    const E = infos.length ? infos[S.linear()][2] : 1;
    if (pick.expert !== null && pick.expert >= E) pick.expert = null;
  }
  // The index of the one linear that the machine shows, in an arm.
  S.linear = (arm = S.pick.arm) => {
    const infos = S.header.linears[arm], fits = (x) => (S.layer === "all" || String(x[0]) === S.layer) && (S.target === "all" || x[1] === S.target);
    const which = infos.map((x, i) => i).filter((i) => fits(infos[i]));
    return which[Math.floor((which.length - 1) / 2)] ?? Math.floor((infos.length - 1) / 2);
  };

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
  // The linears of an arm that the chosen layer and target let through, as [info, index].
  S.linears = (arm) => S.header.linears[arm]
    .map((info, i) => [info, i])
    .filter(([[layer, target]]) => (S.layer === "all" || layer === +S.layer) && (S.target === "all" || target === S.target));
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
  S.mean = (values) => {
    const kept = values.filter((v) => v !== null && v !== undefined && Number.isFinite(v));
    return kept.length ? kept.reduce((a, b) => a + b, 0) / kept.length : null;
  };
  S.text = (v, digits = 2) => {
    if (v === null || v === undefined || !Number.isFinite(v)) return "no value";
    const a = Math.abs(v);
    return (a !== 0 && (a < 0.01 || a >= 10000) ? v.toExponential(1) : v.toFixed(a >= 100 ? 0 : digits)).replaceAll("-", "−");
  };

  // A number for people: two digits that count, no more than three in all; rounded as in the sentences (`watch/sentence.py`).
  S.number = (v) => {
    if (v === null || v === undefined || !Number.isFinite(v)) return "–";
    const a = Math.abs(v), text = a === 0 ? "0" : a < 0.001 ? v.toExponential(0) : a < 0.995 ? v.toFixed(a < 0.0095 ? 3 : 2).replace("0.", ".") : a < 9.95 ? v.toFixed(1) : a < 1000 ? v.toFixed(0) : `${+(v / 1000).toPrecision(2)}k`;
    return text.replaceAll("-", "−");
  };
  S.percent = (v, digits = 0) => (v === null || v === undefined ? "–" : `${(+v.toFixed(2 + digits) * 100).toFixed(digits)} %`);
  // The frame at a step, or the last before it.
  S.frameAt = (step) => { let i = 0; while (i + 1 < S.frames.length && S.frames[i + 1].step <= step) i++; return i; };

  S.busy = () => ["waiting", "loading", "running"].includes(S.state);
  // A text that is there already is not written again: that would cost a layout.
  S.write = (el, text) => { if (el.textContent !== text) el.textContent = text; };
  // What a button of the page is called, or "" where it is not there: a text that names one asks it.
  S.button = (id) => { const b = document.getElementById(id); return b ? b.textContent.trim() : ""; };
  S.orRun = () => (S.button("run") ? `, or press ${S.button("run")}` : "");

  S.views = {};
  S.view = (name, view) => { S.views[name] = view; };
  return S;
})();
