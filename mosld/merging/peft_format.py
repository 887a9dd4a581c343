"""LoRA adapters in PEFT's format, written and read without PEFT: `adapter_config.json` and `adapter_model.safetensors`.

- `write(vector, folder, base)`: a factored task vector as a LoRA adapter that `peft.PeftModel.from_pretrained(model, folder)` loads.
- `read(folder)`: the task vector of a LoRA adapter of PEFT's, its scale multiplied in.

PEFT's names: base_model.model.<linear>.lora_A.weight [r, d_in] and lora_B.weight [d_out, r]; the update is (alpha / r) B A, with rsLoRA
(alpha / sqrt r) B A; ranks and alphas of single linears stand in `rank_pattern` and `alpha_pattern`.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from mosld.config import ConfigError
from mosld.files import write_tensors
from mosld.merging.vectors import Factors, TaskVector

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
KEY = re.compile(r"base_model\.model\.(.+)\.lora_([AB])(?:\.default)?\.weight")


def write(vector: TaskVector, folder: str | Path, base: str = "") -> None:
    """Write a factored task vector: alpha equals the rank, since the scale is in the factors. `base`: the model's name, for who loads it.

    Raises ConfigError for a dense update, which no LoRA adapter equals.
    """
    for name, update in vector.items():
        if not isinstance(update, Factors):
            raise ConfigError(f"peft: the update of '{name}' is one dense matrix, no LoRA adapter; cut the merge to a rank first (svd_rank).")
    ranks = {name: u.down.shape[0] for name, u in vector.items()}
    rank = max(ranks.values())
    config = {
        "peft_type": "LORA",
        "base_model_name_or_path": base,
        "task_type": None,
        "r": rank,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "target_modules": sorted(vector),
        "rank_pattern": {re.escape(n): r for n, r in ranks.items() if r != rank},
        "alpha_pattern": {re.escape(n): r for n, r in ranks.items() if r != rank},
    }
    tensors = {}
    for name, u in vector.items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = u.down.detach().contiguous().cpu()
        tensors[f"base_model.model.{name}.lora_B.weight"] = u.up.detach().contiguous().cpu()
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / WEIGHTS, tensors, {"format": "pt"})
    (folder / CONFIG).write_text(json.dumps(config, indent=1))


def read(folder: str | Path) -> TaskVector:
    """The task vector of a LoRA adapter of PEFT's. Raises ConfigError, naming what cannot be read as one low-rank update a linear."""
    folder = Path(folder)
    try:
        config = json.loads((folder / CONFIG).read_text())
        tensors = load_file(folder / WEIGHTS)
    except FileNotFoundError as error:
        raise ConfigError(f"peft: '{folder}' holds no {Path(error.filename).name}; give the folder of a LoRA adapter that PEFT saved.") from None
    except (OSError, ValueError, SafetensorError) as error:
        raise ConfigError(f"peft: '{folder}' cannot be read ({type(error).__name__}).") from None
    kind = config.get("peft_type") if isinstance(config, dict) else None
    if kind != "LORA":
        raise ConfigError(f"peft: the adapter in '{folder}' is of type {str(kind)[:40]}; only LORA has one low-rank update a linear.")
    for name, why in (
        ("use_dora", "DoRA rescales the weights"),
        ("modules_to_save", "whole modules were trained"),
        ("use_qalora", "QALoRA pools inputs"),
    ):
        if config.get(name):
            raise ConfigError(f"peft: the adapter in '{folder}' has {name} {str(config[name])[:40]}: {why}, which is no low-rank update.")
    if config.get("bias", "none") != "none":
        raise ConfigError(f"peft: the adapter in '{folder}' trained biases ({config['bias']}), which is no low-rank update.")
    pairs: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        match = KEY.fullmatch(key)
        if match is None:
            raise ConfigError(f"peft: '{key[:80]}' in '{folder}' is no factor of a linear.")
        pairs.setdefault(match[1], {})[match[2]] = tensor.float()
    out: TaskVector = {}
    for name, pair in pairs.items():
        a, b = pair.get("A"), pair.get("B")
        if a is None or b is None or a.dim() != 2 or b.dim() != 2 or a.shape[0] != b.shape[1] or not (a.isfinite().all() and b.isfinite().all()):
            raise ConfigError(f"peft: the factors of '{name[:80]}' in '{folder}' do not fit together.")
        rank = a.shape[0]
        alpha = _pattern(config.get("alpha_pattern"), name, config.get("lora_alpha", rank))
        out[name] = Factors(b * (alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)), a)
    if not out:
        raise ConfigError(f"peft: '{folder}' holds no factors.")
    return out


def _pattern(patterns: dict | None, name: str, default: float) -> float:
    """PEFT's rule: a pattern counts for the linears whose names end in it, after a dot or from the start."""
    for pattern, value in (patterns or {}).items():
        if re.fullmatch(rf"(.*\.)?({pattern})", name):
            return value
    return default
