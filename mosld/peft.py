"""Every method of the lab as a method of PEFT: importing this module registers `MoSLDConfig` with it.

    import mosld.peft
    from peft import get_peft_model

    model = get_peft_model(model, mosld.peft.MoSLDConfig(method="mosld", rank=8, experts="2-4-6-8", task_type="CAUSAL_LM"))

- `MoSLDConfig`: the lab's knobs, with PEFT's own fields for target modules.
- `MoSLDLayer`: stands in a linear's place. Its adapters are those of `mosld.adapters`, and so are kernel, masks and losses: a PEFT model and a
  model with a `Handle` give the same numbers, bit for bit.
- `MoSLDModel`: what PEFT calls a tuner. The balance loss of a forward pass in training is part of `outputs.loss`.
- `texts(model, task=..., instance=...)`: what a forward pass knows of its texts, for methods that use it. `routing(model)`: the last gates.
- `fit(model, embeddings)`: the centroids of a data set, for the method that routes by sentence embeddings.

How it is registered: PEFT's `register_peft_method` refuses a name that is not in its enumeration `PeftType`, so the member MOSLD is put in first.
The other way, writing the key into PEFT's three tables by hand, would serve PEFT itself, but transformers' own `load_adapter` and
`from_pretrained(adapter folder)` ask for a member; and once PEFT knows the name, the line that adds it is all that goes.
"""

from __future__ import annotations

import enum
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, make_dataclass

import torch
from torch import Tensor, nn

from mosld.adapters.adapter import Adapter
from mosld.adapters.attach import draw, method_class
from mosld.adapters.call import Routing, plain
from mosld.adapters.centroids import kmeans
from mosld.adapters.context import Context
from mosld.adapters.layer import adapted, refuse_copies
from mosld.adapters.loss import extra_loss, join
from mosld.adapters.passes import Passes
from mosld.adapters.plan import short
from mosld.config import AdapterConfig, ConfigError

NAME = "mosld"
NEEDS = "mosld.peft was written for peft 0.18 to 0.21"
try:
    import peft
    from peft import PeftConfig, PeftType
    from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
    from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING, register_peft_method
except ImportError as error:
    raise ImportError(f"peft: {error}; {NEEDS}: pip install 'mosld[peft]'.") from None


# PEFT names target modules in its own way
KNOWN = ("task", "instance", "question", "instruction", "step")
KNOBS = tuple(name for name in AdapterConfig.model_fields if name not in ("targets", "exclude"))


def _knob(name: str) -> tuple:
    schema = AdapterConfig.model_fields[name]
    return name, schema.annotation, field(default_factory=schema.get_default, metadata={"help": schema.description})


_Knobs = make_dataclass("_Knobs", [_knob(name) for name in KNOBS], bases=(PeftConfig,))


@dataclass
class MoSLDConfig(_Knobs):
    """What `mosld.config.AdapterConfig` has (method, rank, alpha, experts, top_k, dropout, dropout_on, share, side, balance, options), and PEFT's
    own. Raises ConfigError: a setting that cannot be used.

    Args:
        target_modules: endings of names, a regular expression, or "all-linear"; None takes what PEFT's LoRA takes for this family of models.
        exclude_modules, layers_to_transform, layers_pattern, modules_to_save: as in PEFT's LoRA.
        tasks: T, for methods that keep something per task. instance_dim: size of a sentence embedding, for methods routed by them.
        seed: of the initial values. centroid_dim: size of the centroids that `fit` found; set by it.
    """

    target_modules: list[str] | str | None = None
    exclude_modules: list[str] | str | None = None
    modules_to_save: list[str] | None = None
    layers_to_transform: list[int] | int | None = None
    layers_pattern: list[str] | str | None = None
    tasks: int = 1
    instance_dim: int = 0
    seed: int = 0
    centroid_dim: int = 0

    def __post_init__(self):
        super().__post_init__()
        self.peft_type = PeftType[NAME.upper()]
        settled = self.adapter()
        for name in KNOBS:
            setattr(self, name, getattr(settled, name))
        for name in ("target_modules", "exclude_modules"):
            if isinstance(getattr(self, name), (list, tuple)):
                setattr(self, name, set(getattr(self, name)))
        if isinstance(self.target_modules, str) and (self.layers_to_transform is not None or self.layers_pattern is not None):
            raise ConfigError("layers_to_transform: it works on names alone; write the layers into the regular expression of target_modules.")
        if self.layers_pattern and self.layers_to_transform is None:
            raise ConfigError("layers_pattern: it says where the numbers of layers_to_transform stand; give those too.")

    def adapter(self, targets: tuple[str, ...] = ("q", "v")) -> AdapterConfig:
        """The lab's configuration, for linears of these names."""
        return AdapterConfig(**{name: getattr(self, name) for name in KNOBS}, targets=targets)


class Sets:
    """What the layers of a model share: the context of each adapter, and the hooks that say where a pass begins and join the losses.

    It is what a `Handle` is to `Passes`. Kept by the layers, not by the tuner, which transformers' own `add_adapter` throws away.
    """

    def __init__(self, model: nn.Module):
        self.model = model
        self.layers: dict[str, MoSLDLayer] = {}
        self.contexts: dict[str, Context] = {}
        self._hooks: list = []

    @classmethod
    def of(cls, model: nn.Module) -> Sets:
        """Those of a model that PEFT has adapted. Raises ConfigError where it has not."""
        found = next((m.sets for m in model.modules() if isinstance(m, MoSLDLayer)), None)
        if found is None:
            raise ConfigError(f"model: this {type(model).__name__} has no adapters of the lab; give a MoSLDConfig to get_peft_model first.")
        return found

    @property
    def active(self) -> list[str]:
        """Names of the active adapters; none while they are disabled or merged."""
        layer = next(iter(self.layers.values()), None)
        return [] if layer is None or layer.disable_adapters or layer.merged else list(layer.active_adapters)

    @property
    def adapters(self) -> list[Adapter]:
        return [layer.mosld_adapter[n] for n in self.active for layer in self.layers.values() if n in layer.mosld_adapter]

    @property
    def context_now(self) -> Context:
        names = [n for n in self.active if n in self.contexts] or list(self.contexts)
        return self.contexts[names[0]]

    def extra_loss(self) -> Tensor | float:
        return extra_loss(self.adapters, self.context_now)

    @contextmanager
    def bare(self) -> Iterator[None]:
        """Inside the block the frozen linears stand in their own places."""
        self._place(lambda layer: layer.base_layer)
        try:
            yield
        finally:
            self._place(lambda layer: layer)

    def _place(self, choose) -> None:
        for name, layer in self.layers.items():
            parent, _, child = name.rpartition(".")
            setattr(self.model.get_submodule(parent), child, choose(layer))

    def draw(self, name: str, config: MoSLDConfig, matches) -> dict[str, Adapter]:
        """The adapters of all linears that `matches` says are targets, by the linear's name; those in groups of 0 experts are left out."""
        with self.bare():
            names = tuple(key for key, _ in self.model.named_modules() if key and matches(config, key))
            method_class(config.method).check(config.adapter(tuple(dict.fromkeys(short(n) or n for n in names))))
            places, drawn, context, _ = draw(self.model, config.adapter(names), config.seed, config.tasks, config.instance_dim)
        self.contexts[name] = context
        return {place.name: adapters[0] for place, adapters in zip(places, drawn, strict=True)}

    def hook(self) -> None:
        """The hooks, for the linears that are adapted now."""
        self.unhook()
        with self.bare():
            self._hooks = [Passes(self.model, self.layers, self), join(self.model, self.extra_loss)]

    def unhook(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks = []


class MoSLDLayer(nn.Module, BaseTunerLayer):
    """y = the active adapter's answer; without one, the frozen linear's."""

    adapter_layer_names = ("mosld_adapter",)

    def __init__(self, base_layer: nn.Module, sets: Sets):
        super().__init__()
        self.base_layer, self.sets = base_layer, sets
        self.mosld_adapter = nn.ModuleDict()
        self._weights: dict[str, Tensor] = {}  # of before a merge

    def forward(self, x: Tensor, *args, **kwargs) -> Tensor:
        names = [] if self.disable_adapters or self.merged else [n for n in self.active_adapters if n in self.mosld_adapter]
        if not names:
            return self.base_layer(x, *args, **kwargs)
        if len(names) > 1:
            raise ConfigError(f"adapters: {', '.join(names)} are active together; each is a mixture of its own, so set one of them.")
        refuse_copies(self)
        return adapted(x, self.base_layer, self.mosld_adapter[names[0]], ())

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Add the update to the frozen weight, summed in float32 at least and rounded once. Raises ConfigError: see `MoSLDModel`."""
        for name in adapter_names or self.active_adapters:
            if name not in self.mosld_adapter or name in self.merged_adapters:
                continue
            weight = self.base_layer.weight
            if not plain(self.base_layer):
                raise ConfigError(f"merge: {type(self.base_layer).__name__} has no plain weight to add to; merge into the unquantised base.")
            wide = torch.promote_types(weight.dtype, torch.float32)
            delta = self.mosld_adapter[name].delta().detach().to(weight.device, wide)
            new = weight.detach().to(wide) + (delta if isinstance(self.base_layer, nn.Linear) else delta.t())
            if safe_merge and not new.isfinite().all():
                raise ValueError(f"merge: the weight with '{name}' is not finite.")
            self._weights[name] = weight.detach().clone()
            weight.data = new.to(weight.dtype)
            self.merged_adapters = [*self.merged_adapters, name]

    def unmerge(self) -> None:
        """The weight of before, bit for bit."""
        for name in reversed(self.merged_adapters):
            self.base_layer.weight.data = self._weights.pop(name)
        self.merged_adapters = []


class MoSLDModel(BaseTuner):
    """PEFT's tuner of the lab's methods."""

    prefix = "mosld_"
    tuner_layer_cls = MoSLDLayer
    target_module_mapping = TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING

    def inject_adapter(self, model: nn.Module, adapter_name: str, *args, **kwargs) -> None:
        """Put one adapter in. What is refused leaves the model as it was."""
        layer = next((m for m in model.modules() if isinstance(m, MoSLDLayer)), None)
        self.sets = Sets(model) if layer is None else layer.sets
        self._drawn: dict[str, Adapter] | None = None
        super().inject_adapter(model, adapter_name, *args, **kwargs)
        self.sets.hook()

    def _create_and_replace(self, config, adapter_name, target, target_name, parent, current_key, **_) -> None:
        if self._drawn is None:  # all at once: the number of experts follows from the layers of all targets
            self._drawn = self.sets.draw(adapter_name, config, self._check_target_module_exists)
        adapter = self._drawn.pop(current_key, None)
        if adapter is None:
            return
        if config.centroid_dim and adapter.clusters:  # to be filled from the file
            adapter.centroids = torch.zeros(adapter.clusters, config.centroid_dim, device=adapter.A.device)
        layer = target if isinstance(target, MoSLDLayer) else MoSLDLayer(target, self.sets)
        layer.mosld_adapter[adapter_name] = adapter
        layer.train(target.training)
        if layer is not target:
            self._replace_module(parent, target_name, layer, target)
            self.sets.layers[current_key] = layer

    def _check_merge_allowed(self) -> None:
        adapters = self.sets.adapters
        label = adapters[0].config.label if adapters else ""
        if any(a.token_routed and a.site.experts > 1 for a in adapters):
            raise ConfigError(
                f"merge: {label} weighs its experts anew for every input, so no single weight matrix equals it; lora and lora-matched merge exactly."
            )
        if any(a.task_routed for a in adapters) and self.sets.context_now.tasks > 1:
            raise ConfigError(f"merge: {label} has one update a task; attach it with a Handle, whose merge takes the task.")

    def merge_adapter(self, *args, **kwargs) -> None:
        self._check_merge_allowed()
        super().merge_adapter(*args, **kwargs)

    def _unload_and_optionally_merge(self, *args, **kwargs) -> nn.Module:
        model = super()._unload_and_optionally_merge(*args, **kwargs)
        self.sets.unhook()
        return model

    @contextmanager
    def _enable_peft_forward_hooks(self, *args, **kwargs):
        if kwargs.get("adapter_names") is not None:
            raise ConfigError("adapter_names: a batch of several adapters is not offered; set one adapter, and give each its own batch.")
        yield


@contextmanager
def texts(model: nn.Module, **known: Tensor | int | None) -> Iterator[None]:
    """What the forward and backward passes inside the block know of their texts: task, instance, question, instruction and step, as in
    `Handle.context`. The model's own attention mask tells padding from text."""
    context = Sets.of(model).context_now
    wrong = sorted(set(known) - set(KNOWN))
    if wrong:
        raise ConfigError(f"texts: '{wrong[0]}' is not known; give some of {', '.join(KNOWN)}.")
    for name, value in known.items():
        setattr(context, name, value)
    try:
        yield
    finally:
        for name in known:
            setattr(context, name, None)


def fit(model: nn.Module, embeddings: Tensor) -> None:
    """Find the centroids of a data set's sentence embeddings [n, d], once, before training, for the active adapter of a method that compares texts
    with them (mor1e); they are saved along. Raises ConfigError where no adapter does."""
    sets = Sets.of(model)
    asking = [a for a in sets.adapters if a.clusters]
    if not asking:
        raise ConfigError(
            f"fit: {sets.adapters[0].config.label if sets.adapters else 'no active adapter'} looks at no sentence embedding; mor1e does."
        )
    config = getattr(model, "peft_config", {}).get(sets.active[0])
    if config is not None:
        config.centroid_dim = embeddings.shape[1]
    found = {k: kmeans(embeddings, k) for k in {a.clusters for a in asking}}
    for a in asking:
        a.centroids = found[a.clusters].to(a.A.device, copy=True)


def routing(model: nn.Module) -> dict[str, Routing]:
    """The last gates of every routed linear of the active adapter, by its name."""
    return {a.site.name: a.last for a in Sets.of(model).adapters if a.last is not None}


def _register() -> None:
    """Put the member into `PeftType` and register. Raises ImportError, one sentence, where PEFT is built otherwise."""
    wanted = {"name", "config_cls", "model_cls", "prefix"}
    tables = all(hasattr(PeftType, table) for table in ("_member_map_", "_value2member_map_", "_member_names_"))
    hooks = all(hasattr(BaseTuner, h) for h in ("_pre_injection_hook", "_create_and_replace", "_replace_module", "inject_adapter"))
    if not issubclass(PeftType, (str, enum.Enum)) or not tables or not hooks or not wanted <= set(inspect.signature(register_peft_method).parameters):
        raise ImportError(f"peft: version {peft.__version__} is built otherwise inside; {NEEDS}.")
    member = str.__new__(PeftType, NAME.upper())
    member._name_ = member._value_ = NAME.upper()
    member._sort_order_ = len(PeftType)
    type.__setattr__(PeftType, NAME.upper(), member)
    PeftType._member_names_.append(NAME.upper())
    PeftType._member_map_[NAME.upper()] = PeftType._value2member_map_[NAME.upper()] = member
    register_peft_method(name=NAME, config_cls=MoSLDConfig, model_cls=MoSLDModel, prefix=MoSLDModel.prefix)


if NAME.upper() not in PeftType.__members__:
    _register()
