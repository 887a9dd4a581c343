"""Cleaning and splitting of rows, on rows made by hand."""

import collections

import pytest

from mosld.tasks.rows import MOST_TEST, MOST_VALIDATION, Row, clean, dump, normalised, parse, split


def made(count, group_size=1, tested=0):
    """Rows with distinct questions; `group_size` neighbours share a group; the last `tested` are kept for testing by the publisher."""
    return clean(Row(f"Ask: what is number {i}", ("left", "right"), i % 2, f"story {i // group_size}", i >= count - tested) for i in range(count))


def test_clean_drops_repeats_and_rows_without_a_clear_answer():
    rows = [
        Row("Ask:  What is\nred?", (" a rose ", "a leaf"), 0),
        Row("ask: what IS red", ("a rose", "a leaf"), 1),  # the same question but for case and punctuation
        Row("Ask: two alike", ("a leaf", "A leaf"), 0),
        Row("Ask: nothing there", ("a leaf", " "), 0),
        Row("Ask: one only", ("a leaf",), 0),
        Row("Ask: answer missing", ("a rose", "a leaf"), 2),
        Row("Ask: " + "word " * 1000, ("yes", "no"), 1),
    ]
    first, long = clean(rows)
    assert (first.question, first.options, first.answer) == ("Ask: What is red?", ("a rose", "a leaf"), 0)
    assert len(long.question) <= 2000 and long.question.endswith(" word")


@pytest.mark.parametrize(
    "count, sizes",
    [(50, (30, 10, 10)), (1000, (600, 200, 200)), (2000, (1300, 300, 400)), (5000, (4200, 300, 500))],
)
def test_sizes_are_a_fifth_each_up_to_the_caps(count, sizes):
    assert tuple(map(len, split(made(count), seed=0))) == sizes


def test_a_group_stays_in_one_part():
    rows = made(700, group_size=7)
    group = {row.question: row.group for row in rows}
    parts = split(rows, seed=3)
    groups = [{group[e.question] for e in part} for part in parts]
    assert not groups[0] & groups[1] and not groups[0] & groups[2] and not groups[1] & groups[2]
    assert tuple(map(len, parts)) == (420, 140, 140)  # 140 is 20 whole groups
    # 102 rows in groups of 17: a fifth is 20 rows, for which two groups are needed; the 14 rows that are over go nowhere.
    assert tuple(map(len, split(made(102, group_size=17), seed=0))) == (34, 20, 20)


def test_the_seed_decides():
    rows = made(300)
    assert split(rows, 5) == split(rows, 5)
    test_5, test_6 = ({e.question for e in split(rows, seed)[2]} for seed in (5, 6))
    assert 2 <= len(test_5 & test_6) <= 25  # of 60; by chance 12


def test_rows_that_the_publisher_keeps_for_testing_are_the_test_part():
    rows = made(400, group_size=2, tested=101)  # row 299 is kept for testing, row 298 of the same story is not
    train, validation, test = split(rows, seed=0)
    number = lambda e: int(e.question.rsplit(" ", 1)[1])  # noqa: E731
    assert sorted(map(number, test)) == list(range(299, 400))
    assert sorted(map(number, train + validation)) == list(range(298))
    assert len(validation) == 80
    assert len(split(made(4000, tested=900), seed=0)[2]) == MOST_TEST
    assert len(split(made(4000, tested=900), seed=0)[1]) == MOST_VALIDATION


def test_shuffled_options_keep_the_answer_and_fill_every_place():
    rows = clean(Row(f"Ask: number {i}", ("right", "b", "c", "d"), 0) for i in range(2000))
    examples = [e for part in split(rows, seed=1, shuffle_options=True) for e in part]
    assert {e.options[e.answer] for e in examples} == {"right"} and {frozenset(e.options) for e in examples} == {frozenset(rows[0].options)}
    places = collections.Counter(e.answer for e in examples)
    assert sum((places[i] - 500) ** 2 / 500 for i in range(4)) < 16.27  # chi-square with 3 degrees of freedom, p = .001


def test_the_file_form_and_a_file_cut_short():
    rows = clean([Row("Ask: café\u2028 or tea", ("yes", "no"), 1, "menu", True), Row("Ask: b", ("x", "y", "z"), 2)])
    text = dump({"source": "made here"}, rows)
    assert parse(text) == ({"source": "made here", "rows": 2}, rows)
    lines = text.splitlines(keepends=True)
    for short in (text[:-20], "".join(lines[:2]), ""):
        with pytest.raises(ValueError):
            parse(short)


def test_normalised_ignores_case_spaces_and_punctuation_only():
    assert normalised("  It's  RED!") == normalised("it s red") != normalised("it is red")
