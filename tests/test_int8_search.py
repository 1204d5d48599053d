"""Which layers stay in floating point: none without need, else those worth most for their work."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from glass_edge.calibration.images import split_images
from glass_edge.calibration.int8 import search as module
from glass_edge.calibration.int8.search import Int8Search, LayerError, Quantised
from glass_edge.calibration.judging import trial
from glass_edge.calibration.judging.trial import BACKBONES, holds
from glass_edge.calibration.judging.yardstick import Deviation
from glass_edge.calibration.options import CalibrationOptions

IMAGES, BUDGET = 4, 0.5


@pytest.fixture(scope="module")
def search(export_family, calibration_images) -> Int8Search:
    """A search in a small ViT that may keep half of the layers."""
    sets = split_images(calibration_images, IMAGES)
    return Int8Search(export_family("vit"), sets, CalibrationOptions(budget=BUDGET))


@pytest.fixture(scope="module")
def ranked(search) -> list[LayerError]:
    return search.ranked


def aim_at(error: float, patch: pytest.MonkeyPatch) -> None:
    """Ask for an error, as a share of the draw noise, whatever the shift."""
    patch.setattr(trial, "SHIFT_GOOD", np.inf)
    patch.setattr(trial, "ERROR_AIMED_AT", error)
    patch.setattr(module, "ERROR_AIMED_AT", error)


def kept(found: Quantised) -> set[tuple[str, str]]:
    return {(role, node) for role, nodes in found.kept.items() for node in nodes}


def nodes_of(errors: Sequence[LayerError]) -> set[tuple[str, str]]:
    return {(each.role, node) for each in errors for node in each.layer.nodes}


def test_layers_are_ranked_by_what_keeping_them_is_worth_for_their_work(search, ranked):
    gains = [each.error**2 / each.layer.work for each in ranked]
    assert gains == sorted(gains, reverse=True)
    found = {(each.role, each.layer) for each in ranked}
    assert found == {(role, layer) for role in BACKBONES for layer in search.layers[role]}
    assert len(ranked) == len(found)


def test_the_error_of_a_layer_is_that_of_the_trial_with_it_alone_in_int8(search, ranked):
    """Within what a draw differs from others: single layers are measured on one alone."""
    for each in sorted(ranked, key=lambda each: -each.error)[:2]:
        alone = search.deviation([other for other in ranked if other is not each])
        assert alone.error == pytest.approx(each.error, rel=0.4)


def test_the_squares_of_single_errors_add_up_to_that_of_all(search, ranked):
    together = np.sqrt(sum(each.error**2 for each in ranked))
    assert 0.5 < together / search.deviation(()).error < 2.0


def test_what_holds_as_it_is_keeps_no_layer(search, monkeypatch):
    aim_at(1.01 * search.deviation(()).error, monkeypatch)
    found = search.search()
    assert not kept(found)
    assert found.calibration.methods == dict.fromkeys(BACKBONES, "least squared error")
    assert found.calibration.images == IMAGES


def test_the_first_of_the_ranking_are_kept_until_the_error_is_what_is_aimed_at(
    search, ranked, monkeypatch
):
    aim = 0.8 * search.deviation(()).error
    aim_at(aim, monkeypatch)
    found = search.search()
    first = [nodes_of(ranked[:count]) for count in range(len(ranked))]
    count = first.index(kept(found))
    assert 0 < count < BUDGET * len(ranked)
    assert search.deviation(ranked[:count]).error <= aim
    assert found.graphs == search.graphs(ranked[:count])


def test_the_budget_bounds_what_is_kept(search, ranked, monkeypatch):
    aim_at(0.0, monkeypatch)
    assert kept(search.search()) == nodes_of(ranked[: int(BUDGET * len(ranked))])


@pytest.mark.parametrize(
    ("error", "shift", "expected"),
    [
        *((0.2, 0.1, True), (0.2, -0.1, True), (0.21, 0.0, False), (0.2, 0.11, False)),
        *((0.2, -0.11, False), (np.nan, np.nan, False)),
    ],
)
def test_a_trial_holds_if_neither_error_nor_shift_is_large(error, shift, expected):
    assert holds(Deviation(error, shift, flips=0, judgements=1)) == expected
