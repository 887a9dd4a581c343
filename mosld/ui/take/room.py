"""The tab that gives a visitor's run to take away: as link, replay, tables, JSON, pictures, adapters, script and notebook.

Files are made when somebody presses a button, from the run as far as it has come.
"""

from __future__ import annotations

from collections.abc import Iterator

import gradio as gr

from mosld.config import ConfigError
from mosld.ui import RUN
from mosld.ui.lab import AT_ONCE, COPY, QUIET, Lab
from mosld.ui.session import say
from mosld.ui.shown import shown
from mosld.ui.take.files import ALL, OFFERS, made

TITLE = "Take away"
TABLES = ("accuracies", "losses", "gates", "norms", "imbalance", "routing")
STATE_HTML = '<h2 class="lab-take-head">Take your run with you</h2><p class="lab-take-run"></p>'
STATE_JS = """
const go = () => {
  const M = window.MoSLD, line = element.querySelector(".lab-take-run");
  if (!M) return setTimeout(go, 20);
  const tell = () => {
    const f = M.shown() && M.frames[M.frames.length - 1], own = M.header && f && !M.replay;
    const text = own ? `${M.header.arms.join(" · ")}, trained on ${M.header.tasks.join(", ")}: ${f.step} of ${M.header.steps} steps.`
      : `There is no run of yours yet: press ${M.button("run")} in Watch, then take it away at any time.`;
    if (line.textContent !== text) line.textContent = text;
  };
  M.on((what) => { if (what === "run" || what === "frames") tell(); });
  tell();
};
go();
"""
SAVE = """(file) => {
  if (!file) return;
  const a = document.createElement("a");
  a.href = file.url;
  a.download = file.orig_name;
  document.body.append(a);
  a.click();
  a.remove();
}"""
ABOUT = '<p class="lab-take-about" data-text="."></p>'


def place(lab: Lab) -> None:
    """Put the list of files on the page."""
    with gr.Column(elem_id="take"):
        gr.HTML(html_template=STATE_HTML, js_on_load=STATE_JS, apply_default_css=False)
        file = gr.DownloadButton(visible="hidden")
        for name, offer in OFFERS.items():
            with gr.Row(elem_classes="take-row"):
                button = gr.Button(offer.button, size="md", variant="primary" if name == "html" else "secondary", elem_id=f"take-{name}")
                shown(ABOUT, offer.about)
                choice = []
                if name == "tables":
                    choice = [gr.Dropdown([ALL, *TABLES], value=ALL, label="Which table", show_label=False, container=False, elem_id="take-table")]
            made = button.click(giver(lab, name), choice, [lab.feed, file], concurrency_id="take", concurrency_limit=2, **QUIET)
            lab.refusable(made).then(None, file, None, js=SAVE, **AT_ONCE)
        with gr.Row(elem_classes="take-row"):
            copy = gr.Button("Link", size="md", elem_id="take-link")
            shown(ABOUT, "The settings of the run as an address, to share or to keep.")
            plain = {"show_label": False, "container": False, "max_lines": 1}
            link = gr.Textbox(label="Link to the run's settings", interactive=False, elem_id="take-address", **plain)
        copy.click(linker(lab), None, [link, lab.feed], **AT_ONCE).then(None, link, link, js=COPY, **AT_ONCE)


def giver(lab: Lab, name: str):
    """The handler of one button."""

    def give(request: gr.Request, table: str = ALL) -> Iterator[tuple[str, str | None]]:
        """Make the file and hand it over, with its size as a sentence."""
        yield say(f"{OFFERS[name].button}: it is being made …"), None
        try:
            path = made(lab.look(request), name, table)
        except ConfigError as problem:
            yield say(str(problem), error=True), None
            return
        yield say(f"{path.name} is made: {path.stat().st_size / 1000:,.0f} kB."), str(path)

    return give


def linker(lab: Lab):
    """The handler that gives the address part which restores the settings of the visitor's run."""

    def address(request: gr.Request) -> tuple[str, str]:
        session = lab.look(request)
        if session.config is None or session.state == "idle":
            return "", say(f"run: there is none yet; press {RUN} first. 'Link', beside the settings, copies those shown.", error=True)
        return lab.handlers.address(session.config)

    return address
