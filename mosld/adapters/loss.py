"""The extra losses as part of the model's own: for trainers that take `outputs.loss` and know of nothing else.

- `extra_loss(adapters, context)`: the sum of the extra losses of the last pass.
- `join(model, extra)`: from now on `outputs.loss` of a forward pass in training holds `extra()` too; gives back the hook, to be removed.

transformers' Trainer hands `num_items_in_batch`, the number of labels of all micro-batches and processes of an optimiser step, to models that
take it; their loss is then a sum over that number and is not divided by the accumulation steps. The extra losses are means, so that each is
weighed by its micro-batch's share of the labels: over a step the weights sum to 1, as they do where the Trainer divides.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers.loss.loss_utils import LOSS_MAPPING, ForCausalLMLoss

from mosld.adapters.adapter import Adapter
from mosld.adapters.context import Context
from mosld.config import ConfigError


def extra_loss(adapters: list[Adapter], context: Context) -> Tensor | float:
    """Sum of the extra losses of the last pass. Raises ConfigError: see `Handle.extra_loss`."""
    if any(a.silent and a.site.experts > 1 and a.aux is None for a in adapters) and context.balance > 0:
        raise ConfigError(
            "gradient checkpointing: its reentrant kind runs the layers without gradients, which loses the balance loss; give "
            "use_reentrant=False, or set the balance to 0."
        )
    losses = [a.aux for a in adapters if a.aux is not None]
    if not losses:
        return 0.0
    return torch.stack([x.to(losses[0].device) for x in losses]).sum()


def join(model: nn.Module, extra: Callable[[], Tensor | float]) -> RemovableHandle:
    """Add `extra()` to the loss of every forward pass of `model` that gives one; in evaluation there are no extra losses."""
    return model.register_forward_hook(Joined(extra), with_kwargs=True)


class Joined:
    """The hook. The loss is `outputs["loss"]`, or the first of a tuple where labels were given."""

    def __init__(self, extra: Callable[[], Tensor | float]):
        self.extra = extra

    def __call__(self, model: nn.Module, args: tuple, kwargs: dict, outputs):
        if isinstance(outputs, dict):
            loss = outputs.get("loss")
        else:
            loss = outputs[0] if isinstance(outputs, tuple) and kwargs.get("labels") is not None else None
        if not isinstance(loss, Tensor):
            return None
        extra = self.extra()
        if not isinstance(extra, Tensor):
            return None
        loss = loss + extra.to(loss.dtype) * share(model, kwargs)
        if isinstance(outputs, dict):
            outputs["loss"] = loss
            return outputs
        return (loss, *outputs[1:])


def share(model: nn.Module, kwargs: dict) -> Tensor | float:
    """This micro-batch's part of the labels of its optimiser step, counted as the Trainer counts them; 1 where it does not say how many there are."""
    total, labels = kwargs.get("num_items_in_batch"), kwargs.get("labels")
    if total is None or not isinstance(labels, Tensor):
        return 1.0
    if kwargs.get("shift_labels") is not None:
        labels = kwargs["shift_labels"]
    elif LOSS_MAPPING.get(getattr(model, "loss_type", None)) is ForCausalLMLoss and not getattr(model.config, "is_encoder_decoder", False):
        labels = labels[..., 1:]
    return labels.ne(-100).sum() / total
