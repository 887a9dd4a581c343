"""Adapters on a GPU: attached on the CPU and moved, trained in bfloat16 and over nf4, by hand and by a plain Trainer; two GPUs.

    python -m tests.gpu.checks              one line a check, with what was measured; needs no pytest
    python -m tests.gpu.checks two_gpus     the checks with one of these words in their names: on a host of two cards, those of two

A check whose package is not there says so. `tests/gpu/test_gpu.py` runs the same. The checks of two cards were written where there was one: no
one has seen them on two yet.
"""

from __future__ import annotations

import copy
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

if __name__ == "__main__":  # before torch is loaded, which takes seconds
    if {"-h", "--help"} & set(sys.argv):
        raise SystemExit(__doc__)
    print("Adapters on a GPU, a line a check; a few minutes.", file=sys.stderr, flush=True)

import torch
import transformers

from mosld.adapters import attach, islands, kernel
from mosld.config import AdapterConfig, ConfigError, RunConfig
from tests.adapters.zoo import FAMILIES, config, run, warm

GPU = torch.cuda.is_available()
SIZES = {
    "vocab_size": 1000,
    "hidden_size": 512,
    "intermediate_size": 1024,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "pad_token_id": 0,
}
SETTINGS = {"rank": 8, "experts": "4", "top_k": 2, "dropout": 0.1, "balance": 0.01, "targets": ("q", "v", "up", "down")}


class Missing(Exception):
    """What a check needs is not there."""


def needs(*packages: str) -> None:
    for name in packages:
        if importlib.util.find_spec(name) is None:
            raise Missing(f"no package {name}")


def llama() -> transformers.LlamaForCausalLM:
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES))


def rows(n: int = 16, length: int = 64) -> torch.Tensor:
    return torch.randint(1, 1000, (n, length), generator=torch.Generator().manual_seed(1))


def learn(model, handle, steps: int = 30) -> tuple[float, float]:
    """First and last loss of memorising one batch; the adapters alone may move."""
    ids = rows().cuda()
    frozen = [p for p in model.parameters() if not p.requires_grad]
    before = [p.detach().clone() for p in frozen]
    optimiser = torch.optim.AdamW(handle.parameters(), lr=5e-3)
    model.train()
    losses = []
    for _ in range(steps):
        loss = model(input_ids=ids, labels=ids).loss + handle.extra_loss()
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(loss.item())
    assert all(torch.equal(a, b) for a, b in zip(frozen, before, strict=True)), "a frozen weight moved"
    assert {p.dtype for p in handle.parameters()} == {torch.float32} and {p.device.type for p in handle.parameters()} == {"cuda"}
    assert losses[-1] < 0.8 * losses[0], losses
    return losses[0], losses[-1]


def check_attached_on_the_cpu_and_moved_equals_attached_on_the_gpu_and_trains_in_bfloat16():
    model, twin = llama(), llama().to("cuda", torch.bfloat16)
    handle, other = attach(model, AdapterConfig(**SETTINGS)), attach(twin, AdapterConfig(**SETTINGS))
    warm(handle)
    warm(other)
    model.to("cuda", torch.bfloat16)
    ids = rows().cuda()
    model.eval()
    twin.eval()
    with torch.no_grad():
        assert torch.equal(model(input_ids=ids).logits, twin(input_ids=ids).logits)
    handle.detach()
    handle = attach(model, AdapterConfig(**SETTINGS))
    first, last = learn(model, handle)
    return f"loss {first:.2f} to {last:.2f}"


def check_autocast_over_a_float32_base():
    model = llama().cuda()
    handle = attach(model, AdapterConfig(**SETTINGS))
    with torch.autocast("cuda", torch.bfloat16):
        first, last = learn(model, handle)
    return f"loss {first:.2f} to {last:.2f}"


def check_checkpointing_is_exact_with_dropout():
    gradients = []
    for on in (False, True):
        model = llama().to("cuda", torch.bfloat16)
        handle = attach(model, AdapterConfig(**{**SETTINGS, "dropout": 0.3}))
        warm(handle)
        if on:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        model.train()
        torch.manual_seed(3)
        ids = rows().cuda()
        (model(input_ids=ids, labels=ids).loss + handle.extra_loss()).backward()
        gradients.append([p.grad for p in handle.parameters()])
    apart = max(float((a - b).norm() / a.norm()) for a, b in zip(*gradients, strict=True))
    assert apart < 0.02, apart  # other masks would be about 1 apart; what is left is the order of bfloat16 sums
    return f"relative distance of gradients {apart:.1e}"


def passes(case: dict) -> tuple[float, float]:
    """How far outputs and gradients of the kernel are at most, relatively, from the same equation in float64: by Triton, by plain code."""
    N, d, out, E, r, G = case["N"], 96, 48, case["E"], case["r"], case["G"]
    draw = torch.Generator("cuda").manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, device="cuda", generator=draw)

    down = (E, r, d) if case["own"] else (r, d)
    x, weights = normal(N, d).bfloat16(), torch.rand(N, device="cuda", generator=draw).gt(0.3).float()
    linears = [
        kernel.Linear(
            (normal(out, d) / d**0.5).bfloat16(), normal(out).bfloat16() if case["bias"] else None, normal(*down) / d**0.5, 0.1 * normal(out, E, r),
            normal(E, d) / d**0.5, None, torch.rand(*down, device="cuda", generator=draw).lt(0.9) / 0.9 if case["drop"] else None,
        )
        for _ in range(G)
    ]  # fmt: skip
    pulls = [normal(N, out).bfloat16() for _ in range(G)]

    def answers(dtype: torch.dtype, quick: bool) -> list[torch.Tensor]:
        kept, islands.fits = islands.fits, islands.fits if quick else lambda *_: False
        try:
            wide = dtype == torch.float64
            own = [kernel.Linear(*(t if t is None else t.to(dtype) if wide else t.clone() for t in linear)) for linear in linears]
            leaves = [x.detach().to(dtype, copy=True), *(t for linear in own for t in (linear.down, linear.up, linear.router))]
            for leaf in leaves:
                leaf.requires_grad_()
            tokens = (weights / weights.sum()).to(dtype if wide else torch.float32) if case["tokens"] else None
            found = kernel.mixtures(leaves[0], own, 2.0, case["K"], case["balance"], tokens)
            losses = list(found.loss or ())
            torch.autograd.backward([*found.y, *losses], [*(p.to(dtype) for p in pulls), *(torch.ones_like(v) for v in losses)])
            return [*found.y, *losses, *(leaf.grad for leaf in leaves)]
        finally:
            islands.fits = kept

    exact = answers(torch.float64, False)

    def apart(found: list[torch.Tensor]) -> float:
        return max(float((a.double() - b).norm() / b.norm()) for a, b in zip(found, exact, strict=True))

    return apart(answers(torch.bfloat16, True)), apart(answers(torch.bfloat16, False))


def check_triton_equals_the_plain_code():
    needs("triton")
    assert islands._kernels() is not None, "Triton does not work here"
    usual = {"N": 130, "E": 8, "r": 8, "K": 2, "G": 1, "own": False, "balance": 0.01, "tokens": True, "drop": True, "bias": True}
    cases = [
        {},
        {"N": 100, "balance": 0.0, "tokens": False, "drop": False},
        {"N": 70, "E": 4, "r": 4, "K": 1, "G": 2, "own": True, "tokens": False},
        {"N": 64, "E": 3, "r": 5, "K": 0, "G": 3, "balance": 0.5, "bias": False},
        {"N": 33, "E": 6, "r": 16, "K": 3, "own": True, "balance": 0.0},
        {"N": 65, "E": 64, "r": 2, "balance": 0.1, "tokens": False},
    ]
    found = [passes({**usual, **case}) for case in cases]
    for (quick, plain), case in zip(found, cases, strict=True):
        assert quick < max(1.2 * plain, 1e-2), (case, quick, plain)
    return f"from float64: {max(q for q, _ in found):.1e} by Triton, {max(p for _, p in found):.1e} by plain code"


def check_a_step_in_a_cuda_graph_gives_the_gradients_of_a_step():
    torch.manual_seed(0)
    model = llama().to("cuda", torch.bfloat16)
    handle = attach(model, AdapterConfig(**{**SETTINGS, "dropout": 0.0}))
    warm(handle)
    model.train()
    ids = rows().cuda()

    def step() -> None:
        (model(input_ids=ids, labels=ids).loss + handle.extra_loss()).backward()

    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(3):
            model.zero_grad()
            step()
    torch.cuda.synchronize()
    eager = [p.grad.clone() for p in handle.parameters()]
    model.zero_grad()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=side):
        step()
    graph.replay()
    torch.cuda.synchronize()
    apart = max(float((p.grad - e).norm() / e.norm()) for p, e in zip(handle.parameters(), eager, strict=True))
    assert apart < 1e-3, apart
    return f"relative distance {apart:.1e}"


def check_nf4():
    needs("bitsandbytes")
    import bitsandbytes as bnb

    model = llama()
    for name, module in list(model.model.layers.named_modules()):
        if type(module) is torch.nn.Linear:
            new = bnb.nn.Linear4bit(module.in_features, module.out_features, bias=False, quant_type="nf4", compute_dtype=torch.bfloat16)
            new.weight = bnb.nn.Params4bit(module.weight.data, requires_grad=False, quant_type="nf4")
            model.model.layers.set_submodule(name, new)
    base = copy.deepcopy(model).cuda().eval()
    handle = attach(model, AdapterConfig(**SETTINGS))
    model.cuda().eval()  # quantised on the way, after attach
    ids = rows().cuda()
    with torch.no_grad(), torch.autocast("cuda", torch.bfloat16):
        assert torch.equal(model(input_ids=ids).logits, base(input_ids=ids).logits)
    with torch.autocast("cuda", torch.bfloat16):
        first, last = learn(model, handle)
    return f"loss {first:.2f} to {last:.2f}, weight {model.model.layers[0].self_attn.q_proj.linear.weight.dtype}"


def check_plain_trainer_over_peft_in_bfloat16_with_checkpointing_and_accumulation():
    needs("peft", "accelerate")
    from peft import PeftModel, get_peft_model

    from mosld.peft import MoSLDConfig

    settings = {**SETTINGS, "target_modules": ["q_proj", "v_proj", "up_proj", "down_proj"]}
    del settings["targets"]
    model = get_peft_model(llama(), MoSLDConfig(**settings))
    # A Trainer in one process takes every card that it sees for DataParallel, which the adapters refuse
    with tempfile.TemporaryDirectory() as folder:
        arguments = transformers.TrainingArguments(
            output_dir=folder,
            max_steps=30,
            per_device_train_batch_size=4,
            gradient_accumulation_steps=4,
            gradient_checkpointing=True,
            gradient_checkpointing_kwargs={"use_reentrant": False},
            bf16=True,
            learning_rate=5e-3,
            lr_scheduler_type="constant",
            logging_steps=1,
            save_steps=30,
            report_to=[],
            disable_tqdm=True,
        )
        arguments._n_gpu = 1
        data = [{"input_ids": r, "labels": r} for r in rows()]
        trainer = transformers.Trainer(model=model, args=arguments, train_dataset=data)
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()
        losses = [h["loss"] for h in trainer.state.log_history if "loss" in h]
        assert losses[-1] < 0.8 * losses[0], losses
        again = PeftModel.from_pretrained(llama(), Path(folder) / "checkpoint-30", is_trainable=True).cuda().eval()
    model.cuda().eval()
    for p, q in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(p, q)
    ids = rows().cuda()
    with torch.no_grad(), torch.autocast("cuda", torch.bfloat16):  # in which the Trainer leaves the model's forward pass
        torch.testing.assert_close(again(input_ids=ids).logits.float(), model(input_ids=ids).logits.float())
    return f"loss {losses[0]:.2f} to {losses[-1]:.2f}"


def check_every_family_of_the_zoo_moved_after_attach():
    """Output and routing equal those on the CPU."""
    wrong = []
    for name, f in FAMILIES.items():
        try:
            model, inputs = f.build(), f.inputs(f, (0, 1))
            handle = attach(model, config(f))
            warm(handle)
            with torch.no_grad():
                expected = run(model, inputs)
                model.cuda()
                y = run(model, {k: v.cuda() for k, v in inputs.items()})
            torch.testing.assert_close(y.cpu(), expected, atol=2e-2, rtol=2e-2)
            handle.train()
            (run(model, {k: v.cuda() for k, v in inputs.items()}).square().sum() + handle.extra_loss()).backward()
            assert all(p.grad is not None and p.grad.isfinite().all() for p in handle.parameters())
        except Exception as error:
            wrong.append(f"{name}: {' '.join(str(error).split())[:160]}")
    assert not wrong, "; ".join(wrong)
    return f"{len(FAMILIES)} families"


def check_two_gpus_under_a_plain_trainer_in_one_process_are_refused_in_one_sentence():
    needs("peft", "accelerate")
    if torch.cuda.device_count() < 2:
        raise Missing("one GPU alone")
    model = llama().cuda()
    attach(model, AdapterConfig(**SETTINGS))
    try:
        torch.nn.DataParallel(model)(input_ids=rows().cuda())
    except ConfigError as error:
        said = str(error)
    else:
        raise AssertionError("copies of a model over two cards ran")
    assert "DataParallel:" in said and "accelerate launch" in said, said  # torch puts the copy's traceback before it
    return said.strip().splitlines()[-1]


def check_two_gpus_give_the_losses_of_one():
    needs("accelerate", "pandas")
    if torch.cuda.device_count() < 2:
        raise Missing("one GPU alone")
    settings = {"tasks": "world/mood,world/place", "rank": 4, "steps": 4, "eval_rows": 10, "eval_every": 100, "batch": 5, "arms": "balance=0,0.1"}
    with tempfile.TemporaryDirectory() as folder:
        start = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", "0", "-m", "mosld"]
        flags = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
        done = subprocess.run([*start, "train", *flags, "--out", folder], capture_output=True, text=True, timeout=300, env=dict(os.environ))
        assert done.returncode == 0 and "over 2 processes" in done.stderr, done.stderr[-1500:]
        two = [json.loads(line) for line in (Path(folder) / "frames.jsonl").read_text().splitlines()]
    from mosld.training import Trainer

    one = list(Trainer(RunConfig(**settings)).frames())
    apart = max(abs(a["arms"][0]["loss"] - b.arms[0].loss) for a, b in zip(two[1:], one[1:], strict=True))
    assert apart < 2e-3, apart  # sums of another order, in TF32 where the card has it
    return f"losses at most {apart:.1e} apart"


def checks() -> dict:
    return {name: check for name, check in globals().items() if name.startswith("check_")}


def main(words: list[str]) -> int:
    """Run every check, or those with one of the words in their names; returns how many failed."""
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, {torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}")
    failed = 0
    for name, check in checks().items():
        if words and not any(word in name for word in words):
            continue
        began = time.perf_counter()
        try:
            said = f"ok, {check()}"
        except Missing as missing:
            said = f"left out: {missing}"
        except Exception as error:
            failed += 1
            said = f"FAILED {type(error).__name__}: {' '.join(str(error).split())[:1500]}\n{traceback.format_exc(limit=-4)}"
        print(f"{name} ({time.perf_counter() - began:.1f} s): {said}", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]) if GPU else "There is no GPU here.")
