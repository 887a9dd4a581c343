"""What a link, a field, a file or a task words is shown as it is worded: never evaluated, never markup."""

import json

import pytest

CODE = "${window.hit=1}`\\x{{1}}<b onclick=hit>"


@pytest.fixture
def calm(visit):
    """visit(link), and at the end nothing of what was shown has been evaluated or became an element."""
    pages = []
    yield lambda link="": pages.append(visit(link)) or pages[-1]
    for page in pages:
        assert page.evaluate("window.hit === undefined && document.querySelectorAll('b[onclick]').length === 0")


@pytest.mark.parametrize("key", ["tg", "t", "m"])
def test_a_link(calm, key):
    page = calm(f"?c=1!{key}.%24%7Bwindow.hit%3D1%7D%60")
    page.wait_for_function("document.body.textContent.includes('${window.hit=1}`')")


def test_the_shown_helper_takes_every_kind_of_text(calm):
    """The helper on its own, in a page of Gradio: text, a condition, items, attributes, and a value that changes."""
    page = calm()
    page.evaluate(
        """(code) => {
          const form = document.createElement('div');
          form.id = 'trial';
          form.append(Object.assign(document.createElement('template'), { className: 'lab-form' }));
          const make = (tag, data) => { const e = document.createElement(tag); Object.assign(e.dataset, data); return e; };
          form.firstChild.content.append(make('p', { text: 'a' }), make('i', { if: 'none', text: 'a' }),
            make('li', { each: 'all', text: '.', set: '' }), make('a', { set: 'href:a title:a onclick:a' }));
          document.body.append(form);
          const props = { value: { a: code, all: [code, 2] } };
          let again;
          const script = Object.values(window.MoSLDScripts).find((f) => f.toString().includes('lab-form'));
          script(form, () => {}, props, {}, null, (_, f) => { again = f; });
          again();
        }""",
        CODE,
    )
    read = "(s) => [...document.querySelectorAll('#trial ' + s)].map((e) => e.textContent)"
    assert page.evaluate(read, "p") == [CODE] and page.evaluate(read, "li") == [CODE, "2"] and page.evaluate(read, "i") == []
    assert page.get_attribute("#trial a", "title") == CODE and page.evaluate("document.querySelector('#trial a').attributes.length") == 1


def test_a_field_and_a_file(calm, tmp_path):
    page = calm()
    page.click("#fold-all > button")
    page.click("#fold-tasks > button")
    page.fill("#knob-weights input, #knob-weights textarea", "1,${window.hit=1}\\`")
    page.keyboard.press("Tab")
    page.wait_for_function("document.querySelector('#facts').textContent.includes('${window.hit=1}\\\\`')")
    page.fill("#knob-weights input, #knob-weights textarea", "")
    rows = [json.dumps({"question": f"{CODE} {n}?", "options": [CODE, "no"], "answer": n % 2}) for n in range(60)]
    file = tmp_path / "${window.hit=1}`.jsonl"
    file.write_text("\n".join([*rows, "{"]))
    page.click("#fold-own > button")
    page.set_input_files("#fold-own input[type=file]", str(file))
    page.wait_for_function("document.querySelector('#own-read').textContent.includes('line 61')")
    assert CODE in page.text_content("#own-read")
