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
# # 1 · From LoRA to MoSLD
#
# **You will see** one adapted linear built by hand in a few lines, in four steps: LoRA, a mixture of LoRA experts, a shared A, dropout on A.
# After each step the same layer is made with `mosld`, and both give the same numbers. At the end: what each of them costs on LLaMA2-7B, and
# the gates of a real sentence.
#
# **You need** to know what a linear layer and a softmax are. Nothing is trained or downloaded; it takes seconds.
#
# The paper is [arXiv 2412.08946](https://arxiv.org/abs/2412.08946); LoRA is [2106.09685](https://arxiv.org/abs/2106.09685), MoLA
# [2402.08562](https://arxiv.org/abs/2402.08562). Shapes: N tokens, E experts, r rank, K experts a token.
#
# The first cell installs the lab where it is not installed yet.
#
# **In the page of the lab** (`python app.py`): lesson 1, <http://127.0.0.1:7860/?lesson=1>.

# %%
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("mosld") is None:
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "-e", "..[lab,notebooks]"], check=True)

# %%
import torch
from torch import nn

from mosld import backbones, figures
from mosld.adapters import attach
from mosld.config import AdapterConfig, RunConfig
from mosld.counting import SHAPES, count

torch.manual_seed(0)
N, d_in, d_out, r, E, K, alpha = 5, 16, 12, 4, 4, 2, 8

x = torch.randn(N, d_in)  # five tokens
linear = nn.Linear(d_in, d_out)  # the frozen layer: W is linear.weight [d_out, d_in]


def adapted(method, **settings):
    """The same frozen layer with an adapter of `mosld` on it."""
    model = nn.ModuleDict({"q": linear})
    config = AdapterConfig(method=method, targets=("q",), rank=r, alpha=alpha, experts=E, top_k=K, **settings)
    handle = attach(model, config)
    handle.train(False)
    return model["q"], handle


# %% [markdown]
# ## LoRA
#
# $h = W x + \frac{\alpha}{r} B A x$: A brings the token down to r numbers, B brings them up again. B starts at zero, so that the adapted layer
# starts as the frozen one. We then fill B with numbers, as if it had been trained.

# %%
layer, handle = adapted("lora")
print("At the start the layer is the frozen one:", torch.equal(layer(x), linear(x)))

nn.init.normal_(layer.B)
A, B = layer.A, layer.B  # A [r, d_in], B [d_out, r]
by_hand = linear(x) + alpha / r * (x @ A.T) @ B.T
print("Largest difference from mosld:", (by_hand - layer(x)).abs().max().item())
lora_agrees = torch.allclose(by_hand, layer(x), atol=1e-5)


# %% [markdown]
# ## A mixture of LoRA experts
#
# Now there are E pairs $(A_e, B_e)$, and a router: $\mathrm{softmax}(W_r x)$, of which the K largest are kept and made to sum to one. Each token is
# changed by its own K experts: $h = W x + \frac{\alpha}{r} \sum_{e \in \text{top-}K} g_e(x) B_e A_e x$. This is MoLA's layer. Written token by token:


# %%
def gate(token, router):
    """The K chosen experts of a token and their weights."""
    weight, expert = (router @ token).softmax(0).topk(K)
    return zip((weight / weight.sum()), expert, strict=True)


layer, handle = adapted("mola")
nn.init.normal_(layer.B)
nn.init.normal_(layer.router)
A, B = layer.A, layer.B  # A [E, r, d_in], B [d_out, E, r]

by_hand = linear(x)
for n in range(N):
    for weight, e in gate(x[n], layer.router):
        by_hand[n] = by_hand[n] + alpha / r * weight * B[:, e] @ (A[e] @ x[n])
print("Largest difference from mosld:", (by_hand - layer(x)).abs().max().item())
mola_agrees = torch.allclose(by_hand, layer(x), atol=1e-5)

# %% [markdown]
# `mosld` has no loop over tokens or experts: it multiplies the gate into the r numbers of every expert and does one matrix product
# (`mosld/adapters/kernel.py`). The gate of these five tokens, a row each:

# %%
figures.heat(
    layer.last.gate.T,
    [f"token {n}" for n in range(N)],
    [f"{e + 1}" for e in range(E)],
    "Gate",
    xlabel="expert",
)

# %% [markdown]
# ## Sharing A
#
# MoSLD keeps one A for all experts of a layer, meant for what the tasks have in common, and a $B_e$ for each, meant for what sets them apart.
# In the loop, `A[e]` becomes `A`. Without dropout the paper calls this MoSL.

# %%
layer, handle = adapted("mosl")
nn.init.normal_(layer.B)
nn.init.normal_(layer.router)
A, B = layer.A, layer.B  # A [r, d_in]: one for all

by_hand = linear(x)
for n in range(N):
    for weight, e in gate(x[n], layer.router):
        by_hand[n] = by_hand[n] + alpha / r * weight * B[:, e] @ (A @ x[n])
print("Largest difference from mosld:", (by_hand - layer(x)).abs().max().item())
mosl_agrees = torch.allclose(by_hand, layer(x), atol=1e-5)

# %% [markdown]
# ## Dropout on A
#
# In training, MoSLD drops entries of the *matrix* A at the rate p and scales the rest by 1 / (1 - p). One mask serves all tokens and experts of a
# step. It is not the usual dropout on activations. In evaluation A is whole.

# %%
p = 0.25
layer, handle = adapted("mosld", dropout=p)
nn.init.normal_(layer.B)
nn.init.normal_(layer.router)
handle.train(True)
y = layer(x)
mask = layer.mask  # 0 or 1 / (1 - p), [r, d_in]

by_hand = linear(x)
for n in range(N):
    for weight, e in gate(x[n], layer.router):
        by_hand[n] = by_hand[n] + alpha / r * weight * layer.B[:, e] @ ((mask * layer.A) @ x[n])
print("Largest difference from mosld:", (by_hand - y).abs().max().item())
print(f"Entries of A dropped: {(mask == 0).sum().item()} of {mask.numel()}, p is {p}")
mosld_agrees = torch.allclose(by_hand, y, atol=1e-5)

figures.heat(
    mask,
    [f"row {i}" for i in range(r)],
    [f"{j}" for j in range(d_in)],
    "The mask on A in this step",
    digits=1,
)

# %% [markdown]
# The kernel's backward pass is written out by hand as well. Here are its gradients beside those that autograd finds through our loops:

# %%
target = torch.randn(N, d_out)
loss_by_hand = (by_hand * target).sum()
loss = (y * target).sum()
parameters = [layer.A, layer.B, layer.router]
slow = torch.autograd.grad(loss_by_hand, parameters)
quick = torch.autograd.grad(loss, parameters)
for name, a, b in zip(("A", "B", "router"), slow, quick, strict=True):
    print(f"gradient of {name:6} largest difference {(a - b).abs().max():.1e}, size {a.norm():.2f}")
gradients_agree = all(torch.allclose(a, b, atol=1e-4) for a, b in zip(slow, quick, strict=True))

# %% [markdown]
# ## The balance loss
#
# Nothing so far keeps a router from sending everything to two experts. Papers of this family add, for every adapted linear, the loss of the Switch
# Transformer ([2101.03961](https://arxiv.org/abs/2101.03961)):
#
# $$L_b = E \sum_{e} f_e\, p_e, \qquad f_e = \frac{\text{choices of expert } e}{\text{all choices}}, \qquad p_e = \frac{1}{N} \sum_n p_e(x_n)$$
#
# It is 1 where both are even and up to E where one expert gets all. $f$ is a count and has no gradient: the loss acts through the mean probability
# $p_e$ alone, pushing down that of experts that are chosen more often than others. With $p = \mathrm{softmax}(z)$,
#
# $$\frac{\partial L_b}{\partial z_{e}(x_n)} = \frac{E}{N}\, p_e(x_n) \Big( f_e - \sum_j f_j\, p_j(x_n) \Big):$$
#
# an expert chosen more often than this token's average expert is pushed down, the others up. The lab's loss, by hand and from `mosld`:

# %%
layer, handle = adapted("mosl", balance=1.0)
nn.init.normal_(layer.router)
handle.train(True)
layer(x)
loss = handle.extra_loss()

z = (x @ layer.router.T).detach().requires_grad_()  # logits [N, E]
probability = z.softmax(1)
chosen = torch.zeros(N, E).scatter(1, z.topk(K, 1).indices, 1.0)
f = chosen.sum(0) / chosen.sum()
by_hand = E * (f * probability.mean(0)).sum()
print(
    f"By hand {by_hand.item():.6f}, from mosld {loss.item():.6f}; shares of choices {[round(v, 2) for v in f.tolist()]}"
)

formula = E / N * probability * (f - (f * probability).sum(1, keepdim=True))
(autograd,) = torch.autograd.grad(by_hand, z)
print(
    "Largest difference of the gradient by the formula and by autograd:",
    (formula - autograd).abs().max().item(),
)
balance_agrees = torch.allclose(by_hand, loss, atol=1e-6) and torch.allclose(formula, autograd, atol=1e-6)

# %% [markdown]
# ## What it costs
#
# Trainable parameters on LLaMA2-7B with adapters on q and v, rank 8, and 2, 4, 6 and 8 experts in the four quarters of its layers, as in the paper.
# They follow from the shapes alone, so no weights are needed. (The paper's own column of counts is 100 times too large; its digits agree.)

# %%
llama = SHAPES["llama2-7b"]
settings = {"rank": 8, "experts": "2-4-6-8", "targets": ("q", "v")}
counts = {
    m: count(AdapterConfig(method=m, **settings), llama) for m in ("lora", "hydralora", "mosld", "mola")
}
figures.bars(
    {AdapterConfig(method=m).label: n for m, n in counts.items()},
    "Trainable parameters on LLaMA2-7B",
    "parameters",
)

# %% [markdown]
# ## In a real model
#
# `attach` puts the same layer into any transformers model. The lab's small backbone reads a sentence; below are the gates of its tokens in the first
# adapted linear. The router has not been trained, so the weights are close to even and mean nothing yet; notebook 2 trains it.

# %%
backbone = backbones.load(RunConfig().backbone)
model = backbone.replica()
handle = attach(model, AdapterConfig(experts=E, top_k=K))
handle.train(False)
words = backbone.tokenizer("The nurse gladly lends the soldier a hammer by the waves.", return_tensors="pt")
with torch.no_grad():
    model(**words)

first, routing = next(iter(handle.routing().items()))
tokens = backbone.tokenizer.convert_ids_to_tokens(words.input_ids[0])
print(
    f"{handle.count():,} trainable parameters in {len(handle.adapters)} linears of {backbone.name}; this is {first}"
)
figures.heat(
    routing.gate.T, tokens, [str(e + 1) for e in range(E)], "Gate by token, before training", xlabel="expert"
)

# %% [markdown]
# `handle.detach()` takes the adapters out again and gives back the exact base model.

# %%
with torch.no_grad():
    before = backbone.model(**words).last_hidden_state
    after = handle.detach()(**words).last_hidden_state
print("The same as before:", torch.equal(before, after))

# %% [markdown]
# ## Questions to try
#
# 1. With K = E, what is left of the router's choice? And with E = 1?
#    <details><summary>Solution</summary>With K = E nothing is cut away: the gates are the whole softmax, and the router weighs without choosing. With
#    E = 1 the softmax of one number is 1, so there is no router at all, and the layer is LoRA.</details>
# 2. Put `dropout_on="activations"` into `adapted`. Which line of the hand-written layer changes?
#    <details><summary>Solution</summary>The last: the mask is on the token, `layer.A @ (mask * x[n])`, and every token has a draw of its
#    own.</details>
# 3. `share="B"` shares the other matrix. How many parameters does that cost on LLaMA2-7B, where q and v are square? (Try `count`.)
#    <details><summary>Solution</summary>As many: where d_in = d_out, one A and E matrices B are as large as E matrices A and one B.</details>
# 4. At the start B is zero. Which of the gradients above is zero then, and what follows for the first step?
#    <details><summary>Solution</summary>dL/dA = Σ (gₑ Bₑᵀ dL/dy) xᵀ is zero, and so is the router's, since the gates scale something that is zero:
#    of the task only the B learn in the first step; what moves a router there is its balance loss. Notebook 3 shows it.</details>
# 5. When is the balance loss 1 although experts are chosen unevenly?
#    <details><summary>Solution</summary>Where p is even: L_b = E Σ fₑ / E = Σ fₑ = 1 whatever f is. It then has a gradient all the same.</details>
#
# ## What was shown

# %%
assert lora_agrees and mola_agrees and mosl_agrees and mosld_agrees
assert gradients_agree and balance_agrees
assert (counts["lora"], counts["mosld"], counts["mola"]) == (4_194_304, 13_893_632, 22_282_240)
assert torch.allclose(routing.gate.sum(0), torch.ones(len(tokens))) and ((routing.gate > 0).sum(0) == K).all()
assert torch.equal(before, after)
