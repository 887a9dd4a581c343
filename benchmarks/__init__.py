"""Where every figure on speed comes from: `python -m benchmarks`, from the repository's folder.

- `timing`: candidates that take turns in one process, ratios with their spread, the table, the machine.
- `rivals`: what the project's adapters are set beside: peft's LoRA and loops over experts, in any model.
- `linear`, `steps`, `arms`, `app`, `memory`, `gpu`: one kind of measurement each. `backbones`: nano beside its teacher.
"""
