"""Nano as shipped: small, whole, offline, and still knowing what its teacher knows."""

import hashlib
import re
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors import safe_open

from mosld import backbones, tasks
from mosld.backbones import nano
from mosld.config import ConfigError
from mosld.tasks.base import Example


def test_files_are_small_and_those_of_the_card():
    assert sum(f.stat().st_size for f in nano.FOLDER.iterdir()) <= 10_000_000
    card = (nano.FOLDER / "MODEL_CARD.md").read_text()
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        assert re.search(rf"`{re.escape(name)}`[^\n]*{hashlib.sha256((nano.FOLDER / name).read_bytes()).hexdigest()}", card), name
    with safe_open(nano.FOLDER / "model.safetensors", "pt") as file:
        assert {file.get_tensor(key).dtype for key in file.keys()} == {torch.float16}  # noqa: SIM118


def test_shape_and_names():
    backbone = backbones.load("nano")
    assert (backbone.kind, backbone.n_layers, backbone.d_model) == ("encoder", 4, 128)
    linears = [name.rpartition(".")[2] for name, m in backbone.model.named_modules() if isinstance(m, torch.nn.Linear)]
    assert linears.count("query") == linears.count("value") == 4
    assert nano.SHA256 in backbone.source
    assert backbone.model.dtype == torch.float32


def test_loads_without_any_network():
    code = """
import socket
def refuse(*a, **k): raise AssertionError("a connection was tried")
socket.socket.connect = socket.getaddrinfo = refuse
from mosld import backbones
print(backbones.load("nano").n_layers)
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "4"


def test_damaged_weights_are_refused(tmp_path, monkeypatch):
    shutil.copytree(nano.FOLDER, tmp_path / "weights")
    monkeypatch.setattr(nano, "FOLDER", tmp_path / "weights")
    data = bytearray((tmp_path / "weights" / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (tmp_path / "weights" / "model.safetensors").write_bytes(data)
    with pytest.raises(ConfigError, match="missing or damaged"):
        backbones.load("nano")


def test_positions_end_where_training_did():
    with pytest.raises(ConfigError, match="max_tokens: 129 is above what nano can read; choose at most 128."):
        backbones.load("nano", max_tokens=129)


@pytest.mark.parametrize(
    ("question", "options"),
    [
        ("A man is playing the guitar.", ("Someone makes music.", "A man is paying the gutter.", "It rains.", "Shares fell.")),
        ("Where do fish live?", ("in water", "in the sky", "in books", "on the moon")),
        ("The film was a wonderful, moving experience.", ("a positive review", "a negative review")),
    ],
)
def test_it_knows_english(question, options):
    backbone = backbones.load("nano")
    assert int(backbone.score(backbone.batch([Example(question, options, 0)], [0])).argmax()) == 0


def test_zero_shot_on_held_out_rows():
    # MiniLM with 6 layers is right on .80 of these rows, with 3 layers on .57; chance is .25. The bound is far from both ends.
    backbone = backbones.load("nano")
    rows = tasks.load("world/kind").test[:200]
    batch = backbone.batch(rows, [0] * len(rows))
    with torch.no_grad():
        assert (backbone.score(batch).argmax(1) == batch.answer).float().mean() > 0.6
