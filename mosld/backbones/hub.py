"""Models from the hub, or from its local cache where the hub is out of reach.

- `snapshot(repo, files)`: folder with files of a hub repository, from the local cache or the hub; None when neither has them.
- `pretrained(cls, folder)`: the weights of a folder as a model of transformers, one model at a time.
- `open_model(name)`: any encoder or causal language model by its hub id. Weights are read from safetensors only, never from pickles.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from mosld.config import BACKBONES, ConfigError
from mosld.fetch import hub_reachable

Progress = Callable[[str, float | None], object]
TIMEOUT = 3.0  # seconds
FILES = ("*.json", "*.safetensors", "*.txt", "*.model")
_loading = threading.Lock()


def snapshot(repo: str, files: tuple[str, ...] = FILES, progress: Progress | None = None) -> Path | None:
    """Folder with the files of `repo` that match `files`, its subfolders left out; None when the hub cannot be reached and the cache has none.

    Raises ConfigError when the hub has no such repository, or not for this user.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    online = hub_reachable()
    if online and progress is not None:
        progress(f"Asking the hub for {repo}.", None)
    try:
        return Path(snapshot_download(repo, allow_patterns=list(files), ignore_patterns=["*/*"], etag_timeout=TIMEOUT, local_files_only=not online))
    except HFValidationError:
        raise ConfigError(f"backbone: '{repo}' is not the id of a model on the hub; give one of the form owner/name.") from None
    except LocalEntryNotFoundError:
        return None
    except HfHubHTTPError as error:
        raise ConfigError(f"backbone: the hub does not give '{repo}' ({type(error).__name__}); check the name, or log in if it is gated.") from None


def pretrained(cls, folder: Path, **options):
    """`cls.from_pretrained(folder)` in plain float32, from safetensors only; "eager" is the faster attention for short texts on few cores.

    One at a time: while it loads, transformers replaces methods of its classes (`tie_weights` among them), and two threads that load side
    by side can leave them replaced for good.
    """
    with _loading:
        return cls.from_pretrained(
            folder, **{"trust_remote_code": False, "use_safetensors": True, "dtype": "float32", "attn_implementation": "eager", **options}
        )


def open_model(name: str, progress: Progress | None = None):
    """(model, tokenizer, source) of a hub id. Raises ConfigError when it cannot be had or is no encoder or causal language model."""
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer

    folder = snapshot(name, progress=progress)
    if folder is None:
        raise ConfigError(
            f"backbone: '{name}' is not in the local cache and the hub cannot be reached; go online, or choose {' or '.join(BACKBONES)}."
        )
    if not list(folder.glob("*.safetensors")):
        raise ConfigError(f"backbone: '{name}' has no safetensors weights, and no others are read; choose another model.")
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        if config.is_encoder_decoder:
            raise ConfigError(f"backbone: '{name}' is an encoder-decoder; choose an encoder or a causal language model.")
        causal = any(a.endswith(("CausalLM", "LMHeadModel")) for a in config.architectures or ())
        auto = AutoModelForCausalLM if causal else AutoModel
        model = pretrained(auto, folder)
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"backbone: '{name}' cannot be read by transformers ({type(error).__name__}); choose another model.") from None
    return model, tokenizer, f"hub {name} at revision {folder.name}"
