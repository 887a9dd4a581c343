"""Half precision, second derivatives, and inputs at the edge: nothing, one token, one text, a mask of zeros, beams."""

import math

import pytest
import torch
import transformers
from torch import nn

from mosld.adapters import attach
from mosld.adapters.balance import balance_loss
from mosld.config import METHODS, AdapterConfig, ConfigError
from tests.adapters.models import FAMILIES, bert, run, t5
from tests.adapters.same import move
from tests.adapters.test_attach import config_of, warm

HALVES = [torch.bfloat16, torch.float16]


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("method", METHODS)
def test_trainable_tensors_are_float32_on_any_base_and_results_are_the_bases(method, dtype):
    model = bert(1).to(dtype)
    before = run(model)
    handle = attach(model, config_of(method))
    assert {p.dtype for p in handle.parameters()} == {torch.float32}
    torch.testing.assert_close(run(model), before)
    warm(handle)
    handle.train()
    y = run(model)
    assert y.dtype == dtype
    (y.float().square().mean() + handle.extra_loss()).backward()
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in handle.parameters())
    for seen in handle.routing().values():
        assert seen.probabilities.dtype == torch.float32  # router and softmax are not rounded to half a word


@pytest.mark.parametrize("method", METHODS)
def test_a_bfloat16_base_gives_what_a_float32_base_of_the_same_weights_does_within_its_rounding(method):
    torch.manual_seed(0)
    half = bert(1).bfloat16()
    full = bert(1)
    full.load_state_dict({n: t.float() for n, t in half.state_dict().items()})
    outs = []
    for model in (full, half):
        base = run(model).float()
        handle = attach(model, config_of(method, dropout=0.0))
        warm(handle)
        outs.append(run(model).float() - base)
    apart = (outs[0] - outs[1]).norm() / outs[0].norm()
    assert apart < 0.25, apart  # a bfloat16 has eight bits, and the model's own rounding is in both differences


def test_small_steps_move_a_on_a_bfloat16_base_also_after_a_later_cast():
    for late in (False, True):
        model = bert(1)
        model = model if late else model.bfloat16()
        handle = attach(model, AdapterConfig(method="mosld", rank=4, dropout=0.0, targets="q"))
        warm(handle)
        if late:
            model.bfloat16()
        a = handle.adapters[0].A
        before = a.detach().clone()
        optimiser = torch.optim.AdamW(handle.parameters(), lr=1e-4, weight_decay=0)
        run(model).float().square().sum().backward()
        optimiser.step()
        assert a.dtype == torch.float32 and (a != before).all()


@pytest.mark.parametrize("dtype", HALVES)
def test_autocast_keeps_the_router_in_float32(dtype):
    model = bert(1)
    handle = attach(model, AdapterConfig(method="mosld", rank=2, dropout=0.0))
    warm(handle)
    handle.train()
    with torch.autocast("cpu", dtype):
        y = run(model)
        loss = y.float().square().mean() + handle.extra_loss()
    loss.backward()
    assert all(r.probabilities.dtype == torch.float32 for r in handle.routing().values())
    assert handle.extra_loss().dtype == torch.float32 and all(p.grad.dtype == torch.float32 for p in handle.parameters())


def test_the_balance_loss_of_a_float16_base_counts_beyond_its_largest_number():
    model = nn.Sequential(nn.Linear(4, 4)).half()
    handle = attach(model, AdapterConfig(method="mosld", rank=2, targets="0", balance=1.0, dropout=0.0))
    handle.train()
    tokens = 70_000  # the largest float16 is 65,504
    model(torch.randn(1, tokens, 4, dtype=torch.float16))
    p, g, _, _ = (getattr(handle.adapters[0].last, n) for n in ("probabilities", "gate", "mask", "shape"))
    expected = 4 * float(((g > 0).double().mean(1) / 2 * p.double().mean(1)).sum())
    assert float(handle.extra_loss().detach()) == pytest.approx(expected, rel=1e-4)


def test_merging_rounds_once():
    model = bert(1).bfloat16()
    handle = attach(model, AdapterConfig(method="lora", rank=8, targets="q"))
    warm(handle)
    adapter = handle.adapters[0]
    exact = adapter.weight.double() + adapter.scale * adapter.B.double() @ adapter.A.double()
    handle.merge()
    merged = model.encoder.layer[0].attention.self.query.weight
    assert merged.dtype == torch.bfloat16
    nearest = exact.bfloat16()
    step = (nearest.double().abs() * 2**-7).clamp(min=1e-30)
    off = (merged.double() - exact).abs() - (nearest.double() - exact).abs()  # none is farther than the nearest number is
    assert (off <= 1e-3 * step).all()


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_second_derivatives_are_those_of_the_equation(method, training):
    """Of the answer and of the extra loss, by the input and by every trainable tensor, against finite differences of the first derivatives."""
    targets = "up,down" if method == "mixlora" else "q"  # MixLoRA's experts are whole blocks: up, activation, down
    model = bert(1).double()
    handle = attach(model, AdapterConfig(method=method, rank=2, targets=targets, balance=0.5, dropout=0.3), tasks=2, instance_dim=3)
    move(handle)
    handle.train(training)
    handle.fit(torch.randn(20, 3, dtype=torch.float64))
    known = {"mask": torch.tensor([[1, 1, 1], [1, 1, 0]]), "task": torch.tensor([0, 1]), "instance": torch.randn(2, 3, dtype=torch.float64)}

    def answer(x, *_):
        torch.manual_seed(1)  # one draw of every mask
        with handle.context(**known):
            handle._passes.begin()
            first, *rest = handle.adapters
            y = first(x)
            for adapter in rest:
                y = adapter(nn.functional.gelu(y))
            loss = handle.extra_loss()
        return (y, loss) if isinstance(loss, torch.Tensor) else y

    x = torch.randn(2, 3, 16, dtype=torch.float64, requires_grad=True)
    if training and METHODS[method].balance:
        assert answer(x)[1].requires_grad
    assert torch.autograd.gradgradcheck(answer, (x, *handle.parameters()), fast_mode=True, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("method", ["mosld", "moelora", "mixlora"])
def test_second_derivatives_of_a_whole_model_with_and_without_checkpointing(method):
    """A gradient penalty through q, k and v in one node, dropout and the balance loss; layers made again in the backward pass give the same."""
    found = []
    for on in (False, True):
        torch.manual_seed(0)
        model = bert(2).double()
        model.set_attn_implementation("eager")  # the fused attention of torch has no second derivative
        handle = attach(model, config_of(method, targets="q,k,v,up,down", dropout=0.3, balance=0.5))
        move(handle)
        model.train()
        for module in model.modules():
            module.p = 0.0 if isinstance(module, nn.Dropout) else getattr(module, "p", None)
        if on:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        leaves = handle.parameters()

        def penalty(model=model, handle=handle, leaves=leaves):
            torch.manual_seed(5)
            loss = run(model).square().mean() + handle.extra_loss()
            return sum(g.square().sum() for g in torch.autograd.grad(loss, leaves, create_graph=True))

        found.append([penalty().detach(), *torch.autograd.grad(penalty(), leaves)])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)
    step = [torch.randn(p.shape, generator=torch.Generator().manual_seed(1), dtype=p.dtype) for p in leaves]
    ends = []
    for sign in (1, -2):
        with torch.no_grad():
            for p, d in zip(leaves, step, strict=True):
                p.add_(sign * 1e-6 * d)
        ends.append(float(penalty().detach()))
    slope = sum(float((g * d).sum()) for g, d in zip(found[1][1:], step, strict=True))
    assert slope == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-3)


# The edge


@pytest.mark.parametrize("shape", [(0, 4), (2, 0), (1, 1), (1, 5), (3, 1)])
@pytest.mark.parametrize("method", METHODS)
def test_nothing_one_token_and_one_text(method, shape):
    targets = {"targets": "up,down"} if method == "mixlora" else {"targets": "q"}
    handle = attach(bert(1), AdapterConfig(method=method, rank=2, balance=0.1, **targets))
    warm(handle)
    handle.train()
    x = torch.randn(*shape, 16, requires_grad=True)
    y = x
    for adapter in handle.adapters:
        y = adapter(y)
    assert y.shape[:-1] == shape
    loss = y.sum() + handle.extra_loss()
    loss.backward()
    assert loss.isfinite() and x.grad.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in handle.parameters())


@pytest.mark.parametrize("method", METHODS)
def test_a_mask_of_zeros_costs_nothing_and_is_finite(method):
    model = bert(1)
    handle = attach(model, config_of(method, balance=0.1))
    warm(handle)
    handle.train()
    ids = torch.arange(8).view(2, 4) + 1
    with handle.context(mask=torch.zeros(2, 4, dtype=torch.long)):
        y = model(input_ids=ids).last_hidden_state
        loss = handle.extra_loss()
        (y.square().mean() + loss).backward()
    assert float(torch.as_tensor(loss).detach()) == 0
    assert all(p.grad is None or p.grad.isfinite().all() for p in handle.parameters())


def test_the_balance_of_no_tokens_is_zero():
    none = torch.zeros(3, 0)
    assert balance_loss(none, none, None) == 0 and balance_loss(torch.full((3, 2), 1 / 3), torch.ones(3, 2), torch.zeros(2)) == 0


def test_task_ids_follow_the_beams_of_a_search():
    model = transformers.T5ForConditionalGeneration(t5().config).eval()
    model.config.decoder_start_token_id = model.generation_config.decoder_start_token_id = 0
    handle = attach(model, AdapterConfig(method="mtl-lora", rank=2, targets="q,v"), tasks=2)
    move(handle, size=1.0)
    ids, task = torch.arange(16).view(2, 8) + 1, torch.tensor([1, 0])
    options = {"num_beams": 3, "max_new_tokens": 5, "do_sample": False}
    with handle.context(task=task):
        both = model.generate(ids, **options)
    for i in range(2):
        with handle.context(task=task[i : i + 1]):
            one = model.generate(ids[i : i + 1], **options)
        length = min(both.shape[1], one.shape[1])
        assert torch.equal(both[i, :length], one[0, :length])
    handle.train()
    with handle.context(task=task), pytest.raises(ConfigError, match="^task: ids of 2 texts are given, but the batch has 4; give one a text"):
        model(input_ids=ids.repeat(2, 1), decoder_input_ids=ids.repeat(2, 1))


@pytest.mark.parametrize("values", [{"router": r} for r in ("task", "text", "instruction", "hash")] + [{"method": m} for m in ("loramoe", "mor1e")])
def test_what_is_told_of_texts_follows_beams_with_a_cache_and_without(values):
    config = transformers.GPT2Config(vocab_size=50, n_embd=16, n_layer=2, n_head=2, n_positions=32, bos_token_id=0, eos_token_id=0)
    model = transformers.GPT2LMHeadModel(config).eval()
    handle = attach(model, AdapterConfig(**{"method": "mosld", "rank": 2, **values}), tasks=2)
    move(handle, size=1.0)
    handle.fit(torch.randn(20, 3))
    ids = torch.arange(8).view(2, 4) + 1
    told = {"task": torch.tensor([1, 0]), "instance": torch.randn(2, 3), "question": torch.ones_like(ids)}
    told["instruction"] = torch.tensor([[1, 1, 0, 0]] * 2)

    def search(rows, **options):
        with torch.no_grad(), handle.context(**{name: value[rows] for name, value in told.items()}):
            mask = torch.ones_like(ids[rows])
            return model.generate(ids[rows], attention_mask=mask, num_beams=3, max_new_tokens=5, do_sample=False, pad_token_id=0, **options)

    both = search(slice(0, 2))
    assert torch.equal(both, search(slice(0, 2), use_cache=False))
    for i in range(2):
        one = search(slice(i, i + 1))
        length = min(both.shape[1], one.shape[1])
        assert torch.equal(both[i, :length], one[0, :length])


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_loss_in_one_batch_and_text_by_text_without_padding(family):
    """Routing does not depend on the neighbours in the batch, nor on their padding."""
    model = FAMILIES[family]().double()
    handle = attach(model, AdapterConfig(method="mosld", rank=2))
    warm(handle)
    ids = torch.arange(24).view(3, 8) + 1
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    extra = {"decoder_input_ids": ids[:, :6]} if model.config.is_encoder_decoder else {}
    whole = model(input_ids=ids, attention_mask=mask, **extra).last_hidden_state
    alone = model(input_ids=ids[1:2, :5], **{k: v[1:2] for k, v in extra.items()}).last_hidden_state
    torch.testing.assert_close(whole[1:2, : alone.shape[1]], alone)
    assert math.isfinite(float(whole.detach().sum()))
