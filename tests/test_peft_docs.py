"""docs/peft.md: its code is one script and runs as it stands, on a tiny model in the place of the hub's."""

import re
import runpy
from pathlib import Path

import pytest
import transformers

from mosld import backbones

PAGE = Path(__file__).parents[1] / "docs" / "peft.md"


@pytest.fixture
def base(tmp_path):
    """A folder that holds a LLaMA of 2 x 4 layers' groups with random weights, and a tokenizer."""
    tokenizer = backbones.load("nano").tokenizer
    tokenizer.save_pretrained(tmp_path / "base")
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 2, "num_key_value_heads": 1}
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=64, **sizes))
    model.save_pretrained(tmp_path / "base")
    return tmp_path / "base"


@pytest.mark.filterwarnings("ignore")
def test_the_page_runs(base, tmp_path, monkeypatch, capsys):
    code = "\n".join(re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S))
    assert code.count('base = "') == 1
    (tmp_path / "page.py").write_text(re.sub(r'^base = ".*"$', f"base = {str(base)!r}", code, flags=re.M))
    monkeypatch.chdir(tmp_path)
    left = runpy.run_path(str(tmp_path / "page.py"))
    assert left["trainer"].state.global_step == 4
    saved = {f.name for f in (tmp_path / "runs" / "peft" / "checkpoint-4").iterdir()}
    assert "adapter_model.safetensors" in saved and "model.safetensors" not in saved
    printed = capsys.readouterr().out
    assert "trainable params" in printed and "layers.3.self_attn.q_proj" in printed
