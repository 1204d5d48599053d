"""Batches of views that are filled slot by slot, whole or in pieces, on different roads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from glass_edge.runtime.bundle.bundle import Bundle
from glass_edge.runtime.streaming.assembly import Assembly, Batch
from glass_edge.runtime.streaming.orders import Look, Road
from glass_edge.runtime.views.batch import Sampling

IMAGES = 4


def judge(*_: object) -> list[Any]:
    raise AssertionError("nothing is judged here")


@pytest.fixture(scope="module")
def road(vit_bundle: Bundle) -> Road[Any]:
    return road_of(vit_bundle, 2)


def road_of(bundle: Bundle, crops: int, run: Callable[..., list[Any]] = judge) -> Road[Any]:
    views = bundle.manifest.views.with_crops(crops)
    return Road(Look(Sampling(views, 0, False, b"")), IMAGES, run)


@pytest.fixture
def assembly() -> Assembly[str]:
    return Assembly(most=3)


def fill(assembly: Assembly[str], taken: tuple[Batch[str], int], info: object = "info") -> None:
    assembly.fill(*taken, info)


def test_a_batch_is_complete_when_all_its_slots_are_filled(assembly, road):
    taken = [assembly.reserve(owner, road) for owner in "abcd"]
    assert len({id(batch) for batch, _ in taken}) == 1
    assert [slot for _, slot in taken] == [0, 1, 2, 3]
    for each in taken[::-1]:
        assert not assembly.has_complete
        fill(assembly, each)
    piece = assembly.take()
    assert (piece.owners, piece.slots) == (list("abcd"), [0, 1, 2, 3])
    assert not assembly.has_complete
    assert not assembly.has_some


def test_slots_that_stay_empty_are_left_out(assembly, road):
    taken = [assembly.reserve(owner, road) for owner in "abcd"]
    for each, info in zip(taken, ("a", None, "c", "d"), strict=True):
        fill(assembly, each, info)
    piece = assembly.take()
    assert (piece.owners, piece.infos) == (list("acd"), ["a", "c", "d"])


def test_a_batch_of_empty_slots_is_never_judged(assembly, road):
    for each in [assembly.reserve(owner, road) for owner in "abcd"]:
        fill(assembly, each, None)
    assert not assembly.has_complete
    assert assembly.has_room(road)


def test_some_are_judged_while_others_of_their_batch_are_not_ready(assembly, road):
    first, *rest = [assembly.reserve(owner, road) for owner in "abcd"]
    fill(assembly, rest[1])
    assert assembly.take_some().owners == ["c"]
    assert not assembly.has_some
    fill(assembly, rest[2])
    fill(assembly, rest[0])
    assert assembly.take_some().owners == ["b", "d"]
    fill(assembly, first)
    assert assembly.take().owners == ["a"]
    assert not assembly.has_complete


def test_the_arrays_are_used_again_only_after_the_last_piece(assembly, road):
    taken = [assembly.reserve(owner, road) for owner in "abcd"]
    arrays = taken[0][0].views
    fill(assembly, taken[0])
    early = assembly.take_some()
    for each in taken[1:]:
        fill(assembly, each)
    late = assembly.take()
    assembly.release(late)
    assert assembly.reserve("e", road)[0].views is not arrays
    assembly.release(early)
    for owner in "fgh":
        assembly.reserve(owner, road)
    assert assembly.reserve("i", road)[0].views is arrays


def test_a_pieces_views_are_those_of_its_slots(assembly, road):
    taken = [assembly.reserve(owner, road) for owner in "abcd"]
    for batch, slot in taken:
        for pixels in batch.views.views.values():
            pixels[slot] = slot + 1
    for place in (0, 1, 3):
        fill(assembly, taken[place])
    apart = assembly.take_some()
    for pixels in apart.views.values():
        assert [int(each.max()) for each in pixels] == [1, 2, 4]
        assert [int(each.min()) for each in pixels] == [1, 2, 4]
    fill(assembly, taken[2])
    together = assembly.take()
    for name, pixels in together.views.items():
        assert np.shares_memory(pixels, together.batch.views.views[name])  # nothing is copied
        assert (int(pixels.min()), int(pixels.max())) == (3, 3)


def test_an_image_of_another_road_completes_the_batch_before_it(assembly, road, vit_bundle):
    first = assembly.reserve("a", road)
    fill(assembly, first)
    assert not assembly.has_complete
    other = road_of(vit_bundle, 5)
    assert assembly.has_room(other)
    assert assembly.has_complete
    batch, slot = assembly.reserve("b", other)
    assert (batch is first[0], slot) == (False, 0)
    assert {name: pixels.shape[:2] for name, pixels in batch.views.views.items()}["local"] == (4, 5)


def test_images_that_differ_in_their_seeds_share_a_batch(assembly, road):
    batch, _ = assembly.reserve("a", road)
    sampling = replace(road.look.sampling, seed=9)
    seeded = replace(road, look=Look(sampling))
    assert assembly.has_room(seeded)
    assert assembly.reserve("b", seeded) == (batch, 1)


def test_images_that_are_judged_otherwise_do_not(assembly, road, vit_bundle):
    batch, _ = assembly.reserve("a", road)
    other = road_of(vit_bundle, 2, lambda *_: [])
    assert assembly.has_room(other)
    assert assembly.reserve("b", other)[0] is not batch


def test_there_are_no_more_batches_than_allowed(assembly, road):
    taken = [assembly.reserve(f"{number}", road) for number in range(3 * IMAGES)]
    assert not assembly.has_room(road)
    for each in taken[:IMAGES]:
        fill(assembly, each)
    piece = assembly.take()
    assert not assembly.has_room(road)
    assembly.release(piece)
    assert assembly.has_room(road)


def test_arrays_of_other_sizes_are_given_up_for_those_that_are_needed(road, vit_bundle):
    """However the roads alternate, there are never more arrays than batches."""
    assembly: Assembly[str] = Assembly(most=2)
    for crops in (2, 5, 3, 2, 5):
        taken = assembly.reserve("a", road_of(vit_bundle, crops))
        assembly.close_open()
        fill(assembly, taken)
        assembly.release(assembly.take())
        assert len(assembly._spare) <= 2


def test_a_batch_that_is_closed_is_judged_as_it_is(assembly, road):
    fill(assembly, assembly.reserve("a", road))
    assert assembly.has_open
    assert assembly.close_open()
    assert assembly.take().owners == ["a"]
    assert not assembly.close_open()
