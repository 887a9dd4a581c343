"""The schema: texts, links and JSON come back as they were; what cannot be used is one sentence with field, value and what is allowed."""

import json
import re

import pytest
from pydantic import ValidationError

from mosld.config import LINK_LIMIT, METHODS, AdapterConfig, ConfigError, RunConfig, knobs, to_text

UNUSUAL = {
    "method": "mola",
    "rank": 5,
    "alpha": 3.5,
    "experts": "2-4-6",
    "top_k": 1,
    "dropout": 0.25,
    "dropout_on": "B",
    "share": "none",
    "side": "output",
    "balance": 0.5,
    "router": "instruction",
    "renormalise": "no",
    "router_lr": 10.0,
    "router_noise": 0.25,
    "z_loss": 0.001,
    "targets": ("q", "up"),
    "exclude": ("1.fc1", "o"),
    "tasks": {"world/mood": 1.0, "real/piqa": 2.5},
    "held_out": ("world/tense", "real/siqa"),
    "instruction": "Is it so: é, or not",
    "backbone": "owner/name",
    "layers": 3,
    "max_tokens": 32,
    "temperature": 0.1,
    "optimiser": "sgd",
    "lr": 0.5,
    "weight_decay": 0.01,
    "warmup": 0,
    "steps": 7,
    "batch": 3,
    "seed": 12,
    "eval_every": 5,
    "eval_rows": 20,
    "probe_every": 3,
    "arms": ({"dropout": 0.0, "lr": 0.1}, {"dropout": 0.5, "lr": 0.2}),
}


def test_links_and_json_restore_every_knob():
    config = RunConfig(**UNUSUAL)
    assert set(UNUSUAL) | {"options"} == set(RunConfig.model_fields)
    assert RunConfig.from_url(config.to_url()) == config
    assert RunConfig.from_json(config.to_json()) == config
    for name, value in UNUSUAL.items():
        assert getattr(config, name) == value


def test_a_regular_expression_among_names_goes_on_to_the_end_of_the_text_and_is_checked():
    config = RunConfig(targets=r"q+v, re:.*\.[02]\.(a{1,2}|c+)d")
    assert config.targets == ("q", "v", r"re:.*\.[02]\.(a{1,2}|c+)d")
    assert RunConfig.from_url(config.to_url()) == RunConfig(targets=to_text("targets", config.targets)) == config
    assert RunConfig(targets="re:a,b").targets == ("re:a,b",) and RunConfig(exclude="pre:a,b").exclude == ("pre:a", "b")
    with pytest.raises(ConfigError, match=r"^exclude: 're:\(' is no regular expression \(.*\); write re: and one that fits whole names"):
        RunConfig(exclude="re:(")


def test_the_default_link_is_the_version_alone_and_links_are_short():
    assert RunConfig().to_url() == "1"
    assert RunConfig(seed=3, rank=4).to_url() == "1!r.4!s.3"
    assert len(RunConfig(**UNUSUAL).to_url()) < 360
    assert re.fullmatch(r"[A-Za-z0-9!.:,/=_%~-]+", RunConfig(**UNUSUAL).to_url())


def test_texts_as_on_the_command_line():
    config = RunConfig(tasks="a, b:2,dir/own.jsonl", arms="method=lora,mosld;dropout=0,0.2", rank="4", targets="q,v,o")
    assert config.tasks == {"a": 1.0, "b": 2.0, "dir/own.jsonl": 1.0}
    assert config.arms == ({"method": "lora", "dropout": 0.0}, {"method": "mosld", "dropout": 0.2})
    assert config.arm(1).method == "mosld" and config.arm(1).dropout == 0.2 and config.arm(1).rank == 4
    assert RunConfig(arms="").arms == ({},) and RunConfig(arms="").arm_names() == ["MoSLD"]
    for knob in knobs():
        value = getattr(config, knob.name)
        assert getattr(config.replace(**{knob.name: None if value is None else to_text(knob.name, value)}), knob.name) == value


def test_every_knob_has_help_group_and_a_key_of_its_own():
    all_knobs = knobs()
    assert len({k.key for k in all_knobs}) == len(all_knobs) == len(RunConfig.model_fields)
    assert all(k.help.endswith(".") and k.group for k in all_knobs)
    numbers = [k for k in all_knobs if k.kind in ("int", "float")]
    assert len(numbers) > 15 and all(k.low is not None and k.high is not None for k in numbers)


@pytest.mark.parametrize("knob", [k for k in knobs() if k.kind in ("int", "float")], ids=lambda k: k.name)
def test_bounds_are_held_and_told(knob):
    for value in (knob.high * 2 + 1, knob.low - 1):
        with pytest.raises(ConfigError) as refused:
            RunConfig(**{knob.name: value})
        text = str(refused.value)
        assert text.startswith(f"{knob.name}: ") and f"{knob.high:.12g}" in text and f"{knob.low:.12g}" in text and text.count("\n") == 0
    RunConfig(**{knob.name: knob.high, "experts": "64", "top_k": knob.high if knob.name == "top_k" else 2})


@pytest.mark.parametrize(
    "values,sentence",
    [
        ({"method": "zebra"}, "method: 'zebra' is not known; choose one of lora, "),
        ({"tasks": ""}, "tasks: none is chosen; choose at least one."),
        ({"tasks": "a,a"}, "tasks: 'a' is named twice."),
        ({"tasks": "a:0"}, "tasks: the weight of 'a', 0, is not allowed"),
        ({"top_k": 5}, "top_k: 5 is above the number of experts, 4; choose at most 4"),
        ({"experts": "2-8", "top_k": 3}, "top_k: 3 is above the number of experts, 2"),
        ({"experts": "many"}, "experts: 'many' is not allowed; give a number such as 4"),
        ({"experts": "0"}, "experts: '0' is not allowed"),
        ({"experts": "65"}, "experts: '65' is not allowed"),
        ({"share": "C"}, "share: 'C' is not allowed; choose one of A, B, none."),
        ({"targets": ""}, "targets: an empty value is not allowed; give at least one name"),
        ({"backbone": "zebra"}, "backbone: 'zebra' is not known"),
        ({"held_out": "world/mood"}, "held_out: 'world/mood' is also in the mixture"),
        ({"arms": "steps=1,2"}, "arms: 'steps' cannot differ between arms"),
        ({"arms": "dropout=0,0.1;rank=4"}, "arms: every field needs the same number of values"),
        ({"arms": "dropout"}, "arms: 'dropout' is not of the form field=value,value"),
        ({"arms": "dropout=0,7"}, "dropout: '7' is not allowed; give a number from 0 to 0.9."),
        ({"arms": "top_k=2,9"}, "top_k: 9 is above the number of experts"),
        ({"options": "zebra=1"}, "options: 'zebra' is not a setting of MoSLD"),
        ({"zebra": 1}, "zebra: this is not a known setting; the settings are method, rank"),
        ({"rank": "four"}, "rank: 'four' is not allowed; give a whole number from 1 to 256."),
        ({"dropout": "nan"}, "dropout: 'nan' is not allowed; give a number from 0 to 0.9."),
    ],
)
def test_one_sentence_for_each_fault(values, sentence):
    with pytest.raises(ConfigError) as refused:
        RunConfig(**values)
    assert str(refused.value).startswith(sentence) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "link,sentence",
    [
        ("2!r.4", "link: version '2' is not known; this lab reads version 1."),
        ("", "link: version '' is not known"),
        ("1!zz.3", "link: 'zz' is not a known setting; the settings are m, r, "),
        ("1!r.0", "rank: '0' is not allowed; give a whole number from 1 to 256."),
        ("1!r.4!r.5", "link: 'rank' is given twice"),
        ("1!" + "r" * LINK_LIMIT, "link: 4002 characters are too many; at most 4000 are read."),
        ("1!m.%00", "method: '\\x00' is not known"),
    ],
)
def test_links_are_refused_with_a_sentence(link, sentence):
    with pytest.raises(ConfigError) as refused:
        RunConfig.from_url(link)
    assert str(refused.value).startswith(sentence)


@pytest.mark.parametrize("text,sentence", [("{", "config: line 1 is not JSON"), ("[1]", "config: the file must hold one JSON object")])
def test_broken_json(text, sentence):
    with pytest.raises(ConfigError, match=sentence):
        RunConfig.from_json(text)


def test_configurations_are_frozen():
    with pytest.raises(ValidationError):
        RunConfig().rank = 3


def test_what_a_method_fixes_is_put_in_and_what_it_overrules_is_told():
    lora = AdapterConfig(method="lora", experts="8", dropout=0.3)
    assert lora.effective().experts == "1" and lora.effective().dropout == 0 and lora.effective().balance == 0
    assert "experts: LoRA fixes it at 1; 8 is ignored." in lora.ignored() and len(lora.ignored()) == 2
    assert AdapterConfig(method="lora").ignored() == []
    assert AdapterConfig(method="mosld").effective().balance == METHODS["mosld"].balance == 0.01
    assert AdapterConfig(method="mosld", balance=0).effective().balance == 0


def test_json_is_plain():
    assert json.loads(RunConfig().to_json())["arms"] == [{"dropout": 0.0}, {"dropout": 0.1}]
