"""docs/add-a-method.md: its blocks are run as they stand, and its method passes what every method must pass."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mosld.config import METHODS
from mosld.counting import SHAPES, count
from mosld.registry import MethodEntry, Option
from tests.adapters import test_attach, test_cost

PAGE = Path(__file__).parents[2] / "docs" / "add-a-method.md"


@pytest.fixture(scope="module")
def blocks():
    """The page's code by the path or the word in its first line."""
    found = re.findall(r"```python\n# ([^\n,]+)[^\n]*\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    assert len(found) == PAGE.read_text(encoding="utf-8").count("```python")
    return dict(found)


@pytest.fixture(autouse=True)
def registered(blocks, monkeypatch, tmp_path):
    """The file as a module, the line in the registry, for the length of one test."""
    path = tmp_path / "coslora.py"
    path.write_text(blocks["mosld/adapters/coslora.py"], encoding="utf-8")
    spec = importlib.util.spec_from_file_location("mosld.adapters.coslora", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    line = eval("{" + blocks["mosld/registry.py"] + "}", {"MethodEntry": MethodEntry, "Option": Option})
    for name, entry in line.items():
        monkeypatch.setitem(METHODS, name, entry)


def test_its_own_test_passes(blocks):
    names = {}
    exec(blocks["tests/adapters/test_coslora.py"], names)
    names["test_forward_and_gradients_equal_the_equation"]()


@pytest.mark.parametrize("family", test_attach.FAMILIES)
def test_it_starts_at_the_base_model(family):
    test_attach.test_start_equals_base_and_detach_gives_it_back(family, "coslora")


def test_it_passes_what_every_method_must_pass(tmp_path):
    test_attach.test_every_tensor_learns_once_b_is_not_zero_and_the_base_never("coslora")
    test_attach.test_counts_of_formula_and_tensors_agree("coslora")
    test_attach.test_save_and_load(tmp_path / "files", "coslora")
    test_cost.test_no_loop_over_experts_no_round_trip_nothing_of_tokens_times_experts_times_width("coslora")


def test_it_trains_as_an_arm(blocks, capsys):
    names = {}
    exec(blocks["use"], names)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["0", "1", "2"]
    config = names["config"].arm(1)
    assert config.label == "CosLoRA" and config.option("tau") == 0.2
    # q and v of 6 layers of 384: r d_in + E r d_out + E d_in
    assert count(config.adapter(), SHAPES["minilm"]) == 12 * (8 * 384 + 4 * 8 * 384 + 4 * 384)


def test_it_is_short(blocks):
    assert len((blocks["mosld/adapters/coslora.py"] + blocks["mosld/registry.py"]).splitlines()) < 100


LOOK = """
import json, sys
from mosld.adapters import Handle, attach, method_class
from mosld.config import AdapterConfig, RunConfig
from mosld.registry import METHODS
from mosld.training import Trainer
from mosld.training.geometry import conflicts, updates
from mosld.training.walk import walk
from mosld.ui.look.slow_hints import hints

config = RunConfig(tasks="world/mood,world/place", layers=2, steps=4, batch=4, eval_rows=10, lr=0.05, warmup=0, arms="method=lora,vera")
trainer = Trainer(config)
frames = list(trainer.frames())
arm = trainer.arms[1]
seen = walk(trainer, 1, 1)
shown = seen.shown()
probe = frames[-1].arms[1].linears[1]
arm.handle.save(sys.argv[1])
again = Handle.from_pretrained(sys.argv[1], trainer.backbone.replica())
adapter, other = arm.handle.adapters[1], again.adapters[1]
kept = [n for n in ("A", "B", "d", "b", "router") if (getattr(adapter, n) == getattr(other, n)).all()]
print(json.dumps({
    "module": method_class("vera").__module__,
    "listed": sorted(n for n in ("vera", "broken") if n in METHODS),
    "mosld": METHODS["mosld"].label,
    "trained": sorted(n.rpartition(".")[2] for n, _ in arm.handle.named_parameters())[::4],
    "parameters": trainer.log.parameters[1],
    "error": seen.error(), "update": float(seen.update().norm()), "name": shown["hidden"]["name"],
    "hint": hints(shown, arm.config, 0.0)[3],
    "norms": [len(probe.norm_a), len(probe.norm_b), len(probe.norm_ba)], "steps": probe.step_a,
    "ranks": [len(u.singular[0]) for u in updates(trainer)[0][1]],
    "conflict": conflicts(trainer, rows=4)[1][0].b,
    "kept": kept,
}))
"""


def test_a_package_of_ones_own_as_the_page_has_it(blocks, tmp_path):
    """The page's files, installed as pip would leave them: modules and a dist-info. Further entry points are broken, and are named."""
    package, info = tmp_path / "mypackage", tmp_path / "mypackage-1.0.dist-info"
    package.mkdir(), info.mkdir()
    (package / "__init__.py").touch()
    for name in ("vera", "entry"):
        (package / f"{name}.py").write_text(blocks[f"mypackage/{name}.py"], encoding="utf-8")
    (own,) = re.findall(r"```toml\n\[project.entry-points.\"mosld.methods\"\]\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mypackage\nVersion: 1.0\n")
    points = [own.strip().replace('"', ""), "broken = mypackage.nowhere:X", "mosld = mypackage.entry:VERA"]
    (info / "entry_points.txt").write_text("\n".join(["[mosld.methods]", *points]) + "\n")
    paths = os.pathsep.join([str(tmp_path), str(PAGE.parents[1])])
    command = [sys.executable, "-c", LOOK, str(tmp_path / "saved")]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths})
    assert not done.returncode, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["module"] == "mypackage.vera" and found["listed"] == ["vera"] and found["mosld"] == "MoSLD"
    assert "the method 'broken' of mypackage.nowhere:X cannot be loaded" in done.stderr and "has the name of a method of the lab" in done.stderr
    assert found["trained"] == ["b", "d", "router"]  # of four linears each
    assert found["parameters"] == 4 * (4 * (8 + 128) + 4 * 128)  # E (r + d_out) + E d_in; A and B are not among them
    assert found["error"] < 1e-4 < found["update"] and found["name"] == "dₑ ∘ A x"
    assert found["hint"].startswith("A is random and stays so. Each expert multiplies the 8 numbers")
    assert found["norms"] == [4, 4, 4] and all(step > 0 for step in found["steps"])
    assert found["ranks"] == [8] * 4 and len(found["conflict"]) == 2 and found["conflict"][0][1] is not None
    assert found["kept"] == ["A", "B", "d", "b", "router"]
