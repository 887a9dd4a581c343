"""The ten checks on every family of the zoo. What a family cannot have is skipped with the reason; what remains to be mended must fail."""

from pathlib import Path

import pytest
import transformers

from tests.adapters.zoo import CHECKS, FAMILIES

pytestmark = pytest.mark.filterwarnings("ignore")  # transformers' own, about sizes this small


@pytest.fixture(autouse=True, scope="module")
def quiet():
    level = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    yield
    transformers.logging.set_verbosity(level)


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("family", FAMILIES)
def test_zoo(family, check, request):
    f = FAMILIES[family]
    if check in f.cannot:
        pytest.skip(f.cannot[check])
    if check in f.remains:
        request.applymarker(pytest.mark.xfail(reason=f.remains[check], strict=True))
    CHECKS[check](f)


def test_the_zoo_is_large_and_its_exceptions_name_checks():
    assert len(FAMILIES) >= 40
    assert all(set(f.cannot) | set(f.remains) <= set(CHECKS) for f in FAMILIES.values())


def test_the_printed_table_is_of_these_families():
    text = (Path(__file__).parents[2] / "docs" / "zoo.md").read_text()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| ")]
    head = rows.index(["family", *CHECKS])
    table = {row[0]: dict(zip(CHECKS, row[1:], strict=True)) for row in rows[head + 2 :]}
    assert list(table) == list(FAMILIES), "docs/zoo.md is of other families: python -m tests.adapters.zoo"
    for name, f in FAMILIES.items():
        assert table[name] == {c: "–" if c in f.cannot else "✗" if c in f.remains else "✓" for c in CHECKS}, name
