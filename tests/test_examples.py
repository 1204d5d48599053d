"""The scripts in examples/: those that need no hours."""

from __future__ import annotations

import pytest
import random_checkpoints
import torch
from conftest import slow_but


@pytest.mark.parametrize("name", slow_but(["gl_convnext"], random_checkpoints.NETWORKS))
def test_random_checkpoints_are_always_the_same(name):
    """Reports name them by their hash."""
    first, again = (random_checkpoints.random_glass(name) for _ in range(2))
    assert first.state_dict().keys() == again.state_dict().keys()
    assert all(map(torch.equal, first.state_dict().values(), again.state_dict().values()))
