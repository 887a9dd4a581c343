"""What a view is: its sentences, its choices, and the markup of its figure."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path

HERE = Path(__file__).parent


@dataclass(frozen=True)
class View:
    """One picture. `shows` is its one line, `defines` are paragraphs shown on demand.

    A live one draws the run's frames; a still one (`live=False`) draws the JSON text that its component has as value. `file`: the script that
    draws it, where it has not the view's name.
    """

    name: str
    title: str
    shows: str
    defines: tuple[str, ...]
    choices: tuple[tuple[str, str, tuple[tuple[str, str], ...]], ...] = ()
    live: bool = True
    file: str = ""

    def html(self) -> str:
        """A figure. Nothing in it changes while frames arrive but what the script draws."""
        choices = "".join(_select(self.name, *c) for c in self.choices)
        defines = "".join(f"<p>{escape(p)}</p>" for p in self.defines)
        return (
            f'<figure class="lab-figure" id="figure-{self.name}"><figcaption><div><h2>{escape(self.title)}</h2>'
            f'<p class="lab-shows">{escape(self.shows)}</p></div><div class="lab-choices">{choices}</div></figcaption>'
            '<div class="lab-drawing"></div>'
            f'<details><summary>Definition and numbers in words</summary>{defines}<p class="lab-say"></p></details></figure>'
        )

    def javascript(self) -> str:
        """What runs once the figure is on the page: the view's own script, then mount, as soon as the shared scripts are there."""
        place = f"mount('{self.name}', element)" if self.live else f"still('{self.name}', element, () => props.value, watch)"
        return after(f"{self.script()}\nM.{place}")

    def script(self) -> str:
        return script(self.file or self.name)


def after(code: str) -> str:
    """Code for a component's js_on_load that waits for the page's scripts (`canvas/page.py`); in it M is the store."""
    return f"const go = () => {{ const M = window.MoSLD; if (!M || !M.there) return setTimeout(go, 15);\n{code}; }};\ngo();"


def _select(view: str, name: str, label: str, values: tuple[tuple[str, str], ...]) -> str:
    options = "".join(f'<option value="{escape(v)}">{escape(text)}</option>' for v, text in values)
    return f'<label>{escape(label)} <select data-choose="{name}" id="{view}-{name}">{options}</select></label>'


def script(name: str) -> str:
    """The JavaScript file of that name in this folder."""
    return (HERE / f"{name}.js").read_text(encoding="utf-8")
