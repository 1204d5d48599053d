"""Which layers stay in floating point: none without need, else those worth most for their work."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import pytest
from glass_edge.calibration.errors import CalibrationError
from glass_edge.calibration.images import split_images
from glass_edge.calibration.int8 import observe
from glass_edge.calibration.int8 import search as module
from glass_edge.calibration.int8.search import Int8Search, LayerError, Quantised, together
from glass_edge.calibration.judging import trial
from glass_edge.calibration.judging.trial import holds
from glass_edge.calibration.judging.yardstick import Deviation
from glass_edge.calibration.options import CalibrationOptions
from networks import BACKBONES

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


@pytest.mark.parametrize(("common", "spread"), [(0.0, 1.0), (0.5, 1.0), (1.0, 0.1)])
def test_what_views_change_alone_tells_what_they_change_together(common, spread):
    """On average over many measurements of twelve views."""
    random, views = np.random.default_rng(0), 10
    changes = random.normal(common, spread, (20_000, 12))
    changed_together = random.normal(common, spread, (20_000, views)).sum(axis=1)
    found = together(changes.T, views).mean()
    assert found == pytest.approx(np.mean(changed_together**2), rel=0.02)


def test_one_view_that_is_measured_alone_stands_for_all():
    assert together(np.array([[0.5, -2.0]]), views=4) == pytest.approx([1.0, 16.0])


def test_layers_are_measured_on_views_of_as_many_images_as_there_are(search):
    crops = search.trial.views_per_image("local")
    views = search.trial.single_views("local", 2 * IMAGES)
    assert [view.image for view in views] == [*range(IMAGES), *range(IMAGES)]
    assert len({(view.image, view.place) for view in views}) == 2 * IMAGES
    for view in views:
        expected = search.trial.views_of(view.image)["local"][view.place]
        np.testing.assert_array_equal(view.pixels[0], expected)
    assert len(search.trial.single_views("local", 1000)) == crops * IMAGES
    assert len(search.trial.single_views("global", 1000)) == IMAGES


@pytest.mark.slow
def test_a_heavy_network_is_measured_on_fewer_views(
    search, vit_bundle, calibration_images, monkeypatch, tmp_path
):
    """One crop of each image in place of two, and three tenths of the images to try graphs on."""
    monkeypatch.setenv("GLASS_CACHE", str(tmp_path))
    monkeypatch.setattr(observe, "_HEAVY", 0.0)
    seen = []
    collect = module.collect_ranges

    def noted(bundle, role, model, activations, views, *others):
        seen.append(len(views.of(role)))
        return collect(bundle, role, model, activations, views, *others)

    monkeypatch.setattr(module, "collect_ranges", noted)
    heavy = Int8Search(vit_bundle, split_images(calibration_images, IMAGES), search._options)
    assert seen == [IMAGES, IMAGES]
    assert heavy.trial.images == math.ceil(0.3 * search.trial.images)
    looked_at = []
    single_views = heavy.trial.single_views
    monkeypatch.setattr(
        heavy.trial,
        "single_views",
        lambda role, most: looked_at.append(most) or single_views(role, most),
    )
    assert heavy.ranked
    assert looked_at == [3, 3]
    assert heavy.search().calibration.images == IMAGES


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
    assert (
        search.deviation(ranked[:count]).error <= aim < search.deviation(ranked[: count - 1]).error
    )
    assert found.graphs == search.graphs(ranked[:count])


def test_if_the_budget_is_too_small_the_best_that_was_tried_is_kept(search, ranked, monkeypatch):
    """Which need not be the most layers: errors of single layers may cancel."""
    tried: dict[int, float] = {}
    deviation = search.deviation

    def recorded(some: Sequence[LayerError]) -> Deviation:
        found = deviation(some)
        # As if the last layers' errors had cancelled others'.
        changed = dataclasses.replace(found, error=found.error + (len(some) == most))
        tried[len(some)] = changed.error
        return changed

    most = int(BUDGET * len(ranked))
    monkeypatch.setattr(search, "deviation", recorded)
    aim_at(1e-9, monkeypatch)
    found = kept(search.search())
    assert max(tried) == most
    assert found == nodes_of(ranked[: min(tried, key=tried.__getitem__)])
    assert len(found) < most


@pytest.mark.parametrize("count", [0, 3])
def test_as_many_layers_are_kept_as_are_asked_for(search, ranked, monkeypatch, count):
    """Whatever the error."""
    monkeypatch.setattr(search, "_options", CalibrationOptions(keep=count))
    assert kept(search.search()) == nodes_of(ranked[:count])


def test_more_layers_than_there_are_cannot_be_kept(search, ranked, monkeypatch):
    count = len(ranked) + 1
    monkeypatch.setattr(search, "_options", CalibrationOptions(keep=count))
    with pytest.raises(CalibrationError, match=f"because only {len(ranked)} can be quantised"):
        search.kept()


@pytest.mark.parametrize(
    ("error", "shift", "expected"),
    [
        *((0.2, 0.1, True), (0.2, -0.1, True), (0.21, 0.0, False), (0.2, 0.11, False)),
        *((0.2, -0.11, False), (np.nan, np.nan, False)),
    ],
)
def test_a_trial_holds_if_neither_error_nor_shift_is_large(error, shift, expected):
    assert holds(Deviation(error, shift, flips=0, judgements=1)) == expected
