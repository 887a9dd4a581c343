"""Real tasks from the Hugging Face hub, through `datasets`: ids, configurations, columns, and how each becomes rows.

- `SETS`: for each task the repository, its configuration, which splits train and which tests, and the converter.
- `rows(name)`: download and convert. The revision is settled first, so that the source names the exact commit.
- `load_split(...)`: one split as a `datasets.Dataset`, also from a local folder of the same layout.

Repositories that still hold a loading script (PIQA, SIQA, MCTest) do not load in current `datasets`; of these the hub's own parquet
conversion is read, the branch refs/convert/parquet with files <configuration>/<split>/0000.parquet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mosld import fetch
from mosld.config import ConfigError
from mosld.tasks.archives import BOOLQ
from mosld.tasks.rows import Row

CONVERTED = "refs/convert/parquet"
MOST = 20_000  # rows taken of one split, at random with a fixed seed: far more than a run sees


@dataclass(frozen=True)
class HubSet:
    """`tested` is the split with public answers that the publisher keeps for testing; the others are trained on."""

    repo: str
    convert: Callable[[dict], Iterator[Row]]
    config: str | None = None
    train: tuple[str, ...] = ("train",)
    tested: str = "test"
    branch: str | None = None  # CONVERTED where the main branch holds a script

    @property
    def source(self) -> str:
        return f"{self.repo}{f' ({self.config})' if self.config else ''} on the Hugging Face hub"


def _listed(question: str, texts: list[str], labels: list[str], key: str, group: str = "") -> Iterator[Row]:
    """The AI2 form: options with labels A, B, … or 1, 2, …, and the label of the answer, empty where it is kept secret."""
    if key in labels:
        yield Row(question, tuple(texts), labels.index(key), group)


def _arc(instruction: str) -> Callable[[dict], Iterator[Row]]:
    return lambda row: _listed(f"{instruction}: {row['question']}", row["choices"]["text"], row["choices"]["label"], row["answerKey"])


def _openbookqa(row: dict) -> Iterator[Row]:
    return _listed(f"Science fact: {row['question_stem']}", row["choices"]["text"], row["choices"]["label"], row["answerKey"])


def _commonsenseqa(row: dict) -> Iterator[Row]:
    return _listed(f"Common sense: {row['question']}", row["choices"]["text"], row["choices"]["label"], row["answerKey"])


def _race(row: dict) -> Iterator[Row]:
    # The question first: the article does not fit into the tokens a text is given.
    return _listed(f"Reading: {row['question']} {row['article']}", row["options"], list("ABCD"), row["answer"], row["article"])


def _mctest(row: dict) -> Iterator[Row]:
    options = row["answer_options"]
    story = row["story"].replace("\\newline", " ")
    return _listed(f"Story: {row['question']} {story}", [options[letter] for letter in "ABCD"], list("ABCD"), row["answer"], story)


def _piqa(row: dict) -> Iterator[Row]:
    yield Row(f"How to: {row['goal']}", (row["sol1"], row["sol2"]), int(row["label"]))


def _siqa(row: dict) -> Iterator[Row]:
    texts = [row["answerA"], row["answerB"], row["answerC"]]
    return _listed(f"Social situation: {row['context']} {row['question']}", texts, list("123"), row["label"].strip(), row["context"])


def _boolq(row: dict) -> Iterator[Row]:
    yield Row(f"Yes or no: {row['question'].strip().rstrip('?')}? {row['passage']}", BOOLQ, int(row["answer"]), row["passage"])


def _hellaswag(row: dict) -> Iterator[Row]:
    if row["label"]:
        yield Row(f"What happens next: {row['ctx']}", tuple(row["endings"]), int(row["label"]), row["source_id"])


def _winogrande(row: dict) -> Iterator[Row]:
    return _listed(f"Fill the blank: {row['sentence']}", [row["option1"], row["option2"]], ["1", "2"], row["answer"])


def _mmlu(row: dict) -> Iterator[Row]:
    yield Row(f"Exam question: {row['question']}", tuple(row["choices"]), int(row["answer"]))


AG_NEWS = ("world news", "sports news", "business news", "science and technology news")


def _ag_news(row: dict) -> Iterator[Row]:
    yield Row(f"News wire topic: {row['text']}", AG_NEWS, int(row["label"]))


def _sst2(row: dict) -> Iterator[Row]:
    if row["label"] >= 0:
        yield Row(f"Film review sentiment: {row['sentence']}", ("a negative review", "a positive review"), int(row["label"]))


SETS = {
    "arc_easy": HubSet("allenai/ai2_arc", _arc("Science exam"), "ARC-Easy", ("train", "validation")),
    "arc_challenge": HubSet("allenai/ai2_arc", _arc("Hard science exam"), "ARC-Challenge", ("train", "validation")),
    "openbookqa": HubSet("allenai/openbookqa", _openbookqa, "main", ("train", "validation")),
    "commonsenseqa": HubSet("tau/commonsense_qa", _commonsenseqa, tested="validation"),
    "race": HubSet("ehovy/race", _race, "all", ("train", "validation")),
    "mctest": HubSet("sagnikrayc/mctest", _mctest, train=("train", "validation"), branch=CONVERTED),
    "piqa": HubSet("ybisk/piqa", _piqa, tested="validation", branch=CONVERTED),
    "siqa": HubSet("allenai/social_i_qa", _siqa, tested="validation", branch=CONVERTED),
    "boolq": HubSet("google/boolq", _boolq, tested="validation"),
    "hellaswag": HubSet("Rowan/hellaswag", _hellaswag, tested="validation"),
    "winogrande": HubSet("allenai/winogrande", _winogrande, "winogrande_xl", tested="validation"),
    "mmlu": HubSet("cais/mmlu", _mmlu, "all", ("dev", "validation")),
    "ag_news": HubSet("fancyzhx/ag_news", _ag_news),
    "sst2": HubSet("stanfordnlp/sst2", _sst2, tested="validation"),
}


def load_split(repo: str, entry: HubSet, split: str, revision: str | None):
    """One split as a `datasets.Dataset`. On the conversion branch every configuration is read (MCTest has two, mc160 and mc500)."""
    import datasets

    if entry.branch == CONVERTED:
        return datasets.load_dataset(repo, data_files={split: f"*/{split}/*.parquet"}, split=split, revision=revision)
    return datasets.load_dataset(repo, entry.config, split=split, revision=revision)


def convert(entry: HubSet, data, tested: bool) -> list[Row]:
    """Rows of one split, a `datasets.Dataset`; of a large one `MOST`. `tested` marks them as kept for testing by the publisher."""
    if len(data) > MOST:
        data = data.shuffle(seed=0).select(range(MOST))
    return [Row(row.question, row.options, row.answer, row.group, tested) for values in data for row in entry.convert(values)]


def rows(name: str, progress: fetch.Progress | None = None) -> tuple[list[Row], str]:
    """The rows of a hub task, not yet cleaned, and its source with the commit. Raises ConfigError when the hub does not give them."""
    entry = SETS[name]
    if not fetch.hub_reachable():
        raise ConfigError(
            f"tasks: 'real/{name}' comes from the Hugging Face hub ({entry.repo}), which cannot be reached; "
            "go online, or choose a task that does not need the hub, such as real/openbookqa or a world task."
        )
    parts = {}
    try:
        import huggingface_hub

        revision = huggingface_hub.HfApi().dataset_info(entry.repo, revision=entry.branch, timeout=20).sha
        for split in (*entry.train, entry.tested):
            if progress is not None:
                progress(f"Loading {entry.repo} ({split}) from the hub.", None)
            parts[split] = load_split(entry.repo, entry, split, revision)
    except Exception as error:  # the hub, the network and the file readers each have errors of their own
        raise ConfigError(f"tasks: the hub does not give 'real/{name}' ({entry.repo}: {type(error).__name__}); try again later.") from error
    return [row for split, data in parts.items() for row in convert(entry, data, split == entry.tested)], f"{entry.source}, commit {revision}"
