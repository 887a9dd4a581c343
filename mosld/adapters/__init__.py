"""Adapters: mixtures of low-rank experts on the linears of any transformers model.

handle = attach(model, AdapterConfig(method="mosld", rank=8, experts="4", targets=("q", "v")))
"""

from mosld.adapters.attach import attach, method_class
from mosld.adapters.files import saved_config
from mosld.adapters.handle import Handle

__all__ = ["Handle", "attach", "method_class", "saved_config"]
