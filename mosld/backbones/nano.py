"""Nano: the lab's own encoder, 4 layers, width 128, 4.4 M weights, inside the package (`nano_weights/`, with its model card).

Distilled from all-MiniLM-L6-v2 by `python -m mosld.backbones.distil`. Nothing is downloaded.
"""

from __future__ import annotations

from pathlib import Path

from mosld import fetch
from mosld.backbones import hub
from mosld.config import ConfigError

FOLDER = Path(__file__).parent / "nano_weights"
SHA256 = "c1d5282b319e88e4b1354f717c530c6e8fc29ce356d21e42db96697f256d0e46"  # of model.safetensors


def open_model(progress: fetch.Progress | None = None):
    """(model, tokenizer, source): a BertModel in float32 from the half-precision weights. Raises ConfigError when the file is damaged."""
    from transformers import BertModel, PreTrainedTokenizerFast

    weights = FOLDER / "model.safetensors"
    if not weights.is_file() or fetch.sha256(weights) != SHA256:
        raise ConfigError("backbone: the weights of nano in this installation are missing or damaged; install the package anew.")
    model = hub.pretrained(BertModel, FOLDER, add_pooling_layer=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(FOLDER / "tokenizer.json"), pad_token="[PAD]", unk_token="[UNK]")
    return model, tokenizer, f"nano of this package, model.safetensors sha256 {SHA256}"
