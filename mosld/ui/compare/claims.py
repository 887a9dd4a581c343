"""What the study found on the paper's claims, each with its verdict; read from files, so it costs no place and no run."""

from __future__ import annotations

from gradio.context import get_render_context

from mosld.ui.lab import AT_ONCE, Lab
from mosld.ui.shown import shown

TITLE = "Claims"
MARKUP = (
    '<section class="lab-figure lab-shelf" aria-labelledby="claims-title"><h2 id="claims-title">What holds of the paper, here</h2>'
    '<p class="lab-shows">Each claim was registered before it was run. Recipe: the paper\'s own settings; tuned: every method with its best rate.</p>'
    '<div class="lab-scroll" role="region" aria-label="Table of claims" tabindex="0"><table class="lab-claims"><thead><tr><th scope="col">Claim</th>'
    '<th scope="col">Recipe</th><th scope="col">Tuned</th><th scope="col">Here</th></tr></thead><tbody>'
    '<tr data-each="rows"><th scope="row"><b data-text="title"></b><small data-text="plain"></small>'
    '<small>The paper: <span data-text="says"></span></small>'
    '</th><td data-text="recipe"></td><td data-text="tuned"></td><td data-text="figure"></td></tr></tbody></table></div>'
    '<p class="lab-shows" data-if="note" data-text="note"></p></section>'
)


def place(lab: Lab) -> None:
    """Put the table on the page; it is read anew whenever the tab is opened."""
    tab = get_render_context()
    table = shown(MARKUP, found(), elem_id="claims")
    tab.select(found, None, table, **AT_ONCE)


def found() -> dict:
    """Rows for MARKUP."""
    from mosld.studies.claims.report import rows

    claims = rows()
    out = [
        {
            "title": f"{c['id']}. {c['title']}",
            "plain": c["plain"],
            "says": c["says"],
            "recipe": c["verdict"]["recipe"],
            "tuned": c["verdict"]["tuned"],
            "figure": c["figure"] or "–",
        }
        for c in claims
    ]
    ran = any(row["recipe"] != "not run" or row["tuned"] != "not run" for row in out)
    return {"rows": out, "note": "" if ran else "No results are stored in this copy yet; python -m mosld claims makes them."}
