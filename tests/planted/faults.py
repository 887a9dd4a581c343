"""Faults to be planted one at a time: each a small change of the core that a test near it should see.

`old` must stand in the file exactly once; `tests` are the nearest files, or single tests, and nothing else is run.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    name: str
    file: str
    old: str
    new: str
    tests: str  # one or more, with a space between


STEP, KERNEL, ROUTERS = "tests/training/test_step.py", "tests/adapters/test_kernel.py", "tests/adapters/test_routers.py"
NATIVE = "tests/adapters/test_native.py"
TRAINER, CHECKPOINT = "tests/training/test_trainer.py", "tests/training/test_checkpoint.py"
ARMS, ADAPTER, RUN = "mosld/training/arms.py", "mosld/adapters/adapter.py", "mosld/training/trainer.py"

FAULTS = (
    # nine kinds that no test saw once
    Fault("task index off by one in the training batch", RUN, "[t for t, _ in some]", "[(t + 1) % self.mixture_size for t, _ in some]", STEP),
    Fault("dropout seed ignored", ARMS, ".manual_seed(config.seed)", ".manual_seed(0)", STEP),
    Fault("last accuracy on validation rows", RUN, 'part = "test" if final else "validation"', 'part = "validation"', STEP),
    Fault("every arm shown with arm 0's accuracy", RUN, "self._read(arm, made[arm], part)", "self._read(self.arms[0], made[arm], part)", STEP),
    Fault("arms started from different seeds", ARMS, "self.config, config.seed, tasks", "self.config, config.seed + len(name), tasks", STEP),
    Fault(
        "AdaMerging's unlabelled questions read from test",
        "mosld/merging/methods.py",
        "bench.stream(config.unlabelled, config.merge_batch)\n    return adamerging",
        'bench.stream("test", config.merge_batch)\n    return adamerging',
        "tests/merging/test_adamerging.py",
    ),
    Fault("balance coefficient dropped", ADAPTER, "return self.context.balance if wanted else 0.0", "return 1.0 if wanted else 0.0", STEP),
    Fault("balance loss without gradient", ARMS, "(loss + extra).backward()", "(loss + torch.as_tensor(extra).detach()).backward()", STEP),
    Fault(
        "weight decay left out",
        ARMS,
        "torch.optim.AdamW(parameters, lr=config.lr, weight_decay=config.weight_decay",
        "torch.optim.AdamW(parameters, lr=config.lr, weight_decay=0.0",
        STEP,
    ),
    # the step
    Fault("gradients of the last step stay", ARMS, "        self.optimiser.zero_grad(set_to_none=True)\n", "", f"{STEP} {TRAINER}"),
    Fault("warm-up a step late", ARMS, "step / max(self.config.warmup, 1)", "(step - 1) / max(self.config.warmup, 1)", TRAINER),
    Fault("router_lr ignored", ARMS, 'rate * group["multiple"]', "rate", STEP),
    Fault("held-out tasks are trained on", RUN, "mixed = self.tasks[: len(config.tasks)]", "mixed = self.tasks", TRAINER),
    Fault(
        "untrained accuracy on validation rows",
        RUN,
        "self.log.untrained = self._score(None, part)",
        'self.log.untrained = self._score(None, "validation")',
        f"{STEP} {TRAINER}",
    ),
    Fault("optimiser forgets at resume", "mosld/training/checkpoint.py", '{"state": states, ', '{"state": {}, ', CHECKPOINT),
    Fault(
        "masks begin anew at resume",
        "mosld/training/checkpoint.py",
        'arm.handle.generator.set_state(tensors[f"{i}/generator"])',
        "pass",
        f"{CHECKPOINT} {TRAINER}",
    ),
    # rows
    Fault("batches the same for every seed", "mosld/tasks/mixture.py", "[self.seed, 0, block]", "[0, 0, block]", "tests/tasks/test_mixture.py"),
    Fault(
        "rows in one order at every pass",
        "mosld/tasks/mixture.py",
        "[self.seed, 1, task, turn]",
        "[self.seed, 1, task, 0]",
        "tests/tasks/test_mixture.py",
    ),
    Fault(
        "weights of a mixture ignored",
        "mosld/tasks/mixture.py",
        "np.asarray(weights, float) / sum(weights)",
        "np.ones(len(weights)) / len(weights)",
        "tests/tasks/test_mixture.py",
    ),
    Fault(
        "rows of a group in two parts",
        "mosld/tasks/rows.py",
        "[row for row in rows if row.group not in chosen]",
        "[row for row in rows if row not in taken[:most]]",
        "tests/tasks/test_rows.py",
    ),
    Fault(
        "commonest answer of the test part",
        "mosld/tasks/base.py",
        "Counter(key(e) for e in self.train)",
        "Counter(key(e) for e in self.test)",
        "tests/tasks",
    ),
    # scoring
    Fault(
        "padding pooled into the mean",
        "mosld/backbones/base.py",
        "mask = attention_mask[:, :, None].to(hidden.dtype)",
        "mask = torch.ones_like(attention_mask)[:, :, None].to(hidden.dtype)",
        "tests/backbones",
    ),
    Fault(
        "an option's likelihood summed",
        "mosld/backbones/base.py",
        "(likelihood * mask).sum(1) / mask.sum(1).clamp(min=1)",
        "(likelihood * mask).sum(1)",
        "tests/backbones",
    ),
    # adapters
    Fault(
        "dropout not scaled up",
        ADAPTER,
        ".bernoulli_(keep, generator=self.context.draws()).div_(keep)",
        ".bernoulli_(keep, generator=self.context.draws())",
        f"{STEP} tests/adapters/test_attach.py",
    ),
    Fault(
        "dropout acts in evaluation",
        ADAPTER,
        "return self.training and self.context.dropout > 0",
        "return self.context.dropout > 0",
        "tests/adapters/test_attach.py",
    ),
    Fault(
        "scale without the rank", ADAPTER, "self.scale = config.alpha / config.rank", "self.scale = config.alpha / 8", "tests/adapters/test_attach.py"
    ),
    Fault(
        "balance loss counts padding",
        "mosld/adapters/balance.py",
        "f, mean = chosen @ w, p @ (w / w.sum().clamp(min=1))",
        "f, mean = chosen.sum(1), p.mean(1)",
        "tests/adapters/test_kernel.py",
    ),
    Fault(
        "gates not renormalised in the kernel",
        "mosld/adapters/eager.py",
        "p, g = routed_gate(logits.view(G, -1, N), top_k)",
        "p, g = routed_gate(logits.view(G, -1, N), top_k, False)",
        NATIVE,
    ),
    Fault("gates not renormalised in C", "mosld/adapters/native.c", "kept += q[best];", "kept = 1;", KERNEL),
    Fault("the balance loss's gradient left out in C", "mosld/adapters/native.c", "if (!pull) continue;", "continue;", f"{KERNEL} {STEP}"),
    Fault(
        "what an expert asks of A without its mask",
        "mosld/adapters/eager.py",
        "shares if linear.drop is None else shares * linear.drop",
        "shares",
        f"{KERNEL} tests/probes tests/training/test_probe_methods.py",
    ),
    Fault(
        "top layers get the bottom group's experts",
        "mosld/counting.py",
        "min(layer * groups // layers, groups - 1)",
        "groups - 1 - min(layer * groups // layers, groups - 1)",
        "tests/test_cli.py tests/adapters/test_attach.py",
    ),
    # probes
    Fault("an expert idle below an even share", "mosld/probes/routing.py", "1 / (10 * load.shape[-1])", "1 / load.shape[-1]", "tests/probes"),
    Fault(
        "information in nats", "mosld/probes/routing.py", "return (value / math.log(2)).to(vote.dtype)", "return value.to(vote.dtype)", "tests/probes"
    ),
    Fault("imbalance turned round", "mosld/probes/imbalance.py", "math.log2(t[0] / t[1])", "math.log2(t[1] / t[0])", "tests/probes"),
    Fault("cosine of updates without down", "mosld/probes/geometry.py", "* (down[i] @ down.transpose(1, 2))", "", "tests/probes"),
    # merging
    Fault(
        "TIES elects by count",
        "mosld/merging/ties.py",
        "sign = entries.sum(0).sign()",
        "sign = entries.sign().sum(0).sign()",
        "tests/merging/test_ties.py",
    ),
    Fault("DARE does not rescale", "mosld/merging/sparse.py", "tau * stays / chance", "tau * stays", "tests/merging/test_sparse.py"),
    Fault("TSV-M leaves directions as they are", "mosld/merging/spectral.py", "return p @ qt", "return columns", "tests/merging/test_spectral.py"),
    Fault(
        "rsLoRA read as LoRA",
        "mosld/merging/peft_format.py",
        '(math.sqrt(rank) if config.get("use_rslora") else rank)',
        "rank",
        "tests/merging/test_peft_format.py",
    ),
    # what is said
    Fault(
        "interval from n instead of n - 1",
        "mosld/probes/seeds.py",
        "sum((v - centre) ** 2 for v in values) / (len(values) - 1)",
        "sum((v - centre) ** 2 for v in values) / len(values)",
        "tests/studies/test_statistics.py tests/probes/test_seeds.py",
    ),
    Fault("Holm's level is one", "mosld/studies/statistics.py", "alpha / (len(ps) - rank)", "alpha", "tests/studies/test_statistics.py"),
)
