"""Every test of the adapters starts from the same random state: models and inputs are drawn alike each time."""

import pytest
import torch


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)
