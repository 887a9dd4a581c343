// The lab's own words, each in one sentence: shown on hover, focus and tap wherever they stand.
((M) => {
  M.terms = {
    router: "Router: a small matrix beside each adapted linear that gives every expert a weight for the word at hand.",
    gate: "Gate: the weight, from 0 to 1, with which the router lets an expert take part for one word.",
    expert: "Expert: one low-rank update of the linear; the router decides how much of it each word gets.",
    A: "A: the low-rank matrix next to the input; it squeezes x to a few numbers. In MoSLD all experts share it.",
    B: "B: the low-rank matrix next to the output; each expert has its own, and it starts at zero.",
    W: "W: the weight matrix of the model as it was before; it is frozen and never moves.",
    arm: "Arm: one of the variants that train side by side on the same batches.",
    linear: "Linear: one weight matrix of the model, here a layer's q or v, with an adapter beside it.",
    q: "q: the linear that makes the queries of a layer's attention, what a word looks for.",
    v: "v: the linear that makes the values of a layer's attention, what a word hands on.",
    bit: "Bit: the unit of information; 1 bit is the answer to one yes-or-no question.",
    dropout: "Dropout: a share of the entries of a matrix is set to zero in each step, at random.",
    collapse: "Collapse: the router sends almost everything to few experts and the others stay idle.",
    even: "Even: what each expert would get if all got the same.",
    task: "Task: one kind of question that the mixture is made of.",
    step: "Step: one move of the optimiser; its size is the root mean square of the change of a matrix's entries.",
    gradient: "Gradient: what the loss asks of each entry of a matrix; its size is the root mean square over entries.",
    norm: "Norm: the size of a matrix, the root of the sum of squares of its entries (Frobenius).",
  };
  const forms = { routers: "router", gates: "gate", experts: "expert", arms: "arm", linears: "linear", bits: "bit", tasks: "task", steps: "step", gradients: "gradient", norms: "norm", collapsed: "collapse", Router: "router", Routers: "router", Dropout: "dropout", Experts: "expert" };
  M.term = (word) => (word in M.terms ? word : forms[word] || null);
  // An A that begins a sentence may be the article.
  const words = [...Object.keys(M.terms), ...Object.keys(forms)].map((w) => (w === "A" ? "(?<!^|[.:?!] )A" : w));
  M.termsPattern = new RegExp(`\\b(${words.join("|")})\\b`);
  // Every control has its help from the schema, `M.help` by the knob's name, shown on its label and its field; a task that can be chosen or is
  // chosen has an example question, `M.examples` by its label.
  const asked = (el) => { const name = (el.getAttribute("aria-label") || el.textContent).trim(), text = (M.examples || {})[name]; return text ? `${name}: ${text}` : ""; };
  const find = (target) => {
    const near = (selector) => target.closest && target.closest(selector), task = near(".token, [role=option]"), el = near("[data-term], [data-help], [id^=knob-]");
    if (task && asked(task)) return [task, asked(task)];
    const text = el && (el.dataset.term ? M.terms[el.dataset.term] : el.dataset.help || (M.help || {})[el.id.replace("knob-", "")]);
    return text ? [el, text] : null;
  };
  const tell = (e) => { if (M.hushed) return; const [el, text] = find(e.target) || []; if (el) { const b = el.getBoundingClientRect(); M.tip.show(text, b.x, b.bottom - 12, true); } };
  const hush = (e) => { if (!M.hushed && e.pointerType !== "touch" && find(e.target)) M.tip.hide(); };
  // What Gradio calls "Remove 3" is the button of a task that is chosen.
  const named = () => document.querySelectorAll(".token-remove").forEach((b) => { const title = `Remove ${b.parentNode.textContent.trim()}`; if (b.title !== title) b.title = title; });
  for (const event of ["focusin", "change"]) document.addEventListener(event, named);
  M.on((what) => { if (what === "choice" || what === "room") named(); });
  for (const event of ["pointerover", "focusin", "click"]) document.addEventListener(event, tell);
  for (const event of ["pointerout", "focusout"]) document.addEventListener(event, hush);
  document.addEventListener("keyup", (e) => { // the option that arrow keys have come to
    const option = e.target.closest && e.target.closest("[role=combobox]") && document.getElementById(e.target.getAttribute("aria-activedescendant"));
    if (option && asked(option)) tell({ target: option });
  });
})(window.MoSLD);
