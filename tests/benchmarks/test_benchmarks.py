"""The benchmarks: they start from the repository's folder, what they compare computes what it says, and ratios are taken within rounds."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks import rivals, steps, timing
from benchmarks.linear import candidates as of_linear
from benchmarks.memory import kept
from tests.adapters.slow import slow_mixture

ROOT = Path(__file__).parents[2]


def test_help_names_every_part_without_loading_torch():
    code = "import sys; sys.argv[1:] = ['--help']\nimport benchmarks.__main__ as m\ntry: m.main()\nfinally: assert 'torch' not in sys.modules"
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert said.returncode == 0, said.stderr
    assert all(name in said.stdout for name in ("linear", "steps", "arms", "memory", "app", "gpu", "backbones"))


def test_a_part_run_as_a_file_says_how_it_is_run():
    said = subprocess.run([sys.executable, "benchmarks/linear.py"], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert said.returncode == 1 and said.stderr.startswith("a part is run from") and "Traceback" not in said.stderr


@pytest.mark.parametrize("gather", [True, False])
def test_loops_compute_the_mixture(gather):
    loop = rivals.Loop(nn.Linear(6, 5).double(), 4, gather)
    with torch.no_grad():
        for p in loop.parameters():
            p.normal_()
    x = torch.randn(7, 6, dtype=torch.float64)
    down, up = [a.weight for a in loop.A], [b.weight for b in loop.B]
    slow = slow_mixture(x, loop.base.weight, loop.base.bias, down, up, rivals.SCALE, loop.router.weight, rivals.TOP_K)
    torch.testing.assert_close(loop(x), slow)


def test_candidates_start_as_the_frozen_model_and_share_its_weights():
    model, loss = steps.llama(32, 2, 2, 6, heads=2)
    found = steps.candidates(model, loss, "q,v", ["q_proj", "v_proj"], [4])
    at_start = {name: loss(step.model).item() for name, step in found.items()}
    loops = {name for name in found if "loop" in name}  # nn.Linear draws both their matrices
    assert len(found) == 7 and len(loops) == 2
    for name in found.keys() - loops:
        assert at_start[name] == pytest.approx(at_start[timing.FROZEN], rel=1e-6), name
    weight = model.layers[0].mlp.up_proj.weight
    assert all(step.model.get_submodule("layers.0.mlp.up_proj").weight is weight for step in found.values())
    assert kept(found["our kernel, one expert"]) < kept(found["MoSLD, 4 experts"]) < kept(found["dense loop, 4 experts"])


def test_ratios_are_those_within_a_round():
    slow_machine = [1.0, 10.0, 1.0, 10.0, 1.0]
    assert timing.ratio([2 * t for t in slow_machine], slow_machine) == "2.00 (2.00-2.00)"
    times = timing.take_turns({name: run for name, run in of_linear(16, tokens=8, loops=False).items()}, 0, least=4)
    assert {len(values) for values in times.values()} == {4}
    rows = timing.rows("work", times)
    assert next(r for r in rows if r.candidate == timing.FROZEN).to_frozen == ""
    assert timing.table(rows).count("\n") == len(rows) + 1
