"""Whatever is typed, linked or found in a file: it is read and written back the same, or refused in one sentence that can be shown anywhere.

Property tests, the same cases every time; what they once found is among the examples. `python -m benchmarks fuzz` makes thousands of new ones.
"""

import json
import os
import unicodedata
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mosld.config import AdapterConfig, ConfigError, RunConfig, knobs, whole
from mosld.merging.config import MergeConfig
from mosld.texts import LONGEST, plain, shown
from mosld.training import ArmFrame, Frame, LinearProbe, RunLog
from mosld.training.runlog import LinearInfo, Record

CASES = int(os.environ.get("MOSLD_CASES", "0"))  # of each property, new every time; 0: the same hundred
bounded = settings(derandomize=not CASES, max_examples=CASES or 100, deadline=None, database=None, suppress_health_check=list(HealthCheck))

ANY = st.text(alphabet=st.characters(), max_size=40)  # lone surrogates too
MARKS = st.text(alphabet="ab12,+;:=!.~-/ \t\n\x00²٣\u202e\ud800'", max_size=12)
WORDS = st.sampled_from(
    [
        *(
            "world/mood",
            "a",
            "a:2",
            "a:",
            ":2",
            "a,,b",
            "",
            " ",
            "own",
            "none",
            "q",
            "re:a+",
            "re:(",
            "re:a,b",
            "4",
            "2-4",
            "0",
            "0,0.1",
            "nan",
            "inf",
        ),
        *(
            "9" * 5000,
            "-1",
            "²",
            "1e999",
            "dropout=0,0.1",
            "method=lora,mosld;dropout=0,0.1",
            "balance=own,0.1",
            "targets=q,q+v",
            ";",
            "=",
            "a=1,a=2",
        ),
        *("x.csv", "C:\\x.csv"),
    ]
)
TEXT = WORDS | MARKS | ANY
NUMBER = st.integers() | st.floats() | st.booleans() | st.none()
VALUE = st.recursive(TEXT | NUMBER, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4), max_leaves=8)
NAMES = st.sampled_from([*RunConfig.model_fields, "self", "cls", "zebra", ""])


def in_one_sentence(error: Exception) -> None:
    text = str(error)
    assert text and len(text) <= LONGEST
    text.encode()  # no half of a character
    assert not any(unicodedata.category(c) in ("Cc", "Zl", "Zp", "Cs") for c in text), repr(text)


def same(config) -> None:
    """A configuration that was accepted comes back from its link, its JSON, and texts as typed."""
    assert RunConfig.from_url(config.to_url()) == config
    assert RunConfig.from_json(config.to_json()) == config
    assert config.arm_names() and all(config.arm(i) for i in range(len(config.arms)))


def read_or_refused(read, *args, **values) -> None:
    try:
        found = read(*args, **values)
    except ConfigError as error:
        in_one_sentence(error)
    else:
        if isinstance(found, RunConfig):
            same(found)


@bounded
@given(st.dictionaries(NAMES, VALUE, max_size=4))
@example({"self": 1})
@example({"tasks": [[1]]})
@example({"tasks": {"a,,b": 1}})
@example({"tasks": {"": 1}})
@example({"tasks": {"a": 0.123456789}})
@example({"tasks": {"a:2": 1}})
@example({"tasks": {" a": 1}})
@example({"held_out": ["a+b"]})
@example({"held_out": ["a", "a"]})
@example({"arms": [{}, {}]})
@example({"arms": [{}, {"dropout": 0.3}]})
@example({"arms": [{"balance": None}, {"balance": 0.1}]})
@example({"arms": [{"targets": ["re:a,b"]}, {"targets": ["q"]}]})
@example({"targets": ["re:a", "q"]})
@example({"targets": ["a;b"]})
@example({"seed": "²"})
@example({"experts": "٣"})
@example({"method": "mixlora", "options": {"a" * 5000: 1}})
@example({"tasks": {"\ud800": 1}})
@example({"instruction": "\x1b[2J"})
@example({"backbone": "a/" + "b" * 5000})
@example({"tasks": {"a" * 4000: 1}})
def test_values(values):
    read_or_refused(RunConfig, **values)


@pytest.mark.parametrize("name", RunConfig.model_fields)
def test_a_number_of_thousands_of_digits(name):
    for value in (10**5000, [10**5000], {"x": 10**5000}):
        read_or_refused(RunConfig, **{name: value})


@bounded
@given(st.dictionaries(st.sampled_from([*AdapterConfig.model_fields, *MergeConfig.model_fields, "self"]), VALUE, max_size=3))
def test_values_of_adapters_and_merges(values):
    for model in (AdapterConfig, MergeConfig):
        read_or_refused(model, **{k: v for k, v in values.items() if k in model.model_fields or k == "self"})


@bounded
@given(st.dictionaries(st.sampled_from([k.key for k in knobs()]), TEXT, max_size=4), st.booleans())
def test_links(values, quoted):
    parts = [f"{key}.{quote(value, safe='', errors='ignore') if quoted else value}" for key, value in values.items()]
    read_or_refused(RunConfig.from_url, "!".join(["1", *parts]))


@bounded
@given(TEXT)
def test_any_text_as_a_link_or_a_file(text):
    read_or_refused(RunConfig.from_url, text)
    read_or_refused(RunConfig.from_url, f"1!{text}")
    read_or_refused(RunConfig.from_json, text)


@bounded
@given(VALUE)
@example([[[[]]]])
@example("\ud800")
def test_json_of_any_kind(value):
    read_or_refused(RunConfig.from_json, json.dumps({"tasks": value, "arms": value}))


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"steps": ' + "9" * 5000 + "}", '{"steps": 1e999}', "{" * 5000, '{"a": "\\ud800"}', "nul\0", "", "null"]
)
def test_files_that_are_no_configuration(text):
    with pytest.raises(ConfigError) as refused:
        RunConfig.from_json(text)
    in_one_sentence(refused.value)


@bounded
@given(ANY | MARKS | st.builds(lambda text, times: text * times, ANY, st.integers(1, 2 * LONGEST)))
def test_sentences_can_be_shown(text):
    in_one_sentence(ConfigError(f"x: '{text}'"))
    assert plain(plain(text)) == plain(text)


@bounded
@given(VALUE)
def test_any_value_is_quoted_short(value):
    assert len(shown(value)) <= 60
    try:
        assert 1 <= whole("n", value, 1, 7) <= 7
    except ConfigError as error:
        in_one_sentence(error)


@pytest.mark.parametrize("text", ["²", "٣", "1_0", "1e3", "", " ", "0x1", "9" * 5000, 10**5000, True, None, 1.0], ids=lambda value: shown(value, 30))
def test_what_is_no_whole_number(text):
    with pytest.raises(ConfigError, match="give a whole number from 1 to 1000"):
        whole("jobs", text, 1, 1000)


def made_run(folder: Path) -> RunLog:
    config = RunConfig(tasks="world/mood", steps=3, arms="", experts=2, probe_every=1)
    flat = {"world/mood": 0.25}
    log = RunLog(config, ["MoSLD"], ["world/mood"], [], flat, flat, [[LinearInfo("l", 0, "q", 2)]], [8], {}, {})
    fields = {"load": [[0.5, 0.5]], "gate": [[0.5, 0.5]], "norm_a": [1.0], "norm_b": [1.0, 1.0], "norm_ba": [1.0, 1.0], "ask_a": None}
    fields |= {"evenness": 1.0, "effective": 2.0, "idle": 0, "token_entropy": 0.5, "information": 0.1, "imbalance": [0.0, None, 1.0, -1.0]}
    for step in range(3):
        log.append(Frame(step, [ArmFrame(1.0, 0.0, 0.1, 0.1, flat, [LinearProbe(**fields)])]))
    log.save(folder)
    return log


@bounded
@given(st.sampled_from(["run.json", "frames.jsonl"]), st.integers(0, 10**6), st.binary(max_size=6), st.integers(0, 40))
def test_a_run_folder_with_some_bytes_replaced(name, place, put, cut):
    with TemporaryDirectory() as place_of:
        folder = Path(place_of)
        made_run(folder)
        data = (folder / name).read_bytes()
        at = place % len(data)
        (folder / name).write_bytes(data[:at] + put + data[at + cut :])
        try:
            log = RunLog.load(folder)
        except ConfigError as error:
            in_one_sentence(error)
            assert name in str(error)
        else:  # every table can be made, and a run goes on behind its last whole frame
            for table in (log.accuracies, log.losses, log.gates, log.norms, log.imbalance, log.routing):
                table()
            if log.frames and log.frames[-1].step < 3:
                Record.go_on(folder, log).append(Frame(log.frames[-1].step, [ArmFrame(1.0, 0.0, 0.1, 0.1)]))
                assert len(RunLog.load(folder).frames) == len(log.frames) + 1
