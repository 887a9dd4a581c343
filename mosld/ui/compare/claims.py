"""What the study found on the paper's claims, each with its verdict, read from files, so that it costs no place and no run; and a quick
version of each, run live by a button, whose result stands beside the stored one.

Quick runs lie in the visitor's folder under `claims/`; what has ended is not trained again.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import gradio as gr
from gradio.context import get_render_context

from mosld.config import ConfigError
from mosld.ui.lab import AT_ONCE, Lab
from mosld.ui.limits import Limits
from mosld.ui.session import Session
from mosld.ui.shown import shown
from mosld.ui.work import Desk, Say, Work

if TYPE_CHECKING:
    from mosld.studies.claims.claim import Setting

TITLE = "Claims"
WORK = "compare-claims"
SETTING = "nano-world"
MARKUP = (
    '<section class="lab-figure lab-shelf" aria-labelledby="claims-title"><h2 id="claims-title">What holds of the paper, here</h2>'
    '<p class="lab-shows">Each claim was registered before it was run. Recipe: the paper\'s own settings; tuned: every method with its best rate.'
    " A quick version has a tenth of the steps and three seeds: it shows the direction at most.</p>"
    '<div class="lab-scroll" role="region" aria-label="Table of claims" tabindex="0"><table class="lab-claims"><thead><tr><th scope="col">Claim</th>'
    '<th scope="col">Recipe</th><th scope="col">Tuned</th><th scope="col">Here</th></tr></thead><tbody>'
    '<tr data-each="rows" data-set="id:anchor"><th scope="row"><b data-text="title"></b><small data-text="plain"></small>'
    '<small>The paper: <span data-text="says"></span></small>'
    '</th><td data-text="recipe"></td><td data-text="tuned"></td><td><span data-text="figure"></span>'
    '<button type="button" class="lab-quick" data-set="data-claim:id aria-label:what">Run a quick version</button>'
    '<small data-if="told" role="status" data-text="told"></small><small data-each="live" data-text="."></small></td></tr></tbody></table></div>'
    '<p class="lab-shows" data-if="note" data-text="note"></p></section>'
)
PRESS = "element.addEventListener('click', (e) => { const b = e.target.closest('[data-claim]'); if (b) trigger('quick', { id: b.dataset.claim }); });"


class Quick(Work):
    """One press of a button: a claim's deciding arms, three seeds each, at a tenth of the steps; and what came out so far."""

    def __init__(self, claim: str, folder: Path, limits: Limits, setting: Setting | None = None):
        super().__init__(self.train, limits.seconds)
        self.claim, self.folder, self.limits, self.setting = claim, folder, limits, setting
        self.live: list[str] = []

    def train(self, say: Say) -> str:
        from mosld.studies.claims.arms import SETTINGS, quick
        from mosld.studies.claims.report import live
        from mosld.studies.claims.results import add, load
        from mosld.studies.claims.run import missing, quick_wishes, stacks, train
        from mosld.studies.claims.writing import counts

        if self.claim == "C1":  # arithmetic
            n = counts()
            self.live = [f"Counted now: {', '.join(f'{name} {value:,}' for name, value in n.items())}."]
            return "Arithmetic: nothing is trained."
        setting = self.setting or quick(SETTINGS[SETTING])
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        known, wishes = load(self.folder), quick_wishes([self.claim], setting)
        for wish in wishes:
            self.limits.check(wish.job.config)
        groups = stacks(missing(wishes, known), 1)
        for number, group in enumerate(groups, 1):
            say(f"Run {number} of {len(groups)}: {group[0].arm}, seed {group[0].job.config.seed} …")
            records = train(group, setting, deadline=time.time() + self.seconds)
            add(self.folder, group[0].job.key, records)
            known |= {r["key"]: r for r in records}
        self.live = [f"Here, on nano: {r['label']} {r['figure']}; {r['verdict']}. Stored: {r['stored']}." for r in live([self.claim], setting, known)]
        return "A tenth of the steps settles nothing."


def place(lab: Lab) -> None:
    """Put the table on the page; it is read anew whenever the tab is opened."""
    tab = get_render_context()
    table = shown(MARKUP, found(), PRESS, elem_id="claims")
    desk = Desk(lab, WORK, lambda work, sentence, _: (found(work, sentence),), [table])
    desk.wire((table.quick, None, plan))

    def opened(request: gr.Request) -> dict:
        return found(desk.work(request))

    tab.select(opened, None, table, **AT_ONCE)


def plan(session: Session, data) -> Quick:
    """The quick version of the claim whose button was pressed. Raises ConfigError."""
    chosen = str((data or {}).get("id"))
    if chosen not in {row["id"] for row in found()["rows"]}:
        raise ConfigError(f"claim: '{chosen[:20]}' is not there; press one of the buttons.")
    return Quick(chosen, session.folder / "claims", session.limits)


def found(work: Quick | None = None, told: str = "") -> dict:
    """Rows for MARKUP; what a quick version says stands in its claim's."""
    from mosld.studies.claims.report import rows

    out = []
    for c in rows():
        own = work is not None and work.claim == c["id"]
        words = {"anchor": f"claim-{c['id']}", "title": f"{c['id']}. {c['title']}", "what": f"Run a quick version of {c['id']}"}
        live = {"told": told, "live": work.live} if own else {"told": "", "live": []}
        out.append({"id": c["id"], "plain": c["plain"], "says": c["says"], **c["verdict"], "figure": c["figure"] or "–", **words, **live})
    ran = any(row["recipe"] != "not run" or row["tuned"] != "not run" for row in out)
    return {"rows": out, "note": "" if ran else "No results are stored in this copy yet; python -m mosld claims makes them."}
