"""What has to run on a GPU; skipped where there is none."""

import pytest

from tests.gpu.checks import GPU, Missing, checks


@pytest.mark.skipif(not GPU, reason="there is no GPU")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("check", checks().values(), ids=checks())
def test_on_a_gpu(check):
    try:
        check()
    except Missing as missing:
        pytest.skip(str(missing))
