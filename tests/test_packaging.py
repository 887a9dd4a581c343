"""What a user installs: the lists agree, and the adapters alone need none of the lab."""

import subprocess
import sys
from pathlib import Path

import tomllib

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
USE = """
import sys
import torch
from mosld.adapters import attach
from mosld.config import AdapterConfig
model = torch.nn.ModuleDict({"layers": torch.nn.ModuleList([torch.nn.ModuleDict({"q": torch.nn.Linear(8, 8)})])})
handle = attach(model, AdapterConfig(rank=2, targets="q"))
print(handle.count(), *sys.modules)
"""


def test_the_requirements_of_the_lab_are_those_of_the_package_with_its_extras():
    extras = PROJECT["optional-dependencies"]
    lines = [line.split("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines()]
    assert sorted(filter(None, lines)) == sorted(PROJECT["dependencies"] + extras["lab"] + extras["notebooks"])


def test_the_adapters_bring_in_none_of_the_lab():
    extras = PROJECT["optional-dependencies"]
    names = {r.split(">")[0].split("=")[0] for extra in extras.values() for r in extra}
    names -= {"tokenizers", "accelerate", "pandas", "scipy", "tqdm"}  # which transformers takes in where it finds them
    done = subprocess.run([sys.executable, "-c", USE], capture_output=True, text=True, cwd=ROOT)
    count, *loaded = done.stdout.split()
    assert int(count) == 2 * 8 + 4 * 8 * 2 + 4 * 8, done.stderr
    assert not names & set(loaded)
