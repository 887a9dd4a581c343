"""The import rule: parts know only what lies below them; gradio stays in ui/ and app.py; ui/ meets torch in compute.py alone."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# each part may import from the levels before its own, and from itself
LEVELS = [
    {"registry", "texts"},
    {"config"},
    {"counting", "files"},
    {"fetch"},
    {"tasks"},
    {"adapters", "backbones"},
    {"probes", "peft"},
    {"training"},
    {"merging"},
    {"figures"},
    {"studies"},
    {"ui"},
    {"site"},
    {"cli"},
    {"__main__"},
    {"app"},
]
LEVEL = {part: i for i, parts in enumerate(LEVELS) for part in parts}
PROGRAMS = {"distil", "student", "corpus", "sampling"}  # the recipe of a shipped backbone: run by hand, imported by nothing else
FILES = [*(ROOT / "mosld").rglob("*.py"), ROOT / "app.py"]


def part_of(path: Path) -> str:
    inside = path.relative_to(ROOT).with_suffix("").parts
    return inside[1] if inside[0] == "mosld" and len(inside) > 1 else inside[0]


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names if node.module == "mosld"}
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_run_one_way(path):
    part = part_of(path)
    if part == "__init__":
        return
    for name in imported(path):
        top, _, rest = name.partition(".")
        if top == "gradio":
            assert part in ("ui", "app"), f"{path.name} imports gradio"
        if top in ("torch", "transformers") and part == "ui":
            assert path.name in ("compute.py", "gpu.py"), f"{path.name} imports {top}"
        if top == "torch" and part in ("registry", "texts", "config", "counting", "fetch", "tasks", "cli"):
            raise AssertionError(f"{path.name} imports torch")
        if top == "mosld" and rest:
            other = rest.split(".")[0]
            if part == "backbones" and path.stem in PROGRAMS:
                continue
            assert other == part or LEVEL[other] < LEVEL[part], f"{part} imports {other}"


def test_every_part_has_a_level():
    assert {part_of(p) for p in FILES} - {"__init__"} <= set(LEVEL)
