// Files of the lab, and recorded runs among them.
((M) => {
  M.url = (path) => new URL(path, `${(window.gradio_config && window.gradio_config.root) || "."}/`.replace(/^\.\//, document.baseURI)).href;
  M.file = (name) => fetch(M.url(`lab/file/${name}`)).then((r) => (r.ok ? r.json() : Promise.reject(new Error(`${name}: ${r.status}`))));

  // A recorded run: fetched once, played at once. `play` false leaves it at its end; a `chosen` one takes the place of a run of one's own.
  const fetched = new Map();
  M.fetchRun = (name) => {
    if (!fetched.has(name)) fetched.set(name, M.file(`runs/${name}.json`));
    return fetched.get(name);
  };
  let wanted = 0; // counts what was asked for: a run that comes after another one was asked for is not shown
  M.recorded = async (name, play = true, chosen = false, quiet = !chosen) => {
    const mine = ++wanted;
    let run;
    try { run = await M.fetchRun(name); } catch (problem) {
      fetched.delete(name);
      Object.assign(M, { note: `The recorded run could not be fetched; try again${M.orRun()}.`, kind: "error" });
      return M.changed("frames");
    }
    if (mine !== wanted || (!chosen && M.header && !M.replay)) return run; // another one is to be shown, or one's own is there
    const { note, kind } = M.kind === "error" && quiet ? M : { note: "", kind: "" }; // a refusal stays till something is done
    M.receive({ ...run, k: "run", run: 0, replay: true, chosen, name, note, kind, state: M.state });
    if (play && !M.calm() && M.play) { M.seek(0); M.play(); }
    return run;
  };
})(window.MoSLD);
