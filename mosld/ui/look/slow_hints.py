"""The hints of Slow motion: what happens at each of the six stages, in one to three sentences, for the method and the numbers at hand.

What a method does where it departs from a token router with the k largest gates, then A x, then B, it says itself (`Adapter.hints`).
"""

from __future__ import annotations

from mosld.config import RunConfig
from mosld.registry import METHODS
from mosld.ui.wire import short


def hints(shown: dict, config: RunConfig, rate: float) -> list[str]:
    """Six hints. shown: `Walk.shown`; config: the arm's, with the method's own values; rate: its dropout rate now."""
    return [_x(shown), _gate(shown, config), _mask(shown, config, rate), _hidden(shown, config), _up(shown), _sum(shown)]


def _x(shown: dict) -> str:
    first = min(8, shown["d_in"])
    return (
        f"The batch after step {shown['step']}. Each word comes in as a vector x of {shown['d_in']} numbers: what the layers below made of it. "
        f"The marked words are followed; shown are the first {first} numbers and the length of each."
    )


def _gate(shown: dict, config: RunConfig) -> str:
    gate = shown["gate"]
    if gate is None:
        return f"{config.label} has no router here: there is one expert, and its weight is 1."
    kept = config.top_k if 0 < config.top_k < gate["of"] else 0
    start = f"The router has one row of numbers for each of {gate['of']} experts; the softmax of row times x gives probabilities. "
    text = (shown["training"] and shown["hints"].get("gate in training")) or shown["hints"].get("gate")
    if text:
        task, left = short(shown["texts"][shown["row"]]["task"]), f"the {kept} largest that are left" if kept else "those that are left"
        return text.format(label=config.label, task=task, rank=config.rank, of=gate["of"], router=start, left=left)
    if kept:
        verb, divisor = ("are", "their sum") if kept > 1 else ("is", "itself")
        return start + f"The {kept} largest {verb} kept and divided by {divisor}; the others get 0."
    return start + "All of them are kept: routing is dense."


def _mask(shown: dict, config: RunConfig, rate: float) -> str:
    drop = shown["dropout"]
    name = "x" if drop["on"] == "activations" else drop["on"]
    if drop["mask"] is None:
        if METHODS[config.method].fixes.get("dropout") == 0:
            return f"{config.label} is defined without dropout: {name} is used as it is."
        if config.dropout_on == "none" or rate == 0:
            return f"The dropout rate of this arm is 0: {name} is used as it is."
        return f"In evaluation nothing is dropped: {name} is used as it is. Choose training to see a mask."
    what = (
        f"Each entry of {name} is dropped with probability {rate:g}, and what is left is divided by {1 - rate:g}: on average {name} stays the same. "
    )
    if drop["on"] == "activations":
        return what + "Every word has a draw of its own."
    return what + "One draw serves all words and all experts" + (", and it is the very one the next step will make." if drop["next"] else ".")


def _hidden(shown: dict, config: RunConfig) -> str:
    rows, first = shown["rank"], shown["factors"][0]
    first += "′" if "′" in shown["hidden"]["name"] else ""
    if text := shown["hints"].get("hidden"):
        return text.format(label=config.label, rows=rows)
    text = f"{first} ({rows} × {shown['d_in']}) squeezes the {shown['d_in']} numbers of x to {rows}. "
    if shown["gate"] is None:
        return text + "This is the low rank of LoRA."
    return text + (f"Each expert has its own {first}." if shown["hidden"]["own"] else f"All experts share {first}: this is computed once.")


def _up(shown: dict) -> str:
    second, size = shown["factors"][1], f"{shown['d_out']} × {shown['rank']}"
    if shown["gate"] is None:
        return f"{second} ({size}) widens it again to {shown['d_out']} numbers."
    chosen = max(len(e) for e in shown["experts"])
    more = max(sum(w != 0 for w in token) for token in shown["gate"]["weights"])
    text = f"Each chosen expert widens it again with {second} ({size}): one vector of {shown['d_out']} numbers an expert, g is its gate."
    return text + (f" The {chosen} that weigh most are shown." if more > chosen else "")


def _sum(shown: dict) -> str:
    scale = f"{shown['scale']:.3g}"
    text = f"The experts' vectors times their gates are added up, times {scale}, and added to W x + b of the frozen linear: y goes on. "
    if all(u["norm"] == 0 for u in shown["update"]):
        text += "Before training B is 0, and so is the update. "
    return text + f"The stages multiplied out are the module's own output to within {shown['error']:.0e}."
