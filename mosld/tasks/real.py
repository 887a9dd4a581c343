"""Real tasks: public English data sets, from the hub or from archives of the Python package index.

- `INFOS`: what the catalogue shows of each, without loading it.
- `load(name, seed)`: the task with its own seeded split.

A set is converted once and kept in the cache folder, with its licence and source beside it; from then on the same rows are used, offline
too, so that a run can be repeated. The first time the hub is asked, where it has the set and can be reached, then the archive. The two
routes give different rows (the hub has the published training parts), so `Task.info.source` names the one that was used. To change the
route, remove the set's two files from the folder `real` of `mosld.fetch.cache_dir()`.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from mosld import fetch
from mosld.config import ConfigError
from mosld.files import write
from mosld.tasks import archives, hub
from mosld.tasks.base import Task, TaskInfo
from mosld.tasks.rows import Row, clean, dump, instructed, parse, split

FORMAT = 1  # raised when a converter changes, so that old conversions are made anew

_HUTTO = "MIT (archive); rated sentences of {} by Hutto and Gilbert 2014, quoted for research"

# name, title, what is asked, kind, licence of the data
_TABLE = (
    ("commonsenseqa", "CommonsenseQA", "Everyday knowledge, five options.", "options", "MIT"),
    ("openbookqa", "OpenBookQA", "Elementary science applied to a new situation, four options.", "options", "Apache-2.0"),
    ("siqa", "Social IQa", "Motives, feelings and next steps of people, three options.", "options", "not stated"),
    ("piqa", "PIQA", "Which of two ways reaches a physical goal.", "options", "not stated"),
    ("mmlu", "MMLU", "Exam questions of 57 subjects, four options.", "options", "MIT"),
    ("logiqa", "LogiQA", "Logic puzzles of civil service exams, four options.", "options", "not stated"),
    ("boolq", "BoolQ", "Yes or no to a search query, with a passage.", "labels", "CC BY-SA 3.0"),
    (
        "privacy",
        "Privacy policies",
        "Whether a clause of a privacy policy is about the question.",
        "labels",
        "not stated (PrivacyQA, through LegalBench)",
    ),
    ("movies", "Movie reviews", "Positive or negative sentences of movie reviews.", "labels", _HUTTO.format("movie reviews")),
    ("tweets", "Tweets", "Positive or negative tweets.", "labels", _HUTTO.format("tweets")),
    ("amazon", "Amazon reviews", "Positive or negative sentences of product reviews.", "labels", _HUTTO.format("Amazon reviews")),
    ("nyt", "New York Times opinion", "Positive or negative sentences of editorials.", "labels", _HUTTO.format("New York Times editorials")),
    ("wiki", "Wikipedia topics", "The topic, of eleven, of a Wikipedia article.", "labels", "CC BY-SA 4.0 (texts), GPL-3.0-or-later (archive)"),
    ("bbc", "BBC news", "The section, of five, of a BBC news article.", "labels", "MIT (archive); texts copyright BBC, for non-commercial research"),
    ("arc_easy", "ARC easy", "School science questions that are easy for retrieval.", "options", "CC BY-SA 4.0"),
    ("arc_challenge", "ARC challenge", "School science questions that defeat retrieval.", "options", "CC BY-SA 4.0"),
    ("race", "RACE", "Reading comprehension of English exams, four options.", "options", "for non-commercial research only"),
    ("mctest", "MCTest", "Questions about short stories for children, four options.", "options", "Microsoft Research licence"),
    ("hellaswag", "HellaSwag", "How a scene goes on, four options.", "options", "MIT"),
    ("winogrande", "WinoGrande", "Which of two names fills the blank.", "options", "CC BY 4.0"),
    ("ag_news", "AG News", "The section, of four, of a news wire item.", "labels", "not stated; for non-commercial use"),
    ("sst2", "SST-2", "Positive or negative phrases of film reviews.", "labels", "not stated"),
)

# One question of each kind, written here in the form the set has, so that the catalogue can show it without loading anything.
EXAMPLES = {
    "commonsenseqa": "Common sense: Where would you leave a wet umbrella? → a stand | a bed | an oven | a bookshelf | a wallet",
    "openbookqa": "Science fact: A metal spoon left in hot soup will → become warm | become lighter | melt | grow",
    "siqa": "Social situation: Kim lent Lee a coat in the rain. How would Lee feel? → thankful | jealous | bored",
    "piqa": "How to: keep cut apples from turning brown. → sprinkle lemon juice on them | put them in the sun",
    "mmlu": "Exam question: Which planet is closest to the sun? → Mercury | Venus | Earth | Mars",
    "logiqa": "Logic: All tailors sew. Ann is a tailor. What follows? → Ann sews | Ann is tall | nobody sews | all who sew are tailors",
    "boolq": "Yes or no: do whales breathe air? Whales are mammals and come up to breathe. → yes, that is true | no, that is not true",
    "privacy": "Privacy policy: Who sees my address? We share addresses with couriers. → the clause is about it | it is not",
    "movies": "Film review: A warm, clever film with a fine cast. → a positive review | a negative review",
    "tweets": "Tweet: stuck in the rain again, great… → a positive tweet | a negative tweet",
    "amazon": "Product review: The battery died after a week. → a positive review | a negative review",
    "nyt": "Editorial: The council is right to plant more trees. → positive | negative",
    "wiki": "Topic: The cello is a bowed string instrument. → music | sport | geography | … eleven in all",
    "bbc": "News section: Shares rose after the bank's report. → business | sport | politics | technology | entertainment",
    "arc_easy": "Science exam: Which of these is a solid at room temperature? → iron | milk | air | steam",
    "arc_challenge": "Hard science exam: Why does the moon show phases? → we see different parts of its lit half | clouds | its spin | its heat",
    "race": "Reading: What did Tom buy? Tom went to the market and came home with pears. → pears | a hat | bread | nothing",
    "mctest": "Story: Where did the cat sleep? Once there was a cat who slept in a drum. → in a drum | in a bed | on a roof | outside",
    "hellaswag": "What happens next: A man ties his shoes and stands at the start line. He → begins to run | eats soup | sings | sleeps",
    "winogrande": "Fill the blank: The cup did not fit the box because _ was too small. → the box | the cup",
    "ag_news": "News wire topic: The striker scored twice. → world news | sports news | business news | science and technology news",
    "sst2": "Film review sentiment: dull and far too long → a negative review | a positive review",
}

# Where the source puts the right option at some places more often than at others, options are put in a new order by the seed.
# LogiQA: 194, 233, 265, 268 of 960 rows; in all other sets the counts differ by no more than chance gives.
SHUFFLED = {"logiqa"}


def _source(key: str) -> str:
    return "; or ".join(sets[key].source for sets in (hub.SETS, archives.SETS) if key in sets)


INFOS: dict[str, TaskInfo] = {
    f"real/{key}": TaskInfo(f"real/{key}", "real", title, summary, kind, licence, _source(key)) for key, title, summary, kind, licence in _TABLE
}


def load(name: str, seed: int = 0, progress: fetch.Progress | None = None) -> Task:
    """The task `real/<name>`, split by `seed`; converted first where the cache does not hold it.

    Raises ConfigError for a name that is not in `INFOS`, or when no route gives the rows.
    """
    if name not in INFOS:
        raise ConfigError(f"tasks: '{name}' is not known; the real tasks are {', '.join(INFOS)}.")
    key = name.removeprefix("real/")
    rows, source = _cached(key) or _converted(key, progress)
    train, validation, test = instructed(split(rows, seed, shuffle_options=key in SHUFFLED))
    return Task(dataclasses.replace(INFOS[name], source=source), train, validation, test)


def _file(key: str) -> Path:
    return fetch.cache_dir() / "real" / f"{key}.jsonl"


def _cached(key: str) -> tuple[list[Row], str] | None:
    try:
        header, rows = parse(_file(key).read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):  # absent, or damaged on disk
        return None
    return (rows, header["source"]) if header.get("format") == FORMAT and rows else None


def _converted(key: str, progress: fetch.Progress | None) -> tuple[list[Row], str]:
    rows, source, terms = _routes(key, progress)
    if progress is not None:
        progress(f"Converting real/{key}.", None)
    rows = clean(rows)
    info = INFOS[f"real/{key}"]
    write(_file(key).with_suffix(".licence.txt"), f"{info.title}\nSource: {source}\nLicence of the data: {info.licence}\n\n{terms}")
    write(_file(key), dump({"format": FORMAT, "source": source}, rows))
    return rows, source


def _routes(key: str, progress: fetch.Progress | None) -> tuple[list[Row], str, str]:
    """Rows, source and licence text of the first route that gives the set. Raises ConfigError with the last route's sentence."""
    if key in hub.SETS and (key not in archives.SETS or fetch.hub_reachable()):
        try:
            return *hub.rows(key, progress), ""
        except ConfigError:
            if key not in archives.SETS:
                raise
    try:
        rows, terms = archives.rows(key, progress)
    except ConfigError as error:
        raise ConfigError(f"tasks: 'real/{key}' cannot be loaded: {error}") from None
    return rows, archives.SETS[key].source, terms
