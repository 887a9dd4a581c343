"""What each router reads, against its definition in slow loops; what it must not read: padding, neighbours, what follows in a causal model."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from mosld.adapters import attach
from mosld.adapters.kernel import Linear, mixtures
from mosld.adapters.routers import ROUTERS, hashed
from mosld.config import METHODS, AdapterConfig, ConfigError, RunConfig
from mosld.counting import ModelShape, count
from tests.adapters.models import bert, t5
from tests.adapters.same import move, own

ROUTED = [m for m, entry in METHODS.items() if not entry.routes_by]
IDS = torch.arange(24).view(3, 8) + 1
MASK = torch.ones_like(IDS)
MASK[1, 5:] = 0
TASK = torch.tensor([0, 2, 1])
INSTRUCTION = torch.zeros_like(IDS)
INSTRUCTION[0, 1:3] = 1  # of the second text none
INSTRUCTION[2, 1:5] = 1


def attached(router, method="mosld", model=None, **config):
    targets = "up,down" if method == "mixlora" else "q,v"
    values = {"rank": 2, "experts": 4, "targets": targets, "router": router, **config}
    torch.manual_seed(0)
    handle = attach(bert(2).double() if model is None else model, AdapterConfig(method=method, **values), tasks=3)
    move(handle)
    return handle


def known(handle, **more):
    return handle.context(task=TASK, instruction=INSTRUCTION, **more)


def forward(handle, ids=IDS, mask=MASK):
    return handle.model(input_ids=ids, attention_mask=mask).last_hidden_state


def loss(handle):
    """A probe of outputs that layer norm has made of one length: their sum of squares would have next to no gradient."""
    y = forward(handle)
    return (y * torch.randn(y.shape, generator=torch.Generator().manual_seed(3), dtype=y.dtype)).sum()


def caught(adapter):
    seen = []
    adapter.register_forward_hook(lambda _, args, y: seen.append((args[0].detach(), y.detach())))
    return seen


def slow_gate(logits, top_k, renormalise=True):
    """Of one token: softmax, the largest kept."""
    p = (logits.exp() / logits.exp().sum()).tolist()
    keep = sorted(range(len(p)), key=lambda e: -p[e])[: top_k or len(p)]
    total = sum(p[e] for e in keep) if renormalise else 1.0
    return [p[e] / total if e in keep else 0.0 for e in range(len(p))]


def slow_gates(adapter, router, x, top_k, ids=IDS, mask=MASK, task=TASK, instruction=INSTRUCTION, renormalise=True):
    """[M][L][E] by the definitions, one text and one token at a time."""
    W, out = adapter.router, []
    for m in range(len(x)):
        real = [n for n in range(x.shape[1]) if mask[m, n]]
        told = [n for n in real if instruction[m, n]] or real
        rows = []
        for n in range(x.shape[1]):
            if router in ("token", "random"):
                rows.append(slow_gate(W @ x[m, n], top_k, renormalise))
            elif router in ("text", "instruction"):
                read = real if router == "text" else told
                rows.append(slow_gate(W @ (sum(x[m, i] for i in read) / len(read)), top_k, renormalise))
            elif router == "task":
                rows.append(slow_gate(W[:, int(task[m])], top_k, renormalise))
            elif router == "uniform":
                rows.append([1 / 4] * 4)
            else:
                chosen = hashed(ids[m, n : n + 1], 4, top_k or 1)[0].tolist()
                rows.append([1 / (top_k or 1) if e in chosen else 0.0 for e in range(4)])
        out.append(rows)
    return torch.tensor(out, dtype=torch.float64)


@pytest.mark.parametrize("router", ROUTERS)
@pytest.mark.parametrize("method", ROUTED)
def test_gates_of_every_method_are_the_routers_definition(method, router):
    handle = attached(router, method)
    adapter = handle.adapters[-2]  # of the upper layer, whose input other adapters have moved
    seen = caught(adapter)
    with known(handle):
        forward(handle)
    gate = slow_gates(adapter, router, seen[0][0], handle.config.top_k)
    found = adapter.last.gate.view(4, 3, 8).permute(1, 2, 0)
    torch.testing.assert_close(found[MASK > 0], gate[MASK > 0])


@pytest.mark.parametrize("renormalise", ["yes", "no"])
@pytest.mark.parametrize("router", ROUTERS)
def test_the_adapted_linear_is_the_equation_with_that_gate(router, renormalise):
    handle = attached(router, renormalise=renormalise)
    adapter = handle.adapters[-1]
    seen = caught(adapter)
    with known(handle):
        forward(handle)
    x, y = seen[0]
    gate = slow_gates(adapter, router, x, handle.config.top_k, renormalise=renormalise == "yes")
    A, B = adapter.A.detach(), adapter.B.detach()
    for m, n in ((0, 0), (0, 7), (1, 2), (2, 5)):
        update = sum(gate[m, n, e] * (B[:, e] @ (A @ x[m, n])) for e in range(4))
        torch.testing.assert_close(y[m, n], adapter.weight @ x[m, n] + adapter.bias + adapter.scale * update)


@pytest.mark.parametrize("shared_down,shared_up", [(True, False), (False, True), (False, False)])
def test_a_given_gate_in_the_kernel_equals_finite_differences_twice(shared_down, shared_up):
    g = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=g, dtype=torch.float64, requires_grad=True)  # noqa: E731
    x, down, up = draw(5, 4), draw(2, 4) if shared_down else draw(3, 2, 4), draw(3, 2) if shared_up else draw(3, 3, 2)
    gate, weight, bias = draw(3, 5), torch.randn(3, 4, generator=g, dtype=torch.float64), torch.randn(3, generator=g, dtype=torch.float64)
    run = lambda x, down, up, gate: mixtures(x, [Linear(weight, bias, down, up, gate=gate)], 1.3).y[0]  # noqa: E731
    assert torch.autograd.gradcheck(run, (x, down, up, gate))
    assert torch.autograd.gradgradcheck(run, (x, down, up, gate))


@pytest.mark.parametrize("router", ["text", "instruction", "task"])
def test_gradients_reach_the_router_as_the_fused_and_the_plain_way_agree(router):
    handle = attached(router)

    def gradients():
        with known(handle):
            return torch.autograd.grad(loss(handle), own(handle).values())

    fast = gradients()
    for adapter in handle.adapters:
        adapter.base.register_forward_hook(lambda *_: None)  # no longer a plain linear: it is called, and the update added
    plain = gradients()
    for name, f, p in zip(own(handle), fast, plain, strict=True):
        torch.testing.assert_close(f, p)
        assert "router" not in name or f.abs().max() > 0


@pytest.mark.parametrize("router", ROUTERS)
def test_padding_and_neighbours_change_nothing(router):
    handle = attached(router)
    with known(handle):
        together = forward(handle)
    for m in range(3):
        length = int(MASK[m].sum())
        with handle.context(task=TASK[m : m + 1], instruction=INSTRUCTION[m : m + 1, :length]):
            alone = forward(handle, IDS[m : m + 1, :length], None)
        torch.testing.assert_close(together[m, :length], alone[0])
    padded = IDS.clone()
    padded[1, 5:] = 49
    if router != "hash":  # what stands under the mask
        with known(handle):
            torch.testing.assert_close(forward(handle, padded)[1, :5], together[1, :5])


def test_without_an_instruction_the_text_is_read_and_a_warning_says_so():
    handle, other = attached("instruction"), attached("text")
    with pytest.warns(UserWarning, match="where the instruction ends is not known"):
        y = forward(handle)
    torch.testing.assert_close(y, forward(other))


# causal models


def decoder():
    torch.manual_seed(0)
    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 24}
    return LlamaForCausalLM(LlamaConfig(vocab_size=50, **size, bos_token_id=1, eos_token_id=49, pad_token_id=0)).eval().double()


QUESTION = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])  # padded on the left
PROMPT = torch.tensor([[0, 0, 7, 8, 9], [3, 4, 5, 6, 7]])
TOLD = torch.tensor([[0, 0, 0, 1, 0], [0, 1, 1, 0, 0]])


@pytest.mark.parametrize("method", ["mosld", "mixlora"])
@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("router", ["text", "instruction", "task", "hash"])
def test_a_prefix_does_not_depend_on_what_follows(router, told, method):
    handle = attached(router, method, decoder())
    ids = torch.arange(20).view(2, 10) + 1
    further = (
        {"question": torch.tensor([[1] * 6 + [0] * 4] * 2), "instruction": INSTRUCTION[[0, 2]]} if told else {"instruction": INSTRUCTION[[0, 2]]}
    )
    with torch.no_grad(), handle.context(task=TASK[:2], **further):
        whole = handle.model(input_ids=ids).logits
        for length in range(1, 10):
            other = torch.cat([ids[:, :length], 49 - ids[:, length:]], 1)
            torch.testing.assert_close(handle.model(input_ids=other).logits[:, :length], whole[:, :length])
            torch.testing.assert_close(handle.model(input_ids=ids[:, :length]).logits, whole[:, :length])


def test_after_the_question_the_gate_of_a_text_router_stays():
    handle = attached("text", model=decoder())
    ids = torch.arange(10)[None] + 1
    with torch.no_grad(), handle.context(question=torch.tensor([[1, 1, 1, 1]])):
        handle.model(input_ids=ids)
    for adapter in handle.adapters:
        gate = adapter.last.gate
        assert (gate[:, 3:] - gate[:, 3:4]).abs().max() < 1e-12 and (gate[:, :3] - gate[:, 3:4]).abs().max() > 1e-3


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("router", ["token", "text", "instruction", "task", "hash"])
def test_generation_with_and_without_a_cache_agrees_and_so_does_each_text_alone(router, beams):
    handle = attached(router, model=decoder())
    settings = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False, "num_beams": beams}

    def generate(rows, cache):
        with torch.no_grad(), handle.context(task=TASK[rows], question=QUESTION[rows], instruction=TOLD[rows]):
            return handle.model.generate(input_ids=PROMPT[rows], attention_mask=QUESTION[rows], use_cache=cache, **settings)[:, 5:]

    both = slice(0, 2)
    cached = generate(both, True)
    assert torch.equal(cached, generate(both, False))
    assert torch.equal(cached[1], generate(slice(1, 2), True)[0])


def test_scores_of_a_cache_equal_those_of_the_whole_text():
    handle = attached("text", model=decoder())
    ids = torch.arange(9)[None] + 1
    with torch.no_grad(), handle.context(question=torch.ones(1, 5)):
        whole = handle.model(input_ids=ids, use_cache=False).logits
        first = handle.model(input_ids=ids[:, :3], use_cache=True)  # the question itself comes in two parts
        second = handle.model(input_ids=ids[:, 3:7], past_key_values=first.past_key_values, use_cache=True)
        last = handle.model(input_ids=ids[:, 7:], past_key_values=second.past_key_values, use_cache=True)
    torch.testing.assert_close(torch.cat([first.logits, second.logits, last.logits], 1), whole)


def test_a_cache_without_a_known_question_is_refused():
    handle = attached("text", model=decoder())
    with torch.no_grad(), pytest.raises(ConfigError, match="router: 'text' cannot tell in a cache where the question ends"):
        handle.model.generate(input_ids=PROMPT[1:], max_new_tokens=3, min_new_tokens=3)


# what is counted, kept and trained


@pytest.mark.parametrize("router", ROUTERS)
@pytest.mark.parametrize("method", ROUTED)
def test_counts_and_files(method, router, tmp_path):
    handle = attached(router, method)
    targets = {"up": (16, 32), "down": (32, 16)} if method == "mixlora" else {n: (16, 16) for n in "qv"}
    assert handle.count() == count(handle.config, ModelShape(2, targets, 0), tasks=3) == sum(p.numel() for p in handle.parameters())
    handle.save(tmp_path)
    other = attach(bert(2).double(), handle.config, seed=5, tasks=3)
    assert other.config == handle.config
    other.load(tmp_path, check_base=False)
    for name, t in handle.kept().items():
        assert torch.equal(t, other.kept()[name])
    assert any(n.endswith(".router") for n in handle.kept()) == (router not in ("hash", "uniform"))


def test_a_random_router_starts_as_the_token_router_and_never_moves():
    token, frozen = (attach(bert(2), AdapterConfig(rank=2, router=r)) for r in ("token", "random"))
    for a, b in zip(token.adapters, frozen.adapters, strict=True):
        assert torch.equal(a.router, b.router)
    frozen.train()
    before = frozen.adapters[0].router.clone()
    optimiser = torch.optim.AdamW(frozen.parameters(), lr=0.1)
    loss(frozen).backward()
    optimiser.step()
    assert torch.equal(frozen.adapters[0].router, before) and frozen.extra_loss() == 0.0
    assert not any("router" in n for n, _ in frozen.named_parameters())


def test_the_routers_rate_is_a_multiple():
    handle = attached("text", router_lr=10.0)
    optimiser = torch.optim.SGD(handle.groups(0.01), lr=0.01)
    before = {n: p.detach().clone() for n, p in own(handle).items()}
    loss(handle).backward()
    optimiser.step()
    for name, p in own(handle).items():
        torch.testing.assert_close(before[name] - p.detach(), p.grad * (0.1 if name.endswith("router") else 0.01))
    assert {id(p) for g in handle.groups(1.0) for p in g["params"]} == {id(p) for p in handle.parameters()}


def test_noise_acts_in_training_only_and_the_z_loss_is_its_formula():
    handle = attached("token", router_noise=1.0, balance=0.0)
    clean = attached("token", balance=0.0)
    torch.testing.assert_close(forward(handle), forward(clean))
    handle.train()
    assert (forward(handle) - forward(handle)).abs().max() > 1e-6
    handle = attached("token", z_loss=0.5, balance=0.0, dropout=0.0)
    handle.train()
    seen = [caught(a) for a in handle.adapters]
    forward(handle)
    expected = 0.0
    for adapter, calls in zip(handle.adapters, seen, strict=True):
        logits = (calls[0][0] @ adapter.router.t())[MASK > 0]
        expected += 0.5 * float(torch.log(logits.exp().sum(-1)).square().mean())
    assert float(handle.extra_loss()) == pytest.approx(expected, rel=1e-9)


def test_a_renormalised_top_1_gate_is_always_1_and_teaches_the_router_nothing():
    for renormalise, moved in (("yes", False), ("no", True)):
        handle = attached("text", top_k=1, renormalise=renormalise, balance=0.0)
        loss(handle).backward()
        gate = handle.adapters[0].last.gate
        assert bool((gate[gate > 0] == 1).all()) is not moved
        routers = [p for n, p in own(handle).items() if n.endswith("router")]
        assert all((p.grad.abs().max() > 1e-9) == moved for p in routers)


@pytest.mark.parametrize("router", ["uniform", "task"])
@pytest.mark.parametrize("method", ["mosld", "mola", "malora"])
def test_what_does_not_look_at_the_input_merges_exactly(router, method):
    handle = attached(router, method)
    tasks = torch.full((3,), 2)
    with torch.no_grad(), handle.context(task=tasks):
        adapted = forward(handle)
    merged = handle.merge(task=2 if router == "task" else None)
    torch.testing.assert_close(merged(input_ids=IDS, attention_mask=MASK).last_hidden_state, adapted)


# what is refused or has no effect


def test_hashing_is_even_and_gives_different_experts():
    chosen = hashed(torch.arange(20000), 4, 2)
    assert (chosen[:, 0] != chosen[:, 1]).all()
    share = torch.bincount(chosen.flatten(), minlength=4) / len(chosen)
    assert (share - 0.5).abs().max() < 0.02
    assert torch.equal(chosen[77:78], hashed(torch.tensor([77]), 4, 2))


@pytest.mark.parametrize(
    "act,sentence",
    [
        (lambda: AdapterConfig(router="words"), "router: 'words' is not allowed; "),
        (lambda: AdapterConfig(method="mode", router="text"), "router: text is not allowed; MoDE routes by a token router for every block"),
        (lambda: AdapterConfig(method="mtl-lora", router="task"), "router: task is not allowed; MTL-LoRA routes by weights that each task learns"),
        (lambda: forward(attached("task")), "router: 'task' needs the task of every text"),
        (lambda: attached("hash").model(inputs_embeds=torch.zeros(3, 8, 16).double()), "router: 'hash' needs token ids"),
        (lambda: attach(t5(), AdapterConfig(rank=2, router="text")), "router: 'text' is not for encoder-decoders"),
        (lambda: AdapterConfig(router_lr=-1), "router_lr: -1 is not allowed; give a number from 0 to 1000"),
    ],
)
def test_refusals_are_one_sentence(act, sentence):
    with pytest.raises(ConfigError) as refused:
        act()
    assert str(refused.value).startswith(sentence) and "\n" not in str(refused.value)


def test_an_instruction_router_refuses_a_file_without_instruction(tmp_path):
    from mosld.training import Trainer

    (tmp_path / "mine.csv").write_text("text,label\n" + "".join(f"word{n} is here,{'yn'[n % 2]}\n" for n in range(60)))
    values = {"tasks": str(tmp_path / "mine.csv"), "layers": 1, "rank": 2, "router": "instruction", "arms": ""}
    with pytest.raises(ConfigError, match="^router: 'instruction' reads the instruction before a question, and .*mine.csv has none; give"):
        Trainer(RunConfig(**values))
    Trainer(RunConfig(**values, instruction="Which"))


@pytest.mark.parametrize(
    "config,sentence",
    [
        ({"method": "lora", "router": "text"}, "router: LoRA routes by nothing: it has one expert; text is ignored."),
        ({"router": "hash", "z_loss": 0.1}, "z_loss: the gates of router hash are fixed; 0.1 is ignored."),
        ({"router": "random", "router_lr": 3}, "router_lr: router random is never trained; it is ignored."),
        ({"router": "uniform", "top_k": 2}, "top_k: router uniform takes every expert; 2 is ignored."),
        ({"method": "hydralora", "renormalise": "no"}, "renormalise: dense gates sum to 1 without it; no is ignored."),
        ({"top_k": 1}, "renormalise: with one expert a token every gate is 1, so the router learns from the balance loss alone"),
    ],
)
def test_what_has_no_effect_is_said(config, sentence):
    assert any(s.startswith(sentence) for s in AdapterConfig(**config).ignored())
    assert AdapterConfig().ignored() == [] and AdapterConfig(router="instruction", router_lr=10).ignored() == []
