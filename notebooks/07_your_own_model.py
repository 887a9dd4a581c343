# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 7 · Your own model, your own task
#
# **You will see** MoSLD attached to a plain transformers model and trained, on a task file that you write yourself, by transformers' own `Trainer`
# as it is, with accumulation, checkpointing and bfloat16, and by a short loop that comes to the same adapters; the adapters saved, loaded into a
# fresh model and scored. Then the same file in the lab's trainer, and what `attach` finds in other families.
#
# **You need** to have used transformers once. Everything here works offline, on the lab's default backbone, in about two minutes on two idle cores;
# the last section names models to try online. The method is [arXiv 2412.08946](https://arxiv.org/abs/2412.08946); LoRA, and why only small factors
# need an optimiser, [2106.09685](https://arxiv.org/abs/2106.09685).
#
# **In the page of the lab** (`python app.py`): the fold 'A task of your own' in Watch, <http://127.0.0.1:7860/?room=watch>.

# %%
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("mosld") is None:
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "-e", "..[lab,notebooks]"], check=True)

# %%
import json
import logging
import os
import tempfile
import warnings
from pathlib import Path

import pandas as pd
import torch
import transformers
from torch.nn import functional as F

from mosld import backbones, figures, tasks
from mosld.adapters import attach, saved_config
from mosld.backbones.base import mean_pool
from mosld.config import AdapterConfig, RunConfig
from mosld.training import Trainer

FAST = os.environ.get("MOSLD_FAST") == "1"  # the tests' mode: too few steps to learn from
STEPS, LAYERS = (4, 2) if FAST else (80, 0)
folder = Path(tempfile.mkdtemp())

# %% [markdown]
# ## A task file
#
# A task is a file of questions with options, one JSON object a line: `{"question": …, "options": […], "answer": 0}`. Here messages to a shop are to
# be sent to one of three teams. Each message is an opening with a concern.

# %%
TEAMS = {
    "the payments team": [
        "I was charged twice",
        "my card was refused",
        "the invoice is wrong",
        "I want my money back",
        "the discount is missing",
    ],
    "the delivery team": [
        "my parcel never came",
        "the box arrived broken",
        "it went to my old house",
        "the courier left no note",
        "I got the wrong size",
    ],
    "the accounts team": [
        "I cannot log in",
        "please close my profile",
        "I forgot my password",
        "my email has changed",
        "somebody uses my login",
    ],
}
OPENINGS = [
    "Hello, {}.",
    "Help! {}.",
    "I wrote last week already: {}.",
    "{}, what now?",
    "{}. Thanks for looking into it.",
    "Third time this year: {}!",
]

rows = [
    {"question": opening.format(concern), "options": list(TEAMS), "answer": number}
    for number, concerns in enumerate(TEAMS.values())
    for concern in concerns
    for opening in OPENINGS
]
path = folder / "which_team.jsonl"
path.write_text("".join(json.dumps(row) + "\n" for row in rows))

task = tasks.load(str(path))
print(
    f"{len(task.train)} rows to train on, {len(task.validation)} to validate, {len(task.test)} to test;",
    f"chance is {task.chance:.2f}",
)
print(task.train[0])

# %% [markdown]
# ## Attach
#
# `backbone.model` is an ordinary transformers model; online you would write `AutoModel.from_pretrained(...)`. `attach` replaces its q and v linears
# and freezes the rest, so every trainer that asks for parameters with `requires_grad` trains the adapters alone.

# %%
backbone = backbones.load(RunConfig().backbone, layers=LAYERS)
tokenizer, model = backbone.tokenizer, backbone.replica()
handle = attach(model, AdapterConfig(method="mosld", rank=8, experts="4", top_k=2, dropout=0.1))

trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
total = sum(p.numel() for p in backbone.model.parameters())
print(f"{type(model).__name__}: {trainable:,} trainable parameters beside {total:,} frozen ones")


# %% [markdown]
# ## Train with transformers' Trainer
#
# A plain `Trainer` asks two things: a collator, and a model that gives a loss. Here the loss is the cross-entropy of the cosine between a message
# and the names of the teams, plus `handle.extra_loss()`, the load-balance loss. The attention mask tells the adapters padding from text by itself.
# (A model that has a loss of its own, such as a causal language model or a classifier, needs no wrapper: `handle.join_loss()` puts the
# load-balance loss into it.)
#
# Two things to know. `Trainer` sets the whole model to training, and BERT's own dropout would then shake weights that do not learn: it is set to 0,
# the adapters' dropout stays. And the loss is a mean over a small batch: `Matcher.forward` takes no `**kwargs`, by which the Trainer knows that it
# is to divide by the number of batches of a step; a mean from a model that takes them would count four times under four accumulation steps.


# %%
def collate(examples):
    """Messages, with the names of the teams in the last rows."""
    texts = [e.question for e in examples] + list(TEAMS)
    batch = tokenizer(texts, padding=True, truncation=True, max_length=64, return_tensors="pt")
    return {
        "input_ids": batch.input_ids,
        "attention_mask": batch.attention_mask,
        "labels": torch.tensor([e.answer for e in examples]),
    }


class Matcher(torch.nn.Module):
    """A model and its adapters, with the loss of matching messages to teams."""

    def __init__(self, model, handle):
        super().__init__()
        self.model, self.handle = model, handle
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0

    def forward(self, input_ids, attention_mask, labels):
        hidden = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        unit = F.normalize(mean_pool(hidden, attention_mask), dim=-1)
        logits = unit[: len(labels)] @ unit[len(labels) :].T / 0.05
        return {"loss": F.cross_entropy(logits, labels) + self.handle.extra_loss(), "logits": logits}


# %% [markdown]
# Four rows a batch and four batches a step, activations computed again instead of kept, products in bfloat16: what one does to fit a large model.
# The adapters themselves stay in float32, or most of their small steps would be rounded away.

# %%
# transformers gives the next method another name in version 6; bitsandbytes, where it is installed, speaks of kernels not needed here
warnings.filterwarnings("ignore", category=FutureWarning)
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
model.config.use_cache = False  # nothing is generated, and checkpointing cannot keep it
model.gradient_checkpointing_enable({"use_reentrant": False})

arguments = transformers.TrainingArguments(
    output_dir=folder / "hf",
    max_steps=STEPS,
    per_device_train_batch_size=4,
    gradient_accumulation_steps=4,
    bf16=True,
    use_cpu=True,  # leave this out where there is a GPU
    learning_rate=3e-3,
    lr_scheduler_type="constant",
    max_grad_norm=0.0,
    logging_steps=max(STEPS // 20, 1),
    save_strategy="no",
    report_to=[],
    remove_unused_columns=False,
    dataloader_pin_memory=False,
    disable_tqdm=True,
    seed=0,
    data_seed=0,  # the order of rows
)


class SameMasks(transformers.TrainerCallback):
    """Dropout masks that depend on the step alone, so that the loop below can draw them again."""

    def on_step_begin(self, args, state, control, **kwargs):
        torch.manual_seed(state.global_step)


trainer = transformers.Trainer(
    model=Matcher(model, handle),
    args=arguments,
    train_dataset=list(task.train),
    data_collator=collate,
    callbacks=[SameMasks()],
)
trainer.remove_callback(transformers.PrinterCallback)
trainer.train()

history = pd.DataFrame([h for h in trainer.state.log_history if "loss" in h])
figures.curves(
    history.assign(trainer="transformers.Trainer"),
    "step",
    "loss",
    "trainer",
    "Loss, the balance loss included",
)

# %% [markdown]
# ## The same by hand
#
# What the Trainer did, as a loop. It must come to the same adapters.


# %%
def by_hand(steps):
    """A fresh copy of the model, trained by a loop; returns its handle."""
    copy = backbone.replica()
    copy.config.use_cache = False
    copy.gradient_checkpointing_enable({"use_reentrant": False})
    handle = attach(copy, AdapterConfig(method="mosld", rank=8, experts="4", top_k=2, dropout=0.1))
    matcher = Matcher(copy, handle).train()
    optimiser = torch.optim.AdamW(handle.parameters(), lr=3e-3, weight_decay=0.0, fused=True)
    loader, step = trainer.get_train_dataloader(), 0
    for epoch in range(steps):
        loader.set_epoch(epoch)
        batches = list(loader)
        for at in range(0, len(batches), 4):
            torch.manual_seed(step)
            group = batches[at : at + 4]
            for batch in group:
                with torch.autocast("cpu", torch.bfloat16):
                    loss = matcher(**batch)["loss"] / len(group)
                loss.backward()
            optimiser.step()
            optimiser.zero_grad()
            step += 1
            if step == steps:
                return handle


loop = by_hand(STEPS)
start = attach(backbone.replica(), AdapterConfig(method="mosld", rank=8, experts="4", top_k=2, dropout=0.1))
apart = max((a - b).abs().max().item() for a, b in zip(handle.parameters(), loop.parameters(), strict=True))
moved = max((a - b).abs().max().item() for a, b in zip(handle.parameters(), start.parameters(), strict=True))
print(
    f"Trainer and loop differ by at most {apart:.1e} in a weight; training moved weights by up to {moved:.2f}."
)

# %% [markdown]
# ## Score
#
# `Backbone.score` gives the logits of every option of a task, here of the test rows, for the bare model and for the adapted one.


# %%
def accuracy(model=None):
    """Share of test rows answered right; without a model, by the bare backbone."""
    batch = backbone.batch(task.test, [0] * len(task.test))
    with torch.no_grad():
        return (backbone.score(batch, model).argmax(1) == batch.answer).float().mean().item()


model.eval()
before, after = accuracy(), accuracy(model)
print(
    f"test rows answered right: {before:.2f} before, {after:.2f} after {STEPS} steps; chance {task.chance:.2f}"
)

# %% [markdown]
# ## Save and load
#
# `save` writes the trainable tensors as safetensors and the configuration as JSON: nothing of the base model, and no pickle.

# %%
handle.save(folder / "adapter")
for file in sorted((folder / "adapter").iterdir()):
    print(f"{file.name}: {file.stat().st_size:,} bytes")

config, further = saved_config(folder / "adapter")
fresh = backbone.replica()
attach(fresh, config, **further).load(folder / "adapter")
fresh.eval()

words = tokenizer(["My parcel never came, what now?"], return_tensors="pt")
with torch.no_grad():
    same = torch.equal(model(**words).last_hidden_state, fresh(**words).last_hidden_state)
print("The loaded model gives the same numbers:", same)

# %% [markdown]
# ## The same file in the lab's trainer
#
# A path is a task like any other, so one line trains on it, with probes of the router and, if wanted, further tasks of the lab in the mixture.

# %%
run = RunConfig(
    tasks={str(path): 1.0},
    arms="method=lora,mosld",
    steps=STEPS,
    layers=LAYERS,
    eval_every=max(STEPS // 4, 1),
)
log = figures.watch(Trainer(run))

# %%
pd.DataFrame(
    [
        {
            "arm": arm,
            "parameters": n,
            "untrained": log.untrained[str(path)],
            "trained": frame.accuracy[str(path)],
        }
        for arm, n, frame in zip(log.arms, log.parameters, log.frames[-1].arms, strict=True)
    ]
).round(3)

# %% [markdown]
# With so few test rows, and concerns that the training rows have too, these figures say that the pieces fit together and little more.
#
# ## Other families of models
#
# The short names q, k, v, o, up, gate and down stand for the linears of BERT-, LLaMA-, GPT-2- and T5-like models; anything else is matched against
# the end of a module's name. Here are tiny models with random weights, so that nothing is downloaded:

# %%
tiny = {
    "bert": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "vocab_size": 99,
    },
    "llama": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "intermediate_size": 64,
        "vocab_size": 99,
    },
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2, "vocab_size": 99, "bos_token_id": 0, "eos_token_id": 0},
    "t5": {"d_model": 32, "num_layers": 1, "num_heads": 2, "d_kv": 16, "d_ff": 64, "vocab_size": 99},
}
found = []
for family, sizes in tiny.items():
    other = transformers.AutoModel.from_config(transformers.AutoConfig.for_model(family, **sizes))
    attached = attach(other, AdapterConfig(rank=4))
    found.append(
        {
            "family": family,
            "adapted linears": ", ".join(a.site.name for a in attached.adapters),
            "parameters": attached.count(),
        }
    )
pd.set_option("display.max_colwidth", None)
pd.DataFrame(found).set_index("family")

# %% [markdown]
# ## Online
#
# With the hub in reach, the same lines take real models. Ids to try:
#
# | id | family | weights |
# |---|---|---|
# | `sentence-transformers/all-MiniLM-L6-v2` | BERT | 23 M |
# | `google-bert/bert-base-uncased` | BERT | 110 M |
# | `HuggingFaceTB/SmolLM2-135M` | LLaMA | 135 M |
# | `openai-community/gpt2` | GPT-2 | 124 M |
# | `google-t5/t5-small` | T5 | 60 M |
#
# ```python
# model = transformers.AutoModel.from_pretrained("google-bert/bert-base-uncased")
# handle = attach(model, AdapterConfig(experts="2-4-6-8", targets=("q", "v", "up", "down")))
# ```
#
# Encoders and causal language models can also be the backbone of a whole run: `RunConfig(backbone="sentence-transformers/all-MiniLM-L6-v2")`.
#
# ## Questions to try
#
# 1. Leave out `handle.extra_loss()`. Do all experts still take part? (`handle.routing()` has the last gates.)
#    <details><summary>How</summary><code>{n: (r.gate > 0).float().mean(1) for n, r in handle.routing().items()}</code> is the share of tokens that
#    reaches each expert. In so short a run they hardly move; notebook 2 shows what does move them.</details>
# 2. Keep some concerns out of the training rows altogether. How much of the accuracy was recognition?
#    <details><summary>How</summary>Write a column <code>split</code> with <i>test</i> for all openings of one concern a team: it is honoured. What
#    falls is what was recognised.</details>
# 3. Attach to `up` and `down` as well. What does that cost in parameters, and what does it bring?
#    <details><summary>How</summary><code>AdapterConfig(..., targets=("q", "v", "up", "down"))</code> and <code>handle.count()</code>. The wide side
#    of the feed-forward linears costs most in the <i>B</i> of <i>up</i> and the <i>A</i> of <i>down</i>.</details>
#
# ## What was shown

# %%
assert apart <= 1e-6 < moved
assert trainable == handle.count() and not any(p.requires_grad for p in backbone.model.parameters())
assert all(e.options == tuple(TEAMS) for e in task.train)
assert len(task.train) + len(task.validation) + len(task.test) == len(rows)
assert accuracy(fresh) == after and same
assert trainer.state.global_step == STEPS and log.frames[-1].event == "end"
assert [len(row["adapted linears"].split(", ")) for row in found] == [4, 4, 4, 6]
