"""Text on the page: `shown(markup, value)` is the one way in which a component shows what a visitor, a link, a file or a task may have worded.

Gradio fills `{{…}}` of an `html_template` and then EVALUATES the result as a JavaScript template literal: `${…}`, a backtick or a backslash in a
task's name is code, or breaks the component. So no template of this page has a hole in it. Markup is fixed, the value travels as data, and the
script below sets it as text. In the markup, on any element:

- `data-text="name"`: its text is value[name]; `data-text="."` is the value (or the item) itself.
- `data-if="name"`: it is there only where value[name] is something.
- `data-each="name"`: it is there once for each item of value[name]; inside, names are those of the item.
- `data-set="class:kind title:words"`: attributes; of `href` only addresses on this page (`?…`, `#…`); `width` and `left` are styles, in percent.

- `table(...)`: the markup of a table with a note above it and sentences below. `BAR`: in place of a column's name, a bar of `percent` with `marks`.
"""

from __future__ import annotations

import re

import gradio as gr

_JS = """
const take = (data, name) => (name === "." ? data : data === null || typeof data !== "object" ? undefined : data[name]);
const text = (v) => (v === null || v === undefined || typeof v === "object" ? "" : String(v));
function fill(node, data) {
  const { if: when, each, text: words, set } = node.dataset;
  if (each !== undefined) {
    const items = take(data, each);
    delete node.dataset.each;
    for (const item of Array.isArray(items) ? items : []) {
      const copy = node.cloneNode(true);
      node.before(copy);
      fill(copy, item);
    }
    return node.remove();
  }
  if (when !== undefined) {
    const there = take(data, when);
    if (!there || (Array.isArray(there) && !there.length)) return node.remove();
    delete node.dataset.if;
  }
  for (const pair of (set || "").split(" ").filter(Boolean)) {
    const [name, from] = pair.split(":"), value = text(take(data, from));
    if (name === "width" || name === "left") node.style[name] = `${+value || 0}%`;
    else if (name === "href" ? /^[?#]/.test(value) : /^(class|title|id|aria-[a-z]+|data-[a-z]+)$/.test(name)) node.setAttribute(name, value);
  }
  delete node.dataset.set;
  if (words === undefined) return [...node.children].forEach((child) => fill(child, data));
  delete node.dataset.text;
  node.textContent = text(take(data, words));
}
const form = element.querySelector("template.lab-form");
const show = () => {
  const whole = form.content.cloneNode(true);
  [...whole.children].forEach((node) => fill(node, props.value === undefined ? null : props.value));
  while (form.nextSibling) form.nextSibling.remove();
  element.append(whole);
};
watch("value", show);
show();
"""


def shown(markup: str, value=None, js: str = "", **settings) -> gr.HTML:
    """A component that shows `value` (a dict, list or text) in fixed `markup`. `js` runs after it is first filled, with Gradio's names
    (element, props, trigger, watch). `settings` go to gr.HTML. Raises ValueError for markup that Gradio would evaluate.
    """
    if re.search(r"\{\{|\$\{|[`\\]", markup):
        raise ValueError("markup: it has a template's signs in it; use data-text, data-if, data-each and data-set.")
    template = f'<template class="lab-form">{markup}</template>'
    script = f"{{{_JS}}}\n{js}"
    return gr.HTML(value, html_template=template, js_on_load=script, apply_default_css=False, **settings)


BAR = '<span class="lab-bar"><i data-set="width:percent"></i><b data-each="marks" data-set="left:at class:kind"></b></span>'


def table(name: str, title: str, about: str, **columns: str) -> str:
    """Markup of a table: its head to the names of values in a row, the first of which heads the row. Its data: note, rows, words.

    `about` is read aloud; a column's value that is markup is put there as it is.
    """
    heads = "".join(f'<th scope="col">{head}</th>' for head in columns)
    first, *others = columns.values()
    cells = "".join(f"<td>{value}</td>" if value.startswith("<") else f'<td data-text="{value}"></td>' for value in others)
    box = f'<div class="lab-scroll" role="region" aria-label="{about}" tabindex="0" data-if="rows">'
    row = f'<tr data-each="rows"><th scope="row" data-text="{first}"></th>{cells}</tr>'
    return (
        f'<section class="lab-figure lab-shelf" aria-labelledby="{name}-title"><h2 id="{name}-title">{title}</h2>'
        f'<p class="lab-shows" role="status" data-text="note"></p>{box}<table><thead><tr>{heads}</tr></thead><tbody>{row}</tbody></table></div>'
        '<p data-each="words" data-text="."></p></section>'
    )
