"""A user's own file: what is read, what is refused and with which sentence."""

import json

import pytest

from mosld.config import ConfigError
from mosld.tasks import own


def row(n, options=("yes", "no"), answer=0, **more):
    return {"question": f"Is {n} a number?", "options": list(options), "answer": answer, **more}


def write(folder, rows, name="mine.jsonl"):
    path = folder / name
    path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in rows) + "\n", encoding="utf-8")
    return str(path)


GOOD = [row(n, answer=n % 2) for n in range(20)]


def right(examples):
    """Question without instruction -> text of the right option."""
    return {e.question.split(": ", 1)[1]: e.options[e.answer] for e in examples}


def test_labels_are_recognised_and_put_in_one_order(tmp_path):
    rows = [row(n, ("yes", "no") if n % 3 else ("no", "yes"), "yes") for n in range(20)]
    t = own.load(write(tmp_path, rows))
    every = t.train + t.validation + t.test
    assert t.info.kind == "labels" and t.info.suite == "own" and {e.options for e in every} == {("no", "yes")}
    assert right(every) == {f"Is {n} a number?": "yes" for n in range(20)}
    assert (len(t.train), len(t.validation), len(t.test)) == (14, 3, 3)


def test_free_options_are_shuffled_and_the_answer_goes_along(tmp_path):
    rows = [row(n, (f"right {n}", f"wrong {n}", f"bad {n}"), 0) for n in range(300)]
    t = own.load(write(tmp_path, rows))
    every = t.train + t.validation + t.test
    assert t.info.kind == "options"
    assert right(every) == {f"Is {n} a number?": f"right {n}" for n in range(300)}
    assert all(60 < sum(e.answer == place for e in every) < 140 for place in range(3))  # 100, deviation 8.2


def test_the_seed_decides_the_split(tmp_path):
    path = write(tmp_path, GOOD)
    assert own.load(path, 1) == own.load(path, 1)
    assert own.load(path, 1).test != own.load(path, 2).test


def test_a_question_is_in_one_part_only_and_repeats_count_once(tmp_path):
    pairs = [row(n, options, 0) for n in range(30) for options in ((f"a{n}", f"b{n}"), (f"c{n}", f"d{n}"), (f"a{n}", f"b{n}"))]
    pairs.append({**pairs[0], "question": "  is 0 A\nnumber? ", "options": ["e", "f"]})
    t = own.load(write(tmp_path, pairs))
    parts = [{e.question.casefold() for e in part} for part in (t.train, t.validation, t.test)]
    assert sum(map(len, parts)) == len(set().union(*parts)) == 30
    assert len(t.train + t.validation + t.test) == 61


def test_a_repeated_option_counts_once(tmp_path):
    t = own.load(write(tmp_path, [row(n, ("x", "y", "x", f"z{n}"), 3) for n in range(12)]))
    assert all(len(e.options) == 3 and e.options[e.answer].startswith("z") for e in t.train)


def test_csv(tmp_path):
    lines = ["answer,question,options"] + [f'"1","What, if {n}?",one|two|three' for n in range(11)] + ['three,"Two\nlines?",one|two|three']
    t = own.load(write(tmp_path, lines, "my-file.CSV"))
    answers = right(t.train + t.validation + t.test)
    assert answers["What, if 3?"] == "two" and answers["Two lines?"] == "three"
    assert t.train[0].question.startswith("my file: ")


def test_csv_takes_a_number_that_is_an_option_as_that_option(tmp_path):
    t = own.load(write(tmp_path, ["question,options,answer"] + [f"{n}?,2|1|0,2" for n in range(12)], "n.csv"))
    assert set(right(t.train).values()) == {"2"}


BAD_LINES = [
    ("{", "not one JSON object"),
    ("[1]", "not a JSON object"),
    ("[" * 100_000, "not one JSON object"),
    ("9" * 5000, "not one JSON object"),
    ({"question": "q", "options": ["a", "b"]}, "'answer' is missing"),
    (row(1, answer=2), "answer 2 is not the place"),
    (row(1, answer=-1), "answer -1 is not the place"),
    (row(1, answer=True), "answer must be a text or a whole number"),
    (row(1, answer=None), "answer must be a text or a whole number"),
    (row(1, answer="maybe"), "'maybe' is not among"),
    (row(1, ("a",)), "has 1 different"),
    (row(1, ("a", " a ")), "has 1 different"),
    (row(1, [str(n) for n in range(11)]), "has 11 different"),
    (row(1, ("a", "b" * 501)), "option has 501 characters"),
    (row(1, ("a", "  ")), "option has 0 characters"),
    (row(1, ("a", 3)), "option must be a text"),
    ({**row(1), "options": "a|b"}, "options is not a list"),
    ({**row(1), "question": "q" * 2001}, "question has 2001 characters"),
    ({**row(1), "question": "\ud800?"}, "question is not Unicode"),
]


@pytest.mark.parametrize("bad, reason", BAD_LINES, ids=[reason for _, reason in BAD_LINES])
def test_a_bad_row_is_named_by_file_and_line(tmp_path, bad, reason):
    path = write(tmp_path, [*GOOD[:6], "", bad, *GOOD[6:]])
    with pytest.raises(ConfigError) as error:
        own.load(path)
    message = str(error.value)
    assert message.startswith("mine.jsonl, line 8: ") and reason in message and message.endswith(".") and "\n" not in message and len(message) < 200


@pytest.mark.parametrize(
    "lines, where",
    [
        (["question,answer", "q,a"], "line 1: the header must be question,options,answer"),
        ([], "line 1: the header must be"),
        (["question,options,answer", "q,a|b,a", "q,r,a|b,a"], "line 3: there are 4 columns"),
        (["question,options,answer", '"q\nr",a|b,a', 'q,"a|b,a', "q,a|b,a"], "line 4: this is not CSV"),
        (["question,options,answer", "q,a|b,7"], "line 2: answer 7 is not the place"),
        (["question,options,answer", "q,a|b,a", "q,a|b,"], "line 3: answer has 0 characters"),
    ],
)
def test_a_bad_csv_is_named_by_file_and_line(tmp_path, lines, where):
    with pytest.raises(ConfigError) as error:
        own.load(write(tmp_path, lines, "mine.csv"))
    assert f"mine.csv, {where}" in str(error.value)


def test_limits_of_the_file(tmp_path):
    with pytest.raises(ConfigError, match=r"mine.jsonl, line 11: the file ends with 11 different questions; at least 12"):
        own.load(write(tmp_path, GOOD[:11]))
    assert len(own.load(write(tmp_path, GOOD[:12])).train) == 8
    with pytest.raises(ConfigError, match=r"big.jsonl: the file is too large; at most 1,000,000 bytes"):
        own.load(write(tmp_path, ["x" * 1_000_000], "big.jsonl"))
    short = ["question,options,answer"] + [f"{n},a|b,a" for n in range(20_001)]
    with pytest.raises(ConfigError, match=r"long.csv, line 20002: there are too many rows; at most 20000"):
        own.load(write(tmp_path, short, "long.csv"))
    assert len(own.load(write(tmp_path, short[:-1], "long.csv")).train) == 14_000


def test_what_is_not_a_text_file(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_bytes(b'{"question": "a"}\n\n{"question": "\xff"}\n')
    with pytest.raises(ConfigError, match=r"mine.jsonl, line 3: this is not UTF-8"):
        own.load(str(path))
    for name in (tmp_path / "none.csv", tmp_path, "a\0.csv", "x" * 5000 + ".csv"):
        with pytest.raises(ConfigError, match="is not a file"):
            own.load(str(name))


def test_a_byte_order_mark_and_other_line_ends_are_read(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(json.dumps(r) for r in GOOD).encode())
    assert len(own.load(str(path)).train) == 14
