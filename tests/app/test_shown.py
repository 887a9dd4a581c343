"""No text of a visitor goes through a template of Gradio: the source, the components of the page, and the helper that shows text instead."""

import re
from pathlib import Path

import gradio as gr
import pytest

import mosld.ui
from mosld.ui.page import build
from mosld.ui.shown import shown

UI = Path(mosld.ui.__file__).parent


def test_no_component_of_the_page_has_a_template_with_a_hole():
    found = [block for block in build().blocks.values() if isinstance(block, gr.HTML)]
    assert len(found) > 5
    for block in found:  # gr.HTML's own default is "${value}"
        assert not re.search(r"\{\{|\$\{|`|\\|@children", block.html_template), block.elem_id or block.html_template[:200]
        assert not re.search(r"\{\{|\$\{", block.css_template or ""), block.elem_id


@pytest.mark.parametrize(
    "sign", ["innerHTML", "insertAdjacentHTML", "document.write", "{{value", "{{this", "{{#", "gr.Markdown", "gr.Info", "gr.Warning"]
)
def test_no_source_of_the_page_makes_markup_of_text(sign):
    sources = [p for p in UI.rglob("*") if p.suffix in (".py", ".js")]
    assert len(sources) > 20 and [str(p) for p in sources if sign in p.read_text(encoding="utf-8")] == []


@pytest.mark.parametrize("markup", ["<p>{{value}}</p>", "<p>${value}</p>", "<p>`</p>", "<p>\\</p>"])
def test_markup_that_would_be_evaluated_is_refused(markup):
    with pytest.raises(ValueError, match="data-text"), gr.Blocks():
        shown(markup)
