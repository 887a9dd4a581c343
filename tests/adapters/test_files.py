"""Adapter files: what they say of their base, what is refused and how, one call from a file to an adapted model, the model card."""

import copy
import json
import re

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from mosld.adapters import Handle, attach, saved_config
from mosld.adapters.files import base_of, card
from mosld.config import AdapterConfig, ConfigError
from tests.adapters.models import bert, run
from tests.adapters.test_attach import warm

CONFIG = AdapterConfig(method="mosld", rank=2, alpha=8)


@pytest.fixture
def saved(tmp_path):
    """A model, and the folder of its adapters."""
    model = bert(2)
    handle = attach(model, CONFIG)
    warm(handle)
    handle.save(tmp_path)
    return copy.deepcopy(handle.detach()), tmp_path


def test_the_file_says_its_format_and_knows_its_base_again(saved):
    model, folder = saved
    data = json.loads((folder / "adapter.json").read_text())
    assert data["format"] == 1 and data["base"]["class"] == "BertModel" and data["base"]["name"] is None
    linear = model.encoder.layer[0].attention.self.query.weight.flatten()
    stored = data["base"]["weights"]["encoder.layer.0.attention.self.query"]
    assert stored["dtype"] == "float32" and stored["entries"] == pytest.approx(linear[:: len(linear) // 32].tolist())
    assert len(data["base"]["weights"]) == 4
    attach(model, CONFIG).load(folder)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_the_base_is_known_in_another_precision(saved, dtype):
    model, folder = saved
    attach(model.to(dtype), CONFIG).load(folder)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_another_base_of_the_same_shapes_is_refused_unless_asked_for(saved, dtype):
    model, folder = saved
    with torch.no_grad():  # a few steps of fine-tuning
        for p in model.parameters():
            p.add_(torch.randn_like(p) * 0.02 * p.std(correction=0))
    handle = attach(model.to(dtype), CONFIG)
    before = [p.clone() for p in handle.parameters()]
    with pytest.raises(ConfigError, match=r"^adapter: .* was trained on another base, and the weights of .* are others here; load it into its own"):
        handle.load(folder)
    assert all(torch.equal(p, q) for p, q in zip(handle.parameters(), before, strict=True))
    handle.load(folder, check_base=False)


def settings(**changes):
    def change(folder):
        path = folder / "adapter.json"
        data = json.loads(path.read_text())
        for name, value in changes.items():
            data[name] = value
        path.write_text(json.dumps(data))

    return change


def tensors(change):
    def act(folder):
        path = folder / "adapter.safetensors"
        content = load_file(path)
        change(content)
        save_file(content, path)

    return act


FIRST = "encoder.layer.0.attention.self.query.A"
BAD = {
    "cut off": (lambda f: (f / "adapter.safetensors").write_bytes((f / "adapter.safetensors").read_bytes()[:500]), "is damaged or no safetensors"),
    "no safetensors": (lambda f: (f / "adapter.safetensors").write_bytes(b"\x80\x04pickle" * 50), "is damaged or no safetensors"),
    "a header of 2^60 bytes": (lambda f: (f / "adapter.safetensors").write_bytes(b"\0" * 7 + b"\x10" + b"{}"), "is damaged or no safetensors"),
    "not finite": (tensors(lambda t: t[FIRST].view(-1)[:1].fill_(float("nan"))), "holds numbers that are not finite"),
    "whole numbers": (tensors(lambda t: t.update({FIRST: t[FIRST].to(torch.int8)})), "is of kind I8; only floats are read"),
    "another shape": (tensors(lambda t: t.update({FIRST: torch.zeros(3, 16)})), "does not fit this model and configuration"),
    "one too few": (tensors(lambda t: t.pop(FIRST)), "does not fit this model and configuration"),
    "one too many": (tensors(lambda t: t.update(extra=torch.zeros(3))), "'extra' in .* does not fit this model"),
    "no JSON": (lambda f: (f / "adapter.json").write_text("{"), "adapter.json in .* is damaged: it is no JSON"),
    "deep JSON": (lambda f: (f / "adapter.json").write_text("[" * 200_000), "adapter.json in .* is damaged: it is no JSON"),
    "huge JSON": (lambda f: (f / "adapter.json").write_text(" " * 2_000_000), "has 2,000,000 bytes; at most 1,048,576 are read"),
    "a list": (lambda f: (f / "adapter.json").write_text("[]"), "holds no configuration of adapters"),
    "a later format": (settings(format=2), "is of format 2; this library reads format 1"),
    "tasks": (settings(tasks=10**9), "tasks in .* is 1000000000; it must be a whole number from 1 to 10000"),
    "base": (settings(base={"name": 3}), "says of its base cannot be read"),
    "sample": (settings(base={"weights": {"encoder.layer.0.attention.self.query": 3}}), "says of its base cannot be read"),
    "method": (settings(config={"method": "zebra"}), "^method: 'zebra' is not known"),
    "alpha": (settings(config={**CONFIG.model_dump(), "alpha": 9}), "its alpha is 9.0, here it is 8.0; attach with the saved adapter.json"),
}


@pytest.mark.parametrize("kind", BAD)
def test_damaged_foreign_and_huge_files_are_one_sentence_and_change_nothing(saved, kind):
    model, folder = saved
    spoil, sentence = BAD[kind]
    spoil(folder)
    handle = attach(model, CONFIG)
    before = [p.clone() for p in handle.parameters()]
    with pytest.raises(ConfigError, match=sentence) as refused:
        handle.load(folder)
    assert "\n" not in str(refused.value)
    assert all(torch.equal(p, q) for p, q in zip(handle.parameters(), before, strict=True))
    handle.detach()
    if "its alpha" not in sentence:
        with pytest.raises(ConfigError, match=sentence):
            Handle.from_pretrained(folder, model=model)
        assert all(p.requires_grad for p in model.parameters()) and not model._forward_pre_hooks


def test_peft_folders_are_named_as_such(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ConfigError, match="holds no adapter.safetensors; it is peft's: load it with peft"):
        attach(bert(1), CONFIG).load(tmp_path)


def test_files_written_before_there_was_a_format_are_read(saved):
    model, folder = saved
    path = folder / "adapter.json"
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k in ("config", "tasks", "instance_dim")}))
    config, extra = saved_config(folder)
    attach(model, config, **extra).load(folder)


def test_one_call_gives_base_and_adapters(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bert(2).save_pretrained("owner/base")  # a folder that the file can name as it would name a model on the hub
    base = transformers.BertModel.from_pretrained("owner/base").eval()
    handle = attach(base, CONFIG)
    warm(handle)
    expected = run(base)
    handle.save("own")
    data = json.loads((tmp_path / "own" / "adapter.json").read_text())
    assert data["base"]["name"] is None  # no folder of this machine is written down
    data["base"]["name"] = "owner/base"
    (tmp_path / "own" / "adapter.json").write_text(json.dumps(data))
    again = Handle.from_pretrained("own")
    assert type(again.model) is transformers.BertModel and torch.equal(run(again.model), expected)
    assert not any(a.training for a in again.adapters)
    half = Handle.from_pretrained("own", dtype=torch.bfloat16)
    assert half.model.dtype == torch.bfloat16 and half.parameters()[0].dtype == torch.float32


def test_what_cannot_be_had_is_one_sentence(saved, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    _, folder = saved
    for where, sentence in [
        ("owner/nothing-there", "^adapter: 'owner/nothing-there' is no folder here, and the hub cannot be reached to look for it there"),
        ("a/b/c", "is no folder here and no id of a repository on the hub"),
        (folder, "does not say which base on the hub it belongs to; load the base and give it as model"),
    ]:
        with pytest.raises(ConfigError, match=sentence):
            Handle.from_pretrained(where)
    settings(base={"name": "owner/nothing-there", "class": "BertModel"})(folder)
    with pytest.raises(ConfigError, match=r"^adapter: its base 'owner/nothing-there' cannot be loaded \(OSError\)"):
        Handle.from_pretrained(folder)
    settings(base={"name": "owner/nothing-there", "class": "pipeline"})(folder)
    with pytest.raises(ConfigError, match="does not say which base"):
        Handle.from_pretrained(folder)
    with pytest.raises(ConfigError, match=r"^push: the hub cannot be reached, so 'me/mine' was not written; save to a folder and push later"):
        attach(bert(1), CONFIG).push_to_hub("me/mine")


def test_name_and_revision_of_a_base_out_of_the_hubs_cache():
    model = bert(1)
    model.config._name_or_path = "/somewhere/hub/models--owner--some-model/snapshots/0123abc"
    assert base_of(model) == {"name": "owner/some-model", "revision": "0123abc", "class": "BertModel"}
    model.config._name_or_path = "owner/other"
    model.config._commit_hash = "fff"
    assert base_of(model) == {"name": "owner/other", "revision": "fff", "class": "BertModel"}
    handle = attach(model, CONFIG)
    text = card(handle)
    assert text.startswith("---\nbase_model: owner/other\nbase_model_relation: adapter\nlibrary_name: mosld\n")
    code = re.search(r"```python\n(.*?)```", text, re.S)[1]
    compile(code, "card", "exec")
    assert "# MoSLD adapters for owner/other" in text and f"- trainable parameters: {handle.count():,}" in text
