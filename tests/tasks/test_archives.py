"""Archive tasks against what their files say: row counts, single rows read by eye, and the place of the right option."""

import collections

import pytest

from mosld.tasks import archives
from mosld.tasks.rows import clean

# Usable rows of the file and how many of these are distinct, counted apart from the code under test (wc and a few lines on the raw files,
# texts in lower case). Cleaning also ignores punctuation, and so finds a few more repeats.
COUNTS = {
    "commonsenseqa": (1220, 1196),  # of 1,221 one has lost its first two options; 24 offer the same option twice
    "openbookqa": (500, 498),
    "siqa": (1954, 1925),  # 1,930 distinct, 5 of them with the same option twice
    "piqa": (1500, 1465),
    "mmlu": (2850, 2830),
    "logiqa": (960, 960),  # 40 of 1,000 are damaged
    "boolq": (12697, 12697),
    "privacy": (10923, 10923),
    "movies": (10072, 10070),
    "tweets": (3432, 3372),
    "amazon": (2985, 2977),
    "nyt": (2970, 2931),
    "wiki": (9033, 9033),
    "bbc": (2096, 2096),
}

# Start of the question, text of the right option.
KNOWN = [
    ("commonsenseqa", "Common sense: A revolving door is convenient for two direction travel", "bank"),
    ("commonsenseqa", "Common sense: What do people aim to do at work?", "complete job"),
    ("openbookqa", "Science fact: There is most likely going to be fog around:", "a marsh"),
    ("openbookqa", "Science fact: Predators eat", "bunnies"),
    ("siqa", "Social situation: Tracy didn't go home that evening and resisted Riley's attacks. What does", "Find somewhere to go"),
    ("piqa", "How to: Make outdoor pillow.", "Blow into trash bag and tie with rubber band."),
    ("mmlu", "Exam question: The majority of workers in periphery countries", "Primary"),
    (
        "logiqa",
        'Logic puzzle: Since the conclusion of "friends like dung" is not true',
        "If a friend is indeed worth a lot of money, then money is not like dung.",
    ),
    ("boolq", "Yes or no: is this the last season of coke studio? Coke Studio Pakistan", "no, that is not true"),
    ("privacy", "Privacy policy: does it collect payment information? Clause: When you order any good", "the clause is about that"),
    ("movies", "Movie review sentiment: Effective but too tepid biopic", "a negative review"),
    ("tweets", "Tweet sentiment: Yay. Another good phone interview.", "a positive tweet"),
    ("tweets", "Tweet sentiment: WTF?", "a negative tweet"),
    ("amazon", "Product review sentiment: well, within 45 days the video output quit working (both rca & optic).", "a negative review"),
    ("nyt", "Newspaper opinion sentiment: It's mainly a holiday celebration", "a positive opinion"),
    ("wiki", "Encyclopedia topic: Woodwind instruments are a family", "arts"),
    ("wiki", "Encyclopedia topic: Dysprosium is a chemical element", "physical sciences"),
    ("bbc", "News topic: Ink helps drive democracy in Asia. The Kyrgyz Republic", "news about technology"),
]

# Chi-square at p = .001, by degrees of freedom: above it the right option is at some places too often to be chance.
LIMIT = {1: 10.83, 2: 13.82, 3: 16.27, 4: 18.47}


@pytest.fixture(scope="module")
def raw(package_index):
    """Rows of a set as the converter gives them, each set read once."""
    read = {}

    def get(name):
        if name not in read:
            read[name] = archives.rows(name)
        return read[name]

    return get


@pytest.mark.parametrize("name", archives.SETS)
def test_counts(raw, name):
    rows, licence = raw(name)
    usable, distinct = COUNTS[name]
    assert len(rows) == usable and 0.97 * distinct <= len(clean(rows)) <= distinct
    assert "licen" in licence.lower() or "permission" in licence.lower()


@pytest.mark.parametrize("name, start, answer", KNOWN)
def test_known_rows(raw, name, start, answer):
    found = [row for row in clean(raw(name)[0]) if row.question.startswith(start)]
    assert found and found[0].options[found[0].answer] == answer


def test_no_letters_escapes_or_stray_question_marks_are_left(raw):
    for name in ("commonsenseqa", "openbookqa", "siqa", "piqa", "mmlu", "logiqa"):
        assert not [row for row in raw(name)[0] if all(o.startswith(f"{letter}. ") for o, letter in zip(row.options, "ABCDE", strict=False))], name
    assert not [row for row in raw("commonsenseqa")[0] if row.options[-1].endswith("?")]
    assert not [row for name in ("movies", "tweets", "amazon", "nyt") for row in raw(name)[0] if "&amp;" in row.question]


@pytest.mark.parametrize("name", ["commonsenseqa", "openbookqa", "siqa", "piqa", "mmlu"])
def test_the_right_option_is_at_no_fixed_place(raw, name):
    rows = clean(raw(name)[0])
    options = len(rows[0].options)
    places = collections.Counter(row.answer for row in rows)
    assert sum((places[i] - len(rows) / options) ** 2 / (len(rows) / options) for i in range(options)) < LIMIT[options - 1]


def test_sentences_with_next_to_no_sentiment_are_left_out(raw):
    # Rated 0.4 and 0.15 in the file; the third sentence of the same editorial, rated 1.5, stays.
    starts = ("On Dec. 19, around noon", "Events include sprinting", "It's mainly a holiday celebration")
    questions = [row.question for row in raw("nyt")[0]]
    assert [any(q.startswith(f"Newspaper opinion sentiment: {s}") for q in questions) for s in starts] == [False, False, True]


def test_sentences_of_one_review_and_questions_on_one_passage_are_one_group(raw):
    groups = {name: collections.Counter(row.group for row in clean(raw(name)[0])) for name in ("amazon", "nyt", "boolq", "movies")}
    assert len(groups["amazon"]) <= 309 and len(groups["nyt"]) <= 500  # reviews and editorials, as the archive's README counts them
    assert sum(groups["boolq"].values()) - len(groups["boolq"]) > 2000
    assert max(groups["movies"].values()) == 1
