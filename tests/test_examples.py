"""The scripts in examples/: those that need no hours."""

from __future__ import annotations

import pytest
import torch
from conftest import ROOT
from networks import random_glass


@pytest.mark.parametrize(
    ("name", "family"),
    [("gl_resnet50", "resnet"), ("gl_convnext", "convnext"), ("gl_vit", "vit")],
)
def test_random_checkpoints_are_those_that_the_reports_name(name, family, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "examples")
    import random_checkpoints

    ours = random_checkpoints.random_glass(name).state_dict()
    theirs = random_glass(family, full=True).state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
