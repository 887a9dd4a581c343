"""Adapters as files, in a folder or on the hub: adapter.safetensors (the trainable tensors) and adapter.json (what they are and belong to).

adapter.json, format 1: `format`; `config`, `tasks`, `instance_dim` (what `attach` needs); `base`: the model's `name` on the hub, `revision` and
`class`, where known, and `weights`, a sample of entries of its adapted linears, by which another base of the same shapes is told.
Everything read is checked before it is used, and a file that is refused leaves the adapters as they were: each refusal is a ConfigError.
"""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from mosld.adapters.call import plain
from mosld.config import AdapterConfig, ConfigError
from mosld.fetch import hub_reachable
from mosld.files import write_tensors

if TYPE_CHECKING:
    from mosld.adapters.handle import Handle

WEIGHTS, SETTINGS, CARD = "adapter.safetensors", "adapter.json", "README.md"
CENTROIDS = "centroids."  # what their names begin with in the file of weights
FORMAT = 1
LONGEST = 1 << 20  # bytes of adapter.json
LINEARS, ENTRIES = 8, 32  # of the sample of the base
DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
SHAPING = (
    "method",
    "rank",
    "alpha",
    "top_k",
    "share",
    "side",
    "router",
    "renormalise",
    "options",
)  # what must be alike for the same tensors to mean the same


def save(handle: Handle, folder: str | Path) -> None:
    """Write both files. Sharded tensors (FSDP2) are put together first, so every process must call this; the first one writes."""
    whole = {n: p.full_tensor() if hasattr(p, "full_tensor") else p for n, p in handle.kept().items()}
    if torch.distributed.is_initialized() and torch.distributed.get_rank():
        return
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    c = handle.context_now
    tensors = whole | {f"{CENTROIDS}{k}": t for k, t in c.centroids.items()}
    write_tensors(folder / WEIGHTS, {n: t.detach().contiguous() for n, t in tensors.items()}, {"format": "pt"})
    settings = {
        "format": FORMAT,
        "config": handle.config.model_dump(mode="json"),
        "tasks": c.tasks,
        "instance_dim": c.instance_dim,
        "base": base_of(handle.model) | {"weights": sample(handle.frozen())},
    }
    (folder / SETTINGS).write_text(json.dumps(settings, indent=1), encoding="utf-8")


def load(handle: Handle, folder: str | Path, check_base: bool = True) -> None:
    """See `Handle.load`."""
    path = Path(folder) / WEIGHTS
    if not path.is_file():
        hint = "it is peft's: load it with peft" if (Path(folder) / "adapter_config.json").is_file() else "give a folder that save wrote"
        raise ConfigError(f"adapter: '{folder}' holds no {WEIGHTS}; {hint}.")
    if (Path(folder) / SETTINGS).is_file():
        settings = read(folder)
        saved = AdapterConfig(**settings["config"]).effective()
        for name in SHAPING:
            if getattr(saved, name) != getattr(handle.config, name):
                raise ConfigError(
                    f"adapter: '{folder}' does not fit this model and configuration: its {name} is {getattr(saved, name)}, here it is "
                    f"{getattr(handle.config, name)}; attach with the saved {SETTINGS}."
                )
        if check_base:
            check(settings["base"], handle.frozen(), folder)
    own = handle.kept()
    tensors = _tensors(path, {n: tuple(p.shape) for n, p in own.items()}, handle.clusters, handle.context_now.instance_dim, folder)
    with torch.no_grad():
        for name, p in own.items():
            full = tensors[name]
            if hasattr(p, "full_tensor"):
                from torch.distributed.tensor import distribute_tensor  # slow to import, and of use to few

                full = distribute_tensor(full.to(p.device), p.device_mesh, p.placements)
            p.copy_(full)
    device = handle.parameters()[0].device
    handle.context_now.centroids = {int(n.removeprefix(CENTROIDS)): t.to(device) for n, t in tensors.items() if n not in own}


def _tensors(path: Path, shapes: dict[str, tuple], clusters: set[int], dim: int, folder: str | Path) -> dict[str, Tensor]:
    """The tensors of a file whose names, shapes, kinds and values are what they must be; its header is looked at before anything is read."""
    unfit = f"in '{folder}' does not fit this model and configuration; attach with the saved {SETTINGS}."
    shapes = shapes | {f"{CENTROIDS}{k}": (k, dim) for k in clusters}
    try:
        with safe_open(path, "pt") as file:
            names = set(file.keys())
            wrong = sorted(n for n in names ^ set(shapes) if n in names or not n.startswith(CENTROIDS))
            wrong = wrong or sorted(n for n in names if tuple(file.get_slice(n).get_shape()) != shapes[n])
            if wrong:
                raise ConfigError(f"adapter: '{wrong[0]:.200}' {unfit}")
            kinds = [n for n in sorted(names) if file.get_slice(n).get_dtype() not in DTYPES]
            if kinds:
                raise ConfigError(f"adapter: '{kinds[0]}' in '{folder}' is of kind {file.get_slice(kinds[0]).get_dtype()}; only floats are read.")
            tensors = {n: file.get_tensor(n) for n in names}
    except (SafetensorError, OSError) as error:
        raise ConfigError(f"adapter: {WEIGHTS} in '{folder}' is damaged or no safetensors file ({error}).") from None
    lost = [n for n in sorted(tensors) if not tensors[n].isfinite().all()]
    if lost:
        raise ConfigError(f"adapter: '{lost[0]}' in '{folder}' holds numbers that are not finite; the run that wrote it had diverged.")
    return tensors


def read(folder: str | Path) -> dict[str, Any]:
    """adapter.json, checked: `config`, `tasks`, `instance_dim` and `base`."""
    path = Path(folder) / SETTINGS
    if not path.is_file():
        raise ConfigError(f"adapter: '{folder}' holds no {SETTINGS}; give a folder that save wrote.")
    if path.stat().st_size > LONGEST:
        raise ConfigError(f"adapter: {SETTINGS} in '{folder}' has {path.stat().st_size:,} bytes; at most {LONGEST:,} are read.")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        raise ConfigError(f"adapter: {SETTINGS} in '{folder}' is damaged: it is no JSON.") from None
    if not isinstance(data, dict) or not isinstance(data.get("config"), dict):
        raise ConfigError(f"adapter: {SETTINGS} in '{folder}' holds no configuration of adapters.")
    version = data.get("format", FORMAT)
    if version != FORMAT:
        raise ConfigError(f"adapter: '{folder}' is of format {version!r:.20}; this library reads format {FORMAT}: a newer library may read it.")
    for name, low, high in (("tasks", 1, 10_000), ("instance_dim", 0, 1_000_000)):
        value = data.get(name)
        if type(value) is not int or not low <= value <= high:
            raise ConfigError(f"adapter: {name} in '{folder}' is {value!r:.40}; it must be a whole number from {low} to {high}.")
    base = data.get("base", {})
    if not isinstance(base, dict) or any(not isinstance(base.get(n), (str, type(None))) for n in ("name", "revision", "class")):
        raise ConfigError(f"adapter: what {SETTINGS} in '{folder}' says of its base cannot be read.")
    AdapterConfig(**data["config"])
    return data | {"base": base}


def saved_config(folder: str | Path) -> tuple[AdapterConfig, dict[str, int]]:
    """The configuration that `Handle.save` wrote and the further arguments (tasks, instance_dim) that `attach` needs. Raises ConfigError."""
    data = read(folder)
    return AdapterConfig(**data["config"]), {"tasks": data["tasks"], "instance_dim": data["instance_dim"]}


# the base


def base_of(model: nn.Module) -> dict[str, str | None]:
    """Name on the hub, revision and class of a model, each None where it is not known. A folder of this machine is no name."""
    import transformers

    config = getattr(model, "config", None)
    name, revision = str(getattr(config, "_name_or_path", "") or ""), getattr(config, "_commit_hash", None)
    cached = re.search(r"models--([\w.-]+?)--([\w.-]+)[/\\]snapshots[/\\](\w+)", name)
    if cached:
        name, revision = f"{cached[1]}/{cached[2]}", cached[3]
    known = re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) and not Path(name).exists()
    revision = revision or (_only_revision(name) if known else None)
    cls = type(model).__name__
    return {"name": name if known else None, "revision": revision if known else None, "class": cls if hasattr(transformers, cls) else None}


def _only_revision(name: str) -> str | None:
    """The commit of a model in the hub's cache, where one alone is there; transformers 5.24 no longer writes it into the configuration."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    folder = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type="model") / "snapshots"
    found = [f.name for f in folder.iterdir()] if folder.is_dir() else []
    return found[0] if len(found) == 1 else None


def sample(linears: dict[str, nn.Module]) -> dict[str, dict]:
    """Some entries of some linears, evenly spread: what they are known by again, also after rounding to another precision."""
    ordinary = [(n, m) for n, m in linears.items() if plain(m) and m.weight.device.type != "meta"]
    chosen = [ordinary[i * len(ordinary) // LINEARS] for i in range(LINEARS)] if len(ordinary) > LINEARS else ordinary
    return {n: {"dtype": str(m.weight.dtype).removeprefix("torch."), "entries": _entries(m.weight).tolist()} for n, m in chosen}


def _entries(weight: Tensor) -> Tensor:
    flat = weight.detach().reshape(-1)
    return flat[:: max(1, len(flat) // ENTRIES)][:ENTRIES].double().cpu()


def check(base: dict, linears: dict[str, nn.Module], folder: str | Path) -> None:
    """Compare a saved sample with this model's linears, as far as both precisions go; quantised linears cannot be compared."""
    weights = base.get("weights", {})
    if not isinstance(weights, dict):
        raise ConfigError(f"adapter: what {SETTINGS} in '{folder}' says of its base cannot be read.")
    for name, saved in weights.items():
        linear = linears.get(name)
        if linear is None or not plain(linear) or linear.weight.device.type == "meta":
            continue
        try:
            then, dtype = torch.tensor(saved["entries"], dtype=torch.float64), getattr(torch, saved["dtype"])
            coarse = 2 * max(torch.finfo(dtype).eps, torch.finfo(linear.weight.dtype).eps)
        except (TypeError, KeyError, AttributeError, ValueError):
            raise ConfigError(f"adapter: what {SETTINGS} in '{folder}' says of its base cannot be read.") from None
        now = _entries(linear.weight)
        if then.shape != now.shape or not torch.allclose(now, then, rtol=coarse, atol=1e-7):
            where = f"{base['name']}" + (f" at revision {base['revision']}" if base.get("revision") else "") if base.get("name") else "another base"
            raise ConfigError(
                f"adapter: '{folder}' was trained on {where}, and the weights of {name} are others here; load it into its own base, or give "
                "check_base=False."
            )


# the hub


def from_pretrained(where: str | Path, model: nn.Module | None = None, check_base: bool = True, token: str | None = None, **options) -> Handle:
    """Adapters from a folder or the hub, in their base model.

    Args:
        where: a folder that `save` wrote, or the id of a repository on the hub that `push_to_hub` wrote.
        model: the base. Without it the base that the file names is loaded from the hub, by its class of transformers.
        check_base: whether to refuse a base with other weights.
        token: of the hub, for repositories that are not public.
        options: for the base's `from_pretrained`: dtype, device_map, quantization_config, ...

    Returns the handle, in evaluation mode; its model is `.model`. Raises ConfigError; a model that was given is then as it was.
    """
    from mosld.adapters.attach import attach

    folder = Path(where) if Path(where).is_dir() else _download(str(where), token)
    config, extra = saved_config(folder)
    if model is None:
        model = _base(read(folder)["base"], str(where), token, options)
    handle = attach(model, config, **extra)
    try:
        load(handle, folder, check_base)
    except ConfigError:
        handle.detach()
        raise
    handle.train(False)
    return handle


def _download(repo: str, token: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repo, allow_patterns=[WEIGHTS, SETTINGS], token=token, local_files_only=not hub_reachable()))
    except HFValidationError:
        raise ConfigError(f"adapter: '{repo}' is no folder here and no id of a repository on the hub, which is of the form owner/name.") from None
    except HfHubHTTPError as error:
        raise ConfigError(f"adapter: the hub does not give '{repo}' ({type(error).__name__}); check the name, or log in if it is private.") from None
    except (LocalEntryNotFoundError, OSError):
        raise ConfigError(f"adapter: '{repo}' is no folder here, and the hub cannot be reached to look for it there.") from None


def _base(base: dict, where: str, token: str | None, options: dict) -> nn.Module:
    import transformers

    name, cls = base.get("name"), getattr(transformers, base.get("class") or "", None)
    if not name or not (isinstance(cls, type) and issubclass(cls, transformers.PreTrainedModel)):
        raise ConfigError(f"adapter: '{where}' does not say which base on the hub it belongs to; load the base and give it as model.")
    try:
        given = {"revision": base.get("revision"), "token": token, "use_safetensors": True, "local_files_only": not hub_reachable()}
        return cls.from_pretrained(name, **given | options)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"adapter: its base '{name}' cannot be loaded ({type(error).__name__}); is the hub in reach and the model yours to read? Or give the "
            "base as model."
        ) from None


def card(handle: Handle) -> str:
    """The model card: what the adapters are, on which base, how to load them."""
    base, config = base_of(handle.model), handle.config
    head = ["library_name: mosld", "tags:", "- mixture-of-lora-experts", f"- {config.method}"]
    if base["name"]:
        head = [f"base_model: {base['name']}", "base_model_relation: adapter", *head]
    shown = {"method": config.label, "rank": config.rank, "alpha": f"{config.alpha:g}", "experts": config.experts, "top-k": config.top_k}
    shown |= {"targets": ", ".join(config.targets), "linears": len(handle.adapters), "trainable parameters": f"{handle.count():,}"}
    given = "" if base["name"] else ", model=base"
    return "\n".join(
        [
            "---",
            *head,
            "---",
            "",
            f"# {config.label} adapters" + (f" for {base['name']}" if base["name"] else ""),
            "",
            *(f"- {name}: {value}" for name, value in shown.items()),
            "",
            "```python",
            "from mosld.adapters import Handle",
            "",
            f'handle = Handle.from_pretrained("this/repository"{given})  # the base and the adapters',
            "handle.model(**batch)",
            "```",
            "",
        ]
    )


def push(handle: Handle, repo: str, private: bool | None = None, token: str | None = None, message: str = "Adapters") -> str:
    """Save to a repository of the hub, made where it is not there, with a model card. Returns its address. Raises ConfigError."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

    if not hub_reachable():
        raise ConfigError(f"push: the hub cannot be reached, so '{repo}' was not written; save to a folder and push later.")
    with tempfile.TemporaryDirectory() as folder:
        save(handle, folder)
        (Path(folder) / CARD).write_text(card(handle).replace("this/repository", repo), encoding="utf-8")
        try:
            api = HfApi(token=token)
            api.create_repo(repo, private=private, exist_ok=True)
            api.upload_folder(repo_id=repo, folder_path=folder, commit_message=message)
        except HFValidationError:
            raise ConfigError(f"push: '{repo}' is not of the form owner/name.") from None
        except (HfHubHTTPError, LocalTokenNotFoundError, OSError) as error:
            raise ConfigError(f"push: the hub did not take '{repo}' ({type(error).__name__}); log in with a token that may write there.") from None
    return f"{api.endpoint}/{repo}"
