"""Hub sets: each conversion on an in-memory data set with the documented features, the parquet layout of the conversion branch on disk,
and what is said when the hub gives nothing. No hub is reached here.
"""

import datasets
import pytest
from datasets import ClassLabel, Dataset, Features, List, Value

from mosld import fetch
from mosld.config import ConfigError
from mosld.tasks import hub, rows

TEXT, INT = Value("string"), Value("int32")
CHOICES = {"text": List(TEXT), "label": List(TEXT)}

# Features as the repositories document them; rows of our own; (question, right option) expected, None where a row must be left out.
DOCUMENTED = {
    "arc_easy": (
        {"id": TEXT, "question": TEXT, "choices": CHOICES, "answerKey": TEXT},
        [
            {"id": "a", "question": "Which melts?", "choices": {"text": ["ice", "iron", "glass"], "label": ["A", "B", "C"]}, "answerKey": "A"},
            {"id": "b", "question": "Which floats?", "choices": {"text": ["lead", "cork"], "label": ["1", "2"]}, "answerKey": "2"},
        ],
        [("Science exam: Which melts?", "ice"), ("Science exam: Which floats?", "cork")],
    ),
    "arc_challenge": (
        {"id": TEXT, "question": TEXT, "choices": CHOICES, "answerKey": TEXT},
        [{"id": "a", "question": "Why?", "choices": {"text": ["so", "no"], "label": ["A", "B"]}, "answerKey": "B"}],
        [("Hard science exam: Why?", "no")],
    ),
    "openbookqa": (
        {"id": TEXT, "question_stem": TEXT, "choices": CHOICES, "answerKey": TEXT},
        [{"id": "a", "question_stem": "Owls eat", "choices": {"text": ["hay", "mice"], "label": ["A", "B"]}, "answerKey": "B"}],
        [("Science fact: Owls eat", "mice")],
    ),
    "commonsenseqa": (
        {"id": TEXT, "question": TEXT, "question_concept": TEXT, "choices": {"label": List(TEXT), "text": List(TEXT)}, "answerKey": TEXT},
        [
            {
                "id": "a",
                "question": "Where are boats?",
                "question_concept": "boat",
                "choices": {"label": list("ABCDE"), "text": ["hat", "bed", "harbour", "oven", "book"]},
                "answerKey": "C",
            },
            {
                "id": "b",
                "question": "Unanswered?",
                "question_concept": "boat",
                "choices": {"label": ["A", "B"], "text": ["x", "y"]},
                "answerKey": "",
            },
        ],
        [("Common sense: Where are boats?", "harbour")],
    ),
    "race": (
        {"example_id": TEXT, "article": TEXT, "answer": TEXT, "question": TEXT, "options": List(TEXT)},
        [{"example_id": "h1", "article": "Ann saw Bo.", "answer": "D", "question": "Who was seen?", "options": ["Ann", "Cy", "Di", "Bo"]}],
        [("Reading: Who was seen? Ann saw Bo.", "Bo")],
    ),
    "mctest": (
        {
            "idx": {"story": TEXT, "question": TEXT},
            "question": TEXT,
            "story": TEXT,
            "properties": {"author": TEXT, "work_time_s": INT},
            "answer_options": {"A": TEXT, "B": TEXT, "C": TEXT, "D": TEXT},
            "answer": TEXT,
            "question_is_multiple": Value("bool"),
        },
        [
            {
                "idx": {"story": "s", "question": "q"},
                "question": "Who slept?",
                "story": "A cat slept.\\newlineA dog ran.",
                "properties": {"author": "x", "work_time_s": 3},
                "answer_options": {"A": "a dog", "B": "a cat", "C": "a cow", "D": "a hen"},
                "answer": "B",
                "question_is_multiple": False,
            }
        ],
        [("Story: Who slept? A cat slept. A dog ran.", "a cat")],
    ),
    "piqa": (
        {"goal": TEXT, "sol1": TEXT, "sol2": TEXT, "label": ClassLabel(names=["0", "1"])},
        [{"goal": "Dry a cup", "sol1": "use a brick", "sol2": "use a cloth", "label": 1}],
        [("How to: Dry a cup", "use a cloth")],
    ),
    "siqa": (
        {"context": TEXT, "question": TEXT, "answerA": TEXT, "answerB": TEXT, "answerC": TEXT, "label": TEXT},
        [{"context": "Kim won.", "question": "How is Kim?", "answerA": "sad", "answerB": "cold", "answerC": "glad", "label": "3\n"}],
        [("Social situation: Kim won. How is Kim?", "glad")],
    ),
    "boolq": (
        {"question": TEXT, "answer": Value("bool"), "passage": TEXT},
        [
            {"question": "is ice cold", "answer": True, "passage": "Ice is frozen."},
            {"question": "is fire cold?", "answer": False, "passage": "Fire is hot."},
        ],
        [("Yes or no: is ice cold? Ice is frozen.", "yes, that is true"), ("Yes or no: is fire cold? Fire is hot.", "no, that is not true")],
    ),
    "hellaswag": (
        {
            "ind": INT,
            "activity_label": TEXT,
            "ctx_a": TEXT,
            "ctx_b": TEXT,
            "ctx": TEXT,
            "endings": List(TEXT),
            "source_id": TEXT,
            "split": TEXT,
            "split_type": TEXT,
            "label": TEXT,
        },
        [
            {"ctx": "A man lifts a cup. he", "endings": ["flies.", "drinks.", "melts.", "rusts."], "source_id": "v_1", "label": "1"},
            {"ctx": "A secret one. he", "endings": ["a", "b", "c", "d"], "source_id": "v_2", "label": ""},
        ],
        [("What happens next: A man lifts a cup. he", "drinks.")],
    ),
    "winogrande": (
        {"sentence": TEXT, "option1": TEXT, "option2": TEXT, "answer": TEXT},
        [
            {"sentence": "Al fed Bo because _ was hungry.", "option1": "Al", "option2": "Bo", "answer": "2"},
            {"sentence": "Secret _ .", "option1": "Al", "option2": "Bo", "answer": ""},
        ],
        [("Fill the blank: Al fed Bo because _ was hungry.", "Bo")],
    ),
    "mmlu": (
        {"question": TEXT, "subject": TEXT, "choices": List(TEXT), "answer": ClassLabel(names=["A", "B", "C", "D"])},
        [{"question": "2 + 2?", "subject": "algebra", "choices": ["3", "5", "4", "6"], "answer": 2}],
        [("Exam question: 2 + 2?", "4")],
    ),
    "ag_news": (
        {"text": TEXT, "label": ClassLabel(names=["World", "Sports", "Business", "Sci/Tech"])},
        [{"text": "Shares fell.", "label": 2}, {"text": "A probe landed.", "label": 3}, {"text": "A goal.", "label": 1}],
        [
            ("News wire topic: Shares fell.", "business news"),
            ("News wire topic: A probe landed.", "science and technology news"),
            ("News wire topic: A goal.", "sports news"),
        ],
    ),
    "sst2": (
        {"idx": INT, "sentence": TEXT, "label": ClassLabel(names=["negative", "positive"])},
        [
            {"idx": 0, "sentence": "a joy ", "label": 1},
            {"idx": 1, "sentence": "dull", "label": 0},
            {"idx": 2, "sentence": "secret", "label": -1},
        ],
        [("Film review sentiment: a joy", "a positive review"), ("Film review sentiment: dull", "a negative review")],
    ),
}


def in_memory(name):
    features, values, _ = DOCUMENTED[name]
    return Dataset.from_list([{key: row.get(key) for key in features} for row in values], features=Features(features))


@pytest.mark.parametrize("name", hub.SETS)
def test_conversion_of_documented_rows(name):
    found = rows.clean(hub.convert(hub.SETS[name], in_memory(name), tested=False))
    assert [(row.question, row.options[row.answer]) for row in found] == DOCUMENTED[name][2]


def test_questions_on_one_story_are_one_group():
    data = in_memory("race")
    twice = Dataset.from_list([data[0], {**data[0], "question": "Who saw?", "answer": "A"}], features=data.features)
    first, second = rows.clean(hub.convert(hub.SETS["race"], twice, tested=True))
    assert first.group == second.group and first.tested and second.tested


def test_of_a_large_split_a_fixed_part_is_taken(monkeypatch):
    monkeypatch.setattr(hub, "MOST", 10)
    data = Dataset.from_list([{"text": f"item {i}", "label": i % 4} for i in range(100)], features=Features(DOCUMENTED["ag_news"][0]))
    found = hub.convert(hub.SETS["ag_news"], data, tested=False)
    assert len({row.question for row in found}) == 10 and found == hub.convert(hub.SETS["ag_news"], data, tested=False)
    assert {row.question for row in found} != {f"News wire topic: item {i}" for i in range(10)}


@pytest.fixture
def quiet_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    datasets.disable_progress_bars()


def test_the_conversion_branch_with_two_configurations(tmp_path, quiet_cache):
    """A folder laid out as refs/convert/parquet of MCTest: every configuration is read, and only the split that is asked for."""
    data, repo = in_memory("mctest"), tmp_path / "repo"
    for config, split, copies in (("mc160", "train", 1), ("mc500", "train", 2), ("mc160", "test", 4), ("mc500", "test", 8)):
        (repo / config / split).mkdir(parents=True)
        datasets.concatenate_datasets([data] * copies).to_parquet(repo / config / split / "0000.parquet")
    entry = hub.SETS["mctest"]
    assert len(hub.load_split(str(repo), entry, "train", None)) == 3
    tested = hub.load_split(str(repo), entry, "test", None)
    assert len(tested) == 12 and tested[0]["answer_options"]["B"] == "a cat"


def test_a_configuration_by_name(tmp_path, quiet_cache):
    """A folder laid out as the main branch of ARC, its configurations named in the card."""
    repo = tmp_path / "repo"
    for config, name in (("ARC-Easy", "arc_easy"), ("ARC-Challenge", "arc_challenge")):
        (repo / config).mkdir(parents=True)
        in_memory(name).to_parquet(repo / config / "train-00000-of-00001.parquet")
    configs = "".join(f"- config_name: {c}\n  data_files:\n  - split: train\n    path: {c}/train-*\n" for c in ("ARC-Challenge", "ARC-Easy"))
    (repo / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    assert [len(hub.load_split(str(repo), hub.SETS[name], "train", None)) for name in ("arc_easy", "arc_challenge")] == [2, 1]


def test_every_set_names_a_split_to_train_on_and_another_to_test_on():
    for entry in hub.SETS.values():
        assert entry.train and entry.tested not in entry.train
        assert entry.repo.count("/") == 1


def test_an_unreachable_hub_is_one_sentence(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ConfigError, match=r"^tasks: 'real/race' comes from the Hugging Face hub \(ehovy/race\), which cannot be reached; [^\n]*\.$"):
        hub.rows("race")


def test_a_hub_that_answers_but_gives_no_rows_is_one_sentence(monkeypatch):
    import huggingface_hub

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")  # the discard port: nothing listens there
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(fetch, "_hub", [True])
    with pytest.raises(ConfigError, match=r"^tasks: the hub does not give 'real/sst2' \(stanfordnlp/sst2: \w+\); try again later\.$"):
        hub.rows("sst2")
