"""The ten checks on every family of the zoo. What a family cannot have is skipped with the reason; what remains to be mended must fail."""

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
