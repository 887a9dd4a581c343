"""A user's own file: which shapes are read, what is left out and said, what is refused and with which sentence."""

import gzip
import json

import pandas as pd
import pytest

from mosld import tasks
from mosld.config import ConfigError
from mosld.tasks import own

N = 24  # rows of the small files made here


def rows_of(task):
    return task.train + task.validation + task.test


def right(task):
    """Question -> text of the right option, over all parts."""
    return {e.question: e.options[e.answer] for e in rows_of(task)}


def jsonl(folder, rows, name="mine.jsonl"):
    path = folder / name
    path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in rows) + "\n", encoding="utf-8")
    return str(path)


def csv(folder, lines, name="mine.csv", encoding="utf-8"):
    path = folder / name
    path.write_bytes("\n".join(lines).encode(encoding))
    return str(path)


def letter(n, k=3):
    return "ABCDEFGH"[n % k]


def texts(n, k=3):
    return [f"{c} of {n}" for c in ("first", "second", "third", "fourth")[:k]]


# One row of each shape, by its number n; the right option is always number n % k, and is called by `texts`.
SHAPES = {
    "the lab's own": lambda n: {"question": f"q {n}", "options": texts(n), "answer": n % 3},
    "answer as a text": lambda n: {"question": f"q {n}", "options": texts(n), "answer": texts(n)[n % 3]},
    "answer as a letter": lambda n: {"Question": f"q {n}", "Options": texts(n), "Answer": letter(n)},
    "ARC, OpenBookQA, CommonsenseQA on the hub": lambda n: {
        "id": f"x{n}",
        "question_stem" if n < 0 else "question": f"q {n}",
        "question_concept": "thing",
        "choices": {"label": ["A", "B", "C"], "text": texts(n)},
        "answerKey": letter(n),
    },
    "ARC with labels 1, 2, 3": lambda n: {"question": f"q {n}", "choices": {"text": texts(n), "label": ["1", "2", "3"]}, "answerKey": str(n % 3 + 1)},
    "OpenBookQA's stem": lambda n: {"question_stem": f"q {n}", "choices": {"text": texts(n), "label": ["A", "B", "C"]}, "answerKey": letter(n)},
    "AI2's first form": lambda n: {
        "question": {"stem": f"q {n}", "choices": [{"text": t, "label": c} for t, c in zip(texts(n), "ABC", strict=True)]},
        "answerKey": letter(n),
    },
    "HellaSwag": lambda n: {"ind": n, "activity_label": "A", "ctx": f"q {n}", "endings": texts(n), "source_id": f"s{n}", "label": str(n % 3)},
    "PIQA": lambda n: {"goal": f"q {n}", "sol1": texts(n, 2)[0], "sol2": texts(n, 2)[1], "label": n % 2},
    "WinoGrande": lambda n: {"sentence": f"q {n}", "option1": texts(n, 2)[0], "option2": texts(n, 2)[1], "answer": str(n % 2 + 1)},
    "Social IQa": lambda n: {
        "context": f"c{n}",
        "question": f"q {n}",
        "answerA": texts(n)[0],
        "answerB": texts(n)[1],
        "answerC": texts(n)[2],
        "label": str(n % 3 + 1),
    },
    "RACE": lambda n: {"example_id": f"{n}.txt", "article": f"a{n}", "question": f"q {n}", "options": texts(n), "answer": letter(n)},
    "MCTest": lambda n: {
        "story": f"a{n}",
        "question": f"q {n}",
        "answer_options": dict(zip("ABC", texts(n), strict=True)),
        "answer": letter(n),
    },
    "MMLU": lambda n: {"question": f"q {n}", "subject": "law", "choices": texts(n), "answer": n % 3},
    "SWAG": lambda n: {"sent1": f"q {n}", "sent2": f"a{n}", **{f"ending{i}": t for i, t in enumerate(texts(n))}, "label": n % 3},
    "MedMCQA": lambda n: {"question": f"q {n}", "opa": texts(n)[0], "opb": texts(n)[1], "opc": texts(n)[2], "cop": n % 3},
    "columns A B C": lambda n: {"question": f"q {n}", "A": texts(n)[0], "B": texts(n)[1], "C": texts(n)[2], "answer": letter(n)},
    "options in one cell": lambda n: {"question": f"q {n}", "options": "|".join(texts(n)), "answer": texts(n)[n % 3]},
    "options as JSON in a cell": lambda n: {"question": f"q {n}", "options": json.dumps(texts(n)), "correct_answer": f"({letter(n)})"},
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("form", ["jsonl", "array", "csv", "parquet"])
def test_questions_with_options(tmp_path, shape, form):
    rows = [SHAPES[shape](n) for n in range(N)]
    if form == "jsonl":
        path = jsonl(tmp_path, rows)
    elif form == "array":
        path = tmp_path / "mine.json"
        path.write_text(json.dumps(rows, indent=1))
    elif form == "parquet":
        path = tmp_path / "mine.parquet"
        pd.DataFrame(rows).to_parquet(path)
    else:
        flat = [{k: json.dumps(v) if isinstance(v, (list, dict)) else v for k, v in r.items()} for r in rows]
        if isinstance(rows[0].get("question"), dict):
            pytest.skip("a question that is itself an object has no place in a spreadsheet")
        path = tmp_path / "mine.csv"
        pd.DataFrame(flat).to_csv(path, index=False)
    task = own.load(path)
    every = rows_of(task)
    assert len(every) == N and task.info.kind == "options"
    k = len(every[0].options)
    for e in every:
        n = int("".join(c for c in e.question.split("q ")[1] if c.isdigit() or c == " ").split()[0])
        assert e.options[e.answer] == texts(n)[n % k] and sorted(e.options) == sorted(texts(n, k))


CLASSES = {
    "text,label": (["text,label"], lambda n: f"words {n},{n % 2}", ("0", "1")),
    "sentence,label": (["sentence,label"], lambda n: f"words {n},{'pos' if n % 2 else 'neg'}", ("neg", "pos")),
    "text and category": (["Category;Text"], lambda n: f"{('tech', 'sport', 'art')[n % 3]};words {n}", ("art", "sport", "tech")),
    "spam": (["label\tmessage"], lambda n: f"{'spam' if n % 2 else 'ham'}\twords {n}", ("ham", "spam")),
    "AG News": (["Class Index,Title,Description"], lambda n: f'{n % 4 + 1},"words {n}","more, of it"', ("1", "2", "3", "4")),
    "names beside numbers": (["text,label,label_text"], lambda n: f"words {n},{n % 2},{'good' if n % 2 else 'bad'}", ("bad", "good")),
    "two texts": (["premise,hypothesis,label"], lambda n: f"words {n},then,{('yes', 'maybe', 'no')[n % 3]}", ("maybe", "no", "yes")),
    "index column": ([",text,sentiment"], lambda n: f"{n},words {n},{'positive' if n % 2 else 'negative'}", ("negative", "positive")),
}


@pytest.mark.parametrize("shape", CLASSES)
def test_texts_and_classes(tmp_path, shape):
    header, line, classes = CLASSES[shape]
    task = own.load(csv(tmp_path, header + [line(n) for n in range(N)]))
    assert task.info.kind == "labels" and {e.options for e in rows_of(task)} == {classes} and len(rows_of(task)) == N
    assert {e.question.split()[1].rstrip(",") for e in rows_of(task)} == {str(n) for n in range(N)}
    by_number = {int(e.question.split()[1]): e.options[e.answer] for e in rows_of(task)}
    assert all(by_number[n] == by_number[n + 12] for n in range(12)) and len(set(by_number.values())) == len(classes)


def test_a_hundred_classes_are_taken_and_more_are_not(tmp_path):
    rows = [{"text": f"words {n}", "intent": f"class_{n % 100}"} for n in range(400)]
    assert len(own.load(jsonl(tmp_path, rows)).train[0].options) == 100 and "class 7" in own.load(jsonl(tmp_path, rows)).train[0].options
    with pytest.raises(ConfigError, match="column 'intent' has 101 classes; at most 100 are allowed"):
        own.load(jsonl(tmp_path, [{"text": f"words {n}", "intent": f"class_{n % 101}"} for n in range(404)]))


def test_yes_or_no_with_a_passage(tmp_path):
    rows = [{"question": f"is {n} even", "passage": f"On the number {n}.", "answer": n % 2 == 0} for n in range(N)]
    task = own.load(jsonl(tmp_path, rows))
    assert task.info.kind == "labels" and right(task) == {f"is {n} even? On the number {n}.": "no" if n % 2 else "yes" for n in range(N)}


def test_question_and_answer_pairs_get_wrong_options_from_other_rows_and_say_so(tmp_path):
    rows = [{"question": f"capital of land {n}?", "answer": f"town {n}"} for n in range(N)]
    path = jsonl(tmp_path, rows)
    task = own.load(path)
    assert right(task) == {f"capital of land {n}?": f"town {n}" for n in range(N)}
    towns = {f"town {n}" for n in range(N)}
    assert all(len(set(e.options)) == 4 and set(e.options) <= towns for e in rows_of(task))
    assert any("answers of other rows" in note for note in own.look(path).notes)
    # The same row gets the same wrong answers wherever it stands, so that a file in another order is the same task.
    assert {frozenset(e.options) for e in rows_of(own.load(jsonl(tmp_path, rows[::-1])))} != set()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16", "utf-16-le"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_spreadsheets_as_excel_writes_them(tmp_path, encoding, separator):
    lines = [separator.join(("text", "label"))] + [separator.join((f'"café{separator} {n}"', "süß" if n % 2 else "salzig")) for n in range(N)]
    task = own.load(csv(tmp_path, lines, encoding=encoding))
    assert right(task)[f"café{separator} 3".replace("\t", "")] == "süß" and task.train[0].options == ("salzig", "süß")


def test_tables_as_pandas_writes_them(tmp_path):
    table = pd.DataFrame({"text": [f"words {n}" for n in range(N)], "label": [float(n % 2) for n in range(N)]})
    table.loc[3, "label"] = float("nan")
    want = {f"words {n}": str(n % 2) for n in range(N) if n != 3}  # a gap makes integers floats
    table.to_csv(tmp_path / "index.csv")
    table.to_json(tmp_path / "columns.json")
    table.to_json(tmp_path / "rows.jsonl", orient="records", lines=True)
    table.to_parquet(tmp_path / "a.parquet")
    (tmp_path / "commas.jsonl").write_text(",\n".join(json.dumps(row) for row in table.to_dict("records")) + ",\n")  # NaN stands there
    (tmp_path / "sep.csv").write_text("sep=;\n" + table.to_csv(index=False, sep=";"))
    for name in ("index.csv", "columns.json", "rows.jsonl", "a.parquet", "commas.jsonl", "sep.csv"):
        assert right(own.load(tmp_path / name)) == want, name
        assert own.look(tmp_path / name).unused == (), name


def test_packed_files(tmp_path):
    path = tmp_path / "mine.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(json.dumps(SHAPES["PIQA"](n)) for n in range(N)).encode()))
    assert own.is_path(str(path)) and len(rows_of(own.load(path))) == N
    bomb = tmp_path / "bomb.csv.gz"
    bomb.write_bytes(gzip.compress(b"x" * (own.MAX_BYTES + 10)))
    with pytest.raises(ConfigError, match=r"bomb.csv.gz: the file is too large; at most 25,000,000 bytes"):
        own.load(bomb)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ConfigError, match="not a whole gzip file"):
        own.load(path)


def test_the_name_of_the_file_is_no_part_of_the_task(tmp_path):
    rows = [SHAPES["PIQA"](n) for n in range(N)]
    one, other = own.load(jsonl(tmp_path, rows, "one.jsonl")), own.load(jsonl(tmp_path, rows, "another name.jsonl"))
    assert (one.train, one.validation, one.test, one.digest()) == (other.train, other.validation, other.test, other.digest())
    assert set(right(one)) == {f"q {n}" for n in range(N)}
    told = own.load(tmp_path / "one.jsonl", instruction="How to: ")
    assert set(right(told)) == {f"How to: q {n}" for n in range(N)}


@pytest.mark.parametrize("names", [("train", "validation", "test"), ("Train", "dev", "TEST")])
def test_a_split_in_the_file_is_honoured(tmp_path, names):
    rows = [{**SHAPES["PIQA"](n), "split": names[0 if n < 16 else 1 if n < 20 else 2]} for n in range(N)]
    task = own.load(jsonl(tmp_path, rows))
    numbers = [sorted(int(e.question.split()[1]) for e in part) for part in (task.train, task.validation, task.test)]
    assert numbers == [list(range(16)), list(range(16, 20)), list(range(20, 24))]


def test_secret_test_answers_are_left_out_and_validation_is_tested_on(tmp_path):
    rows = [{**SHAPES["HellaSwag"](n), "split": "train" if n < 16 else "validation"} for n in range(N)]
    rows += [{**SHAPES["HellaSwag"](n), "label": "", "split": "test"} for n in range(100, 140)]
    path = jsonl(tmp_path, rows)
    task = own.load(path)
    assert {int(e.question.split()[1]) for e in task.test} == set(range(16, 24)) and len(rows_of(task)) == N
    assert "Left out for want of an answer: 40 of 64 rows." in own.look(path).notes


def test_a_question_is_in_one_part_only_and_repeats_count_once(tmp_path):
    rows = [{"question": f"q {n}", "options": [f"{a}{n}", f"{b}{n}"], "answer": 0} for n in range(30) for a, b in ("ab", "cd", "ab")]
    rows.append({"question": "  Q\n0 ", "options": ["e", "f"], "answer": 1})
    task = own.load(jsonl(tmp_path, rows))
    parts = [{e.question.casefold() for e in part} for part in (task.train, task.validation, task.test)]
    assert sum(map(len, parts)) == len(set().union(*parts)) == 30 and len(rows_of(task)) == 61


def test_free_options_are_shuffled_and_labels_are_not(tmp_path):
    rows = [{"question": f"q {n}", "options": [f"right {n}", f"wrong {n}", f"bad {n}"], "answer": 0} for n in range(300)]
    every = rows_of(own.load(jsonl(tmp_path, rows)))
    assert all(60 < sum(e.answer == place for e in every) < 140 for place in range(3))  # 100, deviation 8.2
    labels = [{"question": f"q {n}", "options": ["yes", "no"] if n % 3 else ["no", "yes"], "answer": "yes" if n % 2 else "no"} for n in range(N)]
    task = own.load(jsonl(tmp_path, labels))
    assert len({e.options for e in rows_of(task)}) == 1 and right(task)["q 5"] == "yes" and right(task)["q 6"] == "no"


def test_the_seed_decides_the_split(tmp_path):
    path = jsonl(tmp_path, [SHAPES["PIQA"](n) for n in range(N)])
    assert own.load(path, 1) == own.load(path, 1) and own.load(path, 1).test != own.load(path, 2).test


def test_long_texts_are_cut_and_do_not_lose_the_file(tmp_path):
    rows = [{"goal": f"q {n} " + "word " * 1000, "sol1": f"a{n} " + "long " * 600, "sol2": "b", "label": 0} for n in range(N)]
    task = own.load(jsonl(tmp_path, rows))
    assert all(len(e.question) <= 2000 and max(map(len, e.options)) <= 2000 for e in rows_of(task)) and len(rows_of(task)) == N


BAD = {
    "this is not one JSON object": "{",
    "nesting": "[" * 100_000,
    "a number of thousands of digits": "9" * 5000,
    "this is not a JSON object": "[1]",
    "answer 7 is not the place": {"question": "q", "options": ["a", "b"], "answer": 7},
    "answer true is neither": {"question": "q", "options": ["a", "b"], "answer": True},
    "'maybe' is not among": {"question": "q", "options": ["a", "b"], "answer": "maybe"},
    "an option stands twice": {"question": "q", "options": ["a", " A "], "answer": 0},
    "holds no list of texts": {"question": "q", "options": [], "answer": 0},
    "question is no text": {"question": None, "options": ["a", "b"], "answer": 0},
    "a text is not Unicode": {"question": "\ud800?", "options": ["a", "b"], "answer": 0},
    "30 options": {"question": "q", "options": [f"o{n}" for n in range(30)], "answer": 0},
}


@pytest.mark.parametrize("reason", BAD)
def test_a_faulty_row_is_left_out_and_named_and_too_many_are_refused(tmp_path, reason):
    good = [{"question": f"q {n}", "options": [f"a{n}", f"b{n}"], "answer": n % 2} for n in range(40)]
    shown = {"nesting": "this is not one JSON object", "a number of thousands of digits": "this is not one JSON object"}.get(reason, reason)
    path = jsonl(tmp_path, [*good[:6], "", BAD[reason], *good[6:]])
    look = own.look(path)
    assert sum(look.rows) == 40
    (note,) = look.notes
    assert note.startswith("Left out: 1 of 41 rows (line 8); line 8: ") and shown in note and len(note) < 200
    with pytest.raises(ConfigError) as error:
        own.load(jsonl(tmp_path, good + [BAD[reason]] * 7))
    sentence = str(error.value)
    assert "7 of 47 rows cannot be used (lines 41, 42, 43, 44, 45, …); line 41: " in sentence and shown in sentence and "\n" not in sentence


def test_notes_on_answers_that_teach_nothing(tmp_path):
    same = [{"text": f"words {n}", "options": ["yes", "no"], "answer": "yes"} for n in range(N)]
    assert "Every answer is 'yes': there is nothing to learn." in own.look(jsonl(tmp_path, same)).notes
    both = [{"text": f"words {n // 2}", "label": "a" if n % 2 else "b"} for n in range(2 * N)]
    assert "24 questions stand in the file with different answers." in own.look(jsonl(tmp_path, both)).notes


def test_what_was_understood_is_shown(tmp_path):
    rows = [{**SHAPES["WinoGrande"](n), "qID": f"id{n}"} for n in range(N)]
    look = own.look(jsonl(tmp_path, rows), instruction="Fill the blank")
    assert look.says == "a question with its options and the right one" and look.used == ("sentence", "option1", "option2", "answer")
    assert look.unused == ("qID",) and len(look.examples) == 2 and look.examples[0].question.startswith("Fill the blank: q ")


@pytest.mark.parametrize(
    "lines, sentence",
    [
        (["color,shape"] + [f"{n},x" for n in range(N)], "mine.csv: its columns (color, shape) are not understood"),
        ([], "mine.csv: no row of the file can be read; it holds no row"),
        (["text,label"], "mine.csv: no row of the file can be read"),
        (["text,label", '"open,a'] + ["t,a"] * 20, "mine.csv, line 2: this is not CSV"),
        (["text,label"] + [f"t{n},a" for n in range(N)], "mine.csv: column 'label' has one class only; at least 2 classes are needed"),
        (["text,label"] + [f"t{n},a{n}" for n in range(N)], f"mine.csv: column 'label' has {N} classes in {N} rows; three rows a class are needed"),
        (["text,label"] + [f"t{n},{n % 2}" for n in range(11)], "mine.csv: 11 different questions are left; at least 12 are needed"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_sentence(tmp_path, lines, sentence):
    with pytest.raises(ConfigError) as error:
        own.load(csv(tmp_path, lines))
    assert sentence in str(error.value) and str(error.value).endswith(".") and "\n" not in str(error.value)


def test_a_line_end_inside_quotes_keeps_the_numbers_of_lines(tmp_path):
    lines = ["text,label"] + ['"two\nlines",a'] + [f"t{n},{'ab'[n % 2]}" for n in range(N)] + ["t,a,c"]
    assert own.look(csv(tmp_path, lines)).notes[0].startswith(f"Left out: 1 of {N + 2} rows (line {N + 4})")


def test_what_is_no_table(tmp_path):
    (tmp_path / "book.xlsx").write_bytes(b"PK")
    with pytest.raises(ConfigError, match=r"book\.xlsx' is a file of a kind that is not read; save it as one that ends in \.jsonl"):
        tasks.check([str(tmp_path / "book.xlsx")])
    with pytest.raises(ConfigError, match="is not known"):  # over the web nothing is told of the server's files
        tasks.check([str(tmp_path / "book.xlsx")], files=False)
    for name in (tmp_path / "none.csv", tmp_path, "a\0.csv", "x" * 5000 + ".csv"):
        with pytest.raises(ConfigError, match="is not a file"):
            own.load(str(name))
    for name, data, sentence in (
        ("a.csv", b"text,label\n\x81\x8d\x8f\x90\x9d,1\n", "a.csv, line 2: this is not text"),
        ("b.csv", b"ab\0\0\0\1", "b.csv, line 1: this is not text"),
        ("c.parquet", b"PAR1", "c.parquet: this is not a Parquet file"),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ConfigError, match=sentence):
            own.load(tmp_path / name)
