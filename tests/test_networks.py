"""The tests' own networks: a graph that ignores its input must not pass for one of them."""

from __future__ import annotations

import pytest
from conftest import FAMILIES

from glass_edge import Detector


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_of_photographs_spread_over_most_of_0_to_1(
    family, export_family, calibration_images
):
    verdicts = Detector(export_family(family)).detect(sorted(calibration_images.iterdir()))
    scores = [verdict.score for verdict in verdicts]
    assert max(scores) - min(scores) > 0.5
    assert {verdict.verdict for verdict in verdicts} == {"fake", "real"}
