"""docs/add-a-method.md: its blocks are run as they stand, and its method passes what every method must pass."""

import importlib.util
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


def test_another_package_registers_a_method(blocks, tmp_path):
    """Installed as pip would leave it: the modules and a dist-info with the entry point. A second entry point is broken and is named."""
    package, info = tmp_path / "mypackage", tmp_path / "mypackage-1.0.dist-info"
    package.mkdir(), info.mkdir()
    (package / "__init__.py").touch()
    (package / "coslora.py").write_text(blocks["mosld/adapters/coslora.py"], encoding="utf-8")
    line = blocks["mosld/registry.py"].strip().removeprefix('"coslora":').rstrip(",").replace("mosld.adapters.coslora", "mypackage.coslora")
    (package / "entry.py").write_text(f"from mosld.registry import MethodEntry, Option\nCOSLORA = {line.strip()}\n", encoding="utf-8")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mypackage\nVersion: 1.0\n")
    points = ["coslora = mypackage.entry:COSLORA", "broken = mypackage.nowhere:X", "mosld = mypackage.entry:COSLORA"]
    (info / "entry_points.txt").write_text("\n".join(["[mosld.methods]", *points]) + "\n")
    code = (
        "from mosld.cli import main; import sys; main(['params', '--method', 'coslora', '--experts', '2', '--options', 'tau=0.2']);"
        "from mosld.adapters import method_class; print(method_class('coslora').__module__);"
        "from mosld.registry import METHODS; print('broken' in METHODS)"
    )
    paths = os.pathsep.join([str(tmp_path), str(PAGE.parents[1])])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths})
    # q and v of 32 layers of 4096: r d_in + E r d_out + E d_in
    assert done.stdout.split() == [str(64 * (8 * 4096 + 2 * 8 * 4096 + 2 * 4096)), "mypackage.coslora", "False"], done.stderr
    assert "the method 'broken' of mypackage.nowhere:X cannot be loaded" in done.stderr and "has the name of a method of the lab" in done.stderr
