"""How an arm's machine is drawn: which boxes its method has beside W, A and B. The drawing follows (`canvas/machine.js`).

Whether A or B is one or several the norms of a Frame show; `shared` is for the picture before the first of them.
"""

from __future__ import annotations

from mosld.config import RunConfig

# What stands between A and B, as (name, what there is one of); and what gives the gates, where it is no router that reads tokens.
MIDDLE = {"malora": ("P", "expert"), "mtl-lora": ("Λ", "task")}
GATES = {"mtl-lora": "weights", "mor1e": "router + intuition", "mode": "routers"}


def drawn(config: RunConfig) -> dict:
    """Of one arm's configuration: names of the factors next to the input and next to the output, the gates' name ("" where the method has
    none), what the router reads, the stage between, and whether dropout acts on A."""
    own = config.effective()
    down, up = ("A", "B") if own.side == "input" else ("B", "A")
    single = max(own.expert_counts) == 1
    middle = MIDDLE.get(own.method)
    return {
        "down": down,
        "up": up,
        "router": "" if single else GATES.get(own.method, "router"),
        "reads": own.router,
        "middle": middle and list(middle),
        "top": own.top_k,
        "shared": own.share,
        "drops": own.dropout_on if own.dropout > 0 else "none",
        "label": own.label,
    }
