"""LoRA adapters in PEFT's format: written here and loaded by PEFT, trained by PEFT and read here."""

import json

import pytest
import torch
from merging_helpers import adapters
from peft import LoraConfig, PeftModel, get_peft_model

from mosld.adapters import attach
from mosld.config import AdapterConfig, ConfigError
from mosld.merging import peft_format
from mosld.merging.vectors import dense, stack, task_vector


def inputs(backbone, loaded):
    batch = backbone.batch(loaded[0].test[:4], [0] * 4)
    return {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}


def test_peft_loads_what_is_written(backbone, loaded, tmp_path):
    handle = adapters(backbone, 0)
    one = task_vector(handle)
    other = task_vector(adapters(backbone, 1, rank=3))
    mixed = {name: stack([one[name], other[name]], [0.5, 0.5]) if i else one[name] for i, name in enumerate(one)}  # ranks 2 and 5
    with torch.no_grad():
        for vector in (one, mixed):
            peft_format.write(vector, tmp_path)
            model = PeftModel.from_pretrained(backbone.replica(), tmp_path).eval()
            merged = backbone.replica()
            for name, u in vector.items():
                linear = merged.get_submodule(name)
                linear.weight = torch.nn.Parameter(linear.weight + dense(u))
            rows = inputs(backbone, loaded)
            torch.testing.assert_close(model(**rows).last_hidden_state, merged(**rows).last_hidden_state)


def test_mtl_lora_is_an_adapter_of_peft_for_each_task(backbone, loaded, tmp_path):
    handle = attach(backbone.replica(), AdapterConfig(method="mtl-lora", rank=2, experts="3", targets=("q", "v")), 0, tasks=2)
    generator = torch.Generator().manual_seed(0)
    for p in handle.parameters():
        p.data.normal_(0, 0.3, generator=generator)
    rows = inputs(backbone, loaded)
    with torch.no_grad():
        for task in range(2):
            peft_format.write(task_vector(handle, task), tmp_path)
            model = PeftModel.from_pretrained(backbone.replica(), tmp_path).eval()
            with handle.context(rows["attention_mask"], torch.full((len(rows["input_ids"]),), task)):
                torch.testing.assert_close(model(**rows).last_hidden_state, handle.model(**rows).last_hidden_state)


@pytest.mark.parametrize("settings", [{}, {"use_rslora": True}, {"rank_pattern": {"layer.1.attention.self.value": 4}, "alpha_pattern": {"value": 5}}])
def test_what_peft_saved_is_read(backbone, loaded, tmp_path, settings):
    torch.manual_seed(0)
    model = get_peft_model(backbone.replica(), LoraConfig(r=2, lora_alpha=7, target_modules=["query", "value"], init_lora_weights=False, **settings))
    model.save_pretrained(tmp_path)
    vector = peft_format.read(tmp_path)
    layers = {n.removeprefix("base_model.model."): m for n, m in model.named_modules() if hasattr(m, "get_delta_weight")}
    assert set(vector) == set(layers) and len(vector) == 4
    for name, layer in layers.items():
        torch.testing.assert_close(dense(vector[name]), layer.get_delta_weight("default").float())


def test_what_is_no_low_rank_update_is_refused(backbone, tmp_path):
    peft_format.write(task_vector(adapters(backbone, 0)), tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    for change, sentence in (
        ({"peft_type": "IA3"}, "of type IA3; only LORA"),
        ({"use_dora": True}, "DoRA rescales"),
        ({"modules_to_save": ["classifier"]}, "whole modules were trained"),
        ({"bias": "all"}, "trained biases"),
    ):
        (tmp_path / "adapter_config.json").write_text(json.dumps(config | change))
        with pytest.raises(ConfigError, match=sentence):
            peft_format.read(tmp_path)
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    (tmp_path / "adapter_model.safetensors").write_bytes(b"\xff" * 40)
    with pytest.raises(ConfigError, match="cannot be read"):
        peft_format.read(tmp_path)
    with pytest.raises(ConfigError, match=r"holds no adapter_config.json"):
        peft_format.read(tmp_path / "none")
    with pytest.raises(ConfigError, match="one dense matrix"):
        peft_format.write({"w": torch.ones(2, 2)}, tmp_path)
