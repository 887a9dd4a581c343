"""Adapter: a gated mixture of low-rank experts for one frozen linear, the base class of every method.

Shapes: M texts, L tokens a text, N = M L tokens, E experts, r rank.
    A and B follow `side`. With A on the input side: A [r, d_in] shared or [E, r, d_in], B [d_out, r] shared or [d_out, E, r].
    With A on the output side the two change places: A [d_out, r] or [d_out, E, r], B [r, d_in] or [E, r, d_in].

The trainable tensors, the equation, weight dropout, balance loss, routing record. An adapter holds no frozen weight: the linear is handed in at every
call, by the handle's layer (`mosld.adapters.layer`) or by PEFT's, so that a base that was moved, cast or loaded anew is what counts. What a pass
knows of its texts: `mosld.adapters.context`; what one call is: `mosld.adapters.call`.

Precision: the trainable tensors are float32 whatever the base is (float64 on a float64 base), and stay so when the model is cast. They are
multiplied in the base's precision, or autocast's; router, softmax and extra losses are computed in float32.

A method is a subclass: it sets how A starts, and overrides `build`, `gate` or `forward_tokens` where its equation differs.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from mosld.adapters import stages
from mosld.adapters.balance import balance_loss, masked_mean
from mosld.adapters.call import Answer, Call, Memory, Routing, plain
from mosld.adapters.context import Context, in_backward
from mosld.adapters.fused import Rows
from mosld.adapters.kernel import Linear, Mixed, mix, mixtures, routed_gate
from mosld.adapters.plan import Site, sizes
from mosld.adapters.routers import ROUTERS, Router, Texts
from mosld.config import AdapterConfig, ConfigError
from mosld.registry import METHODS

REMEMBERED = 32  # calls that may wait for their backward pass
SAMPLED = 61  # entries of an input


class Adapter(nn.Module):
    """y = W x + b + alpha / r * sum_e g_e(x) B_e A_e x, with the frozen W and b of the linear that it is called with."""

    token_routed = True  # the gate depends on the input
    steerable = True  # its gate comes from `logits`: experts can be muted and forced
    task_routed = False  # the update depends on the task and on nothing else
    whole_text = False  # its gate reads all tokens of a text, later ones too
    by_text = False  # it treats each text of a batch in a way of its own
    clusters = 0  # centroids of sentence embeddings the adapter routes by; 0: it does not look at `Context.instance`

    hints: dict[str, str] = {}  # what slow motion says of a stage where the method departs from the plain one: 'gate', 'gate in training', 'hidden'

    @classmethod
    def check(cls, config: AdapterConfig) -> None:
        """Refuse, before anything is replaced, what the method cannot do. Raises ConfigError."""

    def __init__(self, base: nn.Module, site: Site, config: AdapterConfig, context: Context, part: Rows | None = None):
        super().__init__()
        self.site, self.config, self.context, self.part = site, config, context, part
        self._base = [base]  # in a list: not registered, so that no frozen weight is among the adapter's own
        self.d_in, self.d_out = sizes(base)
        if part is not None:  # of a fused linear
            self.d_out = part.groups * part.size
        weight = getattr(base, "weight", None)
        self.dtype = torch.float64 if weight is not None and weight.dtype == torch.float64 else torch.float32
        self.scale = config.alpha / config.rank
        self.aux: Tensor | None = None  # extra loss of the last forward pass
        self.last: Routing | None = None
        self.steer: Tensor | None = None  # [E], added to the router's logits: -inf mutes an expert (`mosld.training.inspector`)
        self.swap: Callable[[Tensor], Tensor] | None = None  # the gate [E, N] exchanged for another one, by whoever wants to know what it does
        free = not METHODS[config.method].routes_by
        self.rule = ROUTERS[config.router if free else "token"]  # what the router reads
        self.carry: dict = {}  # what a router of whole texts hands on to the pass that goes on from a cache
        if free and site.experts > 1 and config.router in ("task", "uniform"):  # nothing of the input decides
            self.token_routed, self.task_routed = False, config.router == "task"
        self.steerable = self.steerable and self.rule.scored
        self.mask: Tensor | None = None  # the last dropout mask, 0 or 1 / (1 - p)
        self.sink: dict = {}  # what the kernel's backward leaves for the probes
        self.together = None  # the group of adapters that read one input (`mosld.adapters.together`)
        self.ran = False  # whether it ever took part in a forward pass
        self.memory: list[Memory] = []  # of calls that gradient checkpointing may make again
        self.silent = False  # ran without gradients inside a pass with gradients: what checkpoints of the reentrant kind do
        self.build()

    # What a method may override

    def build(self) -> None:
        """Make and draw the parameters: A drawn by `draw_a`, B zero, router N(0, .02^2)."""
        E, r = self.site.experts, self.config.rank
        a_in = self.config.side == "input"
        self.A = nn.Parameter(self._empty(self.config.share == "A" or E == 1, a_in, r, E))
        self.B = nn.Parameter(torch.zeros_like(self._empty(self.config.share == "B" or E == 1, not a_in, r, E)))
        self.draw_a(self.A.data, self.d_in if a_in else self.d_out)
        self.add_router(self.d_in)

    def draw_a(self, a: Tensor, fan: int) -> None:
        """kaiming_uniform(sqrt 5) of LoRA's code: uniform on +- 1 / sqrt(fan)."""
        a.uniform_(-1 / math.sqrt(fan), 1 / math.sqrt(fan), generator=self.context.generator)

    def forward_tokens(self, x: Tensor, call: Call) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """y [N, d_out], probabilities and gate [E, N] of tokens x [N, d_in]. Autocast is off: x is of the dtype that is to be computed in."""
        if self.fused(call):
            found = self.kernel(x, call)
            call.loss = found.loss
            return found.y, found.p, found.gate
        down, up = self.factors()
        hidden = down.to(x.dtype) @ (self.drop(x) if self.dropping("activations") else x).t()
        p, g = self.gates(x, call) if self.site.experts > 1 else (None, None)
        return mix(call.frozen(x), hidden, g, up, self.scale), p, g

    def extra_loss(self, p: Tensor, g: Tensor, call: Call) -> Tensor | None:
        """The load-balance loss, coefficient included; none for a router that does not learn."""
        if call.loss is not None:
            return call.loss
        if self.context.balance == 0 or self.site.experts == 1 or not self.rule.trained:
            return None
        return self.context.balance * balance_loss(p, g, call.mask)

    @property
    def walkable(self) -> bool:
        """Whether slow motion can go through it: its experts are updates of this one linear."""
        return True

    def stages(self, x: Tensor, shape: torch.Size) -> dict:
        """What the pass just made did with tokens x [d_in, N] of an input of this shape, in the names of `mosld.adapters.stages`."""
        return stages.plain(self, x)

    # The router

    @property
    def plainly_routed(self) -> bool:
        """Whether the gate is a token router's top-K renormalised and nothing else, which the kernel makes itself."""
        c = self.config
        extras = self.training and (c.router_noise > 0 or c.z_loss > 0)
        plain = type(self.rule).logits is Router.logits and self.rule.scored and c.renormalise == "yes"
        return self.site.experts == 1 or (plain and not extras and self.steer is None and self.swap is None)

    def gates(self, x: Tensor, call: Call, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Router probabilities and gate [E, N] of tokens x [N, d_in], in the router's precision.

        weight: the router's, where it is another than the adapter's own; then neither noise, loss nor steering act. Raises ConfigError where
        the router cannot tell what it is to read.
        """
        c, own = self.config, weight is None
        texts = self.texts(call)
        if not self.rule.scored:
            p = g = self.rule.gate(x.to(self.dtype), self.site.experts, c.top_k, texts)
        else:
            logits = self.rule.logits(self.router if own else weight, x, texts)
            if own and self.training and c.router_noise > 0:
                logits = logits + c.router_noise * torch.empty_like(logits).normal_(generator=self.context.draws())
            if own and self.training and c.z_loss > 0:
                call.z = c.z_loss * masked_mean(logits.logsumexp(0).square(), call.mask)
            if own and self.steer is not None:
                logits = logits + self.steer[:, None]
            p, g = (texts.each(v) for v in routed_gate(logits, c.top_k, c.renormalise == "yes"))
        return p, g if self.swap is None or not own else self.swap(g)

    @torch.no_grad()
    def choices(self, x: Tensor, weight: Tensor) -> Tensor:
        """The gate [E, N] that the router would give the tokens of x [..., d_in] with another `weight`, within a pass."""
        return self.gates(x.reshape(-1, self.d_in), Call(self.base, x, self.context.mask_of(x), None, None), weight)[1]

    def texts(self, call: Call) -> Texts:
        """What is known of the texts of a call, for a router that reads more than a token. Raises ConfigError where x is no [M, L, d_in]."""
        context, shape, needs = self.context, tuple(call.shape[:-1]), self.config.router
        if needs in ("token", "random", "uniform"):
            return Texts((1, math.prod(shape)))
        crossing = context.source is call.x
        past = context.past if self.site.causal and not crossing else 0
        if not past:
            self.carry = {}
        mask = call.mask
        if past and context.mask is not None and len(shape) == 2 and context.mask.shape == (shape[0], past + shape[1]):
            mask = context.mask[:, past:]  # of a pass that goes on from a cache
        if len(shape) == 1 and mask is not None and context.mask is not None:
            shape = tuple(context.mask.shape)
        if len(shape) != 2 or (context.mask is not None and mask is None):
            raise ConfigError(
                f"router: '{needs}' needs the texts of a batch as [texts, tokens, size], and {self.site.name} gets {list(call.shape)}; "
                "choose other targets, or router token."
            )
        task = None if context.task is None else context.tasks_of(torch.Size((*shape, self.d_in)), call.x.device)
        ids = None if crossing or context.ids is None or context.ids.shape != shape else context.ids
        real = None if mask is None else mask.reshape(shape)
        told = (None, None) if crossing else (context.question, context.instruction)
        return Texts(shape, real, *told, task, ids, self.site.causal and not crossing, past, self.carry)

    # What all share

    def _empty(self, shared: bool, at_input: bool, r: int, E: int) -> Tensor:
        shape = ((r,) if shared else (E, r)) + (self.d_in,) if at_input else (self.d_out,) + ((r,) if shared else (E, r))
        return torch.empty(shape, dtype=self.dtype)

    def add_router(self, d_in: int) -> None:
        """A router without bias, a buffer where it is never trained; None where there is one expert, or nothing to keep."""
        columns = self.rule.columns(d_in, self.context.tasks)
        if self.site.experts == 1 or not columns:
            self.router = None
            return
        router = torch.empty(self.site.experts, columns, dtype=self.dtype)
        router.normal_(0, self.rule.start(d_in), generator=self.context.generator)
        if self.rule.trained:
            self.router = nn.Parameter(router)
        else:
            self.register_buffer("router", router)

    @property
    def base(self) -> nn.Module:
        """The frozen linear."""
        return self._base[0]

    @property
    def weight(self) -> Tensor:
        """The frozen weight [d_out, d_in] of now (of a plain linear)."""
        weight = self.base.weight.t() if isinstance(self.base, Conv1D) else self.base.weight
        return weight if self.part is None else self.part.take(weight)

    @property
    def bias(self) -> Tensor | None:
        bias = self.base.bias
        return bias if self.part is None or bias is None else self.part.take(bias)

    def dropping(self, site: str) -> bool:
        return self.training and self.context.dropout > 0 and self.config.dropout_on == site

    def drop(self, w: Tensor) -> Tensor:
        """w with every entry dropped at the rate p and the rest scaled by 1 / (1 - p). One draw for the whole forward pass."""
        return w * self.draw_mask(w)

    def draw_mask(self, w: Tensor) -> Tensor:
        keep = 1 - self.context.dropout
        mask = torch.empty_like(w).bernoulli_(keep, generator=self.context.draws()).div_(keep)
        self.keep(mask=mask)
        return mask

    def factors(self) -> tuple[Tensor, Tensor]:
        """(down, up): the factor next to the input and the one next to the output, with this forward pass's weight dropout."""
        a = self.drop(self.A) if self.dropping("A") else self.A
        b = self.drop(self.B) if self.dropping("B") else self.B
        return (a, b) if self.config.side == "input" else (b, a)

    def stacks(self, read: Callable[[nn.Parameter], Tensor] = lambda p: p) -> tuple[Tensor, Tensor]:
        """A and B without dropout as stacks of matrices, [1 or E, ., .] each. `read` may give something else of the same shape: the
        gradient, or the last step."""

        def matrices(p: nn.Parameter, at_input: bool) -> Tensor:
            w = read(p)
            if w.dim() == 2:
                return w[None]
            return w if at_input else w.permute(1, 0, 2)

        a_in = self.config.side == "input"
        return matrices(self.A, a_in), matrices(self.B, not a_in)

    def products(self) -> tuple[Tensor, Tensor]:
        """(up [1 or E, d_out, r], down [1 or E, r, d_in]) so that up_e @ down_e is the update of expert e, scale left out."""
        a, b = self.stacks()
        return (b, a) if self.config.side == "input" else (a, b)

    def delta(self, task: int = 0) -> Tensor:
        """The update as one matrix [d_out, d_in], for an adapter whose gate does not look at the input; `task` matters to task-routed ones only."""
        up, down = self.products()
        if self.site.experts == 1:
            return self.scale * up[0] @ down[0]
        E = self.site.experts
        gate = up.new_full((E,), 1 / E)
        if self.task_routed:
            gate = routed_gate(self.router[:, task : task + 1], self.config.top_k, self.config.renormalise == "yes")[1][:, 0]
        up, down = up.expand(E, -1, -1), down.expand(E, -1, -1)
        return self.scale * (gate[:, None, None] * up).permute(1, 0, 2).flatten(1) @ down.flatten(0, 1)

    def forward(self, x: Tensor, base: nn.Module | None = None, out: Tensor | None = None) -> Tensor:
        """The adapted linear: [..., d_in] to [..., d_out].

        Args:
            base: the frozen linear; without it the one that the adapter was made for.
            out: its answer to x (of a fused linear: this part's), where it was asked already.
        """
        call = self.call(self._base[0] if base is None else base, x, out)
        if not x.numel():  # no token: nothing to route, nothing to lose
            return call.frozen(x.reshape(-1, self.d_in)).view(*x.shape[:-1], self.d_out)
        if call.again:
            texts, known = self.recall(call), self.context.texts
            self.context.texts = texts
            try:
                return self.cast(x, call)
            finally:
                self.context.texts = known
        if self.training and not torch.compiler.is_compiling():
            self.remember(call)
        return self.cast(x, call)

    def call(self, base: nn.Module, x: Tensor, out: Tensor | None = None) -> Call:
        """What is known of a call with input x."""
        weight = bias = None
        if out is None and plain(base):
            weight, bias = base.weight, base.bias
            weight = weight.t() if type(base) is Conv1D else weight
            if self.part is not None:
                weight, bias = self.part.take(weight), None if bias is None else self.part.take(bias)
        elif out is None and self.part is not None:
            out = self.part.take(base(x), -1)
        return Call(base, x, self.context.mask_of(x), weight, bias, out, again=in_backward())

    def cast(self, x: Tensor, call: Call) -> Tensor:
        """`answer` in autocast's precision where that is on, which is off inside."""
        device = x.device.type
        if torch.is_autocast_enabled(device):
            call.autocast = torch.get_autocast_dtype(device)
            with torch.autocast(device, enabled=False):
                return self.answer(x.to(call.autocast), call)
        return self.answer(x, call)

    def answer(self, x: Tensor, call: Call) -> Tensor:
        """`forward` with everything settled: y in the input's shape, the routing and the extra loss noted down."""
        found = None
        if self.by_kernel:
            found = None if self.together is None else self.together.answer(self, x, call)
            if found is None and self.fused(call):
                found = self.kernel(x, call)
        if found is not None:
            y, p, g, call.loss = found
        else:
            y, p, g = self.forward_tokens(x.reshape(-1, self.d_in), call)
            y = y.view(*x.shape[:-1], self.d_out)
        self.note(p, g, call)
        return y

    # The way through the kernel

    @property
    def by_kernel(self) -> bool:
        """Whether the method's equation is the kernel's, with nothing before or after it."""
        return all(getattr(type(self), name) is getattr(Adapter, name) for name in ("forward", "answer", "forward_tokens"))

    def fused(self, call: Call) -> bool:
        """Whether the kernel can answer this call: it reads the frozen weight itself, and drops out weights only."""
        return call.weight is not None and not self.dropping("activations")

    def kernel(self, x: Tensor, call: Call) -> Answer:
        """This adapter alone: x [..., d_in]."""
        if not self.plainly_routed:
            linear = self.linear(call)  # draws dropout before the router's noise
            p, g = self.gates(x.reshape(-1, self.d_in), call)
            found = mixtures(x, [linear._replace(router=None, gate=g)], self.scale, sinks=[self.open_sink()])
            return Answer(found.y[0], p, g.detach(), None)
        top_k, tokens = self.config.top_k, self.token_weights(call)
        found = mixtures(x, [self.linear(call)], self.scale, top_k, self.coefficient(), tokens, [self.open_sink()])
        return self.answered(found, 0)

    def linear(self, call: Call) -> Linear:
        """What the kernel is given: frozen and trainable tensors, and this pass's dropout."""
        at_input = "A" if self.config.side == "input" else "B"
        if self.dropping(at_input):
            down, up = (self.A, self.B) if at_input == "A" else (self.B, self.A)
            return Linear(call.weight, call.bias, down, up, self.router, None, self.draw_mask(down))
        return Linear(call.weight, call.bias, *self.factors(), self.router)

    def token_weights(self, call: Call) -> Tensor | None:
        """Weights of the tokens in the balance loss, [N], sum 1."""
        return self.context.token_weights(call.mask, self.B.dtype)

    def coefficient(self) -> float:
        """Of the balance loss that the kernel is to find; 0 where none is wanted, or one of another kind."""
        wanted = (
            self.training and self.site.experts > 1 and self.rule.trained and torch.is_grad_enabled() and type(self).extra_loss is Adapter.extra_loss
        )
        return self.context.balance if wanted else 0.0

    def open_sink(self) -> dict | None:
        """Where the kernel's backward leaves what each expert asks of a shared A."""
        if not self.context.probing or self.site.experts == 1 or self.A.dim() != 2 or self.config.side != "input":
            return None
        self.sink = {}
        return self.sink

    def answered(self, found: Mixed, i: int) -> Answer:
        """The answer of linear number i of a node."""
        if found.p is None:
            return Answer(found.y[i], None, None, None)
        own = type(self).extra_loss is not Adapter.extra_loss  # it may read the probabilities, with gradient
        return Answer(found.y[i], (found.p if own else found.p.detach())[i], found.gate[i], found.loss[i] if found.loss else None)

    def note(self, p: Tensor | None, g: Tensor | None, call: Call) -> None:
        """Keep the routing and the extra loss of this call.

        A linear that a pass calls several times (shared layers) adds its losses up. What is computed again during the backward pass (gradient
        checkpointing) is not noted, but computed alike.
        """
        grad = torch.is_grad_enabled()
        loss = self.extra_loss(p, g, call) if p is not None and self.training and grad else None
        if call.z is not None and grad:
            loss = call.z if loss is None else loss + call.z
        if call.again:
            return
        silent = self.training and not grad and self.context.depth > 0 and self.context.grad
        aux = loss if self.aux is None or self.context.depth == 0 else self.aux if loss is None else self.aux + loss
        last = self.last if p is None else Routing(p.detach(), g.detach(), call.mask, call.shape)
        self.keep(ran=True, silent=silent, aux=aux, last=last)

    def keep(self, **values) -> None:
        """Set attributes at once: a module looks each name up among its parameters first. Not every compiler that is supported sees through that."""
        if torch.compiler.is_compiling():
            for name, value in values.items():
                setattr(self, name, value)
        else:
            vars(self).update(values)

    def clear(self) -> None:
        """Forget the last pass."""
        self.aux = self.last = None
        self.silent = False
        if self.together is not None:
            self.together.forget()

    def remember(self, call: Call) -> None:
        """In a segment that gradient checkpointing will compute again: keep what is known of the texts, since by then the pass is over."""
        if not (
            torch._C._autograd._top_saved_tensors_default_hooks(True) or (self.context.grad and self.context.depth and not torch.is_grad_enabled())
        ):
            return
        flat = call.x.detach().reshape(-1)
        self.memory = [m for m in self.memory[1 - REMEMBERED :] if not m.used]
        self.memory.append(Memory(call.shape, flat[:: max(1, len(flat) // SAMPLED)].clone(), call.mask, self.context.texts))

    def recall(self, call: Call) -> tuple:
        """What was known when this call was made first; the mask is put into it."""
        fits = [m for m in self.memory if m.shape == call.shape]
        if len(fits) > 1:  # several forward passes before one backward pass
            flat = call.x.detach().reshape(-1)
            sample = flat[:: max(1, len(flat) // SAMPLED)]
            fits = [m for m in fits if torch.equal(m.sample, sample)] or fits
            fits = [m for m in fits if not m.used] or fits  # of like inputs under other masks the last is gone back through first
        if not fits:
            return self.context.texts
        fits[-1].used, call.mask = True, fits[-1].mask
        return fits[-1].texts

    # Casting and copying

    def _apply(self, fn, recurse: bool = True):
        """As of any module, but a cast of the model to half a word leaves the trainable tensors in float32: an optimiser's small steps would
        be rounded away in bfloat16."""
        own, buffers = [(p, p.data, p.grad) for p in self.parameters(recurse=False)], dict(self._buffers)
        super()._apply(fn, recurse)
        for p, data, grad in own:
            if p.dtype in (torch.bfloat16, torch.float16) and data.dtype in (torch.float32, torch.float64):
                p.data = data.to(p.device, torch.float32)
                if grad is not None:
                    p.grad = grad.to(p.device, torch.float32)
        for name, kept in buffers.items():
            if kept is not None and kept.dtype == torch.float32 and self._buffers[name].dtype in (torch.bfloat16, torch.float16):
                self._buffers[name] = kept.to(self._buffers[name].device)
        return self

    def __getstate__(self) -> dict:
        """A copy is taken between passes: what the last one left stays behind (tensors of a graph cannot be copied)."""
        return {**self.__dict__, "aux": None, "last": None, "mask": None, "sink": {}, "memory": [], "carry": {}, "swap": None}
